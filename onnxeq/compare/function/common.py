"""The largest part that two graphs have in common, and which stored tensors stand for each other in it.

1. Layers come in pairs, as :mod:`onnxeq.compare.aligning` found them, in an order in which each follows what it reads.
   Any run of that order is a part without a way out and in again.
2. A convolution, dense or recurrent layer that has no counterpart whose tensors are as large ends a part: its weights
   cannot be exchanged. Anything else that differs (a stride, an epsilon, an activation, a missing bias) is inside.
3. What goes into a part has to be the same on both sides: results of pairs of one size, or the models' inputs.
4. Of all parts, that with the most parameters is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxeq.compare.aligning import Pairing
from onnxeq.compare.kinds import NORMS, WEIGHTED
from onnxeq.compare.ordering import is_last
from onnxeq.compare.reading.sketch import squeezed
from onnxeq.compare.values import Graph, Layer, Weight

__all__ = ["Common", "Tensors", "common_part"]

NEUTRAL = {"bias": 0.0, "shift": 0.0, "scale": 1.0, "mean": 0.0}
"""Roles of tensors that one side may lack, and the number that such a tensor is when it does nothing."""

_SHAPE = ("kernel", "groups", "in", "out", "hidden_size", "direction")


@dataclass(frozen=True)
class Tensors:
    """What each side stores in one role of a layer: a tensor, or several with the next rows each; empty for none."""

    role: str
    left: tuple[Weight, ...]
    right: tuple[Weight, ...]


@dataclass(frozen=True)
class Common:
    """A part that two graphs have in common.

    Attributes:
        entries: Pairs whose results go into it.
        exits: Pairs whose results are compared.
        layers: Pairs within it.
        counts: Layers within it on either side.
        tensors: What is exchanged.
        share: Share of the left graph's parameters.
        whole: Whether it reaches from the inputs to the outputs, a last softmax aside.
    """

    entries: tuple[tuple[int, int], ...]
    exits: tuple[tuple[int, int], ...]
    layers: tuple[tuple[int, int], ...]
    counts: tuple[int, int]
    tensors: tuple[Tensors, ...]
    share: float
    whole: bool


def common_part(left: Graph, right: Graph, pairing: Pairing) -> Common | None:
    """The largest part in common; ``None`` where there is none with weights that could be exchanged.

    Args:
        left: One graph.
        right: The other.
        pairing: Their layers, in an order in which each comes after what it reads.
    """
    body = [(i, j) for i, j in pairing if not (_is_input(left, i) or _is_input(right, j))]
    inputs = {i: j for i, j in pairing if i is not None and j is not None and _is_input(left, i)}
    pairs = inputs | {i: j for i, j in body if i is not None and j is not None}
    parts = [part for run in _runs(left, right, body) if (part := _closed(left, right, run, pairs)) is not None]
    made = [_common(left, right, part, entries, len(part) == len(body)) for part, entries in parts]
    held = [common for common in made if common.exits]
    return max(held, key=lambda c: (c.share, len(c.layers)), default=None)


def _is_input(graph: Graph, index: int | None) -> bool:
    return index is not None and graph.layers[index].kind == "input"


def _runs(left: Graph, right: Graph, body: Pairing) -> Iterator[Pairing]:
    """Rule 2: the order, cut where weights cannot be exchanged."""
    run: Pairing = []
    for i, j in body:
        a = None if i is None else left.layers[i]
        b = None if j is None else right.layers[j]
        if any(layer is not None and _heavy(layer) for layer in (a, b)) and not _alike(a, b):
            if run:
                yield run
            run = []
        else:
            run.append((i, j))
    if run:
        yield run


def _heavy(layer: Layer) -> bool:
    """Whether a layer is little without its weights."""
    light = layer.kind in NORMS or layer.kind in ("scale", "shift", "rsub", "rdiv", "prelu", "constant")
    return layer.kind in WEIGHTED or (bool(layer.weights) and not light)


def _alike(a: Layer | None, b: Layer | None) -> bool:
    """Whether two layers can be given each other's weights."""
    if a is None or b is None or _family(a) != _family(b):
        return False
    if any(a.attributes.get(name) != b.attributes.get(name) for name in _SHAPE if {a.kind, b.kind} <= WEIGHTED):
        return False
    ours, theirs = _by_role(a), _by_role(b)
    return all(
        _exchangeable(role, ours.get(role, ()), theirs.get(role, ())) for role in {*ours, *theirs} - {"preprocessing"}
    )


