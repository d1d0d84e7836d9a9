"""TensorFlow's grappler under a conversion that keeps its weights aside (:mod:`.standins`).

What grappler folds depends on the weights, so it gets them; but it holds some ten copies of each.
Where they are many, it first gets a constant fill for every weight that only convolutions and matrix
products read. If each of these still reads the same fill afterwards, nothing was computed from it:
the rest of the graph means the same as before, and the readers want the weight itself. The fill is
then put back to the weight. If any differs (a scale was multiplied into a kernel), the run does not
count, and grappler gets the true weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxeq_converters.from_tensorflow.framework import require

if TYPE_CHECKING:
    from onnxeq_converters.from_tensorflow.standins import StandIns

__all__ = ["MANY", "with_weights"]

MANY = 1 << 28
"""Bytes of weights from which the run on fills pays: ten copies of them are felt."""

_READERS = ("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul", "BatchMatMul", "BatchMatMulV2")
"""Operators whose second input is a weight, and which are no constants though the weight is one."""

Optimize = Callable[..., bytes]


@dataclass(frozen=True)
class _Filled:
    """A weight that grappler sees as ``value`` everywhere, and the nodes that read it."""

    value: float
    digest: bytes
    shape: bytes
    readers: tuple[tuple[str, str], ...]


def with_weights(kept: StandIns, optimize: Optimize) -> Optimize:
    """``TF_OptimizeGraphSerialized`` for graphs with stand-ins: its result has stand-ins too."""

    def run(cluster: Any, config: bytes, metagraph: bytes, *rest: Any) -> bytes:
        if not len(kept):  # freezing begins with grappler, when the weights are still variables
            return optimize(cluster, config, metagraph, *rest)
        if kept.n_bytes >= MANY:
            data, fills = _with_fills(kept, metagraph)
            result = _without_fills(kept, optimize(cluster, config, data, *rest), fills) if fills else None
            if result is not None:
                return result
        data = _whole(kept, metagraph)
        kept.clear()  # the graph holds them all
        return _shrunk(kept, optimize(cluster, config, data, *rest))

    return run


def _whole(kept: StandIns, metagraph: bytes) -> bytes:
    meta = require("tensorflow.core.protobuf.meta_graph_pb2").MetaGraphDef.FromString(metagraph)
    for node in _constants(meta.graph_def):
        kept.grow(node.attr["value"].tensor)
    return bytes(meta.SerializeToString())


def _shrunk(kept: StandIns, graph_def: bytes) -> bytes:
    graph = require("tensorflow.core.framework.graph_pb2").GraphDef.FromString(graph_def)
    for node in _constants(graph):
        kept.shrink(node.attr["value"].tensor)
    return bytes(graph.SerializeToString())


def _with_fills(kept: StandIns, metagraph: bytes) -> tuple[bytes, list[_Filled]]:
    """The graph with fills where only readers see the weight, with the weights elsewhere."""
    meta = require("tensorflow.core.protobuf.meta_graph_pb2").MetaGraphDef.FromString(metagraph)
    fetched = {name.partition(":")[0] for name in meta.collection_def["train_op"].node_list.value}
    consumers = defaultdict(list)
    for node in meta.graph_def.node:
        for slot, name in enumerate(node.input):
            if not name.startswith("^"):
                consumers[name.partition(":")[0]].append((node, slot))
    fills: list[_Filled] = []
    for node in meta.graph_def.node:
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is None or (values := kept.tf_value(tensor)) is None:
            continue
        readers = None if node.name in fetched else _readers(node.name, consumers, fetched)
        # A weight that is all zeros or ones is a fill already, and grappler may know what to do with it.
        if readers and values.dtype == np.float32 and (values != values.flat[0]).any():
            value = float(np.float32(0.25 + len(fills) / 65536))  # exact, and another one for each
            fills.append(_Filled(value, tensor.tensor_content, _shape(tensor), tuple(readers)))
            tensor.ClearField("tensor_content")
            tensor.float_val.append(value)
    for node in _constants(meta.graph_def):
        kept.grow(node.attr["value"].tensor)
    return bytes(meta.SerializeToString()), fills


def _readers(name: str, consumers: dict[str, list[tuple[Any, int]]], fetched: set[str]) -> list[tuple[str, str]] | None:
    """Name and operator of all nodes that read a constant as a weight; ``None`` if others read it."""
    found: list[tuple[str, str]] = []
    for node, slot in consumers.get(name, ()):
        if node.op == "Identity" and node.name not in fetched:
            behind = _readers(node.name, consumers, fetched)
            if behind is None:
                return None
            found += behind
        elif node.op in _READERS and slot == 1:
            found.append((node.name, node.op))
        else:
            return None
    return found


def _without_fills(kept: StandIns, graph_def: bytes, fills: list[_Filled]) -> bytes | None:
    """The graph with the weights back as stand-ins; ``None`` if a reader's weight was changed."""
    graph = require("tensorflow.core.framework.graph_pb2").GraphDef.FromString(graph_def)
    nodes = {node.name: node for node in graph.node}
    for fill in fills:
        for name, op in fill.readers:
            reader = nodes.get(name)
            if reader is None or reader.op != op:
                return None
            source = nodes[reader.input[1].partition(":")[0]]
            while source.op == "Identity":
                source = nodes[source.input[0].partition(":")[0]]
            tensor = source.attr["value"].tensor
            if tensor.tensor_content == fill.digest:  # another reader has put it back
                continue
            if source.op != "Const" or not _is_fill(tensor, fill):
                return None
            tensor.ClearField("float_val")
            tensor.tensor_content = fill.digest
    for node in _constants(graph):
        tensor = node.attr["value"].tensor
        if any(_is_fill(tensor, fill) for fill in fills):
            return None
        kept.shrink(tensor)
    return bytes(graph.SerializeToString())


def _is_fill(tensor: Any, fill: _Filled) -> bool:
    return (
        not tensor.tensor_content
        and len(tensor.float_val) == 1
        and tensor.float_val[0] == fill.value
        and _shape(tensor) == fill.shape
    )


def _shape(tensor: Any) -> bytes:
    return bytes(tensor.tensor_shape.SerializeToString())


def _constants(graph: Any) -> Iterator[Any]:
    for body in (graph.node, *(function.node_def for function in graph.library.function)):
        yield from (node for node in body if node.op == "Const")
