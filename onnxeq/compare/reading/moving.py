"""Operators that move elements about: most only make another view of a layer.

1. ``Transpose`` is another view. ``Reshape``, ``Flatten``, ``Squeeze`` and ``Unsqueeze`` are, where they add or take
   axes of size 1 only.
2. Whatever makes one vector of each item is ``flatten``. In which order it takes the elements is kept.
3. Any other reshape is ``reshape``, with both shapes.
4. ``Gather`` of all indices in order is a reshape.
5. A dense layer whose operand's leading axes are taken together before it and apart behind it runs along the last.
6. ``Split`` is as many ``slice``; so is ``Gather`` of one constant index.
7. ``Pad`` is ``pad`` until a later pass merges it into what follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxeq.compare.reading.linear import put_dense
from onnxeq.compare.reading.sketch import Draft, View, plain, squeezed
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.compare.values import Attribute
from onnxeq.graph.edit import array, attribute, constant, is_standard, only_reader

__all__ = ["concat", "gather", "pad", "reshape", "sequence_at", "slices", "split", "transpose"]


def transpose(walk: Walker, node: ir.Node) -> bool:
    """Rule 1."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    view = walk.view(source)
    order = attribute(node, "perm") or tuple(reversed(range(len(view.axes))))
    walk.put(node.outputs[0], View(view.draft, tuple(view.axes[int(i)] for i in order)))
    return True


def reshape(walk: Walker, node: ir.Node) -> bool:
    """Reshape, Flatten, Squeeze, Unsqueeze by rules 1 to 3."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    view, result = walk.view(source), walk.shape(node.outputs[0])
    own = view.shape
    if any(n < 0 for n in (*own, *result)):
        return False
    if squeezed(own) == squeezed(result):
        walk.put(node.outputs[0], View(view.draft, _relabelled(view, result)))
        return True
    if _by_rows(walk, node, view, result):
        return True
    whole = math.prod(own)
    if len(squeezed(result)) == 1 and math.prod(result) == whole:
        order = tuple(a for a in view.axes if a is not None and view.draft.shape[a] != 1)
        draft = walk.made(node, "flatten", [view.draft], (1, whole), order=order)
        at = result.index(whole)
        walk.put(
            node.outputs[0], View(draft, tuple(1 if i == at else (0 if i == 0 else None) for i in range(len(result))))
        )
        return True
    laid = walk.moved(view)
    draft = walk.made(node, "reshape", [laid], result, before=squeezed(own), after=squeezed(result))
    walk.put(node.outputs[0], plain(draft))
    return True


def _by_rows(walk: Walker, node: ir.Node, view: View, rows: tuple[int, ...]) -> bool:
    """Rule 5: ``Reshape(MatMul(Reshape(x), W))`` that only takes the leading axes together and apart again."""
    product = only_reader(node.outputs[0])
    if len(rows) != 2 or not view.shape or rows[1] != view.shape[-1] or product is None:
        return False
    if not is_standard(product, "MatMul") or product.inputs[0] is not node.outputs[0]:
        return False
    right = product.inputs[1]
    weight, back = constant(right), only_reader(product.outputs[0])
    if right is None or weight is None or len(weight.shape) != 2 or back is None or not is_standard(back, "Reshape"):
        return False
    inner, out = (int(n) for n in weight.shape)
    if walk.shape(back.outputs[0]) != (*view.shape[:-1], out):
        return False
    if not put_dense(walk, product, view, back.outputs[0], inner, out, [walk.weight("weight", right)]):
        return False
    walk.taken |= {product, back}
    return True


def _relabelled(view: View, shape: Sequence[int]) -> tuple[int | None, ...]:
    """The axes of a tensor after axes of size 1 were added or taken."""
    left = [(a, n) for a, n in zip(view.axes, view.shape, strict=True)]
    found: list[int | None] = []
    for size in shape:
        if size == 1:
            first = left.pop(0)[0] if left and left[0][1] == 1 else None
            found.append(first)
            continue
        while left[0][1] == 1:
            left.pop(0)
        found.append(left.pop(0)[0])
    return tuple(found)


def concat(walk: Walker, node: ir.Node) -> bool:
    """Concat of tensors that lie alike, else as they lie."""
    values = [v for v in node.inputs if v is not None]
    if not any(walk.has(v) for v in values):
        return False
    views = [walk.view(v) for v in values]
    rank = len(views[0].axes)
    at = int(attribute(node, "axis", 0)) % rank
    main = next(view for view, v in zip(views, values, strict=True) if walk.has(v))
    lies = [_alike(view, main, at) for view in views]
    axis = main.axes[at]
    if all(lies) and axis is not None:
        drafts, axes = [v.draft for v in views], main.axes
        shape = list(main.draft.shape)
        shape[axis] = sum(v.shape[at] for v in views)
        draft = walk.made(node, "concat", drafts, shape, axis=axis)
        walk.put(node.outputs[0], View(draft, axes))
        return True
    laid = [walk.moved(v) for v in views]
    draft = walk.made(
        node, "concat", laid, walk.shape(node.outputs[0]), axis=at, operands=str([list(v.shape) for v in views])
    )
    walk.put(node.outputs[0], plain(draft))
    return True


def _alike(view: View, main: View, at: int) -> bool:
    if len(view.axes) != len(main.axes) or len(view.draft.shape) != len(main.draft.shape):
        return False
    return all(
        own == theirs or (i != at and view.shape[i] == 1 == main.shape[i])
        for i, (own, theirs) in enumerate(zip(view.axes, main.axes, strict=True))
    )


def split(walk: Walker, node: ir.Node) -> bool:
    """Split, as slices."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    view = walk.view(source)
    at = int(attribute(node, "axis", 0)) % len(view.axes)
    along, begin = view.axes[at], 0
    sizes = [walk.shape(v)[at] if len(walk.shape(v)) > at else -1 for v in node.outputs]
    if along is None or sum(sizes) != view.shape[at] or min(sizes) < 0:
        return False
    for output, size in zip(node.outputs, sizes, strict=True):
        draft = _cut(walk, node, view, along, begin, begin + size, 1)
        walk.put(output, View(draft, view.axes))
        begin += size
    return True


