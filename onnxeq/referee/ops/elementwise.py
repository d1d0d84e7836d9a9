"""Arithmetic, element by element: binary, variadic, bitwise and unary operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from onnxeq.referee.ops.tensors import legacy_operand, place
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


@op("Add", witnesses=("suite", "onnxruntime"))
def add(call: Call, A: Any, B: Any) -> Any:
    """``A + B``; integers wrap around."""
    B = legacy_operand(call, A, B)
    return np.add(A, B, out=place(call, A, B))


@op("Sub", witnesses=("suite", "onnxruntime"))
def sub(call: Call, A: Any, B: Any) -> Any:
    """``A - B``; integers wrap around."""
    B = legacy_operand(call, A, B)
    return np.subtract(A, B, out=place(call, A, B))


@op("Mul", witnesses=("suite", "onnxruntime"))
def mul(call: Call, A: Any, B: Any) -> Any:
    """``A * B``; integers wrap around."""
    B = legacy_operand(call, A, B)
    return np.multiply(A, B, out=place(call, A, B))


@op("Div", witnesses=("suite", "onnxruntime"))
def div(call: Call, A: Any, B: Any) -> Any:
    """``A / B``; integer quotients are truncated toward zero."""
    B = legacy_operand(call, A, B)
    with np.errstate(divide="ignore", invalid="ignore"):
        if A.dtype.kind not in "iu":
            return np.divide(A, B, out=place(call, A, B))
        quotient = np.floor_divide(A, B)
        if A.dtype.kind == "u":
            return quotient
        # floor and truncation differ by one where the exact quotient is negative and not whole
        return quotient + ((quotient < 0) & (np.multiply(quotient, B) != A)).astype(A.dtype)


@op("Mod", witnesses=("suite", "onnxruntime"))
def mod(call: Call, A: Any, B: Any) -> Any:
    """``fmod=0``: the remainder has the divisor's sign; ``fmod=1``: the dividend's, as in C."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.fmod(A, B) if call.get("fmod", 0) else np.mod(A, B)


@op("Pow", witnesses=("suite", "onnxruntime"))
def power(call: Call, X: Any, Y: Any) -> Any:
    """``X ** Y`` in the type of ``X``; an integer base with another exponent goes through float64."""
    Y = legacy_operand(call, X, Y)
    with np.errstate(all="ignore"):
        if X.dtype.kind not in "iu":
            return np.power(X, Y.astype(X.dtype, copy=False))
        if Y.dtype.kind in "iu" and not (Y.dtype.kind == "i" and np.any(Y < 0)):
            return np.power(X, Y.astype(X.dtype))
        return np.power(X.astype(np.float64), Y.astype(np.float64)).astype(X.dtype)


@op("BitShift", witnesses=("suite", "onnxruntime"))
def bit_shift(call: Call, X: Any, Y: Any) -> Any:
    """Shifts ``X`` by ``Y`` bits; a shift by the width or more leaves only the sign extension."""
    width = X.dtype.itemsize * 8
    inside = (Y >= 0) & (width > Y)
    by = np.where(inside, Y, 0).astype(X.dtype)
    if call.get("direction") == "LEFT":
        return np.where(inside, np.left_shift(X, by), 0).astype(X.dtype)
    fill = np.where(X < 0, -1, 0) if X.dtype.kind == "i" else 0
    return np.where(inside, np.right_shift(X, by), fill).astype(X.dtype)


@op("BitwiseAnd", witnesses=("suite", "onnxruntime"))
def bitwise_and(call: Call, A: Any, B: Any) -> Any:
    """``A & B``."""
    return np.bitwise_and(A, B)


@op("BitwiseOr", witnesses=("suite", "onnxruntime"))
def bitwise_or(call: Call, A: Any, B: Any) -> Any:
    """``A | B``."""
    return np.bitwise_or(A, B)


@op("BitwiseXor", witnesses=("suite", "onnxruntime"))
def bitwise_xor(call: Call, A: Any, B: Any) -> Any:
    """``A ^ B``."""
    return np.bitwise_xor(A, B)


@op("BitwiseNot", witnesses=("suite", "onnxruntime"))
def bitwise_not(call: Call, X: Any) -> Any:
    """``~X``."""
    return np.bitwise_not(X)


@op("Sum", witnesses=("suite", "onnxruntime"))
def total(call: Call, *values: Any) -> Any:
    """The sum of all inputs."""
    return reduce(np.add, values)


@op("Mean", witnesses=("suite", "onnxruntime"))
def mean(call: Call, *values: Any) -> Any:
    """The sum of all inputs over their number."""
    return np.divide(reduce(np.add, values), len(values))


@op("Max", witnesses=("suite", "onnxruntime"))
def maximum(call: Call, *values: Any) -> Any:
    """The largest of all inputs; NaN wins."""
    return reduce(np.maximum, values)


@op("Min", witnesses=("suite", "onnxruntime"))
def minimum(call: Call, *values: Any) -> Any:
    """The smallest of all inputs; NaN wins."""
    return reduce(np.minimum, values)


@op("Clip", until=10, witnesses=("suite", "onnxruntime"))
def clip_attributes(call: Call, X: Any) -> Any:
    """``min(max(X, min), max)`` with attributes, which default to float32's range from opset 6 on."""
    limit = float(np.finfo(np.float32).max) if call.opset >= 6 else np.inf
    return np.minimum(np.maximum(X, call.get("min", -limit)), call.get("max", limit))


@op("Clip", since=11, witnesses=("suite", "onnxruntime"))
def clip(call: Call, X: Any, low: Any = None, high: Any = None) -> Any:
    """``min(max(X, low), high)``: where ``low > high`` the result is ``high``.

    An absent bound is the declared type's largest finite value. That matters for infinite elements only,
    and those stay infinite here: in float64 the declared type's range is not ours.
    """
    if low is not None:
        X = np.maximum(X, low.reshape(()))
    return X if high is None else np.minimum(X, high.reshape(()))


@op("Neg", witnesses=("suite", "onnxruntime"))
def negative(call: Call, X: Any) -> Any:
    """``-X``."""
    return np.negative(X, out=place(call, X))


@op("Reciprocal", witnesses=("suite", "onnxruntime"))
def reciprocal(call: Call, X: Any) -> Any:
    """``1 / X``."""
    with np.errstate(divide="ignore"):
        return np.divide(1, X, dtype=X.dtype, out=place(call, X))


@op("Sign", witnesses=("suite", "onnxruntime"))
def sign(call: Call, X: Any) -> Any:
    """-1, 0 or 1."""
    return np.sign(X)


@op("Round", witnesses=("suite", "onnxruntime"))
def round_half_even(call: Call, X: Any) -> Any:
    """The nearest whole number; halves go to the even one."""
    return np.rint(X, out=place(call, X))


_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Sqrt": np.sqrt,
    "Tan": np.tan,
}


@op(*_UNARY, witnesses=("suite", "onnxruntime"))
def unary(call: Call, X: Any) -> Any:
    """The function of the operator's name, as IEEE 754 has it at the edges of its domain."""
    with np.errstate(all="ignore"):
        return _UNARY[call.node.op_type](X, out=place(call, X))