def _family(layer: Layer) -> str:
    """Layers of one kind take each other's weights; a depthwise convolution is one in groups."""
    return "conv" if layer.kind == "depthwise" else layer.kind


def _by_role(layer: Layer) -> dict[str, list[Weight]]:
    found: dict[str, list[Weight]] = {}
    for weight in layer.weights:
        found.setdefault(weight.role, []).append(weight)
    return found


def _exchangeable(role: str, ours: Sequence[Weight], theirs: Sequence[Weight]) -> bool:
    if not ours or not theirs:
        return role in NEUTRAL
    return sum(w.elements for w in ours) == sum(w.elements for w in theirs)


def _closed(
    left: Graph, right: Graph, run: Pairing, pairs: dict[int, int]
) -> tuple[Pairing, tuple[tuple[int, int], ...]] | None:
    """Rule 3: the run from where all that goes into it comes in pairs, and those pairs."""
    for begin in range(len(run)):
        part = run[begin:]
        ours = _outside(left, {i for i, _ in part if i is not None})
        theirs = _outside(right, {j for _, j in part if j is not None})
        entries = [(i, pairs[i]) for i in ours if i in pairs]
        known = len(entries) == len(ours) and {j for _, j in entries} == set(theirs)
        if known and all(_same_result(left.layers[i], right.layers[j]) for i, j in entries):
            return part, tuple(entries)
    return None


def _outside(graph: Graph, inside: set[int]) -> list[int]:
    """Layers that those inside read and that are not among them, in order."""
    return sorted({k for i in inside for k in graph.layers[i].inputs} - inside)


def _same_result(a: Layer, b: Layer) -> bool:
    """Whether both files hold the results of two layers, in one size."""
    return bool(a.value and b.value) and squeezed(a.shape) == squeezed(b.shape) and -1 not in a.shape


def _common(left: Graph, right: Graph, part: Pairing, entries: tuple[tuple[int, int], ...], everything: bool) -> Common:
    layers = tuple((i, j) for i, j in part if i is not None and j is not None)
    comparable = [(i, j) for i, j in layers if _same_result(left.layers[i], right.layers[j])]
    ends = tuple((i, j) for i, j in comparable if i in left.outputs and j in right.outputs)
    at_end = bool(ends) and len(ends) == len(left.outputs) == len(right.outputs)
    if not at_end:
        ends = tuple(comparable[-1:])
    whole = everything and bool(ends) and (at_end or _last_but_softmax(left, right, ends[0]))
    tensors = tuple(t for i, j in layers for t in _tensors(left.layers[i], right.layers[j]))
    parameters = sum(layer.parameters for layer in left.layers)
    mine = sum(w.elements for t in tensors for w in t.left if w.learned)
    counts = (sum(i is not None for i, _ in part), sum(j is not None for _, j in part))
    return Common(entries, ends, layers, counts, tensors, mine / parameters if parameters else 1.0, whole)


def _last_but_softmax(left: Graph, right: Graph, end: tuple[int, int]) -> bool:
    return all(is_last(graph, index) for graph, index in zip((left, right), end, strict=True))


def _tensors(a: Layer, b: Layer) -> Iterator[Tensors]:
    """The tensors of a pair that stand for each other; none where it keeps its own."""
    if not _alike(a, b):
        return
    ours, theirs = _by_role(a), _by_role(b)
    for role in dict.fromkeys([*ours, *theirs]):
        if role != "preprocessing":
            yield Tensors(role, tuple(ours.get(role, ())), tuple(theirs.get(role, ())))
