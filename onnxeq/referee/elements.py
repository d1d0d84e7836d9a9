"""Element types: ONNX's numbers, numpy's names, and which of them the referee lifts to float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from onnxeq.errors import UnusableModel

__all__ = ["FLOATS", "dtype_name", "element_name", "is_float", "lift", "numpy_dtype", "restore"]

_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.UINT16: "uint16",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.STRING: "str",
    TensorProto.BOOL: "bool",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.COMPLEX64: "complex64",
    TensorProto.COMPLEX128: "complex128",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT8E4M3FN: "float8_e4m3fn",
    TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    TensorProto.FLOAT8E5M2: "float8_e5m2",
    TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    TensorProto.UINT4: "uint4",
    TensorProto.INT4: "int4",
    # Numbers of later IR versions, written out because older onnx packages lack the names.
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
}

FLOATS: frozenset[str] = frozenset(
    {"float64", "float32"} | {n for n in _NAMES.values() if n.startswith(("float", "bfloat"))}
)
"""The element types whose values the referee holds in float64."""


def element_name(elem_type: int) -> str:
    """The numpy name of an ONNX element type; strings are ``str`` and held as ``object`` arrays.

    Raises:
        UnusableModel: ONNX has no such element type.
    """
    try:
        return _NAMES[elem_type]
    except KeyError:
        raise UnusableModel(f"element type {elem_type} is not known") from None


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type that stores ``name``."""
    if name == "str":
        return np.dtype(object)
    extended = getattr(ml_dtypes, name, None)
    return np.dtype(extended if extended is not None else name)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The element type's name of a numpy type, the inverse of :func:`numpy_dtype`."""
    return "str" if dtype.kind in "OUS" else dtype.name


def is_float(name: str) -> bool:
    """Whether values of this element type are held in float64."""
    return name in FLOATS


def lift(value: Any) -> Any:
    """The same numbers in float64 (sequences item by item); everything else as it is."""
    if isinstance(value, list):
        return [lift(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.name in FLOATS:
        return value.astype(np.float64, copy=False)
    return value


def restore(value: Any, name: str) -> Any:
    """A lifted value back in its declared element type ``name``; everything else as it is."""
    if isinstance(value, list):
        return [restore(item, name) for item in value]
    if isinstance(value, np.ndarray) and value.dtype == np.float64 and is_float(name):
        return value.astype(numpy_dtype(name), copy=False)
    return value
