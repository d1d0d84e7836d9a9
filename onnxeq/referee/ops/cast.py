"""Conversions between element types.

Rules for values held in float64:

1. A conversion to a type with fewer significant bits or less range rounds (to nearest, ties to even):
   float16, bfloat16 and the float8 types are part of a computation's meaning.
2. A conversion to float32 or float64 does not round: the whole graph is lifted.
   To float16 it rounds by way of float32, as the frameworks do and as ml_dtypes does for the others: what is cast is a
   float32 number where it runs.
3. A widening conversion does not round either: the value that a runtime has rounded before is exact here.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from onnxeq.errors import BadInputs
from onnxeq.referee.elements import element_name, is_float, numpy_dtype, restore
from onnxeq.referee.ops.tensors import declared, unsupported
from onnxeq.referee.registry import Call, op

__all__ = ["convert", "round_to_type"]

_SUB_BYTE = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float4_e2m1fn": 4}


def round_to_type(X: Any, name: str, *, saturate: bool = True, inf_is_nan: bool = False) -> Any:
    """The nearest values of a float type, held in float64.

    Args:
        X: Floats, held in float64.
        name: The target type.
        saturate: For float8 and float4: beyond the range comes the largest finite value, instead of what
            the type has for overflow (NaN or infinity).
        inf_is_nan: Whether infinity becomes NaN even when saturating (the FNUZ types before opset 24).
    """
    dtype = numpy_dtype(name)
    stored = X.astype(np.float32) if name == "float16" else X
    rounded = stored.astype(dtype).astype(np.float64)
    if not name.startswith(("float8", "float4")):
        return rounded
    largest = float(ml_dtypes.finfo(dtype).max)
    over = np.abs(X) >= largest  # NaN is not
    if saturate:
        rounded = np.where(over, np.copysign(largest, X), rounded)
        return np.where(np.isinf(X), np.nan, rounded) if inf_is_nan else rounded
    # ml_dtypes rounds first and overflows after: the table's [x] > FLT_MAX
    return rounded


def _round_e8m0(X: Any, mode: str, saturate: bool) -> Any:
    """Powers of two from 2^-127 to 2^127: up, down, or to the nearest with ties up."""
    mantissa, exponent = np.frexp(X)  # X = mantissa * 2**exponent, mantissa in [0.5, 1)
    power = exponent - 1
    fraction = mantissa * 2
    if mode == "up":
        power = power + (fraction > 1)
    elif mode == "nearest":
        power = power + (fraction >= 1.5)
    out = np.ldexp(1.0, np.clip(power, -127, 127))
    out = np.where(np.isposinf(X), 2.0**127, np.where(X == 0, 2.0**-127, out))
    bad = np.isnan(X) if saturate else np.isnan(X) | (X == 0) | np.isinf(X) | (power > 127) | (power < -127)
    return np.where(bad, np.nan, out)


def _to_text(X: Any, name: str) -> Any:
    """The shortest decimal text that reads back as the declared type."""
    kind = numpy_dtype(name).type if is_float(name) else None
    items = [str(v if kind is None else kind(v)) for v in X.reshape(-1)]
    return np.array(items, dtype=object).reshape(X.shape)


def _from_text(X: Any, name: str) -> Any:
    """Numbers from decimal text, as Python reads them (``1e-5``, ``inf``, ``NaN``)."""
    parse: Any = float if is_float(name) else int
    try:
        values = [parse(str(v)) for v in X.reshape(-1)]
    except ValueError as error:
        raise BadInputs(f"Cast from string to {name}: {error}") from None
    out = np.array(values, dtype=np.float64 if is_float(name) else numpy_dtype(name)).reshape(X.shape)
    return round_to_type(out, name) if is_float(name) and name not in ("float32", "float64") else out


def _to_integer(X: Any, name: str) -> Any:
    """Truncates toward zero; what lies outside the type's range wraps (the specification leaves it open)."""
    dtype = numpy_dtype(name)
    if X.dtype.kind not in "iub" and not X.dtype.name.startswith(("int", "uint")):
        X = np.nan_to_num(np.trunc(X.astype(np.float64)), nan=0.0)
        if name == "uint64":
            return np.where(X < 0, X.astype(np.int64).astype(np.uint64), np.abs(X).astype(np.uint64))
        X = np.clip(X, -(2.0**63), np.nextafter(2.0**63, 0)).astype(np.int64)
    if name in ("int4", "uint4", "int2", "uint2"):
        bits = _SUB_BYTE[name]
        code = X.astype(np.int64) & ((1 << bits) - 1)
        if name.startswith("int"):
            code = (code ^ (1 << (bits - 1))) - (1 << (bits - 1))
        return code.astype(np.int8).astype(dtype)
    return X.astype(dtype)


