"""Dense layers whose result is only moved before something is done with it.

1. A constant added behind a Reshape or Transpose that varies along the whole of a dense layer's outputs is its bias.
2. A dense layer of which everything that reads it reads a part of the outputs (queries, keys and values out of one
   product) is as many dense layers. Their weights are parts of one stored tensor.
3. Moves that bring every element back to where it was are none; several that only change the shape are one reshape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxeq.compare.reading.sketch import Draft, Sketch, squeezed
from onnxeq.compare.reading.tracing import Digit, Trace, joined, mixed, trace
from onnxeq.compare.values import Weight

__all__ = ["bias_behind", "drop_moves", "part_linears", "rows_of"]

BIAS_BEHIND = "bias added behind a reshape"
ONE_PRODUCT = "several dense layers as one product"

_MOVES = ("transpose", "reshape", "slice", "flatten")


def bias_behind(sketch: Sketch) -> None:
    """Rule 1."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind != "shift" or len(draft.weights) != 1 or not draft.attributes.get("along"):
            continue
        at = trace(draft.inputs[0], sliced=False)
        source, weight = at.source, draft.weights[0]
        if source.kind != "linear" or source.attributes["bias"] or not at.moves:
            continue
        single = all(sketch.sole_reader(d, readers) is not None for d in (source, *at.moves))
        axes = _places(draft, at)
        if not single or axes is None or weight.viewed:
            continue
        source.attributes["bias"] = True
        source.nodes += draft.nodes
        source.weights.append(replace(weight, role="bias", axes=axes if list(axes) != sorted(axes) else ()))
        source.say(BIAS_BEHIND)
        sketch.replace(draft, draft.inputs[0], readers)


def _places(shift: Draft, at: Trace) -> tuple[int, ...] | None:
    """For each axis of the constant its place among the outputs; ``None`` where it is no bias of the source."""
    along, last = shift.attributes["along"], len(at.source.shape) - 1
    if not isinstance(along, tuple) or any(len(at.axes[a]) != 1 or at.axes[a][0].axis != last for a in along):
        return None
    ordered = sorted(along, key=lambda a: -at.axes[a][0].stride)
    if joined([at.axes[a][0] for a in ordered]) != (Digit(last, at.source.shape[last], 1),):
        return None
    lying = shift.weights[0].axes or along
    return tuple(ordered.index(a) if a in ordered else -1 for a in lying)


@dataclass(frozen=True)
class _Part:
    """A slice of a dense layer's outputs.

    Attributes:
        cut: The slice.
        at: What it is of the layer.
        row: Its digits among the outputs, the most significant first.
    """

    cut: Draft
    at: Trace
    row: tuple[Digit, ...]


def part_linears(sketch: Sketch) -> None:
    """Rule 2."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind != "linear" or any(o is draft for o in sketch.outputs):
            continue
        parts = _parts(sketch, draft, readers)
        if not parts:
            continue
        made: dict[tuple[object, ...], Draft] = {}
        for part in parts:
            key = (part.row, part.at.offsets[-1])
            if key not in made and (new := _parted(draft, part)) is not None:
                made[key] = new
        rows = {(p.row, p.at.offsets[-1]) for p in parts}
        if len(made) != len(rows) or sum(d.shape[-1] for d in made.values()) != draft.shape[-1] or len(made) < 2:
            continue
        for part in parts:
            new = made[(part.row, part.at.offsets[-1])]
            replace_with(sketch, part.cut, _laid(new, part), readers)


def replace_with(sketch: Sketch, old: Draft, new: Draft, readers: dict[int, list[Draft]]) -> None:
    """Puts a draft that nothing reads yet, and those that it is made of, in another's place."""
    pending = [new]
    while pending:
        current = pending.pop()
        for read in current.inputs:
            known = readers.setdefault(id(read), [])
            if not any(r is current for r in known):
                known.append(current)
                pending.append(read)
    sketch.replace(old, new, readers)


def _parts(sketch: Sketch, linear: Draft, readers: dict[int, list[Draft]]) -> list[_Part]:
    """All that reads a dense layer, if those are slices of its outputs; else nothing."""
    found: list[_Part] = []
    pending = [linear]
    while pending:
        current = pending.pop()
        if any(o is current for o in sketch.outputs):
            return []
        for reader in readers.get(id(current), []):
            if reader.kind == "slice":
                part = _part(linear, reader)
                if part is None:
                    return []
                found.append(part)
            elif reader.kind in ("reshape", "transpose"):
                pending.append(reader)
            else:
                return []
    return found


def _part(linear: Draft, cut: Draft) -> _Part | None:
    at = trace(cut)
    if at.source is not linear or any(at.offsets[:-1]):
        return None
    last = len(linear.shape) - 1
    digits = [d for row in at.axes for d in row]
    row = sorted((d for d in digits if d.axis == last), key=lambda d: -d.stride)
    others = sorted((d for d in digits if d.axis != last), key=lambda d: (d.axis, -d.stride))
    wanted = [Digit(a, n, 1) for a, n in enumerate(linear.shape[:-1]) if n > 1]
    if list(joined(others)) != wanted:
        return None
    return _Part(cut, at, joined(row))


