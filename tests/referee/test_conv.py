"""Convolutions against torch in float64 and, where torch has no such form, onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxeq.referee.ops import conv as conv_module

Check = Callable[..., None]
Run = Callable[..., list[Any]]

ROUNDING = 1e-13
"""float64 rounding (2e-16) times the longest sums here (a few hundred terms of size one)."""


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


_FORMS: dict[str, dict[str, Any]] = {
    "1x1": {"x": (2, 4, 5, 6), "w": (3, 4, 1, 1)},
    "1x1 stride": {"x": (1, 4, 5, 6), "w": (3, 4, 1, 1), "strides": [2, 2]},
    "3x3": {"x": (2, 4, 7, 6), "w": (3, 4, 3, 3), "pads": [1, 1, 1, 1]},
    "dilated": {"x": (1, 2, 9, 9), "w": (3, 2, 3, 3), "dilations": [2, 3], "pads": [2, 3, 2, 3]},
    "grouped": {"x": (2, 6, 7, 5), "w": (4, 3, 3, 2), "group": 2, "strides": [2, 1]},
    "depthwise": {"x": (2, 5, 8, 8), "w": (5, 1, 3, 3), "group": 5, "pads": [1, 1, 1, 1]},
    "depthwise x2": {"x": (1, 3, 8, 8), "w": (6, 1, 5, 3), "group": 3, "strides": [2, 2]},
    "1d": {"x": (2, 3, 11), "w": (4, 3, 4), "strides": [3], "pads": [1, 1]},
    "3d": {"x": (1, 2, 5, 6, 4), "w": (3, 2, 2, 3, 2), "pads": [1, 0, 1, 1, 0, 1]},
}


@pytest.mark.torch
@pytest.mark.parametrize("form", _FORMS)
def test_conv(run_node: Run, form: str) -> None:
    """Every path (matmul, im2col, groups, depthwise) agrees with torch to float64 rounding."""
    import torch

    attributes = dict(_FORMS[form])
    x, w = _f(*attributes.pop("x")), _f(*attributes.pop("w"))
    b = _f(w.shape[0])
    rank = x.ndim - 2
    function = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[rank]
    wide = [torch.from_numpy(v).double() for v in (x, w, b)]
    expected = function(
        *wide,
        stride=attributes.get("strides", 1),
        padding=attributes.get("pads", [0] * rank)[:rank],
        dilation=attributes.get("dilations", 1),
        groups=attributes.get("group", 1),
    ).numpy()
    (got,) = run_node("Conv", 22, (x, w, b), attributes)
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING * np.abs(expected).max() * 10)


@pytest.mark.torch
def test_chunks_do_not_change_the_result(run_node: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """im2col a few rows at a time, the last chunk shorter, gives what one chunk gives."""
    x, w = _f(1, 4, 11, 9), _f(5, 4, 3, 3)
    (whole,) = run_node("Conv", 11, (x, w), {"strides": [2, 1]})
    monkeypatch.setattr(conv_module, "_CHUNK", 4 * 9 * 7 * 2)  # two output rows
    (parts,) = run_node("Conv", 11, (x, w), {"strides": [2, 1]})
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_conv_auto_pad(against_onnxruntime: Check, mode: str, stride: int) -> None:
    """The odd padding element goes behind for SAME_UPPER, in front for SAME_LOWER."""
    attributes = {"auto_pad": mode, "strides": [stride, stride]}
    against_onnxruntime("Conv", 11, (_f(1, 2, 8, 7), _f(3, 2, 4, 3)), attributes)


def test_asymmetric_padding(against_onnxruntime: Check) -> None:
    """Padding may differ on the two sides, and exceed the kernel."""
    against_onnxruntime("Conv", 11, (_f(1, 2, 4, 4), _f(3, 2, 2, 2)), {"pads": [0, 3, 2, 1]})


def test_empty_batch(run_node: Run) -> None:
    """No item in, no item out, but the shape is there."""
    (got,) = run_node("Conv", 11, (_f(0, 2, 4, 4), _f(3, 2, 3, 3)))
    assert got.shape == (0, 3, 2, 2)


_TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {"w": (4, 3, 3, 3)},
    "strided": {"w": (4, 3, 3, 2), "strides": [2, 3], "pads": [1, 0, 1, 0]},
    "output padding": {"w": (4, 3, 3, 3), "strides": [2, 2], "output_padding": [1, 1]},
    "grouped": {"w": (4, 2, 3, 3), "group": 2, "strides": [2, 1]},
    "dilated": {"w": (4, 3, 3, 3), "dilations": [2, 2], "pads": [1, 1, 1, 1]},
}


@pytest.mark.torch
@pytest.mark.parametrize("form", _TRANSPOSED)
def test_conv_transpose(run_node: Run, form: str) -> None:
    """The adjoint of Conv agrees with torch to float64 rounding, groups included."""
    import torch

    attributes = dict(_TRANSPOSED[form])
    x, w = _f(2, 4, 5, 4), _f(*attributes.pop("w"))
    b = _f(w.shape[1] * attributes.get("group", 1))
    expected = torch.nn.functional.conv_transpose2d(
        *(torch.from_numpy(v).double() for v in (x, w, b)),
        stride=attributes.get("strides", 1),
        padding=attributes.get("pads", [0, 0])[:2],
        output_padding=attributes.get("output_padding", 0),
        groups=attributes.get("group", 1),
        dilation=attributes.get("dilations", 1),
    ).numpy()
    (got,) = run_node("ConvTranspose", 22, (x, w, b), attributes)
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING * 100)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2], "output_shape": [9, 10]},
        {"strides": [2, 2], "output_shape": [10, 9], "auto_pad": "SAME_UPPER"},
        {"strides": [3, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [3, 2], "auto_pad": "SAME_LOWER"},
    ],
)
def test_conv_transpose_given_size(against_onnxruntime: Check, attributes: dict[str, Any]) -> None:
    """An output shape is reached by padding, split as the text says."""
    against_onnxruntime("ConvTranspose", 11, (_f(1, 2, 5, 5), _f(2, 3, 3, 3)), attributes)


def test_conv_integer(against_onnxruntime: Check) -> None:
    """Exact, zero points subtracted first; padding is the zero point."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, 2, 5, 5)).astype(np.uint8)
    w = rng.integers(0, 256, (3, 2, 3, 3)).astype(np.uint8)
    zeros = np.array(7, np.uint8), np.array(131, np.uint8)
    against_onnxruntime("ConvInteger", 10, (x, w, *zeros), {"pads": [1, 1, 1, 1]})


