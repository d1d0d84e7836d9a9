"""Names of the unfolded export that hold: a value that is called like a tensor of TensorFlow's is that tensor.

tf2onnx turns some operators into several nodes and leaves the tensor's name on the first of them: what is called
``Rsqrt:0`` is the square root, and its reciprocal, the tensor itself, is ``Rsqrt__10:0``; what is called ``NotEqual:0``
says where two tensors are equal. The nodes that come after carry the operator's name and a number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

__all__ = ["name_whole_tensors"]

_COMPUTES = frozenset({"Add", "Div", "Exp", "Floor", "Min", "Mul", "Not", "Reciprocal", "Sub"})
"""Nodes behind the first that compute; others change the layout or the type, and the tensor's numbers stay."""

_TENSOR = re.compile(r"(.+):(\d+)")


def name_whole_tensors(graph: Any) -> None:
    """Moves the names of tensors to the last node of their operator that computes, in place.

    Args:
        graph: An ``onnx.GraphProto`` as tf2onnx writes it without optimizers.
    """
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers[name].append(node)
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        for position, name in enumerate(node.output):
            if (found := _TENSOR.fullmatch(name)) and name not in outputs:
                _move(node, position, found.group(1), readers, outputs)


def _move(node: Any, position: int, op: str, readers: dict[str, list[Any]], outputs: set[str]) -> None:
    """Hands the name of one output of ``node`` on, as long as one more node of the same operator computes with it."""
    count = 0
    while len(readers[name := node.output[position]]) == 1:
        (after,) = readers[name]
        if after.op_type not in _COMPUTES or not re.fullmatch(re.escape(op) + r"__\d+", after.name):
            return
        count += 1
        inner = f"{op}/part_{count}:{position}"
        later = after.output[0]
        node.output[position] = inner
        after.input[:] = [inner if n == name else n for n in after.input]
        readers[inner] = [after]
        if later in outputs:
            return
        after.output[0] = name
        readers[name] = readers.pop(later, [])
        for reader in readers[name]:
            reader.input[:] = [name if n == later else n for n in reader.input]
        node, position = after, 0
