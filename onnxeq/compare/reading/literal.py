"""A file's nodes as they are written, names aside: whether two files hold one graph.

Each node's digest is that of its operator, its attributes, and the digests of what it reads. A stored tensor counts by
type and shape if it holds weights (floating point, more than one element), else by its numbers.
"""

from __future__ import annotations

import hashlib

import onnx
from onnx import numpy_helper

__all__ = ["literal_nodes"]

_FLOATING = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
)


def literal_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """The digests of all nodes in sorted order, then those of the outputs in theirs."""
    graph = model.graph
    known = {tensor.name: _of_tensor(tensor) for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in known]
    for index, value in enumerate(given):
        kind = value.type.tensor_type.elem_type
        sizes = [d.dim_value or "?" for d in value.type.tensor_type.shape.dim]
        known[value.name] = _digest("input", index, kind, sizes)
    nodes = []
    for node in graph.node:
        attributes = sorted(_digest(a.name, a.SerializeToString(deterministic=True).hex()) for a in node.attribute)
        own = _digest(node.domain, node.op_type, attributes, [known.get(name, "-") for name in node.input])
        nodes.append(own)
        for index, name in enumerate(node.output):
            known[name] = _digest(own, index)
    return (*sorted(nodes), *(known.get(value.name, "-") for value in graph.output))


def _of_tensor(tensor: onnx.TensorProto) -> str:
    elements = 1
    for size in tensor.dims:
        elements *= size
    if tensor.data_type in _FLOATING and elements != 1:
        return _digest("weights", tensor.data_type, list(tensor.dims))
    return _digest(tensor.data_type, list(tensor.dims), numpy_helper.to_array(tensor).tolist())


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
