"""Attention as several layers, read as one: ``softmax(q k^T * scale + mask) v``.

1. The second product's left operand is a softmax over its last axis; what stands between the first product and the
   softmax are factors and additions. A factor before an addition does not scale what is added; one behind it would, and
   then nothing is merged, unless what is added is nothing or minus infinity.
2. Factors on ``q``, on ``k`` and behind the product are one: the scale.
3. Axes that both operands share are batch and heads. Heads are what lies beside the head's own size on one axis of a
   layer before; where nothing tells, the last of them. Each of ``q``, ``k`` and ``v`` comes as
   ``[..., T, heads * size]`` or ``[..., T, heads, size]``.
4. A mask of zeros and minus infinity that lets each query see itself and what is before it is ``causal``; another
   constant is a position bias of the layer if it is stored in numbers, and any other sum an input.
5. A normalisation along a head's own size between a dense layer and the product stays a layer, and the heads are taken
   apart before it.

Where something does not fit, all stays as it is written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxeq.compare.reading.masks import CAUSAL, Added, added
from onnxeq.compare.reading.parting import laid_out, replace_with, reshaped
from onnxeq.compare.reading.sketch import Draft, Sketch, squeezed
from onnxeq.compare.reading.tracing import Digit, Trace, identity, joined, trace
from onnxeq.compare.reading.walker import rounded
from onnxeq.compare.values import Attribute

__all__ = ["attention_scale", "merge_attention", "put_attention"]

SPELLED = "attention as products and a softmax"
_NEAR = 2e-6
"""Relative, between a factor made of several in float32 and the inverse square root that a program means."""


@dataclass
class _Scores:
    """What stands between the first product and the softmax.

    Attributes:
        product: The first product.
        softmax: The softmax.
        factor: By which the product is multiplied.
        added: What is added to it.
        between: All that the layer will stand for.
        settled: Whether a query that sees nothing gives zeros, and not NaN.
    """

    product: Draft
    softmax: Draft
    factor: float = 1.0
    added: list[Added] = field(default_factory=list)
    between: list[Draft] = field(default_factory=list)
    settled: bool = False


@dataclass(frozen=True)
class _Operand:
    """An operand of a product: ``batch`` digits, then places, then a head's own size."""

    draft: Draft
    at: Trace
    batch: tuple[Digit, ...]
    places: tuple[Digit, ...]
    inner: tuple[Digit, ...]


def attention_scale(factor: float, size: int) -> float:
    """A factor as it was meant: the inverse square root of the head's size where it is that, else six digits."""
    usual = size**-0.5
    return rounded(usual if math.isclose(factor, usual, rel_tol=_NEAR) else factor)


def merge_attention(sketch: Sketch) -> None:
    """Applies the rules to each product of a softmax with something."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind == "matmul" and draft.inputs[0].kind in ("softmax", "zero_for_nan"):
            scores = _scores(sketch, draft, readers)
            made = None if scores is None else _merged(draft, scores)
            if made is not None:
                replace_with(sketch, draft, made, readers)


def _scores(sketch: Sketch, second: Draft, readers: dict[int, list[Draft]]) -> _Scores | None:
    """Rule 1, and rule 2 for what stands behind the product."""
    softmax = current = second.inputs[0]
    if softmax.kind == "zero_for_nan":
        softmax = softmax.inputs[0]
    if softmax.kind != "softmax" or softmax.attributes["axis"] != len(softmax.shape) - 1:
        return None
    if not _alike(second.operands[0], softmax.shape):
        return None
    found = _Scores(softmax, softmax, between=[second], settled=current is not softmax)
    while sketch.sole_reader(current, readers) is not None:
        found.between.append(current)
        if current.kind == "matmul":
            found.product = current
            return found
        if current is softmax or current.kind == "zero_for_nan":
            current = current.inputs[0]
        elif current.kind == "scale" and current.number is not None:
            found.factor *= current.number
            current = current.inputs[0]
        elif (item := added(current, softmax.shape, scaled=found.factor != 1.0)) is not None:
            found.added.append(item)
            current = item.source
        else:
            return None
    return None


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether scores have one shape, axes of size 1 aside; a last axis of size 1 could be any."""
    return squeezed(one) == squeezed(other) and one[-1:] == other[-1:] != (1,)


