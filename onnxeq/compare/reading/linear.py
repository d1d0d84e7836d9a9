"""Convolutions and dense layers.

1. ``Conv`` of one channel per group is ``depthwise``; other groups stay an attribute of ``conv``.
2. A dense layer (``Gemm``, ``MatMul`` with a constant on the right) along the channels of a map is a 1x1 convolution,
   and a 1x1 convolution of a map of one element is a dense layer: ``linear``.
3. What the padding is comes from the rule and the size at hand, see :mod:`onnxeq.compare.windows`.
4. An axis with a single element along which a kernel of one slides is none: a convolution along one axis may be written
   as one along two.
5. Whether there is a bias is told here for what has it as an input, and by a later pass for one that is added behind.
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from onnxeq.compare.reading.sketch import Draft, View, plain, squeezed
from onnxeq.compare.reading.walker import Walker
from onnxeq.compare.values import Weight
from onnxeq.compare.windows import Window, window
from onnxeq.graph.edit import array, attribute, constant, is_standard
from onnxeq.graph.frame import graphs

__all__ = [
    "FLAT", "conv", "conv_transpose", "flat_axes", "gemm", "lying", "matmul", "put_dense", "window_of", "zero_biases",
]  # fmt: skip


def window_of(node: ir.Node, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> Window | None:
    """The window of a Conv or pooling node; ``None`` where a size is unknown or does not fit."""
    rank = len(kernel)
    pads, strides, dilations = (attribute(node, name) for name in ("pads", "strides", "dilations"))
    if len(sizes) != rank or any(n < 0 for n in sizes) or (pads is not None and len(pads) != 2 * rank):
        return None
    if any(held is not None and len(held) != rank for held in (strides, dilations)):
        return None
    rule, ceil = str(attribute(node, "auto_pad", "NOTSET")), bool(attribute(node, "ceil_mode", 0))
    return window(sizes, kernel, strides, dilations, pads, rule, ceil=ceil)


def conv(walk: Walker, node: ir.Node) -> bool:
    """Conv; false where its kernel is no constant, or it is used otherwise than a network does."""
    held, source = constant(node.inputs[1]), node.inputs[0]
    if held is None or source is None or not walk.has(source):
        return False
    view = _channels_first(walk, source)
    shape = tuple(int(n) for n in held.shape)
    out, kernel, groups = shape[0], shape[2:], int(attribute(node, "group", 1))
    slide = window_of(node, view.shape[2:], kernel)
    result = walk.shape(node.outputs[0])
    if slide is None or len(result) != len(shape) or any(n < 0 for n in result):
        return False
    if (weights := _weights(walk, node)) is None:
        return False
    if math.prod(kernel) == 1 and math.prod(view.shape[2:]) == 1 and groups == 1 and not any(slide.pads):
        draft = _dense(walk, node, view.draft, (1, out), shape[1], out, weights)
        walk.put(node.outputs[0], View(draft, (0, 1, *[None] * len(kernel))))
        return True
    flat = flat_axes(view.shape[2:], slide)
    kept = [i for i in range(len(kernel)) if i not in flat]
    if flat:
        slide, result = slide.along(kept), (*result[:2], *(result[2 + i] for i in kept))
        weights[0] = replace(weights[0], viewed=(*shape[:2], *slide.kernel))
    draft = _convolution(walk, node, view.draft, result, slide, (shape[1] * groups, out), groups, weights)
    if flat:
        draft.say(FLAT)
    walk.put(node.outputs[0], View(draft, lying(len(kernel), flat)))
    return True


FLAT = "sliding along one axis written as along two, of which one has a single element"


def flat_axes(sizes: tuple[int, ...], slide: Window) -> list[int]:
    """Axes along which nothing slides: a single element, and a window of one. One axis stays."""
    rank = len(slide.kernel)
    flat = [i for i in range(rank) if sizes[i] == 1 == slide.kernel[i] and slide.pads[i] == 0 == slide.pads[rank + i]]
    return flat if len(flat) < rank else []


def lying(rank: int, flat: list[int]) -> tuple[int | None, ...]:
    """The axes of a tensor in whose layer the flat ones are not there."""
    places = iter(range(2, 2 + rank))
    return (0, 1, *(None if i in flat else next(places) for i in range(rank)))


def _channels_first(walk: Walker, source: ir.Value) -> View:
    """What a convolution reads: a tensor whose second axis is its layer's channels."""
    view = walk.view(source)
    if view.axes == tuple(range(len(view.draft.shape))):
        return view
    return View(walk.moved(view), view.axes) if view.ordered else plain(walk.moved(view))


