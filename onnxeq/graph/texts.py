"""Texts of a model file: a protobuf promises that they are UTF-8, and its parser does not hold a file to it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import NodeProto

from onnxeq.errors import UnusableModel
from onnxeq.graph.tensors import all_graphs, stored_tensors

__all__ = ["check_texts"]


def check_texts(model: onnx.ModelProto) -> None:
    """Makes sure that every name, and whatever else a model says in words, is text.

    Raises:
        onnxeq.errors.UnusableModel: One is bytes of another kind; says which, and what it is.
    """
    for what, text in _texts(model):
        if isinstance(text, bytes):  # what the parser gives for bytes that are no UTF-8
            shown = repr(text if len(text) <= 80 else text[:80])
            raise UnusableModel(f"{what} {shown} is no UTF-8 text", hint="Fetch or export it again.")


def _texts(model: onnx.ModelProto) -> Iterator[tuple[str, object]]:
    for entry in model.opset_import:
        yield "the domain", entry.domain
    yield from (("the producer", text) for text in (model.producer_name, model.producer_version))
    for pair in model.metadata_props:
        yield from (("the metadata entry", text) for text in (pair.key, pair.value))
    for tensor in stored_tensors(model):
        yield "the tensor name", tensor.name
        for pair in tensor.external_data:
            yield from (("the external data entry", text) for text in (pair.key, pair.value))
    for graph in all_graphs(model.graph):
        for sparse in graph.sparse_initializer:
            yield "the tensor name", sparse.values.name
        for value in (*graph.input, *graph.output):
            yield "the input or output name", value.name
            for dim in value.type.tensor_type.shape.dim:
                yield "the name of a size", dim.dim_param
        for node in graph.node:
            yield from _of_node(node)
    for function in model.functions:
        yield from (("the function name", text) for text in (function.name, function.domain))
        yield from (("the value name", text) for text in (*function.input, *function.output, *function.attribute))
        for node in function.node:
            yield from _of_node(node)


def _of_node(node: NodeProto) -> Iterator[tuple[str, object]]:
    yield "the node name", node.name
    yield "the operator", node.op_type
    yield "the domain", node.domain
    for name in node.input:
        yield "the value name", name
    for name in node.output:
        yield "the value name", name
    for attribute in node.attribute:
        yield "the attribute name", attribute.name
        yield "the attribute name", attribute.ref_attr_name
