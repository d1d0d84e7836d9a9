"""Redundant Transpose removal.

With ``T(p)`` for ``Transpose(perm=p)``, ``f`` elementwise and ``T(q)`` the inverse of ``T(p)``:

1. ``T(identity)(x) = x``
2. ``T(q)(T(p)(x)) = T(r)(x)`` with ``r[i] = p[q[i]]``; gone when ``r`` is the identity
3. ``T(q)(f(T(p)(x), T(p)(y), c)) = f(x, y, T(q)(c))`` for any tree of elementwise operators whose inner
   values have no other reader: the layout sandwiches (NHWC-NCHW) that converters leave.
4. ``Gemm(T(x), B) = Gemm(x, B; transA toggled)``, and for the second operand likewise.

Rule 3 is applied only when every leaf is such a Transpose or a constant, so it never adds a node.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxeq.graph.edit import (
    array,
    attribute,
    bypass,
    is_standard,
    names,
    new_constant,
    prune,
    rank,
    reads_alone,
    set_attribute,
)
from onnxeq.graph.frame import Options, Outcome, Pass, graphs
from onnxeq.types import Array

__all__ = ["ELEMENTWISE", "TRANSPOSES"]

ELEMENTWISE = frozenset(
    {"Abs", "Acos", "Add", "And", "Asin", "Atan", "Cast", "Ceil", "Clip", "Cos", "Cosh", "Div",
     "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "HardSigmoid", "HardSwish",
     "LeakyRelu", "Less", "Log", "Max", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "Pow",
     "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
     "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"}
)  # fmt: skip
"""Operators whose output element depends on the input elements at the same place only."""

_MAX_TREE = 64
_Perm = tuple[int, ...]


def _perm(node: ir.Node | None) -> _Perm | None:
    """The permutation of a Transpose; the default (reversal) needs the rank."""
    if node is None or not is_standard(node, "Transpose") or not node.inputs or node.inputs[0] is None:
        return None
    held = attribute(node, "perm")
    if held is not None:
        return tuple(int(i) for i in held)
    dims = rank(node.inputs[0])
    return None if dims is None else tuple(reversed(range(dims)))


def _inverse(perm: _Perm) -> _Perm:
    return tuple(perm.index(i) for i in range(len(perm)))


def _moved(constant: Array, perm: _Perm) -> Array | None:
    """The constant in the other layout; ``None`` when it would broadcast to more dimensions."""
    if constant.ndim > len(perm):
        return None
    if constant.size == 1:
        return constant
    full = constant.reshape((1,) * (len(perm) - constant.ndim) + constant.shape)
    return np.ascontiguousarray(full.transpose(perm))


def _compose(node: ir.Node) -> bool:
    """Rules 1 and 2."""
    outer, source = _perm(node), node.inputs[0]
    if outer is None or source is None:
        return False
    if outer == tuple(range(len(outer))):
        return bypass(node, source)
    first = source.producer()
    inner = _perm(first)
    if first is None or inner is None or len(inner) != len(outer) or first.inputs[0] is None:
        return False
    both = tuple(inner[i] for i in outer)
    origin = first.inputs[0]
    if both == tuple(range(len(both))):
        changed = bypass(node, origin)
    else:
        node.replace_input_with(0, origin)
        set_attribute(node, "perm", list(both))
        changed = True
    if changed:
        prune([first])
    return changed


def _tree(value: ir.Value, perm: _Perm, found: dict[ir.Node, None]) -> bool:
    """Collects the elementwise nodes behind ``value``; whether every leaf undoes ``perm``."""
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in ELEMENTWISE:
        return False
    if node in found or len(found) >= _MAX_TREE or len(node.outputs) != 1 or "axis" in node.attributes:
        return False
    if "broadcast" in node.attributes:  # opset 6 and older: the operands' axes are given by attributes
        return False
    found[node] = None
    moving = 0
    for source in node.inputs:
        if source is None:
            continue
        held = array(source)
        if held is not None:
            if _moved(held, perm) is None:
                return False
            continue
        if _perm(source.producer()) == _inverse(perm) or (reads_alone(node, source) and _tree(source, perm, found)):
            moving += 1
        else:
            return False
    return moving > 0


def _unwrap(node: ir.Node, taken: set[str]) -> bool:
    """Rule 3, at the Transpose that closes the sandwich."""
    perm, source = _perm(node), node.inputs[0]
    if perm is None or source is None or source.is_graph_output():
        return False
    closing = [use.node for use in source.uses()]
    if any(_perm(n) != perm or n.graph is not node.graph for n in closing):
        return False
    tree: dict[ir.Node, None] = {}
    if not _tree(source, perm, tree) or any(n.graph is not node.graph for n in tree):
        return False
    if sum(n.outputs[0].is_graph_output() for n in closing) > 1:
        return False
    opening: list[ir.Node | None] = []
    for inner in tree:
        for index, value in enumerate(inner.inputs):
            held = array(value)
            if value is None:
                continue
            if held is not None:
                if held.size > 1 and (moved := _moved(held, perm)) is not None and inner.graph is not None:
                    fresh = new_constant(inner.graph, value, f"{value.name}.moved", moved, taken)
                    inner.replace_input_with(index, fresh)
            elif _perm(value.producer()) is not None:
                opening.append(value.producer())
                inner.replace_input_with(index, value.producer().inputs[0])
        inner.outputs[0].shape = None  # belongs to the old layout; shape inference gives the new one
    for last in sorted(closing, key=lambda n: n.outputs[0].is_graph_output()):
        bypass(last, source)
    prune(opening)
    return True


def _into_gemm(node: ir.Node) -> int:
    """Rule 4."""
    changes = 0
    for index, name in ((0, "transA"), (1, "transB")):
        value = node.inputs[index]
        producer = None if value is None else value.producer()
        if producer is not None and _perm(producer) == (1, 0) and producer.inputs[0] is not None:
            node.replace_input_with(index, producer.inputs[0])
            set_attribute(node, name, 0 if attribute(node, name, 0) else 1)
            prune([producer])
            changes += 1
    return changes


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    taken, changes = names(model), 0
    for graph in graphs(model):
        for node in list(graph):
            if node.graph is None:
                continue
            if is_standard(node, "Transpose"):
                changes += _compose(node) or _unwrap(node, taken)
            elif is_standard(node, "Gemm"):
                changes += _into_gemm(node)
    return Outcome(changes)


TRANSPOSES = Pass(
    name="remove-transposes",
    does="Removes identity and inverse Transposes, also around elementwise operators, and those that a "
    "Gemm can absorb.",
    run=_run,
    removes=frozenset({"Transpose"}),
)
