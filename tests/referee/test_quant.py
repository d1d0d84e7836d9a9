"""Quantisation: ties, blocks, narrow types, and the packed weights of MatMulNBits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

Run = Callable[..., list[Any]]
MS = "com.microsoft"


def test_ties_go_to_even(run_node: Run) -> None:
    """X / scale of 0.5, 1.5, 2.5 rounds to 0, 2, 2; the zero point is added after rounding."""
    x = np.array([0.5, 1.5, 2.5, -1.5], np.float32)
    (got,) = run_node("QuantizeLinear", 13, (x, np.array(1, np.float32), np.array(10, np.uint8)))
    assert got.tolist() == [10, 12, 12, 8]


@pytest.mark.parametrize(
    ("output", "low", "high"),
    [(TensorProto.INT4, -8, 7), (TensorProto.UINT4, 0, 15), (TensorProto.INT16, -32768, 32767)],
)
def test_values_saturate(run_node: Run, output: int, low: int, high: int) -> None:
    """What does not fit becomes the type's smallest or largest value."""
    x = np.array([-1e9, 1e9], np.float32)
    (got,) = run_node("QuantizeLinear", 21, (x, np.array(1, np.float32)), {"output_dtype": output})
    assert got.astype(np.int64).tolist() == [low, high]


def test_blocks_share_a_scale(run_node: Run) -> None:
    """With block_size 2 the columns 0-1 and 2-3 have a scale each, and a last column a third."""
    x = np.ones((1, 5), np.int8)
    scale = np.array([[1, 2, 4]], np.float32)
    (got,) = run_node("DequantizeLinear", 21, (x, scale), {"axis": 1, "block_size": 2})
    np.testing.assert_array_equal(got, [[1, 1, 2, 2, 4]])


def test_float8_zero_point_names_the_type(run_node: Run) -> None:
    """A float8 zero point makes a float8 result: 1.3 rounds to 1.25 with three mantissa bits."""
    zero = np.zeros((), ml_dtypes.float8_e4m3fn)
    (got,) = run_node("QuantizeLinear", 19, (np.array([1.3], np.float32), np.array(1, np.float32), zero))
    assert float(got[0]) == 1.25


def test_dequantised_scale_keeps_its_float32_value(run_node: Run) -> None:
    """3 * 0.1f is computed in float64 from the stored float32 scale."""
    inputs = (np.array([3], np.uint8), np.array(0.1, np.float32))
    (got,) = run_node("DequantizeLinear", 13, inputs)
    assert got[0] == 3 * float(np.float32(0.1))


def test_dynamic_range_includes_zero(run_node: Run) -> None:
    """The range of [2, 4] is 0 to 4: scale 4/255, zero point 0; 2 is 127.5, the tie goes to 128."""
    y, scale, zero = run_node("DynamicQuantizeLinear", 11, (np.array([2, 4], np.float32),), {}, 3)
    assert (y.tolist(), int(zero)) == ([128, 255], 0)
    assert float(scale) == 4 / 255


def test_all_zero_input_has_no_range(run_node: Run) -> None:
    """Zeros quantise to the zero point, with no division by zero."""
    y, scale, zero = run_node("DynamicQuantizeLinear", 11, (np.zeros(3, np.float32),), {}, 3)
    assert (y.tolist(), float(scale), int(zero)) == ([0, 0, 0], 1.0, 0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_weights(run_node: Run, bits: int) -> None:
    """Lowest bits come first; without zero points half the range is subtracted."""
    K, N, block = 20, 3, 16
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1 << bits, (N, 2 * block)).astype(np.uint8)
    per = 8 // bits
    packed = sum(codes.reshape(N, 2, -1, per)[..., i] << np.uint8(bits * i) for i in range(per))
    scales = rng.random((N, 2)).astype(np.float32)
    A = rng.standard_normal((4, K)).astype(np.float32)
    weights = (codes[:, :K].astype(np.float64) - 2 ** (bits - 1)) * np.repeat(scales, block, axis=1)[:, :K]
    attributes = {"K": K, "N": N, "bits": bits, "block_size": block}
    (got,) = run_node("MatMulNBits", 1, (A, packed.astype(np.uint8), scales), attributes, 1, MS)
    np.testing.assert_allclose(got, A.astype(np.float64) @ weights.T, rtol=1e-13)
