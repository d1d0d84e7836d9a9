"""Normalisations, and BatchNormalization that a framework spells out.

``BN(x) = (x - mean) / sqrt(variance + epsilon) * scale + shift`` is written by some frameworks as
``x * m + s`` with ``m = 1 / sqrt(variance + epsilon) * scale`` and ``s = shift - mean * m``. As long as those are
computed in the graph from stored tensors, the epsilon is there to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxeq.compare.reading.names import reader_name
from onnxeq.compare.reading.sketch import Draft, View
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.compare.values import Weight
from onnxeq.graph.edit import array, attribute, constant, is_standard
from onnxeq.graph.frame import graphs

__all__ = [
    "Spelled",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response",
    "put_spelled",
    "spelled_out",
]


@dataclass(frozen=True)
class Spelled:
    """A BatchNormalization that is written as a multiplication and an addition.

    Attributes:
        source: What is normalised.
        inner: The node that multiplies.
        epsilon: What is added to the variance.
        weights: Its stored tensors.
    """

    source: ir.Value
    inner: ir.Node
    epsilon: float
    weights: tuple[Weight, ...]


_LOOK_THROUGH = ("Reshape", "Cast", "Squeeze", "Unsqueeze", "Identity", "Expand")


def _stored(value: ir.Value | None) -> ir.Value | None:
    """The stored tensor behind a value that only shapes it; ``None`` where it is computed."""
    while value is not None and constant(value) is None:
        node = value.producer()
        if node is None or not is_standard(node, *_LOOK_THROUGH):
            return None
        value = node.inputs[0]
    return value


def _operands(value: ir.Value | None, *op_types: str) -> list[ir.Value | None]:
    """What a value's node reads, if that is one of these operators."""
    while value is not None and (node := value.producer()) is not None and is_standard(node, *_LOOK_THROUGH):
        value = node.inputs[0]
    node = None if value is None else value.producer()
    return list(node.inputs) if node is not None and is_standard(node, *op_types) else []


