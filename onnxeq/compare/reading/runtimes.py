"""Operators of onnxruntime's own in a file: what is needed before the walk.

1. ``FusedMatMul`` is written as an Einsum and a factor.
2. Shapes are not inferred of operators that are not the standard's, nor of anything behind them. Those that give the
   shape of their first input stand in as an Identity while shapes are inferred.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxeq.graph.edit import attribute, constant
from onnxeq.graph.frame import Options, apply
from onnxeq.graph.shapes import INFER_SHAPES

__all__ = ["infer_shapes", "without_fused_products"]

_DOMAIN = "com.microsoft"
_AS_INPUT = frozenset(
    {"Attention", "BiasGelu", "FastGelu", "Gelu", "MultiHeadAttention", "QuickGelu", "SkipLayerNormalization"}
)


def without_fused_products(model: ir.Model) -> None:
    """Rule 1."""
    for node in list(model.graph):
        if node.domain != _DOMAIN or node.op_type != "FusedMatMul" or len(node.inputs) != 2:
            continue
        if attribute(node, "transBatchA", 0) or attribute(node, "transBatchB", 0):
            continue
        left = "...ji" if attribute(node, "transA", 0) else "...ij"
        right = "...kj" if attribute(node, "transB", 0) else "...jk"
        output, alpha = node.outputs[0], float(attribute(node, "alpha", 1.0))
        name = output.name
        equation = f"{left},{right}->...ik"
        product = ir.Node("", "Einsum", list(node.inputs), [ir.AttrString("equation", equation)], num_outputs=1)
        product.name = node.name
        product.outputs[0].name = f"{name}.product"
        tensor = ir.Tensor(np.array(alpha, np.float32), name=f"{name}.alpha")
        factor = ir.Value(
            name=f"{name}.alpha", shape=ir.Shape(()), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        model.graph.register_initializer(factor)
        scaled = ir.Node("", "Mul", [product.outputs[0], factor], num_outputs=1)
        scaled.name = node.name
        scaled.outputs[0].type = output.type
        model.graph.insert_before(node, [product, scaled])
        ir.convenience.replace_all_uses_with(output, scaled.outputs[0])
        model.graph.remove(node)
        scaled.outputs[0].name = name


def infer_shapes(model: ir.Model) -> ir.Model:
    """Shapes of all that can be told; rule 2."""
    held = [
        (n, n.domain, n.op_type) for n in model.graph if n.domain == _DOMAIN and n.op_type in _AS_INPUT and _keeps(n)
    ]
    for node, _, _ in held:
        node.domain, node.op_type = "", "Identity"
    try:
        model, _ = apply(INFER_SHAPES, model, Options())
    finally:
        for node, domain, op_type in held:
            node.domain, node.op_type = domain, op_type
    return model


def _keeps(node: ir.Node) -> bool:
    """Whether the result has the first input's shape; of an Attention that its matrix tells."""
    if node.op_type != "Attention":
        return True
    held = constant(node.inputs[1])
    return held is not None and len(held.shape) == 2 and held.shape[1] == 3 * int(held.shape[0])
