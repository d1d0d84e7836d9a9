"""Resize, Upsample and GridSample against torch in float64 and onnxruntime over opsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Check = Callable[..., None]
Run = Callable[..., list[Any]]
NO = np.array([], np.float32)


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def _sizes(*sizes: int) -> Any:
    return np.array(sizes, np.int64)


@pytest.mark.torch
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(11, 13), (3, 4), (1, 9)])
def test_resize_to_a_size(run_node: Run, mode: str, align: bool, size: tuple[int, int]) -> None:
    """Growing, shrinking, to one pixel: torch's interpolation in float64."""
    import torch

    x = _f(2, 3, 6, 7)
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    expected = torch.nn.functional.interpolate(torch.from_numpy(x).double(), size=size, mode=name, align_corners=align)
    coordinates = "align_corners" if align else "half_pixel"
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    (got,) = run_node("Resize", 19, (x, None, None, _sizes(2, 3, *size)), attributes)
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-13)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(run_node: Run, mode: str) -> None:
    """Shrinking with a stretched filter, the outside left out, as in PIL and torch (a = -0.5)."""
    import torch

    x = _f(1, 2, 13, 17)
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    expected = torch.nn.functional.interpolate(torch.from_numpy(x).double(), size=(5, 6), mode=name, antialias=True)
    attributes = {"mode": mode, "antialias": 1, "cubic_coeff_a": -0.5, "exclude_outside": 1}
    (got,) = run_node("Resize", 19, (x, None, None, _sizes(1, 2, 5, 6)), attributes)
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn"])
def test_nearest(against_onnxruntime: Check, rounding: str, coordinates: str) -> None:
    """Every rounding under every coordinate transformation, away from ties (7 * 8 / 16 is one)."""
    attributes = {"nearest_mode": rounding, "coordinate_transformation_mode": coordinates}
    rows = 17 if coordinates == "asymmetric" else 16
    against_onnxruntime("Resize", 11, (_f(1, 1, 7, 5), NO, NO, _sizes(1, 1, rows, 3)), attributes)


@pytest.mark.parametrize("scale", [1.7, 1.3, 0.3, 2 / 3, 2.1])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel"])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_nearest_is_chosen_in_float32(
    run_node: Run, against_onnxruntime: Check, rounding: str, coordinates: str, scale: float
) -> None:
    """17 / 1.7 is 10, although the stored 1.7 is larger: an index is made in float32, as every runtime does."""
    scales = np.array([1, 1, 1, scale], np.float32)
    attributes = {"nearest_mode": rounding, "coordinate_transformation_mode": coordinates}
    places = np.arange(79, dtype=np.float32).reshape(1, 1, 1, 79)
    against_onnxruntime("Resize", 19, (places, None, scales), attributes)
    if scale == 1.7 and coordinates == "asymmetric":
        (got,) = run_node("Resize", 19, (places, None, scales), attributes)
        assert got[0, 0, 0, 17::17].tolist() == [10.0 * k for k in range(1, 8)]  # in float64 one less, by floor


@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]
)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_scales(against_onnxruntime: Check, coordinates: str, mode: str) -> None:
    """A scale that does not divide: the coordinates use it, not the ratio of the sizes."""
    scales = np.array([1, 1, 1.7, 0.6], np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    against_onnxruntime("Resize", 19, (_f(1, 1, 8, 9), None, scales), attributes)


def test_output_size_is_taken_in_float32(run_node: Run) -> None:
    """10 * 0.7 is 7: float32 0.7 lies below 0.7, and in float64 the floor would give 6."""
    (got,) = run_node("Resize", 13, (_f(1, 1, 10, 10), None, np.array([1, 1, 0.7, 0.7], np.float32)))
    assert got.shape == (1, 1, 7, 7)


def test_crop_and_resize(against_onnxruntime: Check) -> None:
    """A region of interest that leaves the image: extrapolated there."""
    roi = np.array([0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7], np.float32)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize",
                  "extrapolation_value": 10.0}  # fmt: skip
    against_onnxruntime("Resize", 11, (_f(1, 1, 4, 4), roi, NO, _sizes(1, 1, 3, 3)), attributes)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_aspect_ratio(against_onnxruntime: Check, policy: str) -> None:
    """Sizes for some axes only, with the ratio kept or not."""
    attributes = {"mode": "linear", "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    against_onnxruntime("Resize", 18, (_f(1, 1, 4, 6), None, None, _sizes(7, 8)), attributes)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [2.0, 1.5, 0.6])
def test_opset_10(against_onnxruntime: Check, mode: str, scale: float) -> None:
    """Before opset 11: ``x / scale``, nearest downwards when growing and upwards when shrinking."""
    scales = np.array([1, 1, scale, scale], np.float32)
    against_onnxruntime("Resize", 10, (_f(1, 1, 5, 6), scales), {"mode": mode})


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(against_onnxruntime: Check, mode: str) -> None:
    """Scales as an attribute (opset 7) and as an input (opset 9)."""
    against_onnxruntime("Upsample", 7, (_f(1, 2, 3, 4),), {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]})
    against_onnxruntime("Upsample", 9, (_f(1, 2, 3, 4), np.array([1, 1, 2, 3], np.float32)), {"mode": mode})


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(run_node: Run, mode: str, padding: str, align: int) -> None:
    """Every mode and padding, with positions far outside, agrees with torch in float64."""
    import torch

    x, grid = _f(2, 3, 5, 6), 1.5 * _f(2, 4, 7, 2)
    wide = torch.from_numpy(x).double(), torch.from_numpy(grid).double()
    expected = torch.nn.functional.grid_sample(*wide, mode=mode, padding_mode=padding, align_corners=bool(align))
    new = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    for opset, name in ((16, mode), (20, new)):
        (got,) = run_node(
            "GridSample", opset, (x, grid), {"mode": name, "padding_mode": padding, "align_corners": align}
        )
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample_of_a_volume(run_node: Run, align: int) -> None:
    """Three spatial axes; the grid names the last axis first."""
    import torch

    x, grid = _f(1, 2, 4, 5, 6), _f(1, 3, 3, 3, 3)
    wide = torch.from_numpy(x).double(), torch.from_numpy(grid).double()
    expected = torch.nn.functional.grid_sample(*wide, align_corners=bool(align))
    (got,) = run_node("GridSample", 20, (x, grid), {"align_corners": align})
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-13)


@pytest.mark.torch
@pytest.mark.parametrize("align", [0, 1])
def test_affine_grid(run_node: Run, align: int) -> None:
    """In two and three dimensions, also for a batch of one, where the schema's own body fails."""
    import torch

    for size in ([2, 1, 4, 5], [1, 1, 4, 1], [1, 1, 2, 3, 4]):
        rank = len(size) - 2
        theta = _f(size[0], rank, rank + 1)
        wide = torch.from_numpy(theta).double()
        expected = torch.nn.functional.affine_grid(wide, size, align_corners=bool(align))
        (got,) = run_node("AffineGrid", 20, (theta, _sizes(*size)), {"align_corners": align})
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-14)
