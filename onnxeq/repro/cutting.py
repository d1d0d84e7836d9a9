"""The smallest sub-graph that makes some values from others, as a model of its own.

Rules:

1. Only nodes that the outputs need are kept, and only the initializers, sparse ones included, that those read. What
   follows from constants alone is made by its nodes, as in the whole graph.
2. What a sub-graph (If, Loop, Scan) reads from outside counts as read by its node.
3. An initializer that may be overridden by an input of its name stays so: a runtime folds it no more than before.
4. Functions are kept when a kept node calls them; operator set imports and the file format's version stay.
5. Remarks go: doc strings and metadata may hold stack traces with the paths of somebody's machine. The scopes that name
   a node's layer stay. Types of inner values go, too: their sizes may no longer be true.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import onnx

from onnxeq.errors import CannotRun
from onnxeq.graph.files import with_data
from onnxeq.graph.tensors import all_graphs
from onnxeq.layers.probes import GraphIndex
from onnxeq.referee.elements import dtype_name, element_name
from onnxeq.referee.plan import function_key
from onnxeq.types import Array, Feed

__all__ = ["cut", "declare", "element_types", "moving_nodes"]

_Stored: TypeAlias = onnx.TensorProto | onnx.SparseTensorProto

_KEPT_REMARKS = ("pkg.torch.onnx.name_scopes",)


def cut(
    model: onnx.ModelProto,
    base_dir: Path | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
    arrays: Feed | None = None,
) -> onnx.ModelProto:
    """The smallest model that makes ``outputs`` from ``inputs``, its external data read in.

    Args:
        model: The model; it is not changed.
        base_dir: The folder of its external data.
        inputs: Values of the main graph that a caller will give. Those that turn out not to be read are left out.
        outputs: Values of the main graph to make.
        arrays: Values from which inputs and outputs get their types and sizes; of others the model's own are kept.

    Raises:
        CannotRun: An output also needs an input of the model that is not given, or is itself given.
        onnxeq.errors.UnusableModel: External data is missing.
    """
    for name in outputs:
        if name in inputs:
            raise CannotRun(f"'{name}' is both an input and an output of the cut")
    index = GraphIndex(model)
    stored = _stored(model.graph)
    nodes, read = _needed(index, set(inputs), set(stored), outputs)
    small = _frame(model)
    small.graph.node.extend(_apart(nodes, inputs, read))
    for name, tensor in stored.items():
        if name in read and name not in inputs:
            _store(small.graph, tensor)
    known = _known(model.graph)
    small.graph.input.extend(known.get(n, onnx.ValueInfoProto(name=n)) for n in inputs if n in read)
    overridable = [i for i in model.graph.input if i.name in stored and i.name in read and i.name not in inputs]
    small.graph.input.extend(overridable)
    small.graph.output.extend(known.get(n, onnx.ValueInfoProto(name=n)) for n in outputs)
    small.functions.extend(_called(model, small.graph))
    small.graph.quantization_annotation.extend(
        note for note in model.graph.quantization_annotation
        if {note.tensor_name, *(p.value for p in note.quant_parameter_tensor_names)} <= read
    )  # fmt: skip
    _forget_remarks(small)
    declare(small, arrays or {})
    return with_data(small, base_dir)


def declare(model: onnx.ModelProto, arrays: Feed) -> None:
    """Sets the types and sizes of inputs and outputs to those of ``arrays``, where it has them."""
    for value in (*model.graph.input, *model.graph.output):
        if value.name in arrays:
            array = arrays[value.name]
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, _element_type(array), list(array.shape)))


def _element_type(array: Array) -> int:
    if dtype_name(array.dtype) == "str":
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def element_types(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, str]:
    """The element types of some values of the main graph, by numpy's names, as far as they can be known."""
    wanted = set(names)
    found = _tensor_types(model.graph, wanted)
    if wanted - set(found):
        from onnxeq.graph.tensors import light

        try:
            inferred = onnx.shape_inference.infer_shapes(light(model))
        except (RuntimeError, ValueError):  # a graph that inference does not take has the declared types only
            return found
        found = _tensor_types(inferred.graph, wanted) | found
    return found


def _tensor_types(graph: onnx.GraphProto, wanted: set[str]) -> dict[str, str]:
    found = {n: element_name(t.data_type) for n, t in _stored(graph).items() if isinstance(t, onnx.TensorProto)}
    for name, value in _known(graph).items():
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type:
            found[name] = element_name(value.type.tensor_type.elem_type)
    return {name: kind for name, kind in found.items() if name in wanted}


