"""Differences inside the bodies of Loop, If and Scan, as edits that can be taken back one at a time.

The bodies of two nodes of one operator are laid side by side by their operators and order. What differs between two
nodes there (an attribute, the operator, an operand, a constant) is put into the artifact's body by itself, so that it
can be tried like any other edit.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxeq.graph.unsteady import small_constants
from onnxeq.layers.faults.wording import array_change, attribute_text
from onnxeq.layers.likeness import LIMIT, distance
from onnxeq.referee.attributes import decode
from onnxeq.referee.constants import tensor_array
from onnxeq.types import Array

__all__ = ["InnerEdit", "inner_edits"]

HOLDERS = frozenset({"Loop", "If", "Scan"})


@dataclass(frozen=True)
class InnerEdit:
    """One difference between two bodies, taken back.

    Attributes:
        node: The artifact's inner node that it is at.
        whole: The node that holds the body, with the edit.
        text: What differs, in words.
        formal: Which operand, by its index; -1 for what is no operand.
        arrays: Both sides' content where it is a constant.
    """

    node: onnx.NodeProto
    whole: onnx.NodeProto
    text: str
    formal: int = -1
    arrays: tuple[Array | None, Array | None] = (None, None)


@dataclass(frozen=True)
class _Body:
    """A body's computing nodes, its own constants, and where it stands."""

    graph: onnx.GraphProto
    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, Array]


def inner_edits(
    mine: onnx.NodeProto, theirs: onnx.NodeProto, outer: tuple[Mapping[str, Array], Mapping[str, Array]],
    names: Mapping[str, str],
) -> Iterator[InnerEdit]:  # fmt: skip
    """Every difference between the bodies of two nodes of one operator.

    Args:
        mine: The artifact's node.
        theirs: The reference's.
        outer: Constants of the graphs around them, the artifact's and the reference's.
        names: Value of the reference's outer graph -> the same value in the artifact's.
    """
    if mine.op_type not in HOLDERS or mine.op_type != theirs.op_type:
        return
    other = {a.name: a.g for a in theirs.attribute if a.HasField("g")}
    for index, attribute in enumerate(mine.attribute):
        if not attribute.HasField("g") or attribute.name not in other:
            continue
        ours, reference = _body(attribute.g, outer[0]), _body(other[attribute.name], outer[1])
        for node, edited, text, formal, arrays in _compared(ours, reference, names):
            whole = onnx.NodeProto()
            whole.CopyFrom(mine)
            whole.attribute[index].g.CopyFrom(edited)
            yield InnerEdit(node, whole, text, formal, arrays)


def _body(graph: onnx.GraphProto, outer: Mapping[str, Array]) -> _Body:
    own = {t.name: tensor_array(t, None) for t in graph.initializer} | small_constants(graph)
    nodes = tuple(n for n in graph.node if n.op_type != "Constant")
    made = [n for n in graph.node if n.op_type == "Constant"]
    large = [(n.output[0], a.t) for n in made for a in n.attribute if a.name == "value"]
    own |= {name: tensor_array(tensor, None) for name, tensor in large if name not in own}
    return _Body(graph, nodes, {**outer, **own})


_Row = tuple[onnx.NodeProto, onnx.GraphProto, str, int, tuple[Array | None, Array | None]]


def _compared(mine: _Body, theirs: _Body, names: Mapping[str, str]) -> Iterator[_Row]:
    pairs = list(_paired(mine, theirs))
    known = {**names, **{b.name: a.name for a, b in zip(mine.graph.input, theirs.graph.input, strict=False)}}
    for a, b in pairs:
        if a is not None and b is not None:
            known |= dict(zip(theirs.nodes[b].output, mine.nodes[a].output, strict=False))
    for a, b in pairs:
        if a is None:
            continue
        if b is None:
            yield from _bypassed(mine, a)
            continue
        yield from _attributes(mine, a, theirs.nodes[b])
        yield from _operands(mine, theirs, a, theirs.nodes[b], known)


def _paired(mine: _Body, theirs: _Body) -> Iterator[tuple[int | None, int | None]]:
    matcher = difflib.SequenceMatcher(
        None, [n.op_type for n in mine.nodes], [n.op_type for n in theirs.nodes], autojunk=False
    )
    for _, a, b, c, d in matcher.get_opcodes():
        yield from itertools.zip_longest(range(a, b), range(c, d))


def _edited(body: _Body, index: int) -> tuple[onnx.GraphProto, onnx.NodeProto]:
    """A copy of a body and its node with that index."""
    graph = onnx.GraphProto()
    graph.CopyFrom(body.graph)
    return graph, [n for n in graph.node if n.op_type != "Constant"][index]


def _plain(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: decode(a) for a in node.attribute if not (a.HasField("g") or a.graphs)}


def _attributes(mine: _Body, index: int, theirs: onnx.NodeProto) -> Iterator[_Row]:
    """The operator and its attributes."""
    node = mine.nodes[index]
    ours, other = _plain(node), _plain(theirs)
    differ = [n for n in dict.fromkeys([*ours, *other]) if not _equal(ours.get(n), other.get(n))]
    if node.op_type == theirs.op_type and not differ:
        return
    graph, copy = _edited(mine, index)
    copy.op_type = theirs.op_type
    held = [a for a in copy.attribute if a.HasField("g") or a.graphs]
    del copy.attribute[:]
    copy.attribute.extend([*held, *(a for a in theirs.attribute if a.name in other)])
    if node.op_type != theirs.op_type:
        text = f"it is {node.op_type}, the reference has {theirs.op_type}"
    else:
        text = ", ".join(attribute_text(n, ours.get(n), other.get(n)) for n in differ)
    yield node, graph, text, -1, (None, None)


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def _operands(
    mine: _Body, theirs: _Body, index: int, reference: onnx.NodeProto, known: Mapping[str, str]
) -> Iterator[_Row]:
    """Constants that differ, operands that are other values or stand in another order."""
    node = mine.nodes[index]
    wrong: list[int] = []
    for at, (a, b) in enumerate(zip(node.input, reference.input, strict=False)):
        one, two = mine.constants.get(a), theirs.constants.get(b)
        if one is not None and two is not None:
            if one.shape != two.shape or distance(one, two) > LIMIT:
                graph, copy = _edited(mine, index)
                copy.input[at] = f"{a or copy.output[0]} of the reference"
                graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(two), copy.input[at]))
                yield node, graph, f"its input {at} {array_change(one, two)}", at, (one, two)
        elif known.get(b, a) != a:
            wrong.append(at)
    if not wrong:
        return
    graph, copy = _edited(mine, index)
    for at in wrong:
        copy.input[at] = known[reference.input[at]]
    exchanged = sorted(copy.input) == sorted(node.input)
    text = "it reads its operands in another order than the reference" if exchanged else ", ".join(
        f"its input {at} is '{node.input[at]}', the reference reads what is '{copy.input[at]}' here" for at in wrong
    )  # fmt: skip
    yield node, graph, text, wrong[0], (None, None)


def _bypassed(mine: _Body, index: int) -> Iterator[_Row]:
    """The body without a node that the reference's does not have."""
    node = mine.nodes[index]
    for source in (n for n in node.input if n and n not in mine.constants):
        graph, gone = _edited(mine, index)
        graph.node.remove(gone)
        for other in graph.node:
            other.input[:] = [source if n == node.output[0] else n for n in other.input]
        if any(o.name == node.output[0] for o in graph.output):
            graph.node.append(onnx.helper.make_node("Identity", [source], [node.output[0]]))
        yield node, graph, "the reference has no such node there", -1, (None, None)