def _merged(second: Draft, scores: _Scores) -> Draft | None:
    """The attention layer behind which its result lies as the second product's did; ``None`` where it does not fit."""
    first = scores.product
    if len(first.shape) < 2 or not _alike(first.shape, scores.softmax.shape):
        return None
    q, k, v = (
        _operand(first.inputs[0], first.operands[0]),
        _operand(first.inputs[1], first.operands[1], turned=True),
        _operand(second.inputs[1], second.operands[1], turned=False),
    )
    if q is None or k is None or v is None:
        return None
    found = _heads(q, k, v)
    if found is None:
        return None
    batch, heads = found
    size, width = (math.prod(d.size for d in o.inner) for o in (q, v))
    inputs = [_arranged(o, heads) for o in (q, k, v)]
    known = [d for d in inputs if d is not None]
    if len(known) != len(inputs) or size < 1:
        return None
    factor = scores.factor * q.at.factor * k.at.factor
    number = batch[heads] if heads is not None else 1
    made = put_attention(known, second.name, number, size, width, attention_scale(factor, size), v.at.factor)
    if made is None:
        return None
    for item in reversed(scores.added):
        item.put_on(made)
    if scores.settled and made.attributes["mask"] not in ("none", CAUSAL):
        made.attributes["sees nothing"] = "zeros"
    made.nodes = [n for d in reversed(scores.between) for n in d.nodes]
    made.say(SPELLED)
    made.macs = math.prod(first.shape) * size + math.prod(second.shape) * first.shape[-1]
    return _as_product(made, second, batch, heads, q)


def put_attention(
    inputs: Sequence[Draft], name: str, heads: int, size: int, width: int, scale: float, behind: float = 1.0
) -> Draft | None:
    """An attention layer.

    Args:
        inputs: ``q[..., T, heads * size]``, ``k[..., S, heads * size]``, ``v[..., S, heads * width]``, or with the
            heads apart.
        name: Its name.
        heads: Number of heads.
        size: Of a head's queries and keys.
        width: Of a head's values.
        scale: What the product is multiplied with, rounded.
        behind: By what the values are multiplied: a layer has no such factor, so that 1 alone will do.
    """
    if behind != 1.0:
        return None
    q = inputs[0]
    apart = len(q.shape) >= 2 and q.shape[-1] == size and q.shape[-1] != heads * size
    lead = q.shape[:-2] if apart else q.shape[:-1]
    attributes: dict[str, Attribute] = {"heads": heads, "head size": size, "scale": scale, "mask": "none"}
    if width != size:
        attributes["value size"] = width
    return Draft("attention", list(inputs), attributes, (*lead, heads * width), name)


def _operand(draft: Draft, shape: tuple[int, ...], *, turned: bool = False) -> _Operand | None:
    """A product's operand; ``turned`` where its places are the last axis."""
    if len(shape) < 2 or min(shape) < 0 or squeezed(draft.shape) != squeezed(shape):
        return None
    at = trace(draft, scaled=True, sliced=False)
    rows = iter([row for row in at.axes if row])
    *batch, places, inner = [next(rows) if size != 1 else () for size in shape]
    if turned:
        places, inner = inner, places
    return _Operand(draft, at, tuple(d for row in batch for d in row), places, inner)


def _beside(operand: _Operand) -> list[int]:
    """Which of the batch digits lie on the axis on which a head's own elements lie."""
    axes = {d.axis for d in operand.inner}
    return [i for i, d in enumerate(operand.batch) if d.axis in axes]


