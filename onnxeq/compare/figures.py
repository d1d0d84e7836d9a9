"""The figures of one graph: what it costs, how deep it is, how far it sees."""

from __future__ import annotations

import math
from collections import Counter

from onnxeq.compare.kinds import WEIGHTED
from onnxeq.compare.receptive import receptive_field
from onnxeq.compare.values import Architecture, Graph

__all__ = ["depths", "figures"]


def figures(graph: Graph) -> Architecture:
    """Counts a graph, for one item; see :class:`onnxeq.compare.values.Architecture`."""
    layers = graph.layers
    stored = {(w.name, w.part): w.elements for layer in layers for w in layer.weights if w.learned and w.name}
    unnamed = sum(w.elements for layer in layers for w in layer.weights if w.learned and not w.name)
    kinds = Counter(layer.kind for layer in layers if layer.kind != "input")
    multiplied = [layer for layer in layers if layer.kind in WEIGHTED | {"matmul", "attention"}]
    return Architecture(
        parameters=sum(stored.values()) + unnamed,
        macs=sum(layer.macs for layer in layers),
        activations=sum(math.prod(layer.shape) for layer in multiplied if all(n >= 0 for n in layer.shape)),
        depth=max(depths(graph), default=0),
        layers=kinds.total(),
        kinds=dict(kinds.most_common()),
        nodes=graph.nodes,
        receptive=receptive_field(graph),
        inputs=tuple(layer.shape for layer in layers if layer.kind == "input"),
        outputs=tuple(layers[i].shape for i in graph.outputs),
    )


def depths(graph: Graph) -> list[int]:
    """For each layer the most weighted layers on a way to it, itself included."""
    found: list[int] = []
    for layer in graph.layers:
        before = max((found[i] for i in layer.inputs), default=0)
        found.append(before + (layer.kind in WEIGHTED))
    return found
