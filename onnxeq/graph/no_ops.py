"""Operators that do nothing, removed.

1. Identity.
2. Dropout in inference: before opset 7 with ``is_test``, opset 7 to 11 always, from 12 on when
   ``training_mode`` is absent or constant false; and its mask is not read.
3. Cast to the type that the value has. CastLike, which only reads the other operand's type, becomes
   Cast where that type is known.
4. Reshape whose constant target gives every size back: a size equals the input's, or copies it (0), or is
   the only one that is left open (-1).
5. Flatten at axis 1 in two dimensions; Concat, Sum, Max, Min and Mean of one operand.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxeq.graph.edit import array, attribute, bypass, is_standard, normal_opset, rank, set_attribute
from onnxeq.graph.frame import Options, Outcome, Pass, graphs

__all__ = ["REMOVE_NO_OPS"]

_ONE_OPERAND = ("Concat", "Sum", "Max", "Min", "Mean")


def _dropout(node: ir.Node, opset: int) -> bool:
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return False
    if opset < 7:
        return bool(attribute(node, "is_test", 0))
    if opset < 12 or len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    mode = array(node.inputs[2])
    return mode is not None and not bool(mode.any())


def _reshape(node: ir.Node, opset: int) -> bool:
    source = node.inputs[0]
    if opset < 5:
        target = attribute(node, "shape")
    else:
        held = array(node.inputs[1])
        target = None if held is None else held.tolist()
    if target is None or source is None or source.shape is None or len(target) != len(source.shape):
        return False
    copies = not attribute(node, "allowzero", 0)
    known = [
        (copies and size == 0) or (isinstance(dim, int) and dim == size)
        for size, dim in zip(target, source.shape, strict=True)
    ]
    left = [size for size, same in zip(target, known, strict=True) if not same]
    # An open size is recovered as total / known sizes, which is 0/0 when a known one is empty.
    return not left or (left == [-1] and 0 not in [d for d in source.shape if isinstance(d, int)])


def _plain_cast(node: ir.Node) -> bool:
    """Rule 3: CastLike depends on data that it does not use, which hides constants from folding."""
    like = node.inputs[1].dtype if len(node.inputs) == 2 and node.inputs[1] is not None else None
    if not is_standard(node, "CastLike") or like is None:
        return False
    node.op_type = "Cast"
    node.resize_inputs(1)
    set_attribute(node, "to", int(like.value))
    return True


def _does_nothing(node: ir.Node, opset: int) -> bool:
    if not node.inputs or node.inputs[0] is None:
        return False
    if is_standard(node, "Identity"):
        return True
    if is_standard(node, "Dropout"):
        return _dropout(node, opset)
    if is_standard(node, "Cast"):
        source, to = node.inputs[0].dtype, attribute(node, "to")
        return source is not None and source.value == to
    if is_standard(node, "Reshape"):
        return _reshape(node, opset)
    if is_standard(node, "Flatten"):
        return attribute(node, "axis", 1) == 1 and rank(node.inputs[0]) == 2
    return is_standard(node, *_ONE_OPERAND) and len(node.inputs) == 1


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    opset, changes = normal_opset(model), 0
    for graph in graphs(model):
        for node in list(graph):
            changes += _plain_cast(node)
            source = node.inputs[0] if node.inputs else None
            if source is not None and _does_nothing(node, opset):
                changes += bypass(node, source)
    return Outcome(changes)


REMOVE_NO_OPS = Pass(
    name="remove-no-ops",
    does="Removes Identity, inference Dropout, and Cast, Reshape, Flatten and one-operand operators that "
    "change nothing.",
    run=_run,
    adds=frozenset({"Cast"}),
    removes=frozenset({"Identity", "Dropout", "Cast", "CastLike", "Reshape", "Flatten", *_ONE_OPERAND}),
)
