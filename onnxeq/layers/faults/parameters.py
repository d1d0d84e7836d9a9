"""What a node is set by: its attributes and constant inputs, under the names that the operator's schema gives them.

So an axis is the same thing as an attribute (opset 11) and as an input (opset 13), and a default is the same as its
value written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxeq.layers.program import Program
from onnxeq.referee.attributes import decode
from onnxeq.referee.frames import Entry, Kind
from onnxeq.referee.schemas import default_attributes, schema_of
from onnxeq.types import Array

__all__ = [
    "Parameter",
    "array_of",
    "constant_value",
    "data_inputs",
    "described",
    "formal_name",
    "same_parameter",
    "shown",
    "with_parameter",
]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a node: its value, and for a constant input its name and position (else empty and -1)."""

    value: Any
    source: str = ""
    index: int = -1
    entry: Entry | None = None


def described(program: Program, position: int, order: Sequence[str] = ()) -> dict[str, Parameter]:
    """A node's attributes, defaults included, and its constant inputs, by their names in the schema.

    ``order`` are its inputs in another order.
    """
    node = program.nodes[position]
    opset = program.opsets.get("" if node.domain == "ai.onnx" else node.domain, 1)
    defaults = default_attributes(node.domain, node.op_type, opset)
    found = {name: Parameter(decode(value)) for name, value in defaults.items()}
    found |= {a.name: Parameter(decode(a)) for a in node.attribute}
    for index, name in enumerate(order or node.input):
        if name in program.constant:
            entry = constant_value(program, name)
            if entry is not None:
                found[formal_name(program, node, index)] = Parameter(entry.value, name, index, entry)
    return found


def data_inputs(program: Program, position: int, order: Sequence[str] = ()) -> set[str]:
    """The inputs of a node that are computed, by their names in the schema."""
    node = program.nodes[position]
    return {
        formal_name(program, node, i)
        for i, name in enumerate(order or node.input)
        if name and name not in program.constant
    }


def constant_value(program: Program, name: str) -> Entry | None:
    """A constant's value; computed from stored ones where need be."""
    if name in program.stored:
        return program.stored[name]
    values = dict(program.stored)
    for position in program.ancestors(name):
        values |= program.compute(position, values)
    return values.get(name)


def formal_name(program: Program, node: onnx.NodeProto, index: int) -> str:
    """What the operator's schema calls an input; its position where there is none."""
    opset = program.opsets.get("" if node.domain == "ai.onnx" else node.domain, 1)
    schema = schema_of(node.domain, node.op_type, opset)
    if schema is None or not schema.inputs:
        return f"#{index}"
    last = len(schema.inputs) - 1
    name = str(schema.inputs[min(index, last)].name)
    return name if index <= last and last < _VARIADIC.get(node.op_type, last + 1) else f"{name}#{index}"


_VARIADIC = {"Concat": 0, "Sum": 0, "Max": 0, "Min": 0, "Mean": 0}


def same_parameter(a: Any, b: Any) -> bool:
    """Whether two values set the same: float64 numbers that are one float32 number do."""
    if isinstance(a, onnx.GraphProto) or isinstance(b, onnx.GraphProto):
        return bool(a == b)
    one, two = np.asarray(a), np.asarray(b)
    if one.shape != two.shape and not (one.size == two.size and one.ndim <= 1 and two.ndim <= 1):
        return False
    if one.dtype.kind == "f" or two.dtype.kind == "f":
        return bool(np.array_equal(one.ravel().astype(np.float32), two.ravel().astype(np.float32), equal_nan=True))
    return bool(np.array_equal(one.ravel(), two.ravel()))


def with_parameter(
    node: onnx.NodeProto, name: str, ours: Parameter | None, theirs: Parameter | None
) -> tuple[onnx.NodeProto, dict[str, Entry]] | None:
    """The node with the reference's parameter; ``None`` where it cannot be had so (an input against an attribute)."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    as_input = (ours is not None and ours.source) or (ours is None and theirs is not None and theirs.source)
    if as_input:
        index = ours.index if ours is not None and ours.source else theirs.index if theirs is not None else -1
        if theirs is None:
            copy.input[index] = ""
            return copy, {}
        value = theirs.entry or Entry(np.asarray(theirs.value), str(np.asarray(theirs.value).dtype), Kind.CONSTANT)
        while len(copy.input) <= index:
            copy.input.append("")
        fresh = f"{copy.input[index] or copy.output[0]}/{name} of the reference"
        copy.input[index] = fresh
        return copy, {fresh: value}
    kept = [a for a in copy.attribute if a.name != name]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    if theirs is not None:
        value = theirs.value
        if theirs.source:
            value = value.tolist() if isinstance(value, np.ndarray) else value
        try:
            copy.attribute.append(onnx.helper.make_attribute(name, value))
        except (TypeError, ValueError):
            return None
    return copy, {}


def shown(parameter: Parameter | None) -> Any:
    """A constant input by its name, an attribute by its value."""
    if parameter is None:
        return None
    return parameter.source or parameter.value


def array_of(parameter: Parameter | None) -> Array | None:
    """Its numbers, where it holds some."""
    if parameter is None or isinstance(parameter.value, (onnx.GraphProto, str, bytes)):
        return None
    value = np.asarray(parameter.value)
    return value if value.dtype.kind in "fiub" else None