def sequence_at(walk: Walker, node: ir.Node) -> bool:
    """SequenceAt of a constant place in what SplitToSequence gives: a slice."""
    sequence, place = node.inputs[0], array(node.inputs[1])
    maker = None if sequence is None else sequence.producer()
    if maker is None or not is_standard(maker, "SplitToSequence") or place is None:
        return False
    source, sizes = maker.inputs[0], array(maker.inputs[1]) if len(maker.inputs) > 1 else None
    if source is None or not walk.has(source) or sizes is None or not walk.shape(source):
        return False
    view = walk.view(source)
    at = int(attribute(maker, "axis", 0)) % len(view.axes)
    along, whole, index = view.axes[at], view.shape[at], int(place.reshape(()).item())
    if along is None or whole < 0 or sizes.min() < 1:
        return False
    if sizes.ndim == 0:
        sizes = np.diff([*range(0, whole, int(sizes)), whole])
    ends = np.cumsum(sizes)
    if ends[-1] != whole or not -len(ends) <= index < len(ends):
        return False
    begin, end = int(ends[index] - sizes[index]), int(ends[index])
    walk.put(node.outputs[0], View(_cut(walk, node, view, along, begin, end, 1), view.axes))
    return True


def _cut(walk: Walker, node: ir.Node, view: View, along: int, begin: int, end: int, step: int) -> Draft:
    shape = list(view.draft.shape)
    shape[along] = len(range(begin, end, step))
    attributes: dict[str, Attribute] = {"axis": along, "begin": begin, "end": end}
    if step != 1:
        attributes["step"] = step
    return walk.made(node, "slice", [view.draft], shape, (), **attributes)


