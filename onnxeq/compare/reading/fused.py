"""Operators of onnxruntime that are two of the standard's, as it writes them when it optimises a transformer."""

from __future__ import annotations

import onnx_ir as ir

from onnxeq.compare.reading.sketch import Draft, View, plain, squeezed
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.graph.edit import attribute, constant

__all__ = ["bias_gelu", "skip_layer_norm"]


def bias_gelu(walk: Walker, node: ir.Node) -> bool:
    """BiasGelu, FastGelu (by tanh) and Gelu: a bias where there is one, and the activation."""
    source, bias = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if source is None or not walk.has(source):
        return False
    view = walk.view(source)
    draft = view.draft
    if bias is not None:
        shifted = _shift(walk, view, bias)
        if shifted is None:
            return False
        draft = shifted
    form = "tanh" if node.op_type == "FastGelu" else "none"
    made = walk.made(node, "gelu", [draft], draft.shape, (), approximate=form)
    walk.put(node.outputs[0], View(made, view.axes))
    return True


def _shift(walk: Walker, view: View, bias: ir.Value) -> Draft | None:
    """A constant vector added along the last axis."""
    held, last = constant(bias), view.axes[-1] if view.axes else None
    if held is None or last is None or tuple(int(n) for n in held.shape) != (view.shape[-1],):
        return None
    weight = walk.weight("constant", bias, (last,))
    return Draft("shift", [view.draft], {"along": (last,)}, view.draft.shape, view.draft.name, [], [weight])


def _as_shape(walk: Walker, view: View) -> Draft:
    """The tensor as it lies, in a draft of its shape."""
    source = walk.moved(view)
    if source.shape == view.shape:
        return source
    attributes = {"before": squeezed(source.shape), "after": squeezed(view.shape)}
    return Draft("reshape", [source], dict(attributes), view.shape, source.name)


def skip_layer_norm(walk: Walker, node: ir.Node) -> bool:
    """SkipLayerNormalization: a sum, with a bias where there is one, and a normalisation along the last axis."""
    inputs = [*node.inputs, *[None] * 5][:5]
    one, two, scale, shift, bias = inputs
    if one is None or two is None or not walk.has(one) or not walk.has(two) or scale is None:
        return False
    if any(v is not None and constant(v) is None for v in (scale, shift, bias)) or any(
        v.uses() for v in node.outputs[1:3]
    ):
        return False
    first, second = walk.view(one), walk.view(two)
    if not first.axes or first.shape != second.shape or min(first.shape) < 0:
        return False
    if first.axes != second.axes or first.draft.shape != second.draft.shape:
        first, second = (plain(_as_shape(walk, view)) for view in (first, second))
    draft, last = first.draft, first.axes[-1]
    if last is None:
        return False
    if bias is not None:
        shifted = _shift(walk, first, bias)
        if shifted is None:
            return False
        draft = shifted
    total = walk.made(node, "add", [draft, second.draft], draft.shape)
    total.operands = (first.shape, second.shape)
    weights = [walk.weight(r, v) for r, v in (("scale", scale), ("shift", shift)) if v is not None]
    epsilon = rounded(float(attribute(node, "epsilon", 1e-12)))
    made = walk.made(
        node, "layer_norm", [total], total.shape, weights,
        epsilon=epsilon, axes=(last,), scaled=True, shifted=shift is not None,
    )  # fmt: skip
    walk.put(node.outputs[0], View(made, first.axes))
    if len(node.outputs) > 3:
        walk.put(node.outputs[3], View(total, first.axes))
    return True