@pytest.mark.torch
def test_deform_conv(run_node: Run) -> None:
    """Offsets, mask, two offset groups and two weight groups agree with torchvision."""
    import torch

    ops = pytest.importorskip("torchvision.ops")
    x, w = _f(2, 4, 6, 6), _f(4, 2, 3, 3)
    offset, mask = _f(2, 2 * 2 * 9, 4, 4), _f(2, 2 * 9, 4, 4)
    wide = [torch.from_numpy(v).double() for v in (x, offset, w, mask)]
    expected = ops.deform_conv2d(wide[0], wide[1], wide[2], mask=wide[3]).numpy()
    inputs = (x, w, offset, np.zeros(4, np.float32), mask)
    (got,) = run_node("DeformConv", 22, inputs, {"group": 2, "offset_group": 2})
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.torch
def test_col2im(run_node: Run) -> None:
    """``fold`` of torch, with stride, dilation and padding."""
    import torch

    shape, block = np.array([7, 6], np.int64), np.array([2, 3], np.int64)
    attributes = {"strides": [2, 1], "pads": [1, 0, 1, 0], "dilations": [2, 1]}
    columns = _f(2, 18, 16)
    expected = torch.nn.functional.fold(
        torch.from_numpy(columns).double(), (7, 6), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(2, 1)
    )
    (got,) = run_node("Col2Im", 18, (columns, shape, block), attributes)
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-13)
