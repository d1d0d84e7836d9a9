"""Attention that is one node, written out as products and a softmax: :mod:`onnxeq.compare.reading.attention` makes one
layer of either.

1. ``Attention`` of the standard, of operands with heads apart or together.
2. ``MultiHeadAttention`` of onnxruntime, whose one bias is a third each for queries, keys and values.
3. ``Attention`` of onnxruntime, with one stored matrix for all three.

Past keys, lengths, fewer heads of keys than of queries, and masks of whole numbers or booleans that are computed are
left to the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxeq.compare.reading.masks import CAUSAL, pattern
from onnxeq.compare.reading.sketch import Draft, View, plain, squeezed
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.compare.values import Weight
from onnxeq.graph.edit import array, attribute, constant

__all__ = ["attention", "fused_attention", "multi_head_attention"]

_TOGETHER, _APART = 3, 4


@dataclass(frozen=True)
class _Given:
    """What decides an attention besides its operands.

    Attributes:
        scale: Of the product; ``None`` for the usual one.
        causal: Whether a query sees only itself and what is before it.
        added: What is added to the scores.
    """

    scale: float | None
    causal: bool
    added: ir.Value | None


def attention(walk: Walker, node: ir.Node) -> bool:
    """Rule 1."""
    values = list(node.inputs[:3])
    if not _sole(node) or any(v is not None for v in node.inputs[4:]) or float(attribute(node, "softcap", 0.0)):
        return False
    views = [walk.view(v) for v in values if v is not None and walk.has(v)]
    ranks = {len(v.axes) for v in views}
    if len(views) != len(values) or ranks not in ({_TOGETHER}, {_APART}):
        return False
    rank = ranks.pop()
    heads = int(attribute(node, "q_num_heads", 0)) if rank == _TOGETHER else views[0].shape[1]
    own = int(attribute(node, "kv_num_heads", 0)) if rank == _TOGETHER else views[1].shape[1]
    if heads != own or heads < 1:
        return False
    apart = views if rank == _APART else [_split(walk, view, heads) for view in views]
    given = _Given(attribute(node, "scale"), bool(attribute(node, "is_causal", 0)), _input(node, 3))
    known = [v for v in apart if v is not None]
    result = _written_out(walk, node, known, given) if len(known) == len(apart) else None
    if result is None:
        return False
    walk.put(node.outputs[0], plain(result) if rank == _APART else plain(_merged(result)))
    return True


def multi_head_attention(walk: Walker, node: ir.Node) -> bool:
    """Rule 2."""
    values, bias = [_input(node, i) for i in range(3)], _input(node, 3)
    if not _sole(node) or any(_input(node, i) is not None for i in (4, *range(6, 10))):
        return False
    drafts = [_as_shape(walk, walk.view(v)) for v in values if v is not None and walk.has(v)]
    heads = int(attribute(node, "num_heads", 0))
    if len(drafts) != len(values) or any(len(d.shape) != _TOGETHER for d in drafts) or heads < 1:
        return False
    if bias is not None:
        widths = [d.shape[-1] for d in drafts]
        held = constant(bias)
        if held is None or tuple(int(n) for n in held.shape) != (sum(widths),):
            return False
        drafts = [_shifted(d, bias, sum(widths[:i]), sum(widths)) for i, d in enumerate(drafts)]
    return _put(walk, node, drafts, heads, _input(node, 5))


def fused_attention(walk: Walker, node: ir.Node) -> bool:
    """Rule 3."""
    source, weight, bias = (_input(node, i) for i in range(3))
    if source is None or not walk.has(source) or weight is None or not _sole(node) or attribute(node, "do_rotary", 0):
        return False
    if any(_input(node, i) is not None for i in (3, 4, 6)) or (bias is not None and constant(bias) is None):
        return False
    held, read = constant(weight), _as_shape(walk, walk.view(source))
    if held is None or len(held.shape) != 2 or len(read.shape) != _TOGETHER:
        return False
    inner, out = (int(n) for n in held.shape)
    widths = [int(n) for n in attribute(node, "qkv_hidden_sizes") or (out // 3,) * 3]
    if len(widths) != 3 or sum(widths) != out or read.shape[-1] != inner:
        return False
    drafts = []
    for index, width in enumerate(widths):
        part = (sum(widths[:index]), sum(widths[: index + 1]))
        weights = [Weight("weight", weight.name or "", inner * width, axes=(1, 0), part=part)]
        if bias is not None:
            weights.append(Weight("bias", bias.name or "", width, part=part))
        drafts.append(
            walk.made(
                node, "linear", [read], (*read.shape[:-1], width), weights,
                **{"in": inner, "out": width}, bias=bias is not None, terms=inner,
            )
        )  # fmt: skip
    return _put(walk, node, drafts, int(attribute(node, "num_heads", 0)), _input(node, 5))


def _put(walk: Walker, node: ir.Node, drafts: Sequence[Draft], heads: int, added: ir.Value | None) -> bool:
    """Both of onnxruntime's, from operands with heads together."""
    views = [_split(walk, plain(d), heads) for d in drafts] if heads > 0 else [None]
    scale = float(attribute(node, "scale", 0.0)) or None
    given = _Given(scale, bool(attribute(node, "unidirectional", 0)), added)
    known = [v for v in views if v is not None]
    result = _written_out(walk, node, known, given) if len(known) == len(views) else None
    if result is None:
        return False
    walk.put(node.outputs[0], plain(_merged(result)))
    return True


