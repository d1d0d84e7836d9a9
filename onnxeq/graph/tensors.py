"""Every stored tensor of a model, and a copy of a model without the large ones."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["KEEP_BYTES", "all_graphs", "is_external", "light", "set_aside", "stored_tensors"]

KEEP_BYTES = 4096
"""Tensors up to this size keep their values in a light copy: shapes, axes and scales are this small."""


def _of_attribute(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("sparse_tensor"):
        yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
    for sparse in attribute.sparse_tensors:
        yield from (sparse.values, sparse.indices)
    if attribute.HasField("g"):
        yield from _of_graph(attribute.g)
    for graph in attribute.graphs:
        yield from _of_graph(graph)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every sub-graph in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_graphs(attribute.g)
            for inner in attribute.graphs:
                yield from all_graphs(inner)


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Initializers and tensor attributes of the graph, its sub-graphs, functions and training info."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            for attribute in node.attribute:
                yield from _of_attribute(attribute)
    for info in model.training_info:
        yield from _of_graph(info.initialization)
        yield from _of_graph(info.algorithm)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _is_large(tensor: onnx.TensorProto) -> bool:
    return is_external(tensor) or tensor.ByteSize() > KEEP_BYTES


def set_aside(graph: onnx.GraphProto, *, declare: bool = True) -> None:
    """Takes the large initializers out of ``graph``; ``declare`` lets inputs of their type stand in."""
    declared = {value.name for value in graph.input}
    large = [t for t in graph.initializer if _is_large(t) and (declare or t.name in declared)]
    missing = [(t.name, t.data_type, list(t.dims)) for t in large if t.name not in declared]
    taken = {t.name for t in large}
    kept = onnx.GraphProto()
    kept.initializer.extend(t for t in graph.initializer if t.name not in taken)
    graph.ClearField("initializer")
    graph.initializer.extend(kept.initializer)
    for name, kind, dims in missing:
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, dims))


def light(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the bytes of the large initializers, for tools that serialise what they look at.

    Before IR version 4 every initializer has to be an input: one that is not stays, for the checker to
    complain about.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    set_aside(copy.graph, declare=model.ir_version >= 4)
    return copy
