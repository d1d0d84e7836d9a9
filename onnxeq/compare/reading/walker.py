"""Walks an ONNX graph in order and makes a layer of each node that computes something.

What an operator means is told by the functions of :data:`onnxeq.compare.reading.operators.OPERATORS`; what has none
there, or is used in a way that those do not know, becomes a layer of its own kind with everything that decides its
result among the attributes: nothing is taken for the same unless it is known to be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxeq.compare.reading.names import reader_name
from onnxeq.compare.reading.quantised import QUANTISED
from onnxeq.compare.reading.sketch import Draft, Sketch, View, plain
from onnxeq.compare.values import Attribute, Weight
from onnxeq.graph.edit import array, constant, static_shape
from onnxeq.graph.frame import inner_graphs
from onnxeq.types import Array

__all__ = ["Walker", "rounded"]

UNKNOWN = -1
"""A size that the graph does not tell."""

_LISTED = 64
"""Elements up to which a constant of whole numbers is an attribute in words."""


def rounded(value: float) -> float:
    """A float32 constant as it was written in a program: six digits."""
    return float(f"{value:.6g}")


class Walker:
    """The state of a walk: which view each tensor is.

    Args:
        opset: Version of the standard operators.
        unbiased: Nodes whose bias is none, see :func:`onnxeq.compare.reading.linear.zero_biases`.
        recurrent: The stored tensors of recurrent nodes that the file writes as loops, see
            :func:`onnxeq.compare.reading.loops.without_loops`.
        quantised: Names of constants that the file stores quantised.
    """

    def __init__(
        self,
        opset: int,
        unbiased: frozenset[ir.Node] = frozenset(),
        recurrent: Mapping[ir.Node, tuple[Weight, ...]] | None = None,
        quantised: frozenset[str] = frozenset(),
    ) -> None:
        self.opset = opset
        self.unbiased = unbiased
        self.recurrent = dict(recurrent or {})
        self.quantised = quantised
        self.unranked: set[ir.Value] = set()
        """Tensors of which not even the number of axes is known."""
        self.taken: set[ir.Node] = set()
        """Nodes that belong to a layer that is made already."""
        self.sketch = Sketch()
        self._views: dict[ir.Value, View] = {}

    def has(self, value: ir.Value | None) -> bool:
        """Whether the tensor is computed from an input (else it is a constant, or absent)."""
        return value is not None and value in self._views

    def view(self, value: ir.Value) -> View:
        """How a tensor lies; a constant becomes a layer of the kind ``constant``."""
        if value not in self._views:
            shape = self.shape(value)
            elements = int(np.prod(shape)) if all(n >= 0 for n in shape) else 0
            draft = Draft("constant", [], {"shape": shape}, shape, reader_name(value.name or ""))
            held = array(value)
            if held is not None and (held.dtype.kind != "f" or held.size == 1):
                draft.attributes["value"] = _told(held)
            else:
                draft.weights.append(Weight("constant", value.name or "", elements))
            self._views[value] = plain(draft)
        return self._views[value]

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The tensor's shape; a size that is not known is -1, and one of unknown rank has none."""
        held = constant(value)
        if held is not None:
            return tuple(int(n) for n in held.shape)
        sizes = static_shape(value)
        if value.shape is None and value in self._views:
            return self._views[value].shape
        if sizes is None and value.shape is not None:
            return tuple(n if isinstance(n, int) else UNKNOWN for n in value.shape)
        return sizes or ()

    def put(self, value: ir.Value, view: View) -> None:
        """Says what a tensor is; the first that shows a layer's result is the one that holds it."""
        self._views[value] = view
        if not view.draft.value and value.name:
            view.draft.value = value.name
            view.draft.axes = tuple(-1 if axis is None else axis for axis in view.axes)

    def moved(self, view: View) -> Draft:
        """The tensor as it lies, as a layer: a ``transpose`` where its axes lie otherwise than in its layer."""
        if view.ordered:
            return view.draft
        kept = tuple(a for a in view.axes if a is not None and view.draft.shape[a] != 1)
        return Draft("transpose", [view.draft], {"axes": kept}, view.shape, view.draft.name)

    def as_lies(self, value: ir.Value) -> View:
        """A view of the tensor that lies as its layer does, with all of its own axes."""
        view = self.view(value)
        if view.axes == tuple(range(len(view.draft.shape))):
            return view
        draft = self.moved(view)
        if draft is view.draft:  # only axes of size 1 are more or fewer
            return View(draft, view.axes)
        return plain(draft)

    def weight(self, role: str, value: ir.Value, axes: tuple[int, ...] = ()) -> Weight:
        """A stored tensor in a role; see :class:`onnxeq.compare.values.Weight` for its axes."""
        return Weight(role, value.name or "", int(np.prod(self.shape(value), dtype=np.int64)), axes=axes)

    def made(
        self,
        node: ir.Node,
        kind: str,
        inputs: Sequence[Draft],
        shape: Sequence[int],
        weights: Sequence[Weight] = (),
        **attributes: Attribute,
    ) -> Draft:
        """A new layer for a node."""
        name = reader_name(weights[0].name if weights else "", node)
        draft = Draft(kind, list(inputs), dict(attributes), tuple(shape), name, [node.name or ""], list(weights))
        if any(w.name in self.quantised for w in weights):
            draft.say(QUANTISED)
        return draft

    def other(self, node: ir.Node) -> None:
        """A node that nothing here knows better: a layer for it, and one for each further output that is read."""
        inputs: list[Draft] = []
        attributes: dict[str, Attribute] = _plain_attributes(node, self.opset)
        weights: list[Weight] = []
        pattern = []
        for position, value in enumerate(node.inputs):
            if value is None:
                pattern.append("-")
            elif self.has(value):
                view = self.as_lies(value)
                inputs.append(view.draft)
                pattern.append("x" if view.shape == view.draft.shape else f"x{list(view.shape)}")
            else:
                held = array(value)
                if held is None:
                    inputs.append(self.view(value).draft)
                    pattern.append("x")
                elif held.dtype.kind == "f" and held.size != 1:
                    weights.append(self.weight("constant", value))
                    pattern.append(f"weight{list(held.shape)}")
                else:
                    attributes[f"input {position}"] = _told(held)
                    pattern.append("c")
        for inner in inner_graphs(node):
            inputs += [self.as_lies(v).draft for v in _captured(inner) if self.has(v)]
            attributes["body"] = _body(inner)
        attributes["reads"] = " ".join(pattern)
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        draft = self.made(node, kind, inputs, self.shape(node.outputs[0]), weights, **attributes)
        self.put(node.outputs[0], plain(draft))
        self.unranked |= {v for v in node.outputs if v.shape is None}
        for index, output in enumerate(node.outputs[1:], 1):
            if output.uses() or output.is_graph_output():
                part = Draft("output", [draft], {"index": index}, self.shape(output), draft.name)
                self.put(output, plain(part))