def _heads(*operands: _Operand) -> tuple[list[int], int | None] | None:
    """Rule 3: the sizes of the batch digits, and which of them are the heads."""
    sizes = [[d.size for d in o.batch] for o in operands]
    if any(s != sizes[0] for s in sizes):
        return None
    told = {i for o in operands for i in _beside(o)}
    if len(told) > 1:
        return None
    if told:
        return sizes[0], told.pop()
    return sizes[0], len(sizes[0]) - 1 if sizes[0] else None


def _arranged(operand: _Operand, heads: int | None) -> Draft | None:
    """The operand as ``[..., T, heads * size]`` or ``[..., T, heads, size]``."""
    others = [d for i, d in enumerate(operand.batch) if i != heads]
    head = [] if heads is None else [operand.batch[heads]]
    return _laid(operand.at.source, [*others, *operand.places], head, list(operand.inner))


_ALONG_ITSELF = ("layer_norm",)


def _laid(source: Draft, places: list[Digit], head: list[Digit], inner: list[Digit]) -> Draft | None:
    wanted = [*places, *head, *inner]
    whole = [d for row in identity(source.shape) for d in row]
    if sum(1 for _ in wanted) < 1 or math.prod(d.size for d in wanted) != math.prod(d.size for d in whole):
        return None  # a part of a source that is no dense layer
    if source.kind in _ALONG_ITSELF and len(inner) == 1 and source.attributes["axes"] == (inner[0].axis,):
        return _normed(source, places, head, inner)
    if joined(wanted) == joined(whole):
        return source
    sizes = [math.prod(d.size for d in places), *(d.size for d in head), math.prod(d.size for d in inner)]
    lead = tuple(d.size for d in joined(places))
    shape = (1, *lead, *sizes[1:]) if source.shape[:1] == (1,) else (*lead, *sizes[1:])
    like = Draft("transpose", [], {}, shape, source.name)
    return laid_out(source, [[d] for d in wanted], like)


def _normed(norm: Draft, places: list[Digit], head: list[Digit], inner: list[Digit]) -> Draft | None:
    """Rule 5."""
    before = trace(norm.inputs[0], sliced=False)
    if before.factor != 1.0 or len(before.axes) != len(norm.shape):
        return None

    def there(digit: Digit) -> Digit | None:
        row = before.axes[digit.axis]
        return row[0] if len(row) == 1 and row[0].size == digit.size and digit.stride == 1 else None

    rows = [[there(d) for d in part] for part in (places, head, inner)]
    if any(d is None for part in rows for d in part):
        return None
    parts = [[d for d in part if d is not None] for part in rows]
    source = before.source
    laid = joined([d for part in parts for d in part]) == joined([d for r in identity(source.shape) for d in r])
    sizes = (*(d.size for d in joined(places)), *(d.size for d in head), inner[0].size)
    shape = (1, *sizes) if norm.shape[:1] == (1,) else sizes
    like = Draft("reshape", [], {}, shape, norm.name)
    lying = reshaped(source, shape, like) if laid else laid_out(source, [[d] for p in parts for d in p], like)
    return Draft(
        norm.kind, [lying], {**norm.attributes, "axes": (len(shape) - 1,)}, shape, norm.name, list(norm.nodes),
        list(norm.weights), list(norm.spelling),
    )  # fmt: skip


def _as_product(made: Draft, second: Draft, batch: list[int], heads: int | None, q: _Operand) -> Draft:
    """The attention's result as the second product's: heads apart and in its order."""
    if heads is None:
        return reshaped(made, second.shape, second)
    others = [n for i, n in enumerate(batch) if i != heads]
    places = len(others)
    apart = (*others, math.prod(d.size for d in q.places), batch[heads], second.shape[-1])
    split = reshaped(made, (1, *apart), second)
    order = list(range(places))
    order.insert(heads, places + 1)
    order += [places, places + 2]
    kept = tuple(a + 1 for a in order if apart[a] != 1)
    turned = Draft("transpose", [split], {"axes": kept}, (1, *(apart[a] for a in order)), second.name)
    return reshaped(turned, second.shape, Draft("reshape", [], {}, second.shape, second.name))
