"""Weights that a file stores quantised: what it makes of them when it runs is the weight.

QuantizeLinear and DequantizeLinear of constants alone are computed. Those of what depends on an input stay: they round.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from onnxeq.errors import OnnxeqError
from onnxeq.graph.edit import constant, is_standard, normal_opset

__all__ = ["QUANTISED", "dequantised"]

QUANTISED = "a weight that is stored quantised"


def dequantised(model: ir.Model) -> frozenset[str]:
    """Puts the numbers in the place of such nodes; the names of the constants that come of it."""
    found: set[str] = set()
    for node in list(model.graph):
        if not is_standard(node, "QuantizeLinear", "DequantizeLinear") or node.outputs[0].is_graph_output():
            continue
        if not node.inputs or any(v is not None and constant(v) is None for v in node.inputs):
            continue
        tensor = _computed(node, normal_opset(model))
        if tensor is None:
            continue
        output = node.outputs[0]
        name = f"{output.name}.folded"
        tensor.name = name
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        model.graph.register_initializer(value)
        ir.convenience.replace_all_uses_with(output, value)
        model.graph.remove(node)
        found.add(name)
    return frozenset(found)


def _computed(node: ir.Node, opset: int) -> ir.Tensor | None:
    """What one node gives, by the referee."""
    from onnxeq.referee import Executor  # only quantised files need it

    held = {str(v.name): t for v in node.inputs if (t := constant(v)) is not None}
    tensors = [ir.serde.serialize_tensor(ir.Tensor(t.numpy(), dtype=t.dtype, name=n)) for n, t in held.items()]
    output = onnx.helper.make_tensor_value_info(str(node.outputs[0].name), onnx.TensorProto.UNDEFINED, None)
    graph = onnx.helper.make_graph([ir.serde.serialize_node(node)], "one", [], [output], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        (value,) = Executor(model).run({}).values()
    except (OnnxeqError, ValueError):
        return None
    numbers = np.asarray(value)
    if is_standard(node, "DequantizeLinear"):
        return ir.Tensor(numbers.astype(np.float32))
    return ir.Tensor(numbers) if numbers.dtype.kind in "iu" else None
