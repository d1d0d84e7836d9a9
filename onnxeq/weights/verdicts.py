"""Whether a folded tensor is an honest float32 fold, and which of its elements are not.

An element is at fault when it is further from the exact fold than the float32 operations can bring it, or when a
recipe reproduces the rest bit for bit and the element is none that any recipe gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array
from onnxeq.weights.digest import bits

__all__ = ["ROOT", "Fold", "consensus", "judge", "trembles", "unit_of"]

STEPS = 8.0
"""Half units in the last place of the terms' magnitude that a float32 fold may be away, besides the stored value's own
rounding. The sum under the root, the reciprocal root (:data:`ROOT`), two products and a sum make 8.9 at the worst."""

ROOT = 5.4
"""Half units in the last place that a kernel's reciprocal square root may be off. x86 estimates it to ``1.5 * 2^-12``
(Intel's manual, RSQRTPS); one Newton step, as Eigen makes it, leaves ``1.5 * (1.5 * 2^-12)^2 = 3.4 * 2^-24`` and the
rounding of its own operations, about two more. Seen in TensorFlow's constant folding: up to five units."""

_MOST = 0.75
"""Share of the elements that a recipe must reproduce before the others are looked at."""

_FEW = 28
"""Elements that must be reproduced before a single one that is not counts, whatever its size: a recipe that is not
the right one reproduces about three in four, and so many all at once with a probability of 3e-4."""


_SURE = 6
"""The same where the recipe is the one by which other tensors of this artifact were made bit for bit."""


@dataclass(frozen=True)
class Fold:
    """What is said of a folded tensor.

    Attributes:
        recipe: The recipe that reproduces most of it.
        reproduced: The share of elements that it reproduces.
        expected: What it gives.
        wrong: The elements at fault.
    """

    recipe: str
    reproduced: float
    expected: Array
    wrong: NDArray[np.bool_]

    @property
    def honest(self) -> bool:
        """Whether nothing is at fault."""
        return not self.wrong.any()


def judge(
    actual: Array,
    exact: NDArray[np.float64],
    magnitude: NDArray[np.float64],
    recipes: Iterable[tuple[str, Array]],
    first: str = "",
    *,
    strict: bool = True,
    root: NDArray[np.float64] | None = None,
) -> Fold:
    """Judges a folded tensor.

    Args:
        actual: What is stored.
        exact: The fold in float64.
        magnitude: The sum of its terms' magnitudes, in its shape or broadcast to it.
        recipes: Name and value of each recipe.
        first: The recipe that the rest of this artifact was made by, tried first.
        strict: Whether an element that no recipe gives is at fault; otherwise only one beyond the bound is.
        root: What of each element hangs on a root in such a way that one last place of that moves the element by one
            or more of its own (a factor, a term that cancels). Where nearly all of the tensor is reproduced, an
            element that the same recipe gives with a neighbouring root is honest, else one within :data:`ROOT`.
    """
    best = Fold("", -1.0, actual, np.zeros(actual.shape, bool))
    low = high = exact
    computed = 2.0**-24
    given: dict[str, NDArray[np.bool_]] = {}
    for name, value in _ordered(recipes, first):
        with np.errstate(over="ignore"):
            stored = value.reshape(actual.shape).astype(actual.dtype)
        equal = bits(stored) == bits(actual)
        if equal.all():
            return Fold(name, 1.0, stored, ~equal)
        given[_family(name)] = given.get(_family(name), False) | equal
        wide = stored.astype(np.float64)
        low, high = np.minimum(low, wide), np.maximum(high, wide)
        if equal.mean() > best.reproduced:
            computed = unit_of(value.dtype)  # half precision, where the recipe is
            best = Fold(name, float(equal.mean()), stored, ~equal)
    unit = float(unit_of(actual.dtype))
    held = actual.astype(np.float64)
    with np.errstate(invalid="ignore"):
        beyond = ~(np.abs(held - exact) <= (STEPS * computed + unit) * magnitude + np.finfo(np.float32).tiny)
    wrong = beyond.copy()
    off = best.wrong
    if not strict:
        return Fold(best.recipe, best.reproduced, best.expected, wrong)
    if best.reproduced >= _MOST and actual.size >= 4:
        slack = 2 * max(unit, 2.0**-24) * np.broadcast_to(magnitude, actual.shape)
        slack = slack if root is None else slack + ROOT * 2.0**-24 * np.abs(root).reshape(actual.shape)
        wrong |= off & ((held < low - slack) | (held > high + slack))
    enough = actual.size - off.sum() >= (_FEW if best.recipe != first else _SURE)
    if enough and off.sum() <= max(1, actual.size // 500):
        wrong |= off & ~given[_family(best.recipe)] if root is not None else off
    return Fold(best.recipe, best.reproduced, best.expected, wrong)


def _family(recipe: str) -> str:
    """A recipe without how its root was rounded."""
    return re.sub(r", (wide sum, )?(float32|rsqrt|root (up|down)( twice)?)", "", recipe)


_NEIGHBOURS = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5)
"""Units in the last place of a factor that are tried."""

_FACTOR = ROOT + 2.0
"""Half units in the last place that a factor may be off: its root, its product with gamma, its own rounding."""


def consensus(actual: Array, rows: Array, factor: NDArray[np.float64]) -> tuple[Array, NDArray[np.float32]]:
    """The fold by one float32 factor for each channel, chosen so that it gives most of the channel's elements.

    A recipe whose square root or reciprocal is a kernel's own cannot be repeated here. Its product can: whatever the
    factor was, one float32 number gives a whole channel bit for bit.

    Args:
        actual: What is stored, a row for each channel.
        rows: The native weight in the same form.
        factor: About what the factors are.

    Returns:
        The product and the factors.
    """
    single = rows.astype(np.float32)
    start = factor.astype(np.float32)
    step = np.spacing(np.abs(start)).astype(np.float32)
    best = np.full(len(rows), -1)
    chosen, product = start, np.zeros_like(single)
    left = np.arange(len(rows))
    for away in _NEIGHBOURS:
        tried = (start[left] + np.float32(away) * step[left]).astype(np.float32)
        far = np.abs(tried - factor[left]) > _FACTOR * 2.0**-24 * np.abs(factor[left])
        tried = np.where(far, start[left], tried)
        made = single[left] * tried[:, None]
        equal = (bits(made.astype(actual.dtype)) == bits(np.ascontiguousarray(actual[left]))).sum(axis=1)
        better = equal > best[left]
        if better.any():
            chosen = chosen.copy()
            chosen[left[better]], best[left[better]] = tried[better], equal[better]
            product[left[better]] = made[better]
        left = left[best[left] < actual.shape[1]]
        if not len(left):
            break
    return product, chosen


_LITTLE = 2.0**-8
"""Relative: what an element may be off and still be the same number; rounding to bfloat16 makes half of that."""

_OWN = 0.25
"""Spread of the elements' differences, relative to the largest, from which on they have none in common. Elements that
are off by so many ulp each spread by about 0.5, since an ulp is between 2^-24 and 2^-23 of its number."""

_FEWEST = 4
"""Elements that can show it."""


def trembles(actual: Array, expected: Array) -> bool:
    """Whether all elements are off by a little, and each by its own.

    A constant that was merged with something is off by far more, or by one factor or addend throughout.
    """
    a, b = (x.astype(np.float64).reshape(-1) for x in (actual, expected))
    off = a - b
    if a.size < _FEWEST or not (np.isfinite(off).all() and (np.abs(off) <= _LITTLE * np.abs(b)).all() and off.any()):
        return False
    factor = off[b != 0] / b[b != 0]
    return bool(min(np.ptp(off) / np.abs(off).max(), np.ptp(factor) / np.abs(factor).max()) > _OWN)


def _ordered(recipes: Iterable[tuple[str, Array]], first: str) -> Iterator[tuple[str, Array]]:
    rest = []
    for name, value in recipes:
        if name == first or not first:
            yield name, value
        else:
            rest.append((name, value))
    yield from rest


def unit_of(stored: np.dtype[Any]) -> float:
    """Half a unit in the last place of a type, relative."""
    return {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(stored.name, 2.0**-24)