def _parted(linear: Draft, part: _Part) -> Draft | None:
    """The dense layer that gives a part of the outputs of another one."""
    out = math.prod(d.size for d in part.row)
    weights = [rows_of(w, linear.shape[-1], part.row, part.at.offsets[-1]) for w in linear.weights]
    known = [w for w in weights if w is not None]
    if len(known) != len(weights):
        return None
    made = Draft(
        "linear", list(linear.inputs), {**linear.attributes, "out": out}, (*linear.shape[:-1], out), linear.name,
        list(linear.nodes), known, list(linear.spelling),
    )  # fmt: skip
    made.say(ONE_PRODUCT)
    return made


def rows_of(weight: Weight, out: int, row: Sequence[Digit], offset: int) -> Weight | None:
    """A stored tensor of which a row of digits of the outputs is meant; ``None`` where that cannot be told.

    Args:
        weight: The whole tensor, with ``out`` outputs.
        out: Number of outputs.
        row: The digits of the outputs, the most significant first.
        offset: The first output.
    """
    if weight.part is not None or weight.elements % out or weight.role not in ("weight", "bias"):
        return None
    number = math.prod(d.size for d in row)
    elements = weight.elements // out * number
    bias = weight.role == "bias"
    if bias and (weight.viewed or list(weight.axes) != sorted(weight.axes)):
        return None
    if number == 1 or joined(row) == (Digit(row[0].axis, number, 1),):
        changed = replace(weight, viewed=(out,), axes=()) if bias else weight
        return replace(changed, elements=elements, part=(offset, offset + number))
    found = mixed(row, out, offset)
    if found is None or weight.viewed:
        return None
    shape, places, chosen = found
    part = (chosen, chosen + 1) if len(shape) > len(row) else None
    behind = len(shape)
    if bias:
        return replace(weight, elements=elements, viewed=shape, axes=places, part=part)
    inner = weight.elements // out
    if weight.axes == (1, 0):
        return replace(weight, elements=elements, viewed=(inner, *shape), axes=(behind, *places), part=part)
    if weight.axes not in ((), (0, 1)):
        return None
    return replace(weight, elements=elements, viewed=(*shape, inner), axes=(*places, behind), part=part)


def _laid(new: Draft, part: _Part) -> Draft:
    """A new dense layer's result as the slice had it: taken apart, turned, in the slice's shape."""
    last = len(new.shape) - 1
    stride = math.prod(d.size for d in part.row)
    whole: list[Digit] = []  # the new layer's outputs, digit by digit, as they were of the old one's
    for digit in part.row:
        stride //= digit.size
        whole.append(Digit(last, digit.size, stride))
    rows = [[_renewed(d, part.row, whole) if d.axis == last else d for d in row] for row in part.at.axes]
    return laid_out(new, rows, part.cut)


def _renewed(digit: Digit, row: Sequence[Digit], whole: Sequence[Digit]) -> Digit:
    for old, new in zip(row, whole, strict=True):
        if old.stride <= digit.stride < old.stride * old.size:
            return Digit(new.axis, digit.size, new.stride * (digit.stride // old.stride))
    raise AssertionError("a digit of a part is one of its row's")


def laid_out(source: Draft, rows: Sequence[Sequence[Digit]], like: Draft) -> Draft:
    """Moves that lay a source's elements so: a reshape into digits, a transpose, a reshape to another draft's shape."""
    digits = [d for row in rows for d in row]
    ordered = sorted(digits, key=lambda d: (d.axis, -d.stride))
    split = source
    if joined(digits) == joined(ordered):
        return reshaped(source, like.shape, like)
    apart = tuple(d.size for d in ordered)
    split = reshaped(source, (1, *apart) if source.shape[:1] == (1,) else apart, like)
    lead = len(split.shape) - len(apart)
    axes = tuple(ordered.index(d) + lead for d in digits)
    turned = Draft("transpose", [split], {"axes": axes}, _shape(split, axes), like.name)
    return reshaped(turned, like.shape, like)


def _shape(split: Draft, axes: Sequence[int]) -> tuple[int, ...]:
    lead = len(split.shape) - len(axes)
    return (*split.shape[:lead], *(split.shape[a] for a in axes))


def reshaped(source: Draft, shape: tuple[int, ...], like: Draft) -> Draft:
    """A draft in another shape; itself where that is its own."""
    if source.shape == shape:
        return source
    attributes = {"before": squeezed(source.shape), "after": squeezed(shape)}
    return Draft("reshape", [source], dict(attributes), shape, like.name, list(like.nodes))


_ANY_RANK = ("linear", "reshape", "transpose", "flatten", "add", "attention")
"""Layers that do not count their operand's axes of size 1, or count from the end."""


def drop_moves(sketch: Sketch) -> None:
    """Rule 3."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind not in ("transpose", "reshape"):
            continue
        at = trace(draft, sliced=False)
        if not at.moves or not at.whole or any(m.kind == "flatten" for m in at.moves):
            continue
        source = at.source
        tolerant = all(r.kind in _ANY_RANK for r in readers.get(id(draft), []))
        if source.shape == draft.shape or (tolerant and squeezed(source.shape) == squeezed(draft.shape)):
            sketch.replace(draft, source, readers)
        elif draft.inputs[0] is not source:
            draft.kind, draft.inputs = "reshape", [source]
            draft.attributes = {"before": squeezed(source.shape), "after": squeezed(draft.shape)}
            readers.setdefault(id(source), []).append(draft)