def _narrows(source: str, target: str) -> bool:
    """Whether a conversion between float types can lose bits or overflow."""
    if target in ("float32", "float64") or source == target:
        return False
    if not is_float(source):
        return True
    a, b = ml_dtypes.finfo(numpy_dtype(source)), ml_dtypes.finfo(numpy_dtype(target))
    return bool(b.nmant < a.nmant or float(b.max) < float(a.max))


def convert(call: Call, X: Any, source: str, target: str) -> Any:
    """``X``, declared as ``source``, as the referee holds it in type ``target``."""
    if target == "str":
        return X if source == "str" else _to_text(X, source)
    if source == "str":
        return np.asarray(_from_text(X, target), dtype=bool if target == "bool" else None)
    if target == "bool":
        return np.not_equal(X, 0)
    if target.startswith("complex") or source.startswith("complex"):
        raise unsupported(call, f"conversion from {source} to {target}")
    if not is_float(target):
        return _to_integer(X, target)
    if call.exact and target in ("float16", "bfloat16", "float32", "float64"):
        return X.astype(numpy_dtype(target))
    X = X.astype(np.float64, copy=False)
    if not _narrows(source, target):
        return X
    saturate = bool(call.get("saturate", 1))
    if target == "float8_e8m0fnu":
        return _round_e8m0(X, call.get("round_mode", "up"), saturate)
    no_inf = target.endswith("fnuz") and call.opset < 24
    return round_to_type(X, target, saturate=saturate, inf_is_nan=no_inf)


@op("Cast", witnesses=("suite", "onnxruntime"))
def cast(call: Call, X: Any) -> Any:
    """Converts to the element type ``to``."""
    to = call.get("to")
    target = to.lower() if isinstance(to, str) else element_name(to)  # a name before opset 6
    target = {"float": "float32", "double": "float64", "string": "str"}.get(target, target)
    return convert(call, X, declared(call, 0, X), target)


@op("CastLike", witnesses=("suite", "onnxruntime"))
def cast_like(call: Call, X: Any, like: Any) -> Any:
    """Converts to the element type of the second input."""
    return convert(call, X, declared(call, 0, X), declared(call, 1, like))


def _bits(X: Any, name: str) -> Any:
    """The bit patterns as unsigned integers, one per element."""
    stored = restore(X, name)
    stored = stored.astype(numpy_dtype(name), copy=False) if is_float(name) else stored
    if name in ("int4", "uint4", "int2", "uint2"):
        return stored.astype(np.int64).astype(np.uint8) & np.uint8((1 << _SUB_BYTE[name]) - 1)
    return np.ascontiguousarray(stored).view(f"u{stored.dtype.itemsize}").reshape(X.shape)


@op("BitCast", witnesses=("suite", "onnxruntime"))
def bit_cast(call: Call, X: Any) -> Any:
    """Reads the bits of the declared type as another type of the same width."""
    source, target = declared(call, 0, X), element_name(call.get("to"))
    codes = _bits(X, source)
    width = _SUB_BYTE.get(source, codes.dtype.itemsize * 8)
    if width != _SUB_BYTE.get(target, numpy_dtype(target).itemsize * 8):
        raise BadInputs(f"BitCast {call.node.name}: {source} and {target} differ in width")
    if target in ("int4", "uint4", "int2", "uint2"):
        return _to_integer(codes, target)
    return codes.view(numpy_dtype(target))