def _inverse_root(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """``1 / sqrt(variance + epsilon)`` -> the variance and epsilon."""
    root = None
    if inner := _operands(value, "Reciprocal"):
        root = inner[0]
    elif (parts := _operands(value, "Div")) and (top := array(parts[0])) is not None and top.size == 1:
        root = parts[1] if float(top.reshape(()).item()) == 1 else None
    under = _operands(root, "Sqrt")
    summed = _operands(under[0], "Add") if under else []
    for variance, epsilon in (summed, summed[::-1]) if len(summed) == 2 else ():
        held, stored = array(_stored(epsilon)), _stored(variance)
        if held is not None and held.size == 1 and stored is not None:
            return stored, float(held.reshape(()).item())
    return None


def _factor(value: ir.Value | None) -> tuple[ir.Value, float, ir.Value | None] | None:
    """``m`` -> variance, epsilon and the scale, if there is one."""
    if (plain_root := _inverse_root(value)) is not None:
        return *plain_root, None
    parts = _operands(value, "Mul")
    for root, scale in (parts, parts[::-1]) if len(parts) == 2 else ():
        found, stored = _inverse_root(root), _stored(scale)
        if found is not None and stored is not None:
            return *found, stored
    return None


def _offset(value: ir.Value | None, factor: ir.Value) -> tuple[ir.Value, ir.Value | None] | None:
    """``s`` -> the mean and the shift, if there is one; ``factor`` is ``m``."""
    parts = _operands(value, "Sub")
    shift = _stored(parts[0]) if len(parts) == 2 else None
    product = _operands(parts[1], "Mul") if shift is not None else _operands(value, "Mul")
    for one, other in (product, product[::-1]) if len(product) == 2 else ():
        if other is not factor:
            continue
        mean = _stored(one)
        if mean is None and shift is None and (negated := _operands(one, "Neg")):
            mean = _stored(negated[0])
            return None if mean is None else (mean, None)
        return None if mean is None or shift is None else (mean, shift)
    return None


def spelled_out(model: ir.Model) -> Mapping[ir.Value, Spelled]:
    """Every spelled-out BatchNormalization by the value that it gives. To be asked before constants are folded."""
    found: dict[ir.Value, Spelled] = {}
    for graph in graphs(model):
        for node in graph:
            if not is_standard(node, "Add") or len(node.inputs) != 2:
                continue
            for scaled, offset in (tuple(node.inputs), tuple(node.inputs)[::-1]):
                spelled = _spelled(scaled, offset)
                if spelled is not None:
                    found[node.outputs[0]] = spelled
                    break
    return found


def _spelled(scaled: ir.Value | None, offset: ir.Value | None) -> Spelled | None:
    inner = None if scaled is None else scaled.producer()
    if inner is None or not is_standard(inner, "Mul") or len(inner.inputs) != 2:
        return None
    for source, factor in (tuple(inner.inputs), tuple(inner.inputs)[::-1]):
        if source is None or factor is None or _stored(source) is not None:
            continue
        rooted = _factor(factor)
        moved = None if rooted is None else _offset(offset, factor)
        if rooted is None or moved is None:
            continue
        held = {"scale": rooted[2], "shift": moved[1], "mean": moved[0], "variance": rooted[0]}
        weights = tuple(
            Weight(role, str(v.name), int(tensor.size))
            for role, v in held.items()
            if v is not None and (tensor := constant(v)) is not None
        )
        return Spelled(source, inner, rooted[1], weights)
    return None


def put_spelled(walk: Walker, node: ir.Node, spelled: Spelled) -> bool:
    """A layer for a spelled-out BatchNormalization."""
    if not walk.has(spelled.source):
        return False
    view = walk.view(spelled.source)
    along = view.axes[-1] if view.axes and not view.ordered else None
    channels = max(w.elements for w in spelled.weights)
    axes = [a for a in (along, 1, len(view.draft.shape) - 1) if a is not None]
    axis = next((a for a in axes if a < len(view.draft.shape) and view.draft.shape[a] == channels), None)
    if axis is None:
        return False
    draft = _batch(walk, node, view, axis, spelled.epsilon, list(spelled.weights))
    draft.nodes.append(spelled.inner.name or "")
    draft.name = reader_name(spelled.weights[0].name, node)
    draft.say("BatchNormalization as a multiplication and an addition")
    return True


def _batch(walk: Walker, node: ir.Node, view: View, axis: int, epsilon: float, weights: list[Weight]) -> Draft:
    draft = walk.made(
        node, "batch_norm", [view.draft], view.draft.shape, weights,
        epsilon=rounded(epsilon), channels=view.draft.shape[axis],
    )  # fmt: skip
    if axis != 1:
        draft.attributes["axis"] = axis
    walk.put(node.outputs[0], View(draft, view.axes))
    return draft


def batch_norm(walk: Walker, node: ir.Node) -> bool:
    """BatchNormalization of inference, with constant tensors."""
    source = node.inputs[0]
    if source is None or not walk.has(source) or len(node.inputs) < 5 or attribute(node, "training_mode", 0):
        return False
    if any(v is None or constant(v) is None for v in node.inputs[1:5]) or attribute(node, "spatial", 1) != 1:
        return False
    view = walk.view(source)
    axis = view.axes[1] if len(view.axes) > 1 else None
    if axis is None:
        return False
    roles = zip(("scale", "shift", "mean", "variance"), node.inputs[1:5], strict=True)
    weights = [walk.weight(role, value) for role, value in roles if value is not None]
    _batch(walk, node, view, axis, float(attribute(node, "epsilon", 1e-5)), weights)
    return True


def layer_norm(walk: Walker, node: ir.Node) -> bool:
    """LayerNormalization over the last axes."""
    source = node.inputs[0]
    if source is None or not walk.has(source) or any(v.uses() for v in node.outputs[1:]):
        return False
    view = walk.view(source)
    first = int(attribute(node, "axis", -1)) % len(view.axes)
    over = [a for a in view.axes[first:] if a is not None]
    if sorted(over) != over or any(v is not None and constant(v) is None for v in node.inputs[1:]):
        return False
    weights = [walk.weight(r, v) for r, v in zip(("scale", "shift"), node.inputs[1:3], strict=False) if v is not None]
    draft = walk.made(
        node, "layer_norm", [view.draft], view.draft.shape, weights,
        epsilon=rounded(float(attribute(node, "epsilon", 1e-5))), axes=tuple(over), scaled=len(weights) > 0,
        shifted=len(weights) > 1,
    )  # fmt: skip
    walk.put(node.outputs[0], View(draft, view.axes))
    return True


def instance_norm(walk: Walker, node: ir.Node) -> bool:
    """InstanceNormalization."""
    return _first_axes(walk, node, "instance_norm")


def group_norm(walk: Walker, node: ir.Node) -> bool:
    """GroupNormalization."""
    return _first_axes(walk, node, "group_norm", groups=int(attribute(node, "num_groups", 1)))


def _first_axes(walk: Walker, node: ir.Node, kind: str, **more: int) -> bool:
    source = node.inputs[0]
    if source is None or not walk.has(source) or any(v is None or constant(v) is None for v in node.inputs[1:3]):
        return False
    view = walk.as_lies(source)
    weights = [walk.weight(r, v) for r, v in zip(("scale", "shift"), node.inputs[1:3], strict=True) if v is not None]
    epsilon = rounded(float(attribute(node, "epsilon", 1e-5)))
    draft = walk.made(node, kind, [view.draft], view.draft.shape, weights, epsilon=epsilon, **more)
    walk.put(node.outputs[0], View(draft, view.axes))
    return True


def local_response(walk: Walker, node: ir.Node) -> bool:
    """LRN."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    view = walk.as_lies(source)
    draft = walk.made(
        node, "lrn", [view.draft], view.draft.shape, size=int(attribute(node, "size", 1)),
        alpha=rounded(float(attribute(node, "alpha", 1e-4))), beta=rounded(float(attribute(node, "beta", 0.75))),
        offset=rounded(float(attribute(node, "bias", 1.0))),
    )  # fmt: skip
    walk.put(node.outputs[0], View(draft, view.axes))
    return True