def _sole(node: ir.Node) -> bool:
    """Whether nothing but the first output is read."""
    return not any(v.uses() or v.is_graph_output() for v in node.outputs[1:])


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _as_shape(walk: Walker, view: View) -> Draft:
    """The tensor as it lies, in a draft of its shape."""
    return _shaped(walk.moved(view), view.shape)


def _shaped(source: Draft, shape: tuple[int, ...]) -> Draft:
    if source.shape == shape:
        return source
    attributes = {"before": squeezed(source.shape), "after": squeezed(shape)}
    return Draft("reshape", [source], dict(attributes), shape, source.name)


def _split(walk: Walker, view: View, heads: int) -> View | None:
    """``[N, T, heads * size]`` as ``[N, heads, T, size]``."""
    items, places, width = view.shape
    if min(view.shape) < 0 or width % heads:
        return None
    split = _shaped(walk.moved(view), (items, places, heads, width // heads))
    return View(split, (0, 2, 1, 3))


def _merged(result: Draft) -> Draft:
    """``[N, heads, T, size]`` as ``[N, T, heads * size]``."""
    items, heads, places, size = result.shape
    kept = tuple(a for a in (0, 2, 1, 3) if result.shape[a] != 1)
    turned = Draft("transpose", [result], {"axes": kept}, (items, places, heads, size), result.name)
    return _shaped(turned, (items, places, heads * size))


def _shifted(source: Draft, bias: ir.Value, begin: int, whole: int) -> Draft:
    width = source.shape[-1]
    weight = Weight("constant", bias.name or "", width, viewed=(whole,), part=(begin, begin + width))
    return Draft("shift", [source], {"along": (len(source.shape) - 1,)}, source.shape, source.name, [], [weight])


def _written_out(walk: Walker, node: ir.Node, views: Sequence[View], given: _Given) -> Draft | None:
    """The result ``[N, heads, T, size]`` of operands ``[N, heads, T, size]``."""
    q, k, v = views
    items, heads, places, size = q.shape
    keys, width = k.shape[2], v.shape[3]
    if min(*q.shape, *k.shape, *v.shape) < 1 or k.shape != (items, heads, keys, size):
        return None
    if v.shape[:3] != (items, heads, keys) or (given.causal and keys != places):
        return None
    turned = View(k.draft, (k.axes[0], k.axes[1], k.axes[3], k.axes[2]))
    number = float(size**-0.5 if given.scale is None else given.scale)
    drafts = [_as_shape(walk, view) for view in (q, turned)]
    product = walk.made(node, "matmul", drafts, (items, heads, places, keys), terms=size)
    product.operands = tuple(d.shape for d in drafts)
    scores = _unnamed("scale", product, by=rounded(number))
    scores.number = number
    if given.causal and keys > 1:
        scores = _unnamed("masked", scores, mask=CAUSAL)
    if given.added is not None and (scores := _added(walk, scores, given.added) or product) is product:
        return None
    seen = _unnamed("softmax", scores, axis=3)
    values = _as_shape(walk, v)
    shape = (items, heads, places, width)
    result = Draft("matmul", [seen, values], {"terms": keys}, shape, product.name, list(product.nodes))
    result.operands = (seen.shape, values.shape)
    return result


def _unnamed(kind: str, source: Draft, **attributes: float | str) -> Draft:
    return Draft(kind, [source], dict(attributes), source.shape, source.name)


def _added(walk: Walker, scores: Draft, value: ir.Value) -> Draft | None:
    """Something added to scores; ``None`` where it is no numbers."""
    shape = walk.shape(value)
    if value.dtype == ir.DataType.BOOL and (known := array(value)) is not None and (seen := pattern(known)):
        return _unnamed("masked", scores, mask=seen)
    if value.dtype is None or not value.dtype.is_floating_point() or len(shape) > len(scores.shape) or min(shape) < 0:
        return None
    if walk.has(value):
        mask = _as_shape(walk, walk.view(value))
        made = Draft("add", [scores, mask], {}, scores.shape, scores.name)
        made.operands = (scores.shape, mask.shape)
        return made
    held = array(value)
    if held is None:
        return None
    if seen := pattern(held):
        return _unnamed("shift", scores, mask=seen)
    lead = len(scores.shape) - held.ndim
    along = tuple(i + lead for i, n in enumerate(held.shape) if n != 1)
    axes = tuple(i + lead if n != 1 else -1 for i, n in enumerate(held.shape))
    made = Draft("shift", [scores], {"along": along}, scores.shape, scores.name)
    made.weights = [walk.weight("constant", value, axes)]
    return made
