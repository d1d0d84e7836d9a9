"""Small operations on an ONNX graph from which faults and variants are put together.

A node is named by its first output here: real files leave the names of nodes empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = [
    "Array",
    "Place",
    "add_initializer",
    "attribute",
    "bypass",
    "constant",
    "fresh",
    "initializers",
    "insert_after",
    "node",
    "opset",
    "place_of",
    "put",
    "readers",
    "replace_constant",
    "replace_node",
    "rewire",
    "set_initializer",
    "through_constants",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where a fault is: every name under which a report may rightly give it.

    Attributes:
        nodes: ONNX node names.
        initializers: ONNX initializer names.
        values: ONNX value names, for nodes without a name.
    """

    nodes: frozenset[str] = field(default=frozenset())
    initializers: frozenset[str] = field(default=frozenset())
    values: frozenset[str] = field(default=frozenset())

    def __or__(self, other: Place) -> Place:
        return Place(self.nodes | other.nodes, self.initializers | other.initializers, self.values | other.values)


def place_of(nodes: Iterable[onnx.NodeProto], initializers: Iterable[str] = ()) -> Place:
    """The place that these nodes and initializers make."""
    nodes = tuple(nodes)
    return Place(
        frozenset(n.name for n in nodes if n.name),
        frozenset(initializers),
        frozenset(o for n in nodes for o in n.output if o),
    )


def node(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    """The node whose first output has that name."""
    return next(n for n in model.graph.node if n.output and n.output[0] == output)


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard operators that a file asks for."""
    return int(max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def readers(model: onnx.ModelProto, value: str) -> list[onnx.NodeProto]:
    """The nodes that read a value, in their order."""
    return [n for n in model.graph.node if value in n.input]


def through_constants(model: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that read an initializer, and those behind nodes that only move it about (a Transpose, a Cast)."""
    found: list[onnx.NodeProto] = []
    waiting = [name]
    while waiting:
        value = waiting.pop()
        for reader in readers(model, value):
            found.append(reader)
            others = [i for i in reader.input if i and i != value]
            if reader.op_type in _MOVING and all(constant(model, i) is not None for i in others):
                waiting += [o for o in reader.output if o]
    return found


_MOVING = {"Transpose", "Reshape", "Identity", "Cast", "CastLike", "Squeeze", "Unsqueeze", "Expand", "Concat", "Split"}


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    """Every initializer by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def constant(model: onnx.ModelProto, value: str) -> Array | None:
    """What a value holds if it is an initializer or a Constant node's."""
    for tensor in model.graph.initializer:
        if tensor.name == value:
            return numpy_helper.to_array(tensor)
    for found in model.graph.node:
        if value in found.output:
            if found.op_type != "Constant":
                return None
            held = found.attribute[0]
            return (
                numpy_helper.to_array(held.t) if held.name == "value" else np.asarray(helper.get_attribute_value(held))
            )
    return None


def set_initializer(model: onnx.ModelProto, name: str, value: Array) -> None:
    """Puts other content under an initializer's name."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), name))


def add_initializer(model: onnx.ModelProto, wish: str, value: Array) -> str:
    """Adds an initializer under a free name like ``wish``."""
    name = fresh(model, wish)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
    return name


def fresh(model: onnx.ModelProto, wish: str) -> str:
    """``wish``, or ``wish_1`` and so on, whichever no value and no node has for a name."""
    graph = model.graph
    taken = {t.name for t in graph.initializer} | {v.name for v in (*graph.input, *graph.output)}
    taken |= {n.name for n in graph.node} | {o for n in graph.node for o in n.output}
    return next(w for w in (wish, *(f"{wish}_{k}" for k in range(1, len(taken) + 2))) if w not in taken)


def replace_constant(model: onnx.ModelProto, reader: onnx.NodeProto, index: int, value: Array) -> Place:
    """Gives one reader another constant: in place when nobody else reads it, else a new initializer.

    Returns:
        The reader and the constant.
    """
    name = reader.input[index]
    sole = sum(list(n.input).count(name) for n in model.graph.node) == 1
    held = name in {t.name for t in model.graph.initializer}
    if sole and held:
        set_initializer(model, name, value)
        return place_of([reader], [name])
    made = next((n for n in model.graph.node if name in n.output), None)
    if sole and made is not None and made.op_type == "Constant":
        put(made, made.attribute[0].name, None)
        put(made, "value", numpy_helper.from_array(np.asarray(value, order="C")))
        return place_of([reader, made], [name])
    own = add_initializer(model, f"{name}_own", value)
    reader.input[index] = own
    return place_of([reader], [own])


def attribute(found: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value."""
    return next((helper.get_attribute_value(a) for a in found.attribute if a.name == name), default)


def put(found: onnx.NodeProto, name: str, value: Any) -> None:
    """Sets an attribute; ``None`` takes it away."""
    kept = [a for a in found.attribute if a.name != name]
    del found.attribute[:]
    found.attribute.extend(kept)
    if value is not None:
        found.attribute.append(helper.make_attribute(name, value))


def rewire(model: onnx.ModelProto, old: str, new: str, *, keep: Sequence[str] = ()) -> None:
    """Whoever read ``old`` reads ``new``, except the nodes whose first output is in ``keep``."""
    for reader in model.graph.node:
        if not (reader.output and reader.output[0] in keep):
            for index, name in enumerate(reader.input):
                if name == old:
                    reader.input[index] = new


def insert_after(model: onnx.ModelProto, value: str, kind: str, *extra: str, **attributes: Any) -> onnx.NodeProto:
    """Puts a node behind a value; readers see its result, and a graph output keeps its name."""
    graph = model.graph
    index = next((k for k, n in enumerate(graph.node) if value in n.output), -1)
    is_output = any(v.name == value for v in graph.output)
    if is_output:
        inner = fresh(model, f"{value}_before")
        made = graph.node[index]
        made.output[list(made.output).index(value)] = inner
        rewire(model, value, inner)
        source, result = inner, value
    else:
        source, result = value, fresh(model, f"{value}_{kind.lower()}")
    name = fresh(model, f"node_{kind}_{len(graph.node)}")
    added = helper.make_node(kind, [source, *extra], [result], name=name, **attributes)
    if not is_output:
        rewire(model, value, result)
    graph.node.insert(index + 1, added)
    return graph.node[index + 1]


def replace_node(model: onnx.ModelProto, output: str, new: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Puts nodes in the place of one; the last must give its outputs."""
    index = next(k for k, n in enumerate(model.graph.node) if n.output and n.output[0] == output)
    del model.graph.node[index]
    for offset, added in enumerate(new):
        model.graph.node.insert(index + offset, added)
    return list(model.graph.node[index : index + len(new)])


def bypass(model: onnx.ModelProto, output: str, index: int = 0) -> list[onnx.NodeProto]:
    """Takes a node away: its readers read its input ``index``.

    Returns:
        The nodes around the gap: who makes that input, and who reads the output now.
    """
    gone = node(model, output)
    source = gone.input[index]
    if any(v.name == output for v in model.graph.output):
        made = next(n for n in model.graph.node if source in n.output)
        made.output[list(made.output).index(source)] = output
        around = [made, *readers(model, output), *readers(model, source)]
        model.graph.node.remove(gone)
        rewire(model, source, output)
        return [n for n in around if n != gone]
    around = [n for n in model.graph.node if source in n.output] + readers(model, output)
    model.graph.node.remove(gone)
    rewire(model, output, source)
    return around
