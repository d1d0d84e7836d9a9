"""Two models held against each other: identical, equivalent after normalisation, or different with the list.

1. *Equivalent* is said only of graphs that :func:`onnxeq.compare.sameness.one_to_one` has paired layer by layer.
2. *Identical* besides, if their files hold the same nodes, names aside.
3. Everything else is *different*, and then at least one difference is told.
4. Where one is a file without BatchNorms behind its convolutions, see :mod:`onnxeq.compare.folding`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from onnxeq.compare.aligning import Pairing, align
from onnxeq.compare.collecting import collect
from onnxeq.compare.folding import folded, norms_behind
from onnxeq.compare.kinds import FOLDS
from onnxeq.compare.ordering import in_order
from onnxeq.compare.places import sizes
from onnxeq.compare.sameness import one_to_one
from onnxeq.compare.stages import by_stage, unlike
from onnxeq.compare.values import Difference, Graph, Pair, Same, Side, Topic
from onnxeq.compare.words import told

__all__ = ["Matched", "compare_pair", "judged", "matched"]


@dataclass(frozen=True)
class Matched:
    """Two graphs as they are compared, and which of their layers stand for each other.

    Attributes:
        left: The one; where the other is folded, as folding leaves it.
        right: The other, likewise.
        in_order: Their layers in pairs, in an order in which each comes after what it reads.
        proven: Whether the graphs are one graph.
        notes: What a reader must know of that.
    """

    left: Graph
    right: Graph
    in_order: Pairing
    proven: bool
    notes: tuple[str, ...] = ()

    @property
    def folded(self) -> bool:
        """Whether one was looked at as folding leaves it."""
        return bool(self.notes)


def matched(a: Side, b: Side) -> Matched:
    """Which layers of two models stand for each other."""
    left, right, notes = _alike_folded(a, b)
    proven = one_to_one(left, right)
    pairing: Pairing = [(i, proven[i]) for i in in_order(left)] if proven is not None else align(left, right)
    return Matched(left, right, pairing, proven is not None, tuple(notes))


def compare_pair(a: Side, b: Side) -> Pair:
    """Compares two models' architectures."""
    return judged(a, b, matched(a, b))


def judged(a: Side, b: Side, both: Matched) -> Pair:
    """The verdict on two models' architectures."""
    left, right, notes = both.left, both.right, list(both.notes)
    counts = (_counted(a.graph), _counted(b.graph))
    if both.proven:
        literal = a.graph.literal and a.graph.literal == b.graph.literal
        same = Same.IDENTICAL if literal else Same.EQUIVALENT
        if a.architecture.parameters != b.architecture.parameters and not notes:
            notes.append(
                f"{a.architecture.parameters:,} parameters against {b.architecture.parameters:,}: stored tensors that"
                " layers share, or constants that only one file stores"
            )
        written = _normalised(a, b, left, right, sorted(both.in_order, key=lambda pair: pair[0] or 0))
        return Pair(a.name, b.name, same, (), written, tuple(notes), counts[0], counts)
    pairing = both.in_order
    found = collect(left, right, pairing)
    aligned = sum(i is not None and j is not None and left.layers[i].kind != "input" for i, j in pairing)
    if unlike(left, right, pairing):
        found = by_stage(found, left, right)
        notes.append("the graphs are built too differently to be told layer by layer: they are told stage by stage")
    differences = told(found, a.name, b.name, left, right) or (_unexplained(),)
    written = _normalised(a, b, left, right, pairing)
    return Pair(a.name, b.name, Same.DIFFERENT, differences, written, tuple(notes), aligned, counts)


def _counted(graph: Graph) -> int:
    return sum(layer.kind != "input" for layer in graph.layers)


def _unexplained() -> Difference:
    return Difference(Topic.WIRING, "the layers are alike one by one and are connected otherwise", "", "")


def _alike_folded(a: Side, b: Side) -> tuple[Graph, Graph, list[str]]:
    """Rule 4: both graphs as they are compared, and what to say of that."""
    for side, other in ((a, b), (b, a)):
        behind = norms_behind(other.graph)
        biased = sum(layer.attributes["bias"] is True for layer in side.graph.layers if layer.kind in FOLDS)
        if side.may_be_folded and behind and not norms_behind(side.graph) and biased >= len(behind):
            note = (
                f"{side.name} is a file without BatchNorms behind its convolutions: folded into them, or never there;"
                f" it is compared with {other.name} folded alike, and biases and epsilons are not compared"
            )
            own, theirs = _all_biased(side.graph), _all_biased(folded(other.graph))
            return (own, theirs, [note]) if side is a else (theirs, own, [note])
    return a.graph, b.graph, []


def _all_biased(graph: Graph) -> Graph:
    """The graph with a bias in every convolution: for what has been folded nothing can be said of them."""
    return replace(
        graph,
        layers=tuple(
            replace(layer, attributes={**layer.attributes, "bias": True}) if layer.kind in FOLDS else layer
            for layer in graph.layers
        ),
    )


def _normalised(a: Side, b: Side, left: Graph, right: Graph, pairing: Pairing) -> tuple[str, ...]:
    """What is written differently and means the same."""
    spelled = [Counter(text for layer in side.graph.layers for text in layer.spelling) for side in (a, b)]
    said = []
    for text in sorted({*spelled[0], *spelled[1]}):
        counts = spelled[0][text], spelled[1][text]
        if counts[0] != counts[1]:
            held = [f"{n} in {side.name}" for n, side in zip(counts, (a, b), strict=True) if n]
            said.append(f"{text} ({', '.join(held)})")
    unread = Counter(
        (left.layers[i].attributes["pads"], right.layers[j].attributes["pads"])
        for i, j in pairing
        if i is not None and j is not None and _unread(left, right, i, j)
    )
    for (mine, theirs), count in unread.items():
        if isinstance(mine, tuple) and isinstance(theirs, tuple):
            said.append(
                f"padding that no window reads at this size ({count} layers: {sizes(mine)} in {a.name},"
                f" {sizes(theirs)} in {b.name})"
            )
    return tuple(said)


def _unread(left: Graph, right: Graph, i: int, j: int) -> bool:
    mine, theirs = left.layers[i].attributes, right.layers[j].attributes
    return "read" in mine and mine.get("pads") != theirs.get("pads") and mine["read"] == theirs.get("read")
