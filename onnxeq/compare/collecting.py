"""The single differences between two aligned graphs, before they are grouped and put into words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxeq.compare.aligning import Pairing
from onnxeq.compare.kinds import ACTIVATIONS, COMMUTATIVE, CONVOLUTIONS, POOLS, RECURRENT, family
from onnxeq.compare.ordering import is_last
from onnxeq.compare.places import noun
from onnxeq.compare.sameness import telling
from onnxeq.compare.values import Graph, Layer, Topic

__all__ = ["Found", "collect"]


@dataclass(frozen=True)
class Found:
    """A difference at one place.

    Attributes:
        topic: What it is about.
        what: Which property, or what happened (``moved``, ``only left``).
        subject: The kind of layer that it is about, in words.
        left: Its value on the left side.
        right: Its value on the right side.
        at: The layers, left and right; of a run all of them.
    """

    topic: Topic
    what: str
    subject: str
    left: Any
    right: Any
    at: tuple[tuple[int, ...], tuple[int, ...]] = field(default=((), ()))


_CONSEQUENCES = frozenset({"in", "channels", "before", "after", "width"})
"""Attributes that are what the layers before give."""

_BY_ATTRIBUTE = {
    "kernel": Topic.KERNEL, "dilations": Topic.KERNEL, "groups": Topic.GROUPS, "bias": Topic.BIAS,
    "epsilon": Topic.EPSILON, "sizes": Topic.INPUT, "type": Topic.INPUT, "strides": Topic.STRIDE, "by": Topic.CONSTANT,
    "along": Topic.CONSTANT, "counts padding": Topic.PADDING, "ceil": Topic.PADDING,
}  # fmt: skip


def collect(left: Graph, right: Graph, pairing: Pairing) -> list[Found]:
    """All differences of two graphs under a pairing of their layers, in order; none that follow from another one."""
    both = [(i, j) for i, j in pairing if i is not None and j is not None]
    moved, settled = _moved_strides(left, right, both)
    found = list(moved)
    for i, j in both:
        found += [f for f in _of_pair(left, right, i, j) if not (f.what == "strides" and (i, j) in settled)]
    found += _runs(left, right, pairing)
    found += _wiring(left, right, pairing)
    if not found:  # the graphs are known to be different: what else follows from nothing is the difference
        found = [f for i, j in both for f in _of_pair(left, right, i, j, consequences=True)]
    return found


def _moved_strides(
    left: Graph, right: Graph, both: Sequence[tuple[int, int]]
) -> tuple[list[Found], set[tuple[int, int]]]:
    """Strides that one side has in one convolution and the other in the next but few: the map shrinks all the same."""
    found: list[Found] = []
    settled: set[tuple[int, int]] = set()
    waiting: tuple[int, tuple[int, int]] | None = None
    for position, (i, j) in enumerate(both):
        a, b = left.layers[i], right.layers[j]
        if a.kind in ("add", "concat") and waiting is not None:
            waiting = None
        if family(a.kind) != "convolution" or a.attributes["strides"] == b.attributes["strides"]:
            continue
        if waiting is not None and position - waiting[0] <= _NEAR:
            p, q = waiting[1]
            first, second = left.layers[p], right.layers[q]
            if (first.attributes["strides"], second.attributes["strides"]) == (
                b.attributes["strides"],
                a.attributes["strides"],
            ):
                early = max(_numbers(first, "strides")) > max(_numbers(second, "strides"))
                values = (noun(first), noun(b)) if early else (noun(a), noun(second))
                stride = max(_numbers(first if early else a, "strides"))
                found.append(Found(Topic.STRIDE, f"moved {stride}", noun(first), *values, ((p, i), (q, j))))
                settled |= {(p, q), (i, j)}
                waiting = None
                continue
        waiting = (position, (i, j))
    return found, settled


_NEAR = 12
"""Layers between two convolutions of one block, at most."""


def _numbers(layer: Layer, name: str) -> tuple[int, ...]:
    held = layer.attributes.get(name, ())
    return held if isinstance(held, tuple) else ()


def _of_pair(left: Graph, right: Graph, i: int, j: int, *, consequences: bool = False) -> Iterator[Found]:
    a, b = left.layers[i], right.layers[j]
    at = ((i,), (j,))
    if a.kind != b.kind:
        yield Found(_topic_of_kind(a), "kind", family(a.kind), noun(a), noun(b), at)
        return
    mine, theirs = telling(a), telling(b)
    for name in sorted({*mine, *theirs}):
        if mine.get(name) == theirs.get(name) or name == "read":
            continue
        if name in _CONSEQUENCES and not consequences:
            continue
        topic, subject = _topic(a, name), noun(a)
        if name == "out":
            last = a.kind == "linear" and all(is_last(g, k) for g, k in ((left, i), (right, j)))
            topic = Topic.CLASSES if last else Topic.WIDTH
        if topic is Topic.KERNEL:
            subject = "convolution" if a.kind in CONVOLUTIONS else family(a.kind)
        yield Found(topic, name, subject, mine.get(name), theirs.get(name), at)
    if _padded_otherwise(a, b):
        yield Found(Topic.PADDING, "pads", noun(a), a.attributes["pads"], b.attributes["pads"], at)


def _padded_otherwise(a: Layer, b: Layer) -> bool:
    """Whether the padding differs, and not only where no window reads it, nor because the kernel does."""
    if "read" not in a.attributes or a.attributes["kernel"] != b.attributes["kernel"]:
        return False
    if a.attributes["pads"] == b.attributes["pads"]:
        return False
    same_steps = all(a.attributes[n] == b.attributes[n] for n in ("strides", "dilations"))
    return not same_steps or a.attributes["read"] != b.attributes["read"]


def _topic_of_kind(layer: Layer) -> Topic:
    return {
        "activation": Topic.ACTIVATION, "pooling": Topic.POOLING, "normalisation": Topic.NORMALISATION,
        "convolution": Topic.GROUPS, "softmax": Topic.SOFTMAX, "constant": Topic.CONSTANT,
        "recurrent": Topic.RECURRENT, "attention": Topic.ATTENTION,
    }.get(family(layer.kind), Topic.OTHER)  # fmt: skip


def _topic(layer: Layer, name: str) -> Topic:
    if layer.kind in POOLS and name in ("kernel", "strides", "dilations"):
        return Topic.POOLING
    if layer.kind in ACTIVATIONS:
        return Topic.ACTIVATION
    if layer.kind in RECURRENT and name != "bias":
        return Topic.RECURRENT
    if layer.kind == "attention":
        return Topic.ATTENTION
    return _BY_ATTRIBUTE.get(name, Topic.OTHER)


def _runs(left: Graph, right: Graph, pairing: Pairing) -> Iterator[Found]:
    """What only one side has, in runs; what stands in the same place on the other side with it."""
    mine: list[int] = []
    theirs: list[int] = []
    for i, j in [*pairing, (-1, -1)]:
        if i is not None and j is not None:
            yield from _run(left, right, mine, theirs)
            mine, theirs = [], []
        elif i is not None:
            mine.append(i)
        elif j is not None:
            theirs.append(j)


_SMALL = {"normalisation": Topic.NORMALISATION, "activation": Topic.ACTIVATION, "softmax": Topic.SOFTMAX,
          "constant": Topic.CONSTANT, "pooling": Topic.POOLING, "pad": Topic.PADDING}  # fmt: skip


def _run(left: Graph, right: Graph, mine: list[int], theirs: list[int]) -> Iterator[Found]:
    if not mine and not theirs:
        return
    a, b = [left.layers[i] for i in mine], [right.layers[j] for j in theirs]
    if a and b:
        topic = Topic.LAYERS
        kinds = {_SMALL.get(family(layer.kind)) for layer in [*a, *b]}
        if len(kinds) == 1 and None not in kinds:
            topic = kinds.pop() or topic
        yield Found(topic, "instead", "", _listed(a), _listed(b), (tuple(mine), tuple(theirs)))
        return
    alone = a or b
    topics = {_SMALL.get(family(layer.kind), Topic.LAYERS) for layer in alone}
    whole = len(topics) == 1
    topic = topics.pop() if whole else Topic.LAYERS
    values = (_listed(a), "") if a else ("", _listed(b))
    yield Found(topic, "only left" if a else "only right", "", *values, (tuple(mine), tuple(theirs)))


def _listed(layers: Sequence[Layer]) -> str:
    """A run of layers in words, repetitions counted."""
    names = [noun(layer) for layer in layers]
    if len(names) <= _MOST_NAMED:
        return ", ".join(names)
    counts = dict.fromkeys(names, 0)
    for name in names:
        counts[name] += 1
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())


_MOST_NAMED = 4


def _wiring(left: Graph, right: Graph, pairing: Pairing) -> Iterator[Found]:
    """Paired layers that read what is not paired; what only one side has is looked through to what it reads."""
    pairs = {i: j for i, j in pairing if i is not None and j is not None}
    back = {j: i for i, j in pairs.items()}
    for i, j in pairs.items():
        a, b = left.layers[i], right.layers[j]
        mine = [_behind(left, k, pairs) for k in a.inputs]
        theirs = [_behind(right, k, back) for k in b.inputs]
        if None in mine or None in theirs:
            continue
        here, there = [pairs[k] for k in mine if k is not None], [k for k in theirs if k is not None]
        if a.kind in COMMUTATIVE:
            here, there = sorted(here), sorted(there)
        if here != there:
            yield Found(Topic.WIRING, "reads", noun(a), tuple(here), tuple(there), ((i,), (j,)))


def _behind(graph: Graph, index: int, paired: dict[int, int]) -> int | None:
    """The first paired layer at or before one; ``None`` where ways come together before that."""
    while index not in paired:
        inputs = graph.layers[index].inputs
        if len(inputs) != 1:
            return None
        index = inputs[0]
    return index
