"""Sequences (Python lists) and optionals (``None`` when absent)."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxeq.errors import BadInputs
from onnxeq.referee.ops.tensors import as_int, as_ints, normal_axis
from onnxeq.referee.registry import Call, Value, op

__all__: list[str] = []


@op("SequenceConstruct", witnesses=("suite", "onnxruntime"))
def construct(call: Call, *values: Any) -> list[Any]:
    """A sequence of the inputs."""
    return list(values)


@op("SequenceEmpty", witnesses=("suite", "onnxruntime"))
def empty(call: Call) -> list[Any]:
    """A sequence of nothing."""
    return []


def _position(call: Call, position: Any, length: int, last: int) -> int:
    """A position counted from the front, at most ``last``."""
    at = as_int(position)
    if not -length <= at <= last:
        where = call.node.name or call.node.output[0]
        raise BadInputs(f"{call.node.op_type} {where}: position {at} is outside [{-length}, {last}]")
    return at + length if at < 0 else at


@op("SequenceAt", witnesses=("suite", "onnxruntime"))
def at(call: Call, sequence: list[Any], position: Any) -> Any:
    """The item at a position; negative ones count from the end."""
    return sequence[_position(call, position, len(sequence), len(sequence) - 1)]


@op("SequenceInsert", witnesses=("suite", "onnxruntime"))
def insert(call: Call, sequence: list[Any], tensor: Any, position: Any = None) -> list[Any]:
    """A sequence with one more item, at the end by default."""
    where = len(sequence) if position is None else _position(call, position, len(sequence), len(sequence))
    return [*sequence[:where], tensor, *sequence[where:]]


@op("SequenceErase", witnesses=("suite", "onnxruntime"))
def erase(call: Call, sequence: list[Any], position: Any = None) -> list[Any]:
    """A sequence without one item, the last by default."""
    last = len(sequence) - 1
    where = last if position is None else _position(call, position, len(sequence), last)
    return [*sequence[:where], *sequence[where + 1 :]]


@op("SequenceLength", witnesses=("suite", "onnxruntime"))
def length(call: Call, sequence: list[Any]) -> Any:
    """The number of items."""
    return np.array(len(sequence), dtype=np.int64)


@op("SplitToSequence", witnesses=("suite", "onnxruntime"))
def split_to_sequence(call: Call, X: Any, split: Any = None) -> list[Any]:
    """Parts along ``axis``: single ones (``keepdims`` applies), of one size, or of the sizes given."""
    axis = normal_axis(call.get("axis", 0), X.ndim)
    if split is None:
        parts = np.split(X, X.shape[axis], axis=axis) if X.shape[axis] else []
        return parts if call.get("keepdims", 1) else [np.squeeze(p, axis) for p in parts]
    if split.ndim == 0:
        return np.split(X, range(as_int(split), X.shape[axis], as_int(split)), axis=axis)
    sizes = as_ints(split)
    if sum(sizes) != X.shape[axis]:
        raise BadInputs(f"SplitToSequence {call.node.name}: {sizes} do not make {X.shape[axis]} elements")
    return np.split(X, np.cumsum(sizes)[:-1], axis=axis)


@op("ConcatFromSequence", witnesses=("suite", "onnxruntime"))
def concat_from_sequence(call: Call, sequence: list[Any]) -> Any:
    """Joins the items along an axis, or along a new one."""
    join = np.stack if call.get("new_axis", 0) else np.concatenate
    return join(sequence, axis=call.get("axis"))


@op("Optional", witnesses=("suite", "spec"))
def optional(call: Call, value: Value = None) -> Value:
    """An optional that holds its input, or nothing."""
    return value


@op("OptionalHasElement", witnesses=("suite", "spec"))
def has_element(call: Call, value: Value = None) -> Any:
    """Whether there is a value."""
    return np.array(value is not None)


@op("OptionalGetElement", witnesses=("suite", "spec"))
def get_element(call: Call, value: Value = None) -> Value:
    """The value of an optional that has one."""
    if value is None:
        raise BadInputs(f"OptionalGetElement {call.node.name}: the optional is empty")
    return value
