"""Dense layers in one form.

1. ``Add(MatMul(A[M,K], B[K,N]), C) = Gemm(A, B, C)`` in two dimensions only, floating point, when ``C``
   broadcasts to ``[M,N]`` (never the other way round) and the product has no other reader.
2. ``Gemm(alpha, beta)`` with constant ``B`` or ``C``: the factor moves into the constant (float64, rounded
   once) and the attribute is left at its default of 1; refused where the stored type would overflow.
3. ``beta`` without ``C`` and ``transA=0``, ``transB=0``, ``alpha=1``, ``beta=1`` written out are dropped.
4. A constant ``A`` is stored as it is used (``transA=0``).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxeq.graph.edit import (
    FLOATS,
    array,
    attribute,
    constant,
    is_standard,
    names,
    new_constant,
    normal_opset,
    rank,
    reads_alone,
    static_shape,
    wide,
)
from onnxeq.graph.frame import Options, Outcome, Pass, graphs

__all__ = ["GEMM"]


def _broadcasts(bias: ir.Value, left: ir.Value, right: ir.Value) -> bool:
    """Whether ``bias`` broadcasts to ``[M,N]`` for every M that can occur."""
    shape, columns = static_shape(bias), right.shape[1] if right.shape is not None else None
    if shape is None or len(shape) > 2:
        return False
    if shape and shape[-1] != 1 and shape[-1] != columns:
        return False
    rows = left.shape[0] if left.shape is not None else None
    return len(shape) < 2 or shape[0] in (1, rows)


def _from_add(add: ir.Node, opset: int) -> bool:
    """Rule 1: the Add becomes the Gemm, so the output keeps its name."""
    if opset < 7 or len(add.inputs) != 2:
        return False
    for position in (0, 1):
        product, bias = add.inputs[position], add.inputs[1 - position]
        node = None if product is None else product.producer()
        if node is None or product is None or bias is None or not is_standard(node, "MatMul"):
            continue
        left, right = node.inputs
        if not reads_alone(add, product) or node.graph is not add.graph or left is None or right is None:
            continue
        typed = left.dtype in FLOATS and left.dtype == right.dtype == bias.dtype
        if not typed or rank(left) != 2 or rank(right) != 2 or not _broadcasts(bias, left, right):
            continue
        add.resize_inputs(3)
        for index, value in enumerate((left, right, bias)):
            add.replace_input_with(index, value)
        add.op_type = "Gemm"
        if add.graph is not None:
            add.graph.remove(node, safe=True)
        return True
    return False


def _absorb(node: ir.Node, index: int, name: str, taken: set[str]) -> bool:
    """Rule 2 for one factor."""
    factor = float(attribute(node, name, 1.0))
    value = node.inputs[index] if len(node.inputs) > index else None
    exact, tensor = wide(value), constant(value)
    if factor in (0.0, 1.0) or exact is None or tensor is None or node.graph is None:
        return False
    with np.errstate(all="ignore"):
        scaled = (exact * factor).astype(tensor.dtype.numpy())
    if not np.isfinite(scaled).all():
        return False
    fresh = new_constant(node.graph, value, f"{node.outputs[0].name}.{name}", scaled, taken)
    node.replace_input_with(index, fresh)
    node.attributes.pop(name)
    return True


def _canonical(node: ir.Node, taken: set[str]) -> bool:
    changed = _absorb(node, 1, "alpha", taken) | _absorb(node, 2, "beta", taken)
    absent = len(node.inputs) < 3 or node.inputs[2] is None
    if len(node.inputs) == 3 and absent:
        node.resize_inputs(2)
        changed = True
    if absent and node.attributes.pop("beta", None) is not None:
        changed = True
    for name, default in (("alpha", 1), ("beta", 1), ("transA", 0), ("transB", 0)):
        if name in node.attributes and attribute(node, name) == default:
            node.attributes.pop(name)
            changed = True
    held = array(node.inputs[0])
    if attribute(node, "transA", 0) and held is not None and node.graph is not None and held.ndim == 2:
        fresh = new_constant(node.graph, node.inputs[0], f"{node.outputs[0].name}.a", held.T, taken)
        node.replace_input_with(0, fresh)
        node.attributes.pop("transA")
        changed = True
    return changed


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    opset, taken, changes = normal_opset(model), names(model), 0
    for graph in graphs(model):
        for node in list(graph):
            if is_standard(node, "Add"):
                changes += _from_add(node, opset)
            if is_standard(node, "Gemm") and opset >= 7:
                changes += _canonical(node, taken)
    return Outcome(changes)


GEMM = Pass(
    name="canonical-gemm",
    does="Writes two-dimensional MatMul+Add as Gemm, and Gemm without factors where they can move into a constant.",
    run=_run,
    adds=frozenset({"Gemm"}),
    removes=frozenset({"MatMul", "Add"}),
)
