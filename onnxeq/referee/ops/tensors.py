"""Small array helpers that many operators share.

The referee holds every float value in float64 and knows its declared type (``Call.input_dtypes``); in
nodes that compute only with shapes (``Call.exact``) floats keep their declared type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee.elements import element_name, is_float, numpy_dtype
from onnxeq.referee.registry import Call

__all__ = [
    "as_axes",
    "as_int",
    "as_ints",
    "declared",
    "held_type",
    "legacy_operand",
    "normal_axis",
    "place",
    "unsupported",
]


def unsupported(call: Call, why: str) -> UnsupportedOperator:
    """The error for a form of an operator that the referee does not judge with."""
    name = call.node.name or (call.node.output[0] if call.node.output else "?")
    return UnsupportedOperator(f"no validated float64 semantics for {call.node.op_type} at {name}: {why}")


def held_type(element_type: int, exact: bool = False) -> np.dtype[Any]:
    """The numpy type in which the referee holds tensors of an ONNX element type."""
    name = element_name(element_type)
    return np.dtype(np.float64) if is_float(name) and not exact else numpy_dtype(name)


def declared(call: Call, index: int, value: Any) -> str:
    """The declared element type of an input; what the array itself says when nobody declared one."""
    if index < len(call.input_dtypes) and call.input_dtypes[index]:
        return call.input_dtypes[index]
    dtype = np.asarray(value).dtype
    return "str" if dtype.kind in "OUS" else dtype.name


def place(call: Call, *values: Any) -> Any:
    """An input that may take the result of an element-wise float operation (``out=``), or ``None``."""
    shape = None
    for index, value in enumerate(values):
        target = call.scratch(index, value)
        if target is None or target.dtype != np.float64:
            continue
        if shape is None:
            shape = np.broadcast_shapes(*(v.shape for v in values))
        if target.shape == shape and all(v.dtype == np.float64 for v in values):
            return target
    return None


def as_int(value: Any) -> int:
    """The one element of an integer tensor (a scalar, or one element of any rank)."""
    return int(np.asarray(value).reshape(-1)[0])


def as_ints(value: Any) -> list[int]:
    """The elements of an integer tensor, or of a list attribute, as Python integers."""
    return [int(v) for v in np.asarray(value).reshape(-1)]


def normal_axis(axis: int, rank: int) -> int:
    """A non-negative axis; raises ``numpy.exceptions.AxisError`` when it is out of range."""
    if not -rank <= axis < max(rank, 1):
        raise np.exceptions.AxisError(axis, rank)
    return axis % rank if rank else 0


def as_axes(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Non-negative axes in their given order."""
    return tuple(normal_axis(int(a), rank) for a in axes)


def legacy_operand(call: Call, a: Any, b: Any) -> Any:
    """``b`` made ready for numpy broadcasting against ``a``.

    Before opset 7 broadcasting was asked for by ``broadcast=1``, and ``axis`` said where ``b``'s first
    dimension lies in ``a``.
    """
    if call.opset >= 7 or not call.get("broadcast", 0):
        return b
    axis = call.get("axis")
    if axis is None or b.ndim == 0:
        return b
    return b.reshape(b.shape + (1,) * (a.ndim - normal_axis(axis, a.ndim) - b.ndim))
