"""Pooling against torch in float64 and against onnxruntime over its opsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Check = Callable[..., None]
Run = Callable[..., list[Any]]


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.torch
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_max_pool(run_node: Run, ceil: int, dilation: int) -> None:
    """Values and (per-plane) positions of the maxima agree with torch."""
    import torch

    x = _f(2, 3, 9, 10)
    attributes = {
        "kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": ceil,
        "dilations": [dilation, dilation],
    }  # fmt: skip
    values, places = torch.nn.functional.max_pool2d(
        torch.from_numpy(x).double(), (3, 2), (2, 3), (1, 1), dilation, bool(ceil), return_indices=True
    )
    got, indices = run_node("MaxPool", 22, (x,), attributes, 2)
    np.testing.assert_array_equal(got, values.numpy())
    planes = np.arange(6).reshape(2, 3, 1, 1) * 90
    np.testing.assert_array_equal(indices, places.numpy() + planes)


@pytest.mark.torch
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("count", [0, 1])
def test_average_pool(run_node: Run, ceil: int, count: int) -> None:
    """What counts as an element of a window at the edges agrees with torch."""
    import torch

    x = _f(2, 3, 9, 10)
    attributes = {
        "kernel_shape": [3, 4], "strides": [2, 3], "pads": [1, 2, 1, 2], "ceil_mode": ceil,
        "count_include_pad": count,
    }  # fmt: skip
    expected = torch.nn.functional.avg_pool2d(
        torch.from_numpy(x).double(), (3, 4), (2, 3), (1, 2), bool(ceil), bool(count)
    )
    (got,) = run_node("AveragePool", 22, (x,), attributes)
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("opset", [7, 8, 10, 11, 12])
def test_auto_pad(against_onnxruntime: Check, op: str, mode: str, opset: int) -> None:
    """Older opsets and automatic padding agree with onnxruntime."""
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": mode}
    against_onnxruntime(op, opset, (_f(1, 2, 8, 7),), attributes)


@pytest.mark.parametrize("shape", [(1, 2, 9), (1, 2, 5, 6, 4)])
def test_other_ranks(against_onnxruntime: Check, shape: tuple[int, ...]) -> None:
    """One and three spatial axes."""
    against_onnxruntime("MaxPool", 12, (_f(*shape),), {"kernel_shape": [2] * (len(shape) - 2)})


def test_max_pool_of_integers(against_onnxruntime: Check) -> None:
    """Padding never wins, even where every element is negative."""
    x = np.random.default_rng(0).integers(-128, -1, (1, 2, 5, 5)).astype(np.int8)
    against_onnxruntime("MaxPool", 12, (x,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})


def test_max_pool_column_major(against_onnxruntime: Check) -> None:
    """``storage_order=1`` counts the positions down the columns."""
    attributes = {"kernel_shape": [2, 2], "storage_order": 1}
    against_onnxruntime("MaxPool", 12, (_f(1, 2, 5, 4),), attributes, 2)


def test_max_pool_keeps_nan(run_node: Run) -> None:
    """A window with a NaN gives NaN."""
    x = np.array([[[1.0, np.nan, 2.0, 3.0]]], np.float32)
    (got,) = run_node("MaxPool", 12, (x,), {"kernel_shape": [2], "strides": [2]})
    np.testing.assert_array_equal(got, [[[np.nan, 3.0]]])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pools(against_onnxruntime: Check, p: int) -> None:
    """Windowed and global Lp norms."""
    against_onnxruntime("LpPool", 11, (_f(1, 2, 6, 6),), {"kernel_shape": [2, 3], "p": p})
    against_onnxruntime("GlobalLpPool", 11, (_f(1, 2, 6, 6),), {"p": p})


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(against_onnxruntime: Check, op: str) -> None:
    """Reduction over all spatial axes, which stay as ones."""
    against_onnxruntime(op, 7, (_f(2, 3, 4, 5),))


def test_max_unpool(against_onnxruntime: Check) -> None:
    """The maxima return to where they came from."""
    indices = np.array([[[[1, 3], [8, 15]]]], np.int64)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    against_onnxruntime("MaxUnpool", 11, (_f(1, 1, 2, 2), indices), attributes)