def _bias(walk: Walker, node: ir.Node) -> ir.Value | None:
    """The bias that a node reads; zeros that an exporter made up in its place are none."""
    held = node.inputs[2] if len(node.inputs) > 2 else None
    return None if node in walk.unbiased else held


def _weights(walk: Walker, node: ir.Node, axes: tuple[int, ...] = ()) -> list[Weight] | None:
    """Weight, whose axes lie so, and bias; ``None`` where the bias is computed."""
    kernel, bias = node.inputs[1], _bias(walk, node)
    if kernel is None or (bias is not None and constant(bias) is None):
        return None
    return [walk.weight("weight", kernel, axes)] + ([walk.weight("bias", bias)] if bias is not None else [])


def zero_biases(model: ir.Model) -> frozenset[ir.Node]:
    """Nodes whose bias is made of one zero, repeated. To be asked before constants are folded: a bias that is stored
    is one, whatever it holds.
    """
    return frozenset(
        node
        for graph in graphs(model)
        for node in graph
        if is_standard(node, "Conv", "ConvTranspose", "Gemm") and len(node.inputs) > 2 and _one_zero(node.inputs[2])
    )


_MADE_UP = ("Expand", "CastLike", "Cast", "Reshape", "Identity", "Unsqueeze")


def _one_zero(value: ir.Value | None) -> bool:
    repeated = False
    while value is not None and constant(value) is None:
        node = value.producer()
        if node is not None and is_standard(node, "ConstantOfShape"):
            held = attribute(node, "value")
            return held is None or not held.numpy().any()
        if node is None or not is_standard(node, *_MADE_UP):
            return False
        repeated |= node.op_type == "Expand"
        value = node.inputs[0]
    held = array(value)
    return repeated and held is not None and held.size == 1 and not held.any()


def _convolution(
    walk: Walker,
    node: ir.Node,
    source: Draft,
    shape: tuple[int, ...],
    slide: Window,
    channels: tuple[int, int],
    groups: int,
    weights: list[Weight],
) -> Draft:
    kind = "depthwise" if groups > 1 and groups == channels[0] else "conv"
    return walk.made(
        node, kind, [source], shape, weights,
        kernel=slide.kernel, strides=slide.strides, dilations=slide.dilations, pads=slide.pads, read=slide.read,
        groups=groups, **{"in": channels[0], "out": channels[1]}, bias=len(weights) > 1,
        terms=channels[0] // groups * math.prod(slide.kernel),
    )  # fmt: skip


def _dense(
    walk: Walker, node: ir.Node, source: Draft, shape: tuple[int, ...], inner: int, out: int, weights: list[Weight]
) -> Draft:
    return walk.made(
        node, "linear", [source], shape, weights, **{"in": inner, "out": out}, bias=len(weights) > 1, terms=inner
    )


def conv_transpose(walk: Walker, node: ir.Node) -> bool:
    """ConvTranspose, with its padding as declared or as its result's size tells."""
    held, source = constant(node.inputs[1]), node.inputs[0]
    if held is None or source is None or not walk.has(source):
        return False
    view = _channels_first(walk, source)
    shape, result = tuple(int(n) for n in held.shape), walk.shape(node.outputs[0])
    groups, kernel = int(attribute(node, "group", 1)), shape[2:]
    if len(result) != len(shape) or any(n < 0 for n in (*result, *view.shape)):
        return False
    ones = (1,) * len(kernel)
    strides = tuple(attribute(node, "strides") or ones)
    dilations = tuple(attribute(node, "dilations") or ones)
    pads = attribute(node, "pads")
    if str(attribute(node, "auto_pad", "NOTSET")) not in ("NOTSET", "VALID") or attribute(node, "output_shape"):
        return False
    if (weights := _weights(walk, node)) is None:
        return False
    draft = walk.made(
        node, "conv_transpose", [view.draft], result, weights,
        kernel=kernel, strides=strides, dilations=dilations, pads=tuple(pads or (0,) * 2 * len(kernel)), groups=groups,
        **{"in": shape[0], "out": shape[1] * groups}, bias=len(weights) > 1, terms=shape[1] * math.prod(kernel),
        output_padding=tuple(attribute(node, "output_padding") or (0,) * len(kernel)),
    )  # fmt: skip
    walk.put(node.outputs[0], plain(draft))
    return True


