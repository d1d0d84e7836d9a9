"""Every stored tensor of a model, and a copy of a model without the large ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped, unused-ignore]

__all__ = ["KEEP_ELEMENTS", "all_graphs", "is_external", "light", "stored_tensors"]

KEEP_ELEMENTS = 512
"""Tensors up to this many elements keep their values in a light copy: shapes, axes and scales are that
small."""


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
    """By shape: asking a tensor for its size or bytes copies them."""
    return is_external(tensor) or math.prod(tensor.dims) > KEEP_ELEMENTS


def _stand_in(tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    """An input of the tensor's name and type."""
    return onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def _copied(source: Message, target: Message, skip: str) -> None:
    """Copies every field of ``source`` but one."""
    for field, value in source.ListFields():
        if field.name == skip:
            continue
        held = getattr(target, field.name)
        if hasattr(held, "extend"):
            held.extend(value)
        elif isinstance(held, Message):
            held.CopyFrom(value)
        else:
            setattr(target, field.name, value)


def light(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the bytes of the large initializers, for tools that serialise what they look at.

    Before IR version 4 every initializer has to be an input: one that is not stays, for the checker to
    complain about.
    """
    copy = onnx.ModelProto()
    _copied(model, copy, "graph")
    copy.graph.SetInParent()
    _copied(model.graph, copy.graph, "initializer")
    declared = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if not _is_large(tensor) or (model.ir_version < 4 and tensor.name not in declared):
            copy.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            declared.add(tensor.name)
            copy.graph.input.append(_stand_in(tensor))
    return copy
