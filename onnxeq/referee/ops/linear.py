"""Matrix products: MatMul, Gemm, Einsum and their integer form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee import blocks
from onnxeq.referee.registry import Call, Value, op

__all__ = ["gemm", "product"]


def product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """``numpy.matmul``; a stack times one matrix is one BLAS call instead of one per item."""
    if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous:
        rows = math.prod(a.shape[:-1])
        return blocks.matmul(a.reshape(rows, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
    return blocks.matmul(a, b)


@op("MatMul", witnesses=("suite", "onnxruntime"))
def matmul(call: Call, A: Value, B: Value) -> Value:
    """``numpy.matmul`` with its broadcasting of leading axes."""
    return product(A, B)


@op("MatMulInteger", witnesses=("suite", "onnxruntime"))
def matmul_integer(call: Call, A: Value, B: Value, a_zero: Value = None, b_zero: Value = None) -> Value:
    """``(A - a_zero_point) @ (B - b_zero_point)`` in int32; ``a_zero_point`` may be per row."""
    a, b = A.astype(np.float64), B.astype(np.float64)
    if a_zero is not None:
        zero = a_zero.astype(np.float64)
        a = a - (zero[:, None] if zero.ndim == 1 and zero.size > 1 else zero)
    if b_zero is not None:
        b = b - b_zero.astype(np.float64)
    return np.matmul(a, b).astype(np.int64).astype(np.int32)  # exact: integers below 2^53


def gemm(call: Call, A: NDArray[Any], B: NDArray[Any], C: NDArray[Any] | None) -> NDArray[Any]:
    """``alpha * A' @ B' + beta * C`` with the node's attributes."""
    a = A.T if call.get("transA", 0) else A
    b = B.T if call.get("transB", 0) else B
    Y = blocks.matmul(a, b)
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if alpha != 1.0:
        Y = Y * np.asarray(alpha).astype(Y.dtype)
    if C is not None and beta != 0.0:
        Y = Y + (C if beta == 1.0 else np.asarray(beta).astype(Y.dtype) * C)
    return Y


@op("Gemm", since=7, witnesses=("suite", "onnxruntime"))
def gemm_node(call: Call, A: Value, B: Value, C: Value = None) -> Value:
    """``alpha * A' @ B' + beta * C``, C broadcast to the product's shape."""
    return gemm(call, A, B, C)


@op("Gemm", until=6, witnesses=("spec",))
def gemm_legacy(call: Call, A: Value, B: Value, C: Value) -> Value:
    """Before opset 7 C is broadcast only when ``broadcast`` says so."""
    rows = A.shape[1] if call.get("transA", 0) else A.shape[0]
    columns = B.shape[0] if call.get("transB", 0) else B.shape[1]
    if not call.get("broadcast", 0) and C.shape != (rows, columns):
        raise ValueError(f"C is {list(C.shape)}, not {[rows, columns]}, and broadcast is off")
    return gemm(call, A, B, C)


@op("Einsum", since=12, witnesses=("suite", "torch"))
def einsum(call: Call, *inputs: Value) -> Value:
    """Einstein summation as in numpy, by pairwise contraction."""
    equation = call.get("equation").replace(" ", "")
    return np.asarray(np.einsum(equation, *inputs, optimize="greedy" if len(inputs) > 1 else False))