def moving_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes whose results depend on what a caller gives, in the order of the graph."""
    index = GraphIndex(model)
    moving = {value.name for value in model.graph.input} - set(_stored(model.graph))
    found = []
    for node in index.nodes:
        if any(name in moving for name in index.reads(node)):
            moving.update(name for name in node.output if name)
            found.append(node)
    return found


def _stored(graph: onnx.GraphProto) -> dict[str, _Stored]:
    found: dict[str, _Stored] = {tensor.name: tensor for tensor in graph.initializer}
    return found | {sparse.values.name: sparse for sparse in graph.sparse_initializer}


def _store(graph: onnx.GraphProto, tensor: _Stored) -> None:
    if isinstance(tensor, onnx.SparseTensorProto):
        graph.sparse_initializer.append(tensor)
    else:
        graph.initializer.append(tensor)


def _known(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    return {value.name: value for value in (*graph.value_info, *graph.output, *graph.input) if value.HasField("type")}


def _needed(
    index: GraphIndex, given: set[str], stored: set[str], outputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that are needed, in the order of the graph, and every value that is read or given."""
    kept: set[int] = set()
    read: set[str] = set()
    pending = list(outputs)
    while pending:
        name = pending.pop()
        if name in read:
            continue
        read.add(name)
        if name in given or name in stored:
            continue
        maker = index.makers.get(name)
        if maker is None:
            made = ", ".join(repr(o) for o in outputs)
            raise CannotRun(f"the cut up to {made} also needs {name!r}, which is not given and which no node makes")
        kept.add(id(maker))
        pending += index.reads(maker)
    return [node for node in index.nodes if id(node) in kept], read


def _apart(nodes: Sequence[onnx.NodeProto], given: Sequence[str], read: set[str]) -> list[onnx.NodeProto]:
    """Copies of the nodes; what they make of the given values besides the wanted ones is made under another name."""
    taken = read | {name for node in nodes for name in (*node.input, *node.output)}
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for position, name in enumerate(copy.output):
            if name in given:
                fresh = f"{name}_unused"
                while fresh in taken:
                    fresh += "_"
                taken.add(fresh)
                copy.output[position] = fresh
        copies.append(copy)
    return copies


def _frame(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without a graph, of the same versions and producer."""
    small = onnx.ModelProto(ir_version=model.ir_version)
    small.producer_name, small.producer_version = model.producer_name, model.producer_version
    small.opset_import.extend(model.opset_import)
    small.graph.name = model.graph.name or "graph"
    return small


def _called(model: onnx.ModelProto, graph: onnx.GraphProto) -> list[onnx.FunctionProto]:
    """The model's functions that the graph calls, or that those call, in the model's order."""
    functions = {function_key(f): f for f in model.functions}
    found: set[tuple[str, str, str]] = set()
    pending = [node for inner in all_graphs(graph) for node in inner.node]
    while pending:
        key = function_key(pending.pop())
        if key in functions and key not in found:
            found.add(key)
            pending += _nodes_of(functions[key])
    return [f for key, f in functions.items() if key in found]


def _nodes_of(function: onnx.FunctionProto) -> list[onnx.NodeProto]:
    """The nodes of a function's body, those in its sub-graphs included."""
    body = onnx.GraphProto(node=function.node)
    return [node for inner in all_graphs(body) for node in inner.node]


def _forget_remarks(model: onnx.ModelProto) -> None:
    for function in model.functions:
        function.ClearField("doc_string")
        function.ClearField("metadata_props")
        for value in function.value_info:
            _forget(value, ())
        for node in function.node:
            _forget_in(node)
    for value in (*model.graph.input, *model.graph.output):
        _forget(value, ())
    for tensor in model.graph.initializer:
        _forget(tensor, ())
    for node in model.graph.node:
        _forget_in(node)


def _forget_in(node: onnx.NodeProto) -> None:
    """Clears the remarks of a node and of the graphs in it."""
    _forget(node, _KEPT_REMARKS)
    for attribute in node.attribute:
        attribute.ClearField("doc_string")
        if attribute.HasField("t"):
            _forget(attribute.t, ())
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            _forget(graph, ())
            for held in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
                _forget(held, ())
            for inner in graph.node:
                _forget_in(inner)


def _forget(
    held: onnx.NodeProto | onnx.GraphProto | onnx.ValueInfoProto | onnx.TensorProto, kept: Sequence[str]
) -> None:
    held.ClearField("doc_string")
    remarks: Mapping[str, str] = {entry.key: entry.value for entry in held.metadata_props if entry.key in kept}
    held.ClearField("metadata_props")
    for key, value in remarks.items():
        held.metadata_props.add(key=key, value=value)
