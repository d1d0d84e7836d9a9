"""Normalisations that are one node; :mod:`onnxeq.compare.reading.spelled` reads those that are several."""

from __future__ import annotations

import onnx_ir as ir

from onnxeq.compare.reading.sketch import Draft, View
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.compare.values import Weight
from onnxeq.graph.edit import attribute, constant

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response"]


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
