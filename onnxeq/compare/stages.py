"""Graphs that are built of other blocks: told stage by stage, since an alignment would pair what is not
alike.

A *stage* is all that works on maps of one size. When many layers with weights have no counterpart, the best alignment
is an accident, and what it says of single layers is true of the pair and tells nothing. Then the layers of each stage
are counted, and only what holds for the graphs as wholes is kept of the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from onnxeq.compare.aligning import Pairing
from onnxeq.compare.collecting import Found
from onnxeq.compare.kinds import WEIGHTED
from onnxeq.compare.places import noun, scale
from onnxeq.compare.values import Graph, Topic

__all__ = ["by_stage", "unlike"]

_SHARE = 0.2
"""Of the layers with weights that have no counterpart of their kind and kernel. ResNet-50 against ResNet-101, whose
third stage is longer, has 0.32, and nobody wants to read of 17 runs of layers; one block more in ResNet-50 has 0.03."""

_WHOLE = frozenset({Topic.BIAS, Topic.EPSILON, Topic.CLASSES, Topic.INPUT, Topic.SOFTMAX})
_BY_KIND = frozenset({Topic.ACTIVATION, Topic.NORMALISATION})
"""Topics that are about the graphs as wholes."""


def unlike(left: Graph, right: Graph, pairing: Pairing) -> bool:
    """Whether too many layers with weights have no counterpart."""
    counts = [sum(layer.kind in WEIGHTED for layer in graph.layers) for graph in (left, right)]
    paired = sum(
        i is not None and j is not None and _built(left, i) == _built(right, j) and left.layers[i].kind in WEIGHTED
        for i, j in pairing
    )
    return sum(counts) > 0 and 1 - 2 * paired / sum(counts) > _SHARE


def _built(graph: Graph, index: int) -> tuple[object, ...]:
    layer = graph.layers[index]
    return layer.kind, layer.attributes.get("kernel")


def by_stage(found: Sequence[Found], left: Graph, right: Graph) -> list[Found]:
    """The stages that differ, and what holds for the graphs as wholes."""
    ours, theirs = _stages(left), _stages(right)
    none = Counter[str]()
    stages = [
        Found(Topic.LAYERS, f"stage {size}", "", _listed(ours.get(size, none)), _listed(theirs.get(size, none)))
        for size in sorted({*ours, *theirs}, key=lambda n: n or 1 << 30)
        if ours.get(size) != theirs.get(size)
    ]
    kept = [f for f in found if f.topic in _WHOLE or (f.topic in _BY_KIND and f.what == "kind")]
    return [*stages, *kept] if stages else list(found)


def _stages(graph: Graph) -> dict[int, Counter[str]]:
    found: dict[int, Counter[str]] = {}
    for index, layer in enumerate(graph.layers):
        if layer.kind in WEIGHTED:
            found.setdefault(scale(graph, index), Counter())[noun(layer)] += 1
    return found


def _listed(counts: Counter[str]) -> str:
    parts = [f"{number} {name}{'s' if number > 1 else ''}" for name, number in counts.most_common()]
    return ", ".join(parts) or "none"
