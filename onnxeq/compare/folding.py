"""Graphs without the BatchNorms that folding would take away: for a file that comes without them.

A file that holds convolutions with biases and no BatchNorm behind them may have had those folded, or never had any.
That cannot be told from it, so the other graph is looked at as folding would leave it, and neither biases nor epsilons
are compared.
"""

from __future__ import annotations

from dataclasses import replace

from onnxeq.compare.kinds import FOLDS
from onnxeq.compare.values import Graph, Layer

__all__ = ["folded", "norms_behind"]


def norms_behind(graph: Graph) -> frozenset[int]:
    """BatchNorms that are the only reader of a convolution or dense layer."""
    readers = [0] * len(graph.layers)
    for layer in graph.layers:
        for index in layer.inputs:
            readers[index] += 1
    for index in graph.outputs:
        readers[index] += 1
    return frozenset(
        i
        for i, layer in enumerate(graph.layers)
        if layer.kind == "batch_norm" and graph.layers[layer.inputs[0]].kind in FOLDS and readers[layer.inputs[0]] == 1
    )


def folded(graph: Graph) -> Graph:
    """The graph with those BatchNorms gone, and a bias in what is before them."""
    gone = norms_behind(graph)
    layers: list[Layer] = []
    place: dict[int, int] = {}
    for index, layer in enumerate(graph.layers):
        inputs = tuple(place[i] for i in layer.inputs)
        if index in gone:
            source = layers[inputs[0]]
            layers[inputs[0]] = replace(source, attributes={**source.attributes, "bias": True})
            place[index] = inputs[0]
            continue
        place[index] = len(layers)
        layers.append(replace(layer, inputs=inputs))
    return replace(graph, layers=tuple(layers), outputs=tuple(place[i] for i in graph.outputs))
