"""The layers of a graph in one order, whatever order its file has: along the network, the longest branch first.

Two exporters may write the branches of a block in either order. Here a layer comes after all that it reads; of the
branches that are added, that with the most weighted layers comes first, of those that are concatenated the first.
"""

from __future__ import annotations

from onnxeq.compare.figures import depths
from onnxeq.compare.kinds import COMMUTATIVE
from onnxeq.compare.sameness import digests
from onnxeq.compare.values import Graph

__all__ = ["in_order", "is_last"]


def in_order(graph: Graph) -> list[int]:
    """Positions of all layers in that order."""
    deep, names = depths(graph), digests(graph)
    order: list[int] = []
    seen: set[int] = set()
    inputs = [i for i, layer in enumerate(graph.layers) if layer.kind == "input"]
    pending = [(i, False) for i in reversed([*inputs, *graph.outputs])]
    while pending:
        index, ready = pending.pop()
        if ready:
            order.append(index)
            continue
        if index in seen:
            continue
        seen.add(index)
        layer = graph.layers[index]
        reads = list(layer.inputs)
        if layer.kind in COMMUTATIVE:
            reads.sort(key=lambda i: (-deep[i], names[i]))
        pending.append((index, True))
        pending += [(i, False) for i in reversed(reads) if i not in seen]
    return order


def is_last(graph: Graph, index: int) -> bool:
    """Whether nothing but a softmax or sigmoid follows a layer."""
    if index in graph.outputs:
        return True
    readers = [k for k, layer in enumerate(graph.layers) if index in layer.inputs]
    return bool(readers) and all(
        graph.layers[k].kind in ("softmax", "log_softmax", "sigmoid", "reshape") and is_last(graph, k) for k in readers
    )
