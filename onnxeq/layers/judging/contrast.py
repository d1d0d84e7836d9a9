"""What two graphs have differently at one layer, told by laying its nodes side by side.

Nothing is run: it says in words what a local error at that layer comes from, where the other side's graph is at hand.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxeq.errors import OnnxeqError
from onnxeq.layers.faults.parameters import array_of, described, same_parameter, shown
from onnxeq.layers.faults.wording import array_change, attribute_text, few
from onnxeq.layers.probes import GraphIndex
from onnxeq.layers.program import Program, take_apart
from onnxeq.referee.plan import node_label
from onnxeq.repro.cutting import cut
from onnxeq.types import CauseKind

__all__ = ["Contrast", "Part", "contrasts"]


@dataclass(frozen=True)
class Contrast:
    """One thing that is different.

    Attributes:
        kind: ``weights`` where it is a stored tensor of several numbers, else ``graph``.
        node: Label of the judged graph's node; empty for a node that it lacks.
        op_type: Its operator.
        initializer: The constant, where it is one.
        words: A sentence.
    """

    kind: CauseKind
    node: str
    op_type: str
    initializer: str
    words: str


@dataclass(frozen=True)
class Part:
    """The nodes that make one value from known ones.

    Attributes:
        model: The graph.
        folder: Of its external data.
        value: What they make.
        known: Values that are known on both sides.
    """

    model: onnx.ModelProto
    folder: Path
    value: str
    known: Collection[str]


def contrasts(mine: Part, theirs: Part) -> list[Contrast]:
    """What the judged graph's nodes have differently from the other's; empty where nothing, or it cannot be told."""
    try:
        a, b = _cut(mine), _cut(theirs)
    except OnnxeqError:
        return []
    ours, others = [n.op_type for n in a.nodes], [n.op_type for n in b.nodes]
    found: list[Contrast] = []
    matcher = difflib.SequenceMatcher(a=ours, b=others, autojunk=False)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal":
            for here, there in zip(range(i, i_end), range(j, j_end), strict=True):
                found += _settings(a, here, b, there)
        else:
            found.append(_operators(a, range(i, i_end), b, range(j, j_end)))
    return found


def _cut(part: Part) -> Program:
    index = GraphIndex(part.model)
    shared = {name: True for name in part.known if name != part.value}
    inputs = sorted(index.frontier(index.makers[part.value], shared))
    stored = {tensor.name for tensor in part.model.graph.initializer}  # in old files they are inputs as well
    given = [i.name for i in part.model.graph.input if i.name not in stored]
    return take_apart(cut(part.model, part.folder, [*inputs, *given], [part.value]), part.folder)


def _settings(a: Program, here: int, b: Program, there: int) -> Iterator[Contrast]:
    """Attributes and constants of two nodes of one operator."""
    node = a.nodes[here]
    mine, theirs = described(a, here), described(b, there)
    for name in dict.fromkeys([*mine, *theirs]):
        own, other = mine.get(name), theirs.get(name)
        if own is not None and other is not None and same_parameter(own.value, other.value):
            continue
        source = own.source if own is not None else ""
        arrays = array_of(own), array_of(other)
        if source or (other is not None and other.source):
            words = f"{name} '{source}' {array_change(*arrays)}" if source else f"{name} {array_change(*arrays)}"
        else:
            words = attribute_text(name, shown(own), shown(other))
        several = bool(source) and arrays[0] is not None and arrays[0].size > 1 and arrays[0].dtype.kind == "f"
        kind = CauseKind.WEIGHTS if several else CauseKind.GRAPH
        yield Contrast(kind, node_label(node), node.op_type, source, words)


def _operators(a: Program, mine: Sequence[int] | range, b: Program, theirs: Sequence[int] | range) -> Contrast:
    """Nodes that only one side has, or other ones in their place."""
    ours = [f"{node_label(a.nodes[i])} ({a.nodes[i].op_type})" for i in mine]
    others = [f"{node_label(b.nodes[i])} ({b.nodes[i].op_type})" for i in theirs]
    if ours and others:
        words = f"{few(ours)} where the source has {few(others)}"
    elif ours:
        words = f"the source has no {few(ours)} here"
    else:
        words = f"the source has {few(others)} here, which is missing"
    node = a.nodes[mine[0]] if ours else None
    return Contrast(
        CauseKind.GRAPH, "" if node is None else node_label(node), "" if node is None else node.op_type, "", words
    )