def _told(held: Array) -> Attribute:
    """A constant as an attribute: by value where it is short, by digest where it is long."""
    if held.size == 1 and held.dtype.kind in "fiub":
        value = held.reshape(()).item()
        return rounded(value) if isinstance(value, float) else value
    if held.size <= _LISTED:
        return str(held.tolist())
    return f"{held.dtype}{list(held.shape)} {hashlib.sha256(np.ascontiguousarray(held).tobytes()).hexdigest()[:16]}"


def _plain_attributes(node: ir.Node, opset: int) -> dict[str, Attribute]:
    """The node's attributes that are not the operator's default."""
    defaults = _defaults(node, opset)
    found: dict[str, Attribute] = {}
    for name, held in node.attributes.items():
        if held.is_ref() or held.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            continue
        value = _attribute(held.value)
        if name not in defaults or defaults[name] != value:
            found[name] = value
    return found


def _attribute(value: Any) -> Attribute:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Sequence) and all(isinstance(v, int) for v in value):
        return tuple(int(v) for v in value)
    if hasattr(value, "numpy"):
        return _told(value.numpy())
    return str(value)


def _defaults(node: ir.Node, opset: int) -> dict[str, Attribute]:
    import onnx

    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
        return {}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return {}
    return {
        name: _attribute(onnx.helper.get_attribute_value(held.default_value))
        for name, held in schema.attributes.items()
        if held.default_value.name
    }


def _captured(graph: ir.Graph) -> list[ir.Value]:
    """Tensors that a sub-graph reads from around it, each once, in order."""
    own = {*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)}
    found: dict[ir.Value, None] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in own:
                found[value] = None
        for inner in inner_graphs(node):
            found.update((v, None) for v in _captured(inner) if v not in own)
    return list(found)


def _body(graph: ir.Graph) -> str:
    """A digest of a sub-graph, names included: two are the same only if they were written alike."""
    nodes = sum(1 for _ in graph)
    digest = hashlib.sha256(ir.serde.serialize_graph(graph).SerializeToString(deterministic=True)).hexdigest()[:16]
    return f"{nodes} nodes {digest}"
