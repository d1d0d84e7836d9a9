"""Axes of size 1 that come and go on the way: the result of a layer has the axes of what it reads.

Some exporters take items and places together before a dense layer and apart behind it. Seen with one item, nothing is
moved by that, but what follows has an axis less. Here each layer whose result lies as its operand does gets the
operand's axes, and what it says of axes is told of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxeq.compare.kinds import ACTIVATIONS
from onnxeq.compare.reading.sketch import Draft, Sketch, squeezed
from onnxeq.compare.values import Attribute

__all__ = ["lift_ranks"]

_AS_OPERAND = ACTIVATIONS | {"scale", "shift", "rsub", "rdiv", "layer_norm", "softmax", "log_softmax", "erf", "exp"}
_TOGETHER = ("add", "mul", "sub", "div", "max", "min")
_OF_AXES = ("axes", "along", "axis")


def lift_ranks(sketch: Sketch) -> None:
    """Goes through all layers, each after what it reads."""
    for draft in sketch.drafts():
        if not draft.inputs or min((n for d in (draft, *draft.inputs) for n in d.shape), default=1) < 0:
            continue
        if draft.kind in _AS_OPERAND:
            _take(draft, draft.inputs[0].shape)
        elif draft.kind in _TOGETHER:
            _join(draft)
        elif draft.kind == "linear":
            lead = draft.inputs[0].shape[:-1]
            whole = draft.inputs[0].shape[-1:] == (draft.attributes["in"],)
            if whole and squeezed(lead) == squeezed(draft.shape[:-1]):
                draft.shape = (*lead, draft.shape[-1])
        elif draft.kind == "attention":
            shape, heads, size = draft.inputs[0].shape, draft.attributes["heads"], draft.attributes["head size"]
            lead = shape[:-2] if shape[-2:] == (heads, size) else shape[:-1]
            if squeezed(lead) == squeezed(draft.shape[:-1]):
                draft.shape = (*lead, draft.shape[-1])
        elif draft.kind == "slice":
            _cut(draft)


def _take(draft: Draft, shape: tuple[int, ...]) -> None:
    """Gives a layer another shape of the same elements, if all axes that it speaks of are longer than 1."""
    if draft.shape == shape or squeezed(draft.shape) != squeezed(shape):
        return
    places = dict(zip(_longer(draft.shape), _longer(shape), strict=True))
    changed: dict[str, Attribute] = {}
    for name in _OF_AXES:
        told = draft.attributes.get(name)
        listed = told if isinstance(told, tuple) else (() if told is None else (told,))
        if any(not isinstance(a, int) or a not in places for a in listed):
            return
        if told is not None:
            found = tuple(places[a] for a in listed if isinstance(a, int))
            changed[name] = found if isinstance(told, tuple) else found[0]
    if draft.kind in ("shift", "scale", "prelu"):
        if any(a not in places for w in draft.weights for a in w.axes if a >= 0):
            return
        draft.weights = [replace(w, axes=tuple(places.get(a, -1) for a in w.axes)) for w in draft.weights]
    draft.attributes.update(changed)
    draft.shape = shape


def _longer(shape: Sequence[int]) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size != 1]


def _join(draft: Draft) -> None:
    """A sum of operands of one shape has that shape, and need not say how they lie."""
    shape = draft.inputs[0].shape
    seen = [squeezed(s) for s in draft.operands]
    if any(d.shape != shape for d in draft.inputs) or any(s != squeezed(shape) for s in seen):
        return
    if squeezed(draft.shape) == squeezed(shape):
        draft.shape = shape
        draft.attributes.pop("operands", None)


def _cut(draft: Draft) -> None:
    """A slice of an operand that has axes of size 1 more or fewer than the slice."""
    shape, axis = draft.inputs[0].shape, draft.attributes["axis"]
    if len(shape) == len(draft.shape) or not isinstance(axis, int):
        return
    before = len(squeezed(draft.shape[:axis]))
    longer = _longer(shape)
    if before >= len(longer):
        return
    new = longer[before]
    made = (*shape[:new], draft.shape[axis], *shape[new + 1 :])
    if squeezed(made) == squeezed(draft.shape):
        draft.attributes["axis"], draft.shape = new, made
