"""Pooling and reductions.

1. The mean or maximum over all of a map's spatial axes is ``global_avg_pool`` or ``global_max_pool``, whether it is
   written as that, as a reduction, or as a pooling whose window is the map.
2. A pooling of single elements is none.
3. Padding in numbers, see :mod:`onnxeq.compare.windows`. Whether an average counts it matters only where some window
   reads it.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxeq.compare.reading.linear import flat_axes, lying, window_of
from onnxeq.compare.reading.sketch import View
from onnxeq.compare.reading.walker import Walker
from onnxeq.compare.values import Attribute
from onnxeq.graph.edit import array, attribute

__all__ = ["global_pool", "pool", "reduce"]

_KINDS = {"MaxPool": "max_pool", "AveragePool": "avg_pool"}
_GLOBAL = {"GlobalAveragePool": "global_avg_pool", "GlobalMaxPool": "global_max_pool"}
_REDUCED = {"ReduceMean": "global_avg_pool", "ReduceMax": "global_max_pool"}


def pool(walk: Walker, node: ir.Node) -> bool:
    """MaxPool and AveragePool."""
    source, kernel = node.inputs[0], attribute(node, "kernel_shape")
    if source is None or kernel is None or not walk.has(source) or any(v.uses() for v in node.outputs[1:]):
        return False
    view = walk.as_lies(source)
    sizes, result = view.shape[2:], walk.shape(node.outputs[0])
    slide = window_of(node, sizes, tuple(int(n) for n in kernel))
    if slide is None or len(result) != len(view.shape) or any(n < 0 for n in result):
        return False
    if slide.kernel == sizes and math.prod(result[2:]) == 1 and not any(slide.read) and max(slide.dilations) == 1:
        return _put_global(walk, node, view, "global_max_pool" if node.op_type == "MaxPool" else "global_avg_pool")
    if max(slide.kernel) == 1 and max(slide.strides) == 1 and not any(slide.read):
        view.draft.say("a pooling of single elements, which does nothing")
        walk.put(node.outputs[0], view)
        return True
    flat = flat_axes(sizes, slide)
    if flat:
        kept = [i for i in range(len(sizes)) if i not in flat]
        slide, result = slide.along(kept), (*result[:2], *(result[2 + i] for i in kept))
    attributes: dict[str, Attribute] = {
        "kernel": slide.kernel, "strides": slide.strides, "dilations": slide.dilations, "pads": slide.pads,
        "read": slide.read,
    }  # fmt: skip
    if node.op_type == "AveragePool":
        past = any(r > p for r, p in zip(slide.read, slide.pads, strict=True))
        if any(n > 0 for n in slide.read):
            attributes["counts padding"] = bool(attribute(node, "count_include_pad", 0))
        if past:  # what a rounded-up last window reads behind the padding is never counted
            attributes["ceil"] = str(slide.pads)
    if bool(attribute(node, "ceil_mode", 0)) and slide.read != slide.pads:
        attributes["rounded up"] = True
    draft = walk.made(node, _KINDS[node.op_type], [view.draft], result, (), **attributes)
    walk.put(node.outputs[0], View(draft, lying(len(sizes), flat)))
    return True


def global_pool(walk: Walker, node: ir.Node) -> bool:
    """GlobalAveragePool and GlobalMaxPool."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    return _put_global(walk, node, walk.as_lies(source), _GLOBAL[node.op_type])


def _put_global(walk: Walker, node: ir.Node, view: View, kind: str) -> bool:
    draft = walk.made(node, kind, [view.draft], view.shape[:2])
    walk.put(node.outputs[0], View(draft, (0, 1, *[None] * (len(view.shape) - 2))))
    return True


def reduce(walk: Walker, node: ir.Node) -> bool:
    """A reduction over constant axes."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    listed = attribute(node, "axes")
    if listed is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        held = array(node.inputs[1])
        if held is None:
            return False
        listed = held.reshape(-1).tolist()
    view = walk.view(source)
    rank = len(view.axes)
    own = sorted({int(a) % rank for a in listed}) if listed else list(range(rank))
    if not listed and attribute(node, "noop_with_empty_axes", 0):
        return False
    over = sorted(a for i in own if (a := view.axes[i]) is not None and view.draft.shape[a] != 1)
    keep = bool(attribute(node, "keepdims", 1))
    shape = view.draft.shape
    spatial = [a for a in range(2, len(shape)) if shape[a] != 1]
    kind, attributes = node.op_type.replace("Reduce", "reduce_").lower(), dict[str, Attribute]()
    if node.op_type in _REDUCED and len(shape) >= 4 and over == spatial and over:
        kind = _REDUCED[node.op_type]
    else:
        attributes["axes"] = tuple(over)
    gone = over or [a for i in own if (a := view.axes[i]) is not None and a != 0]
    kept = [a for a in range(len(shape)) if a not in gone and (kind not in _REDUCED.values() or a < 2)]
    place = {a: index for index, a in enumerate(kept)}
    draft = walk.made(node, kind, [view.draft], tuple(shape[a] for a in kept), (), **attributes)
    left = [(i, a) for i, a in enumerate(view.axes) if keep or i not in own]
    axes = tuple(None if i in own or a is None else place.get(a) for i, a in left)
    walk.put(node.outputs[0], View(draft, axes))
    return True
