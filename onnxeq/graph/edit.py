"""The small vocabulary that the passes share: constants, sole uses, bypassing a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxeq.types import Array

__all__ = [
    "FLOATS",
    "array",
    "attribute",
    "bypass",
    "constant",
    "is_standard",
    "names",
    "new_constant",
    "normal_opset",
    "only_reader",
    "prune",
    "rank",
    "reads_alone",
    "set_attribute",
    "static_shape",
    "wide",
]

FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})
"""Types that numpy rounds to from float64 in one step (bfloat16 goes through float32: two steps)."""


def normal_opset(model: ir.Model) -> int:
    """The version of the standard domain; 0 when the model imports only others."""
    return int(model.opset_imports.get("", 0))


def is_standard(node: ir.Node, *op_types: str) -> bool:
    """Whether the node is one of these operators of the standard domain."""
    return node.domain in ("", "ai.onnx") and node.op_type in op_types


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind a value that nothing can change.

    An initializer that is also a graph input can be overridden by the caller: it is no constant.
    """
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    producer = value.producer()
    if producer is not None and is_standard(producer, "Constant") and "value" in producer.attributes:
        held = producer.attributes["value"]
        return None if held.is_ref() else held.as_tensor()
    return None


def array(value: ir.Value | None) -> Array | None:
    """The constant behind ``value`` in its stored type, or ``None``."""
    tensor = constant(value)
    return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()


def wide(value: ir.Value | None) -> NDArray[np.float64] | None:
    """The constant behind ``value`` widened to float64; ``None`` if it is none or not a :data:`FLOATS`."""
    tensor = constant(value)
    return None if tensor is None or tensor.dtype not in FLOATS else tensor.numpy().astype(np.float64)


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The plain value of an attribute, or ``default``; strings come as ``str``."""
    held = node.attributes.get(name)
    if held is None:
        return default
    return held.value


def set_attribute(node: ir.Node, name: str, value: Any) -> None:
    """Sets an attribute (int, float, string, or a list of ints)."""
    node.attributes[name] = ir.convenience.convert_attribute(name, value)


def reads_alone(node: ir.Node, value: ir.Value) -> bool:
    """Whether ``node`` is the only reader of ``value``, and reads it once."""
    return bool(only_reader(value) is node)


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads ``value``, sub-graphs included; ``None`` when there are more readers.

    A graph output is read by the caller, so it has no *only* reader. A node that reads the value twice
    has two uses.
    """
    if value.is_graph_output():
        return None
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 else None


def rank(value: ir.Value | None) -> int | None:
    """The number of dimensions, when known."""
    return None if value is None or value.shape is None else len(value.shape)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape, when every size is known."""
    if value is None or value.shape is None:
        return None
    sizes = [dim for dim in value.shape if isinstance(dim, int)]
    return tuple(sizes) if len(sizes) == len(value.shape) else None


def names(model: ir.Model) -> set[str]:
    """Every value name in the main graph and its sub-graphs."""
    taken: set[str] = set()
    for graph in (model.graph, *model.graph.subgraphs()):
        values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
        taken.update(v.name for v in values if v.name)
    return taken


def new_constant(graph: ir.Graph, old: ir.Value | None, name: str, data: Array, taken: set[str]) -> ir.Value:
    """An initializer of ``graph`` that holds ``data``.

    When ``old`` is an initializer of this graph with one use left (the one that is being rewritten),
    it is taken out and the new one gets its name, so that a weight keeps the name its owner knows;
    else a fresh name is made from ``name`` and added to ``taken``.
    """
    if old is not None and old.name and graph.initializers.get(old.name) is old:
        own = not old.is_graph_input() and not old.is_graph_output() and len(old.uses()) == 1
        if own:
            name = old.name
            (use,) = old.uses()
            use.node.replace_input_with(use.idx, None)
            graph.initializers.pop(name)
            taken.discard(name)
    candidate, count = name, 1
    while candidate in taken:
        candidate, count = f"{name}_{count}", count + 1
    taken.add(candidate)
    tensor = ir.Tensor(np.ascontiguousarray(data).reshape(data.shape), name=candidate)
    value = ir.Value(name=candidate, shape=ir.Shape(data.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def bypass(node: ir.Node, source: ir.Value) -> bool:
    """Lets every reader of the node's first output read ``source`` instead, and removes the node.

    When that output is a graph output, the producer of ``source`` takes over its name: the interface
    keeps its names. Returns ``False``, changing nothing, when that is impossible (``source`` is itself
    an input, an output, an initializer, or comes from an outer graph).
    """
    output, graph = node.outputs[0], node.graph
    if graph is None:
        return False
    if output.is_graph_output():
        producer = source.producer()
        fixed = source.is_graph_input() or source.is_graph_output() or source.is_initializer()
        if fixed or producer is None or producer.graph is not graph:
            return False
        ir.convenience.replace_all_uses_with(output, source, replace_graph_outputs=True)
        name, output.name = output.name, None
        source.name, source.type, source.shape = name, output.type, output.shape
    else:
        ir.convenience.replace_all_uses_with(output, source)
    graph.remove(node, safe=True)
    return True


def prune(nodes: Sequence[ir.Node | None]) -> None:
    """Removes those of ``nodes`` whose outputs nobody reads any more."""
    for node in nodes:
        if node is None or node.graph is None:
            continue
        if all(not v.uses() and not v.is_graph_output() for v in node.outputs):
            node.graph.remove(node, safe=True)