def slices(walk: Walker, node: ir.Node) -> bool:
    """Slice with constant bounds, one layer for each axis that is cut."""
    source = node.inputs[0]
    if source is None or not walk.has(source) or walk.opset < 10:
        return False
    held = [None if v is None else array(v) for v in node.inputs[1:]]
    if len(held) < 2 or held[0] is None or held[1] is None:
        return False
    if any(h is None and v is not None for h, v in zip(held, node.inputs[1:], strict=True)):
        return False
    view = walk.view(source)
    starts, ends = held[0].reshape(-1).tolist(), held[1].reshape(-1).tolist()
    axes = held[2].reshape(-1).tolist() if len(held) > 2 and held[2] is not None else list(range(len(starts)))
    steps = held[3].reshape(-1).tolist() if len(held) > 3 and held[3] is not None else [1] * len(starts)
    if any(step < 1 for step in steps):
        return False
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = int(axis) % len(view.axes)
        along, size = view.axes[at], view.shape[at]
        begin, stop, _ = slice(int(start), int(end), int(step)).indices(size)
        if (begin, stop, step) == (0, size, 1):
            continue
        if along is None:
            return False
        view = View(_cut(walk, node, view, along, begin, stop, int(step)), view.axes)
    walk.put(node.outputs[0], view)
    return True


def gather(walk: Walker, node: ir.Node) -> bool:
    """Gather of one index from a tensor (``slice``), or of rows of a stored table (``embedding``)."""
    table, chosen = node.inputs[:2]
    if table is None or chosen is None:
        return False
    if not walk.has(table):
        held = array(table)
        if held is None or not walk.has(chosen) or attribute(node, "axis", 0) or held.dtype.kind != "f":
            return False
        draft = walk.made(
            node, "embedding", [walk.as_lies(chosen).draft], walk.shape(node.outputs[0]),
            [walk.weight("weight", table)], rows=int(held.shape[0]), width=int(np.prod(held.shape[1:])),
        )  # fmt: skip
        walk.put(node.outputs[0], plain(draft))
        return True
    index = array(chosen)
    if walk.has(chosen) or index is None:
        return False
    if (
        index.size == walk.shape(table)[int(attribute(node, "axis", 0))]
        and not (index.reshape(-1) - np.arange(index.size)).any()
    ):
        return reshape(walk, node)  # all of them in order
    if index.size != 1:
        return False
    view = walk.view(table)
    at = int(attribute(node, "axis", 0)) % len(view.axes)
    along, size = view.axes[at], view.shape[at]
    if size < 1 or (along is None and size != 1):
        return False
    begin = int(index.reshape(()).item()) % size
    draft = view.draft if along is None or size == 1 else _cut(walk, node, view, along, begin, begin + 1, 1)
    axes = (*view.axes[:at], *[None] * index.ndim, *view.axes[at + 1 :])
    walk.put(node.outputs[0], View(draft, axes))
    return True


def pad(walk: Walker, node: ir.Node) -> bool:
    """Pad by constant amounts."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    flat = attribute(node, "pads", attribute(node, "paddings"))
    value, axes = float(attribute(node, "value", 0.0)), None
    if flat is None:
        held = [None if v is None else array(v) for v in node.inputs[1:]]
        if (
            not held
            or held[0] is None
            or any(h is None and v is not None for h, v in zip(held, node.inputs[1:], strict=True))
        ):
            return False
        flat = held[0].reshape(-1).tolist()
        value = float(held[1].reshape(()).item()) if len(held) > 1 and held[1] is not None and held[1].size else 0.0
        axes = held[2].reshape(-1).tolist() if len(held) > 2 and held[2] is not None else None
    view = walk.view(source)
    places = [int(a) % len(view.axes) for a in axes] if axes is not None else list(range(len(view.axes)))
    half = len(flat) // 2
    if half != len(places) or any(n < 0 for n in view.draft.shape):
        return False
    shape = list(view.draft.shape)
    before, after = [0] * len(shape), [0] * len(shape)
    for position, at in enumerate(places):
        along, low, high = view.axes[at], int(flat[position]), int(flat[half + position])
        if not low and not high:
            continue
        if along is None:
            return False
        before[along], after[along] = low, high
        shape[along] += low + high
    mode = str(attribute(node, "mode", "constant"))
    draft = walk.made(node, "pad", [view.draft], shape, pads=(*before, *after), mode=mode)
    if mode == "constant":
        draft.attributes["value"] = rounded(value)
    walk.put(node.outputs[0], View(draft, view.axes))
    return True
