"""Shape and type inference: what can be derived is derived anew, and nothing else is believed.

Stored intermediate shapes are dropped first: a stale ``value_info`` (a batch size of the export baked in)
would let a later pass remove a Reshape that does something. The interface's own shapes stay as declared.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from onnxeq.graph.frame import Options, Outcome, Pass, graphs
from onnxeq.graph.tensors import KEEP_ELEMENTS

__all__ = ["INFER_SHAPES"]

_Known = tuple[ir.TypeProtocol | None, ir.Shape | None]


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(v for node in graph for v in node.outputs)]


def _without_data(model: ir.Model) -> onnx.ModelProto:
    """The model with inputs in place of its large initializers; ``model`` is as before on return."""
    graph = model.graph
    large = {
        name: value
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.size > KEEP_ELEMENTS
    }
    added = [value for value in large.values() if not value.is_graph_input()]
    order = dict(graph.initializers)
    try:
        for name in large:
            graph.initializers.pop(name)
        graph.inputs.extend(added)
        proto: onnx.ModelProto = ir.serde.serialize_model(model)
        return proto
    finally:
        for _ in added:
            graph.inputs.pop()
        for name in list(graph.initializers):
            graph.initializers.pop(name)
        for value in order.values():
            graph.register_initializer(value)


def _inferred(model: ir.Model) -> ir.Model:
    proto = _without_data(model)
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    fixed = {id(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    before: dict[int, _Known] = {}
    for graph in graphs(model):
        for value in _values(graph):
            before[id(value)] = (value.type, value.shape)
            if id(value) not in fixed:
                value.shape = None
    note = ""
    try:
        pairs = list(zip(graphs(model), graphs(_inferred(model)), strict=True))
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        pairs, note = [], f"shapes are unknown: {str(error).strip().splitlines()[0]}"
    for graph, found in pairs:
        known = {v.name: v for v in _values(found)}
        for value in _values(graph):
            other = known.get(value.name)
            if other is None or id(value) in fixed:
                continue
            value.type = other.type if other.type is not None else value.type
            value.shape = other.shape
    changes = sum(
        str(before[id(v)][0]) != str(v.type) or str(before[id(v)][1]) != str(v.shape)
        for graph in graphs(model)
        for v in _values(graph)
    )
    return Outcome(changes, note)


INFER_SHAPES = Pass(
    name="infer-shapes",
    does="Derives the type and shape of every value anew; stored intermediate shapes are not believed.",
    run=_run,
)