def gemm(walk: Walker, node: ir.Node) -> bool:
    """Gemm of a tensor with a constant; a factor other than 1 belongs to its weights."""
    held = constant(node.inputs[1])
    if held is None or not walk.has(node.inputs[0]) or attribute(node, "transA", 0):
        return False
    if 0 in (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)):
        return False
    turned = bool(attribute(node, "transB", 0))
    inner, out = (int(n) for n in (reversed(held.shape) if turned else held.shape))
    bias, weights = _bias(walk, node), _weights(walk, node, () if turned else (1, 0))
    if weights is None or (bias is not None and squeezed(walk.shape(bias)) not in ((out,), ())):
        return False
    return _put_dense(walk, node, inner, out, weights)


def matmul(walk: Walker, node: ir.Node) -> bool:
    """MatMul: ``linear`` where the right operand is a constant matrix, else ``matmul``."""
    left, right = node.inputs[:2]
    if left is None or right is None or not walk.has(left):
        return False
    held = constant(right)
    if held is not None and len(held.shape) == 2:
        inner, out = (int(n) for n in held.shape)
        return _put_dense(walk, node, inner, out, [walk.weight("weight", right, (1, 0))])
    if not walk.has(right):
        return False
    views = [walk.as_lies(left), walk.as_lies(right)]
    shape = walk.shape(node.outputs[0])
    terms = views[0].shape[-1] if views[0].shape else 0
    draft = walk.made(node, "matmul", [v.draft for v in views], shape, terms=terms)
    draft.operands = tuple(v.shape for v in views)
    if any(v.shape != v.draft.shape for v in views):  # axes of size 1 tell what is multiplied with what
        draft.attributes["operands"] = str([list(v.shape) for v in views])
    walk.put(node.outputs[0], plain(draft))
    return True


def _put_dense(walk: Walker, node: ir.Node, inner: int, out: int, weights: list[Weight]) -> bool:
    """A dense layer along the last axis of a tensor, as rule 2 says."""
    assert node.inputs[0] is not None  # noqa: S101 - for the type checker: whoever asks has looked
    return put_dense(walk, node, walk.view(node.inputs[0]), node.outputs[0], inner, out, weights)


def put_dense(
    walk: Walker, node: ir.Node, view: View, output: ir.Value, inner: int, out: int, weights: list[Weight]
) -> bool:
    """A dense layer along the last axis of a view, whose result is ``output``."""
    source, last = view.draft, view.axes[-1]
    rank = len(source.shape)
    if last is None or any(n < 0 for n in source.shape):
        return False
    if last == 1 and rank >= 3 and math.prod(source.shape[2:]) > 1:
        kernel = (1,) * (rank - 2)
        shape = (source.shape[0], out, *source.shape[2:])
        slide = window(source.shape[2:], kernel, None, None, None)
        draft = _convolution(walk, node, source, shape, slide, (inner, out), 1, weights)
        draft.say("a dense layer along the channels for a 1x1 convolution")
        walk.put(output, View(draft, view.axes))
        return True
    if last == rank - 1:
        draft = _dense(walk, node, source, (*source.shape[:-1], out), inner, out, weights)
        walk.put(output, View(draft, view.axes))
        return True
    if math.prod(source.shape) == source.shape[last]:  # one vector, however it lies
        draft = _dense(walk, node, source, (1, out), inner, out, weights)
        walk.put(output, View(draft, (*[None] * (len(view.axes) - 1), 1)))
        return True
    moved = plain(walk.moved(view))
    if moved.draft is source:
        return False
    draft = _dense(walk, node, moved.draft, (*moved.draft.shape[:-1], out), inner, out, weights)
    walk.put(output, plain(draft))
    return True
