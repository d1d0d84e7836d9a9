"""Where a shape was baked in at export, told from the node at which an execution fails.

A graph that was traced for one size holds it as a constant: in the shape operand of a Reshape or Expand, the end of a
Slice, a table as long as the example was. Such a node often runs at another size, too, and what comes behind it fails.
So the search goes from the failing node towards the inputs, nearest first, and takes the first node that holds a size.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from onnxeq.graph.unsteady import small_constants
from onnxeq.referee.plan import node_label
from onnxeq.types import Array, Where

__all__ = ["SHAPE_OPERANDS", "baked_near", "failing_node"]

_REACH = 12
"""Nodes between a failure and the shape that causes it: reshapes stand close to what needs them."""

SHAPE_OPERANDS = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "ConstantOfShape": (0,),
    "Slice": (2,),
    "Resize": (3,),
    "Split": (1,),
    "Range": (1,),
    "Pad": (1,),
}
"""Operator -> the inputs that say sizes."""


def failing_node(model: onnx.ModelProto, messages: Sequence[str]) -> onnx.NodeProto | None:
    """The node of the main graph that an executor's message names, if one does.

    The referee says ``node LABEL: Op failed``, onnxruntime ``while running Op node. Name:'LABEL'``.
    """
    nodes: dict[str, onnx.NodeProto] = {node_label(node): node for node in model.graph.node}
    for message in messages:
        said = [m.group(1).split("/")[0] for m in re.finditer(r"node (\S.*?): \S+ failed on inputs", message)]
        said += re.findall(r"while running \S+ node\. Name:'([^']*)'", message)
        for label in said:
            if label in nodes:
                return nodes[label]
    return None


def baked_near(model: onnx.ModelProto, start: onnx.NodeProto, sizes: Sequence[int], axis: int | None) -> Where:
    """The nearest node at or before ``start`` that holds a size; ``start`` itself where none does.

    Args:
        model: The graph.
        start: Where an execution fails, or what makes an output of a wrong shape.
        sizes: The sizes at which it runs: what may have been baked in. Empty when it runs at none that was tried.
        axis: The axis that was varied, 0 for a batch; ``None`` for another.
    """
    constants = small_constants(model.graph)
    tables = {t.name: tuple(int(d) for d in t.dims) for t in model.graph.initializer}
    for node in _backwards(model, start):
        operand = _holds_size(node, constants, sizes, axis)
        table = next((n for n in node.input if sizes and set(sizes) & set(tables.get(n, ())) and _table(node)), "")
        if operand or table:
            stored = operand if operand in tables else table
            return Where(node_label(node), node.op_type, _first(node), initializer=stored)
    return Where(node_label(start), start.op_type, _first(start))


def _backwards(model: onnx.ModelProto, start: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    makers = {name: node for node in model.graph.node for name in node.output if name}
    queue, seen = deque([start]), {_first(start)}
    while queue and len(seen) <= _REACH:
        node = queue.popleft()
        yield node
        for name in node.input:
            maker = makers.get(name)
            if maker is not None and _first(maker) not in seen:
                seen.add(_first(maker))
                queue.append(maker)


def _first(node: onnx.NodeProto) -> str:
    return next((name for name in node.output if name), "")


def _table(node: onnx.NodeProto) -> bool:
    """Whether the operator's stored operands have to fit its data element by element, unlike weights."""
    return node.op_type in ("Add", "Sub", "Mul", "Div", "Where", "Concat", "Gather", "And", "Or", "Equal", "Less")


def _holds_size(node: onnx.NodeProto, constants: Mapping[str, Array], sizes: Sequence[int], axis: int | None) -> str:
    """The constant operand that says a size which should have followed the input; empty when there is none."""
    for position in SHAPE_OPERANDS.get(node.op_type, ()):
        name = node.input[position] if position < len(node.input) else ""
        value = constants.get(name)
        if value is None or value.dtype.kind not in "iu" or not value.size:
            continue
        numbers = [int(v) for v in np.ravel(value)]
        leads = axis == 0 and node.op_type in ("Reshape", "Expand", "ConstantOfShape") and numbers[0] > 0
        if leads or (axis != 0 and set(sizes) & set(numbers)):
            return name
    return ""
