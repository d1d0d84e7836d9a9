"""Linear quantisation. Scales keep their stored float32 values; rounding is to nearest, ties to even."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from onnxeq.referee.elements import element_name, is_float, numpy_dtype
from onnxeq.referee.ops.cast import round_to_type
from onnxeq.referee.ops.tensors import declared, normal_axis, unsupported
from onnxeq.referee.registry import Call, find, op

__all__ = ["dequantize", "integer_range", "quantize"]

_SUB_BYTE_RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def integer_range(name: str) -> tuple[int, int]:
    """Smallest and largest value of an integer type, the sub-byte ones included."""
    if name in _SUB_BYTE_RANGES:
        return _SUB_BYTE_RANGES[name]
    info = np.iinfo(numpy_dtype(name))
    return int(info.min), int(info.max)


def _wide(zero: Any) -> Any:
    """Integers of any width as float64, in which their differences are exact (up to 2**53)."""
    return 0.0 if zero is None else np.asarray(zero).astype(np.float64)


def dequantize(X: Any, scale: Any, zero: Any) -> Any:
    """``(X - zero) * scale`` in float64."""
    return (_wide(X) - _wide(zero)) * np.asarray(scale, dtype=np.float64)


def quantize(X: Any, scale: Any, zero: Any, name: str) -> Any:
    """``saturate(round(X / scale) + zero)`` in the integer type ``name``."""
    low, high = integer_range(name)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.clip(np.rint(np.asarray(X, np.float64) / scale) + _wide(zero), low, high)
    whole = np.nan_to_num(whole, nan=low)
    if name == "uint64" or numpy_dtype(name).itemsize == 8:
        return whole.astype(numpy_dtype(name))
    return whole.astype(np.int64).astype(numpy_dtype(name))


def _spread(call: Call, X: Any, parameter: Any) -> Any:
    """A scale or zero point made to broadcast: per tensor, per axis, or per block of an axis."""
    if parameter is None or parameter.ndim == 0:
        return parameter
    if parameter.size == 1 and parameter.ndim == 1:
        return parameter.reshape(())
    axis = normal_axis(call.get("axis", 1), X.ndim)
    if parameter.ndim == 1:
        return parameter.reshape((-1,) + (1,) * (X.ndim - axis - 1))
    block = call.get("block_size", 0) or -(-X.shape[axis] // parameter.shape[axis])
    return np.take(np.repeat(parameter, block, axis=axis), np.arange(X.shape[axis]), axis=axis)


@op("QuantizeLinear", since=10, witnesses=("suite", "onnxruntime"))
def quantize_linear(call: Call, X: Any, scale: Any, zero: Any = None) -> Any:
    """``saturate(round(X / scale) + zero)``; per tensor, per axis (13) or per block (21)."""
    name = element_name(call.get("output_dtype") or 2) if zero is None else declared(call, 2, zero)
    scale, zero = _spread(call, X, scale), _spread(call, X, zero)
    if not is_float(name):
        return quantize(X, scale, zero, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        return round_to_type(X / scale + _wide(zero), name, saturate=bool(call.get("saturate", 1)))


@op("DequantizeLinear", since=10, witnesses=("suite", "onnxruntime", "not onnx.reference: float32 there"))
def dequantize_linear(call: Call, X: Any, scale: Any, zero: Any = None) -> Any:
    """``(X - zero) * scale``; per tensor, per axis (13) or per block (21)."""
    return dequantize(X, _spread(call, X, scale), _spread(call, X, zero))


def dynamic_quantize(X: Any) -> tuple[Any, Any, Any]:
    """``uint8`` values with the scale and zero point that cover ``X`` and 0."""
    low, high = min(float(X.min(initial=0)), 0.0), max(float(X.max(initial=0)), 0.0)
    # with nothing but zeros any scale is right; 1 keeps the division defined
    scale = np.array((high - low) / 255 or 1.0)
    zero = np.clip(np.rint(0 - low / scale), 0, 255).astype(np.uint8)
    return quantize(X, scale, zero, "uint8"), scale, np.asarray(zero)


@op("DynamicQuantizeLinear", since=11, witnesses=("suite", "onnxruntime"))
def dynamic_quantize_linear(call: Call, X: Any) -> tuple[Any, Any, Any]:
    """Quantises to uint8 with a range taken from the tensor itself."""
    return dynamic_quantize(X)


def _rows(parameter: Any, rank: int) -> Any:
    """A per-row parameter of a left matrix, as a column."""
    return parameter[:, None] if parameter is not None and parameter.ndim == 1 and parameter.size > 1 else parameter


@op("QLinearMatMul", since=10, witnesses=("suite", "onnxruntime"))
def qlinear_matmul(
    call: Call,
    a: Any,
    a_scale: Any,
    a_zero: Any,
    b: Any,
    b_scale: Any,
    b_zero: Any,
    y_scale: Any,
    y_zero: Any,
) -> Any:
    """The integer product of two quantised matrices, rescaled to the output's quantisation."""
    rows = [_rows(p, a.ndim) for p in (a_scale, a_zero, y_scale, y_zero)]
    product = np.matmul(_wide(a) - _wide(rows[1]), _wide(b) - _wide(b_zero))
    real = product * np.asarray(rows[0]) * np.asarray(b_scale)
    name = declared(call, 7, y_zero)
    if is_float(name):
        return round_to_type(real / rows[2] + _wide(rows[3]), name)
    return quantize(real, rows[2], rows[3], name)


def standard(op_type: str, opset: int, call: Call) -> Callable[..., Any]:
    """The standard operator's float64 implementation, with this node's attributes."""
    row = find("", op_type, opset)
    if row is None:
        raise unsupported(call, f"it needs {op_type}")
    plain = replace(call, opset=opset, owned=frozenset(), input_dtypes=(), exact=False)
    return lambda *values: row.run(plain, *values)


@op("QLinearConv", since=10, witnesses=("suite", "onnxruntime"))
def qlinear_conv(
    call: Call,
    x: Any,
    x_scale: Any,
    x_zero: Any,
    w: Any,
    w_scale: Any,
    w_zero: Any,
    y_scale: Any,
    y_zero: Any,
    bias: Any = None,
) -> Any:
    """An integer convolution without zero points; the bias has scale ``x_scale * w_scale``."""
    filters = _wide(w) - _wide(_column(w_zero, w.ndim))
    total = standard("Conv", 11, call)(_wide(x) - _wide(x_zero), filters, None if bias is None else _wide(bias))
    channel = (-1,) + (1,) * (x.ndim - 2)
    real = total * np.asarray(x_scale) * np.asarray(w_scale).reshape(channel)
    return quantize(real, y_scale, y_zero, declared(call, 7, y_zero))


def _column(parameter: Any, rank: int) -> Any:
    return parameter if parameter is None or parameter.ndim == 0 else parameter.reshape((-1,) + (1,) * (rank - 1))
