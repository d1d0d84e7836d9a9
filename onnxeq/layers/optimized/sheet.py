"""A graph that is being rewritten: the nodes so far, constants added, and what is known of the old one's values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from onnxeq.referee.constants import tensor_array
from onnxeq.referee.plan import captured_by

__all__ = ["Sheet", "attributes_of"]


class Sheet:
    """What becomes of a graph.

    Args:
        graph: The old one; it is not changed.
        opset: Its version of the standard domain.
        base_dir: The folder of its external data.
    """

    def __init__(self, graph: GraphProto, opset: int, base_dir: Path | None) -> None:
        self.graph, self.opset = graph, opset
        self.nodes: list[NodeProto] = []
        self.stored: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.added: dict[str, TensorProto] = {}
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                if name:
                    self.readers.setdefault(name, []).append(node)
        self.shapes = _shapes(graph)
        self._base_dir = base_dir

    def array(self, name: str) -> NDArray[Any] | None:
        """What an initializer holds."""
        tensor = self.stored.get(name)
        return None if tensor is None else tensor_array(tensor, self._base_dir)

    def rank(self, name: str) -> int:
        """The number of dimensions of a value, as declared or as a Reshape or Transpose makes it; 0 if unknown."""
        node = self.makers.get(name)
        if name in self.shapes or node is None:
            return len(self.shapes.get(name, ()))
        if node.op_type == "Reshape" and (target := self.array(node.input[1])) is not None:
            return int(target.size)
        if node.op_type == "Transpose":
            return len(attributes_of(node).get("perm", ()))
        return 0

    def node(
        self, op_type: str, inputs: list[str], output: str, like: NodeProto, domain: str = "", **attributes: Any
    ) -> str:
        """Adds a node of one result that comes from an old one; returns the result's name."""
        made = helper.make_node(op_type, inputs, [output], name=f"{like.name or output}/{op_type}", domain=domain)
        made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items() if v is not None)
        made.metadata_props.extend(like.metadata_props)
        self.nodes.append(made)
        return output

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Adds an initializer, or finds it added before under that name."""
        if name not in self.added:
            self.added[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def finish(self, new: GraphProto) -> None:
        """Fills the new graph in, without initializers that nobody reads any more.

        What was added goes over one by one, so that the weights are never held twice.
        """
        new.name, new.doc_string = self.graph.name, self.graph.doc_string
        new.node.extend(self.nodes)
        new.input.extend(self.graph.input)
        new.output.extend(self.graph.output)
        new.metadata_props.extend(self.graph.metadata_props)
        new.sparse_initializer.extend(self.graph.sparse_initializer)
        read = {name for node in self.nodes for name in _reads(node)} | {o.name for o in self.graph.output}
        given = {i.name for i in self.graph.input}
        new.initializer.extend(t for t in self.graph.initializer if t.name in read or t.name in given)
        for name in list(self.added):
            tensor = self.added.pop(name)
            if name in read:
                new.initializer.append(tensor)


def _reads(node: NodeProto) -> set[str]:
    return {*node.input, *captured_by(node)}


def _shapes(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Declared shapes, -1 for a size that is not fixed."""
    found: dict[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            found[value.name] = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    return found


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Plain values of a node's attributes, strings as text."""
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}
