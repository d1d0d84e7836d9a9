"""Matrix products against numpy's definition, torch and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Check = Callable[..., None]
Run = Callable[..., list[Any]]


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,)),
     ((4,), (4,)), ((2, 0, 4), (4, 5)), ((2, 3, 0), (0, 5))],
)  # fmt: skip
def test_matmul(run_node: Run, against_onnxruntime: Check, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """``numpy.matmul`` in float64: broadcasting, vectors, empty extents."""
    x, y = _f(*a), _f(*b)
    (got,) = run_node("MatMul", 13, (x, y))
    expected = np.matmul(x.astype(np.float64), y.astype(np.float64))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
    against_onnxruntime("MatMul", 13, (x, y))


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 1), (1, 5), (3, 5)])
def test_gemm(against_onnxruntime: Check, opset: int, shape: tuple[int, ...]) -> None:
    """``alpha * A^T @ B^T + beta * C``, C of every shape that broadcasts."""
    attributes = {"alpha": 0.25, "beta": 0.5, "transA": 1, "transB": 1}
    against_onnxruntime("Gemm", opset, (_f(4, 3), _f(5, 4), _f(*shape)), attributes)


def test_gemm_without_c(against_onnxruntime: Check) -> None:
    """C is optional from opset 11."""
    against_onnxruntime("Gemm", 11, (_f(3, 4), _f(4, 5)))


@pytest.mark.torch
@pytest.mark.parametrize("equation", ["ij,jk->ik", "bij,bjk", "ii->i", "...ij,...jk->...ik", "i,j->ij", "bij->b"])
def test_einsum(run_node: Run, equation: str) -> None:
    """Contraction, diagonal, ellipsis, outer product and sums agree with torch in float64."""
    import torch

    shapes = {"i,j->ij": [(4,), (5,)], "ii->i": [(4, 4)], "bij->b": [(2, 3, 4)], "ij,jk->ik": [(3, 4), (4, 5)]}
    arrays = [_f(*s) for s in shapes.get(equation, [(2, 3, 4), (2, 4, 5)])]
    expected = torch.einsum(equation, *(torch.from_numpy(a).double() for a in arrays))
    (got,) = run_node("Einsum", 12, tuple(arrays), {"equation": equation})
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-13)


def test_matmul_integer(against_onnxruntime: Check) -> None:
    """Exact in int32, zero points subtracted; that of A may be one per row."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (3, 40)).astype(np.uint8), rng.integers(0, 256, (40, 5)).astype(np.uint8)
    against_onnxruntime("MatMulInteger", 10, (a, b, np.array(12, np.uint8), np.array(200, np.uint8)))
