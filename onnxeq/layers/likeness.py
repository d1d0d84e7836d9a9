"""Whether two arrays are the same value: to float64 rounding, within a slack, in another layout, or nearly.

*Slack* is what half a unit in the last place of the stored constants does to a value: two exporters round, fold and
split constants differently, and what that explains is no difference.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxeq.measure import compare
from onnxeq.types import Array

__all__ = [
    "EXACT", "LIMIT", "Digest", "Layout", "Pool", "arrange", "digest", "distance", "layouts", "resemblance",
]  # fmt: skip

EXACT = 1e-11
"""Of a value's root mean square: float64 evaluation orders differ by 1e-15 to 1e-13 of it, and a constant that was
rounded to float32 anew by 1e-8."""

LIMIT = 4.0
"""Slacks that constants' rounding explains; the factor of the ladder's weights rung, which compares the same."""

_MOST_AXES = 5


def distance(value: Array, reference: Array, slack: Array | None = None) -> float:
    """How far ``value`` is from ``reference`` in units: up to :data:`LIMIT` they are the same.

    The unit is the slack, and beneath it :data:`EXACT`. Infinite for another shape, for discrete values that
    differ anywhere, and where one is NaN and the other is not.
    """
    if value.shape != reference.shape:
        return math.inf
    if value.size == 0 or np.array_equal(value, reference, equal_nan=value.dtype.kind == "f"):
        return 0.0
    if value.dtype.kind != "f" or reference.dtype.kind != "f":
        return math.inf
    finite = np.isfinite(reference)
    scale = math.sqrt(float(np.mean(np.square(reference[finite])))) if finite.any() else 0.0
    unit = np.full(reference.shape, EXACT * scale)
    if slack is not None and slack.shape == unit.shape:
        unit = np.hypot(unit, slack)
    return compare([{"": reference}], [{"": value}], [{"": unit}], step=2.0**-52).ratio


def resemblance(value: Array, reference: Array) -> float:
    """From 0 to 1: the cosine of two arrays of one size, or the share of equal elements of discrete ones."""
    a, b = np.asarray(value).ravel(), np.asarray(reference).ravel()
    if a.size != b.size or a.size == 0:
        return 0.0
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return float(np.mean(a == b)) if a.dtype.kind == b.dtype.kind else 0.0
    with np.errstate(all="ignore"):
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        return abs(float(a @ b)) / norms if norms > 0 and math.isfinite(norms) else float(not a.any() and not b.any())


@dataclass(frozen=True)
class Layout:
    """How a value lies against its reference: ``reference.reshape(before).transpose(axes).reshape(after)``."""

    before: tuple[int, ...]
    axes: tuple[int, ...]
    after: tuple[int, ...]


def arrange(reference: Array, layout: Layout | None) -> Array:
    """The reference in the value's layout; itself where there is no layout."""
    if layout is None:
        return reference
    return reference.reshape(layout.before).transpose(layout.axes).reshape(layout.after)


def layouts(shape: tuple[int, ...], reference: tuple[int, ...]) -> Iterator[Layout | None]:
    """Ways in which a value of ``shape`` may hold a reference: as it is, reshaped, with its axes permuted."""
    if shape == reference:
        yield None
    if math.prod(shape) != math.prod(reference):
        return
    if shape != reference:
        yield Layout(reference, tuple(range(len(reference))), shape)
    plain = tuple(n for n in reference if n != 1)
    wanted = tuple(n for n in shape if n != 1)
    if len(plain) > _MOST_AXES or sorted(plain) != sorted(wanted):
        return
    for axes in itertools.permutations(range(len(plain))):
        if axes != tuple(range(len(plain))) and tuple(plain[a] for a in axes) == wanted:
            yield Layout(plain, axes, shape)


@dataclass(frozen=True)
class _Signature:
    """What a value keeps under every permutation of its elements."""

    mean: float
    rms: float
    mean_abs: float
    largest: float


def signature(value: Array) -> _Signature:
    """The moments of a value's finite elements."""
    x = np.asarray(value, dtype=np.float64).ravel() if value.dtype.kind in "fiub" else np.zeros(0)
    x = x[np.isfinite(x)]
    if x.size == 0:
        return _Signature(0.0, 0.0, 0.0, 0.0)
    return _Signature(
        float(x.mean()), math.sqrt(float(np.mean(np.square(x)))), float(np.abs(x).mean()), float(np.abs(x).max())
    )


Digest: TypeAlias = tuple[int, int, int]


def digest(value: object) -> Digest:
    """A number for a float constant's content that no order of its elements changes; exact, bit by bit."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return (0, 0, 0)
    bits = np.ascontiguousarray(value, dtype=np.float64).view(np.uint64).ravel()
    with np.errstate(over="ignore"):
        return (value.size, int(bits.sum(dtype=np.uint64)), int((bits * bits).sum(dtype=np.uint64)))


class Pool:
    """Values of a reference run, found by content.

    Args:
        values: By name.
    """

    def __init__(self, values: Mapping[str, Array]) -> None:
        self._values = values
        self._by_size: dict[int, list[tuple[str, _Signature]]] = {}
        for name, value in values.items():
            self._by_size.setdefault(value.size, []).append((name, signature(value)))

    def near(self, value: Array, tolerance: float = 1e-3) -> list[str]:
        """Names of values with nearly the same moments, which may be the same in some layout."""
        mine = signature(value)
        reach = tolerance * mine.rms
        return [
            name
            for name, theirs in self._by_size.get(value.size, ())
            if abs(theirs.rms - mine.rms) <= reach
            and abs(theirs.mean - mine.mean) <= reach
            and abs(theirs.mean_abs - mine.mean_abs) <= reach
        ]

    def of_size(self, size: int) -> list[str]:
        """Names of the values with so many elements."""
        return [name for name, _ in self._by_size.get(size, ())]
