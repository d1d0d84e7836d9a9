"""The node at fault in a chain that computes a mask, an index or a shape, found by repairing it.

Exporters compute such values each in its own way, so that the chain cannot be held against the reference's node by
node. What it must give is known all the same: the reference has it. Each node is changed by a little, one at a time,
and the change with which the chain gives that is both the place and the proof. In the order of what is told first:

1. An attribute that is a switch is turned over, a small integer attribute is one more or less.
2. A stored integer is one more or less.
3. Two operands are exchanged.
4. A comparison is another one, a stored integer has another sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxeq.errors import OnnxeqError
from onnxeq.layers.faults.parameters import constant_value, formal_name
from onnxeq.layers.likeness import LIMIT, distance
from onnxeq.layers.program import Program, reads_of
from onnxeq.layers.walking.alignment import Alignment
from onnxeq.referee.attributes import decode
from onnxeq.referee.frames import Entry, Kind
from onnxeq.referee.schemas import default_attributes
from onnxeq.types import Array

__all__ = ["Repair", "repair"]

_LONGEST = 32
"""Nodes of a chain that are looked at, the nearest to its end first."""


@dataclass(frozen=True)
class Repair:
    """What makes a chain right.

    Attributes:
        position: The node at fault.
        text: What it has, and what makes it right.
        initializer: The stored constant that holds it, if one does.
    """

    position: int
    text: str
    initializer: str = ""


@dataclass(frozen=True)
class _Attempt:
    rank: int
    repair: Repair
    node: onnx.NodeProto
    given: Mapping[str, Entry]


def repair(found: Alignment, name: str, goal: Array) -> Repair | None:
    """The smallest change of one node with which the value ``name`` of the artifact is ``goal``; ``None`` without one.

    Args:
        found: The walk, which knows what the chain reads.
        name: A value made of shapes and constants.
        goal: What it should be.
    """
    program = found.artifact
    data = {n for n, entry in found.values.items() if entry.kind is Kind.DATA}
    chain = [p for p in program.ancestors(name, data) if not data & set(program.nodes[p].output)][-_LONGEST:]
    attempts = [a for p in reversed(chain) for a in _attempts(program, p)]
    for attempt in sorted(attempts, key=lambda a: a.rank):
        nodes = [attempt.node if p == attempt.repair.position else program.nodes[p] for p in chain]
        value = _value(found, name, nodes, attempt.given)
        if value is not None and value.dtype.kind == goal.dtype.kind and distance(value, goal) <= LIMIT:
            return attempt.repair
    return None


def _value(found: Alignment, name: str, nodes: Sequence[onnx.NodeProto], given: Mapping[str, Entry]) -> Array | None:
    made = {n for node in nodes for n in node.output}
    read = {n for node in nodes for n in reads_of(node) if n not in made}
    known = {n: found.values[n] for n in read if n in found.values} | dict(given)
    try:
        return np.asarray(found.artifact.executor(nodes).run_entries({}, outputs=[name], known=known)[name].value)
    except (OnnxeqError, KeyError):
        return None


def _attempts(program: Program, position: int) -> Iterator[_Attempt]:
    yield from _attributes(program, position)
    yield from _constants(program, position)
    yield from _operands(program, position)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _attributes(program: Program, position: int) -> Iterator[_Attempt]:
    node = program.nodes[position]
    held = {name: decode(a) for name, a in default_attributes(node.domain, node.op_type, _opset(program, node)).items()}
    held |= {a.name: decode(a) for a in node.attribute}
    for name, value in held.items():
        if name in ("to", "dtype") or not isinstance(value, int):
            continue
        for other in [1 - value] if value in (0, 1) else [value - 1, value + 1]:
            copy = _copy(node)
            kept = [a for a in copy.attribute if a.name != name]
            del copy.attribute[:]
            copy.attribute.extend([*kept, onnx.helper.make_attribute(name, other)])
            yield _Attempt(0, Repair(position, f"attribute {name} is {value}; with {other}"), copy, {})


def _opset(program: Program, node: onnx.NodeProto) -> int:
    return program.opsets.get("" if node.domain == "ai.onnx" else node.domain, 1)


_FEW = 8
"""Elements of a constant that is a number, an axis or a shape, and no table."""


def _constants(program: Program, position: int) -> Iterator[_Attempt]:
    node = program.nodes[position]
    for index, name in enumerate(node.input):
        entry = constant_value(program, name) if name in program.constant else None
        if entry is None or not isinstance(entry.value, np.ndarray) or entry.value.dtype.kind != "i":
            continue
        if not 0 < entry.value.size <= _FEW:
            continue
        formal, held = formal_name(program, node, index), entry.value
        root = name if name in program.stored else ""
        for rank, other in _others(held):
            copy = _copy(node)
            fresh = f"{name}, repaired"
            copy.input[index] = fresh
            text = f"its input {formal}{f' ({root})' if root else ''} is {held.tolist()}; with {other.tolist()}"
            yield _Attempt(rank, Repair(position, text, root), copy, {fresh: Entry(other, entry.dtype, entry.kind)})


def _others(held: Array) -> Iterator[tuple[int, Array]]:
    for index in range(held.size):
        for change in (-1, 1):
            other = held.copy()
            other.reshape(-1)[index] += change
            yield 1, other
    if held.any():
        yield 3, -held


_COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def _operands(program: Program, position: int) -> Iterator[_Attempt]:
    node = program.nodes[position]
    if len(node.input) == 2 and node.op_type not in ("Add", "Mul", "Equal", "And", "Or"):
        copy = _copy(node)
        copy.input[0], copy.input[1] = node.input[1], node.input[0]
        yield _Attempt(2, Repair(position, "with its two operands exchanged"), copy, {})
    for other in _COMPARISONS if node.op_type in _COMPARISONS else ():
        if other != node.op_type:
            copy = _copy(node)
            copy.op_type = other
            yield _Attempt(3, Repair(position, f"it is {node.op_type}; with {other}"), copy, {})
