"""A difference of two tensors in words: how much of it, where, and what it looks like.

The patterns are tried from the most to the least telling: the whole tensor (sign, rounding, a factor), whole slices
(zero, scaled, exchanged), single elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array
from onnxeq.weights.digest import same, ulps
from onnxeq.weights.layouts import layouts

__all__ = ["describe"]

_ROUNDED: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
_MOST_SHOWN = 3
_EXACT = 2.0**-21
"""Relative deviation up to which two numbers are called proportional: four units of float32, two roundings each."""


def describe(actual: Array, expected: Array, axis: int = 0, wrong: NDArray[np.bool_] | None = None) -> str:
    """What distinguishes a stored tensor from the one that its native owners give.

    Args:
        actual: What is stored.
        expected: What it should be; of the same type and shape.
        axis: The axis of channels, which slices are looked at first.
        wrong: The elements that count as different; by default those whose bits differ.
    """
    differs = ulps(actual, expected) > 0 if wrong is None else wrong.reshape(actual.shape)
    if not differs.any():
        return "is the same"
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    return (
        _whole(actual, expected, a, b, differs) or _slices(a, b, axis, differs) or _elements(actual, expected, differs)
    )


def _whole(actual: Array, expected: Array, a: Array, b: Array, differs: NDArray[np.bool_]) -> str:
    if a.size > 1 and not a.any():
        return "is all zero"
    if a.size > 1 and _equal(a, -b):
        return "has its sign flipped everywhere"
    if expected.dtype in (np.float32, np.float64):
        for name, kind in _ROUNDED.items():
            with np.errstate(over="ignore"):
                if same(actual, expected.astype(kind).astype(expected.dtype)):
                    return f"is rounded to {name} ({_count(differs)}, by up to {ulps(actual, expected).max():.3g} ulp)"
    for layout in layouts(tuple(expected.shape), tuple(expected.shape))[1:]:
        if same(actual, np.ascontiguousarray(layout.apply(expected))):
            return f"is transposed (axes {layout.perm})"
    for axis in range(a.ndim):
        if a.shape[axis] > 1 and _equal(a, np.flip(b, axis)):
            return f"is reversed along axis {axis}"
    if a.size > 1 and differs.mean() > 0.5 and (factor := _factor(a, b)) is not None:
        return f"is scaled by {factor:.6g}"
    if differs.mean() > 0.5 and a.size >= 4:
        moved = a - b
        rounding = 2.0**-23 * max(np.abs(a).max(), np.abs(b).max())  # of the sum as it was stored
        if np.ptp(moved) <= 1e-5 * np.abs(moved).max() + rounding and np.abs(moved).max() > 64 * rounding:
            return f"is shifted by {np.median(moved):.6g}"
    return ""


def _equal(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a, b)) or bool((np.abs(a - b) <= _EXACT * np.abs(b)).all())


def _factor(a: Array, b: Array) -> float | None:
    """``f`` with ``a = f*b`` to rounding, where there is one other than 1."""
    used = np.abs(b) > 0
    if not used.any() or a[~used].any():
        return None
    ratio = a[used] / b[used]
    middle = float(np.median(ratio))
    if not np.isfinite(middle) or abs(middle - 1) <= 2 * _EXACT:
        return None
    return middle if bool((np.abs(ratio - middle) <= 4 * _EXACT * abs(middle)).all()) else None


def _slices(a: Array, b: Array, first: int, differs: NDArray[np.bool_]) -> str:
    """Slices along one axis that differ as a whole."""
    for axis in sorted(range(a.ndim), key=lambda k: k != first % max(a.ndim, 1)):
        if a.shape[axis] < 2:
            continue
        a_, b_, d_ = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (a, b, differs))
        rows = np.flatnonzero(d_.any(axis=1))
        if d_.shape[1] == 1 and len(rows) < 2:
            continue  # single elements have a sentence of their own
        if text := _moved(a_, b_, rows, _called(axis, first)) or (_changed(a_, b_, rows, d_, _called(axis, first))):
            return text
    return ""


def _called(axis: int, first: int) -> str:
    return "channel" if axis == first else f"slice along axis {axis}"


def _moved(a: Array, b: Array, rows: NDArray[np.int64], called: str) -> str:
    """Slices in another order."""
    if len(rows) < 2:
        return ""
    if len(rows) == 2 and _equal(a[rows], b[rows[::-1]]):
        return f"has {_plural(called)} {rows[0]} and {rows[1]} exchanged"
    for step in (1, -1):
        if len(rows) > 2 and _equal(a, np.roll(b, step, axis=0)):
            return f"has its {_plural(called)} shifted by {abs(step)}"
    order = _order(a[rows], b[rows])
    if order is not None and len(rows) > 2 and len(set(order)) == len(order):
        shown = ", ".join(f"{rows[k]} holds {rows[order[k]]}" for k in range(min(_MOST_SHOWN, len(rows))))
        return f"has {len(rows)} {_plural(called)} permuted ({shown})"
    return ""


def _order(a: Array, b: Array) -> list[int] | None:
    """For each row of ``a`` the row of ``b`` that it equals."""
    known = {row.tobytes(): k for k, row in enumerate(b)}
    found = [known.get(row.tobytes(), -1) for row in a]
    return None if -1 in found else found


def _changed(a: Array, b: Array, rows: NDArray[np.int64], differs: NDArray[np.bool_], called: str) -> str:
    """A few slices that are zero, negative, scaled or copies of others."""
    if len(rows) > max(4, len(a) // 4):
        return ""
    said = []
    for row in rows:
        one, other = a[row], b[row]
        if one.size > 1 and differs[row].sum() < 2 and int(np.count_nonzero(other)) > 1:
            return ""
        if not one.any():
            said.append(f"{called} {row} is zero")
        elif _equal(one, -other):
            said.append(f"{called} {row} has its sign flipped")
        elif one.size > 1 and (factor := _factor(one, other)) is not None:
            said.append(f"{called} {row} is scaled by {factor:.6g}")
        elif one.size > 1 and (copied := _order(one[None], b)) not in (None, [row]):
            said.append(f"{called} {row} holds {called} {copied[0]}")
        elif one.size == 1 or not said:
            return ""
        else:
            said.append(f"{called} {row} differs")
    more = f" and {len(said) - _MOST_SHOWN} more" if len(said) > _MOST_SHOWN else ""
    return "; ".join(said[:_MOST_SHOWN]) + more


def _elements(actual: Array, expected: Array, differs: NDArray[np.bool_]) -> str:
    where = np.argwhere(differs)
    first: Sequence[int] = [int(i) for i in where[0]]
    place: Any = tuple(first)
    far = ulps(actual, expected)[differs].max()
    values = f"{actual[place]!s} for {expected[place]!s}"
    at = f"at {first}" if len(where) == 1 else f"first at {first}"
    return f"differs in {_count(differs)} by up to {far:.3g} ulp, {at} ({values})"


def _count(differs: NDArray[np.bool_]) -> str:
    number = int(differs.sum())
    return f"{number} of {differs.size} elements" if differs.size > 1 else "its one element"


def _plural(called: str) -> str:
    return called.replace("channel", "channels").replace("slice", "slices")
