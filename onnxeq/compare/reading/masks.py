"""What is added to the scores of an attention, and which of it is a mask.

A constant of zeros and of one number that is far below them lets softmax see what has a zero. If that is, for each
query, itself and all before it, the mask is ``causal``; another pattern is told by its digest. Numbers up to -1e4 are
as good as minus infinity: exporters write the lowest of a type, and models -1e4 or -1e9.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from onnxeq.compare.reading.sketch import Draft, squeezed
from onnxeq.compare.values import Weight
from onnxeq.types import Array

__all__ = ["CAUSAL", "LOWEST", "Added", "added", "pattern"]

CAUSAL = "causal"
LOWEST = -1e4
_LOW = -50.0
"""A single number that low makes a constant of zeros a mask: what models add is -100 or far less."""

_AXES = ("keys", "queries", "heads")


def pattern(held: Array) -> str:
    """What a mask lets be seen; empty where a constant is no mask.

    Args:
        held: Booleans, true where something is seen, or numbers that are added, ``[..., queries, keys]``.
    """
    if held.ndim < 2 or held.size <= 1 or held.dtype.kind not in "bf":
        return ""
    if held.dtype.kind == "b":
        seen, low = held, -np.inf
    else:
        numbers = held.astype(np.float64)
        low = float(numbers.min())
        seen = numbers == 0
        if not low < _LOW or not bool(((numbers == low) | seen).all()) or not bool(seen.any()):
            return ""
    value = "" if low <= LOWEST else f" of {low:g}"
    rows, columns = seen.shape[-2:]
    if (
        rows == columns > 1
        and seen.size == rows * columns
        and bool((seen.reshape(rows, columns) == np.tri(rows)).all())
    ):
        return CAUSAL + value
    shape = seen.shape
    while shape[0] == 1:
        shape = shape[1:]
    digest = hashlib.sha256(repr(shape).encode() + np.packbits(seen).tobytes()).hexdigest()[:12]
    return f"constant {list(shape)} {digest}{value}"


@dataclass(frozen=True)
class Added:
    """Something that is added to scores.

    Attributes:
        source: The scores before it.
        mask: What kind of mask it is; empty for none.
        bias: Along which axes a stored position bias varies; empty for none.
        weights: The stored bias.
        inputs: What is computed and added.
    """

    source: Draft
    mask: str = ""
    bias: str = ""
    weights: tuple[Weight, ...] = ()
    inputs: tuple[Draft, ...] = ()

    def put_on(self, made: Draft) -> None:
        """Adds it to an attention layer."""
        if self.mask:
            held = str(made.attributes["mask"])
            made.attributes["mask"] = self.mask if held == "none" else ", ".join(sorted((held, self.mask)))
        if self.bias:
            known = made.attributes.get("position bias", "")
            made.attributes["position bias"] = ", ".join(sorted(b for b in (str(known), self.bias) if b))
        made.weights += [replace(w, role="position bias") for w in self.weights]
        made.inputs += list(self.inputs)


def added(current: Draft, shape: tuple[int, ...], *, scaled: bool) -> Added | None:
    """What a layer before a softmax adds to the scores; ``None`` where it does something else.

    Args:
        current: The layer.
        shape: Of the scores, ``[..., queries, keys]``.
        scaled: Whether what it gives is multiplied by a factor later.
    """
    if squeezed(current.shape) != squeezed(shape):
        return None
    mask = current.attributes.get("mask")
    if current.kind in ("shift", "masked") and isinstance(mask, str):
        endless = " of " not in mask
        return Added(current.inputs[0], mask) if endless or not scaled else None
    along = current.attributes.get("along")
    if current.kind == "shift" and isinstance(along, tuple) and along and not scaled and current.shape == shape:
        return Added(current.inputs[0], bias=_over(along, len(shape)), weights=tuple(current.weights))
    if current.kind == "add" and len(current.inputs) == 2 and not scaled:
        leads = [_leads(d) for d in current.inputs]
        if sum(leads) != 1:
            return None
        at = leads.index(True)
        other = current.operands[1 - at]
        if squeezed(current.operands[at]) != squeezed(shape) or len(other) > len(shape):
            return None
        over = [i + len(shape) - len(other) for i, n in enumerate(other) if n != 1]
        text = f"added, along {_over(tuple(over), len(shape))}"
        return Added(current.inputs[at], text, inputs=(current.inputs[1 - at],))
    return None


def _over(axes: tuple[int, ...], rank: int) -> str:
    names = [_AXES[rank - 1 - a] if rank - 1 - a < len(_AXES) else "batch" for a in sorted(axes)]
    return " and ".join(dict.fromkeys(names)) or "nothing"


_BETWEEN = ("scale", "shift", "masked", "add")


def _leads(draft: Draft, depth: int = 8) -> bool:
    """Whether a draft is scores: a product, with factors and sums behind it."""
    if draft.kind == "matmul":
        return True
    return depth > 0 and draft.kind in _BETWEEN and any(_leads(d, depth - 1) for d in draft.inputs)
