"""The ladder's measure, cheap where nothing is wrong: most values of a graph differ by rounding only.

:func:`onnxeq.measure.compare` also looks at groups of elements of one magnitude, which takes most of its time. No
group's ratio can exceed the largest single error in units of its own element, so that where this is small the groups
need not be looked at. What is left is one pass in blocks that stay in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxeq.measure import Measure, compare
from onnxeq.noise import AMPLITUDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import Value
    from onnxeq.types import Array

__all__ = ["Gauged", "gauge", "put_onto", "spread"]

Real: TypeAlias = "NDArray[np.float64]"

_QUIET = 6.0
"""Largest single error in its own units up to which no group is looked at."""

_BLOCK = 1 << 13
"""Elements: 64 KiB in float64; and few enough that a dot product does not wait for threads."""


@dataclass(frozen=True)
class Gauged:
    """A measure, and the root mean squares of the error and of the reference; NaN where there are none."""

    measure: Measure = field(default_factory=Measure)
    error: float = math.nan
    scale: float = math.nan


def gauge(
    reference: Value,
    candidate: Value,
    unit: Value,
    step: float,
    *,
    exact: tuple[Value, Value] | None = None,
    draws: Sequence[Value] = (),
) -> Gauged:
    """How far ``candidate`` is from ``reference``; see :func:`onnxeq.measure.compare` for the formula.

    Args:
        reference: What it should be.
        candidate: What it is, of the same shape.
        unit: One unit for each element, or of a shape that broadcasts; ``None`` for none.
        step: Relative spacing below which the unit never falls.
        exact: What a node makes of the reference's and of the candidate's inputs. Then each side's own error is
            compared, ``(candidate - exact[1]) - (reference - exact[0])``.
        draws: Copies of the reference that rounding has moved, at :data:`onnxeq.noise.AMPLITUDE`; they make the unit.
    """
    if not isinstance(reference, np.ndarray) or not isinstance(candidate, np.ndarray):
        return Gauged()
    held = [reference, candidate, *(exact or ()), *draws]
    plain = all(isinstance(v, np.ndarray) and v.dtype == np.float64 and v.shape == reference.shape for v in held)
    if plain and reference.size:
        quick = _quick(held, 4 if exact else 2, 0.0 if unit is None else unit, step)
        if quick is not None:
            return quick
    return _in_full(reference, candidate, unit, step, exact, draws)


def _in_full(
    reference: Real, candidate: Real, unit: Value, step: float, exact: tuple[Value, Value] | None,
    draws: Sequence[Value],
) -> Gauged:  # fmt: skip
    shapes = [np.shape(v) for v in (reference, candidate, *(exact or ()))]
    if exact is not None and len(set(shapes)) > 1:
        said = f"shape {list(shapes[1])} against {list(shapes[0])}, from its inputs {list(shapes[3])}"
        return Gauged(Measure(math.inf, 0.0, math.inf, problem=f"{said} and {list(shapes[2])}"))
    units: Value = unit if not draws else spread(reference, draws)
    own = np.zeros(reference.shape) if units is None else np.asarray(units)
    own = np.broadcast_to(own, reference.shape) if own.ndim <= reference.ndim else own
    if exact is not None:
        candidate = put_onto(candidate, np.asarray(exact[1]), np.asarray(exact[0]))
    found = compare([{"": reference}], [{"": candidate}], [{"": own}], step=step)
    if reference.shape != candidate.shape or not reference.dtype == np.float64 == candidate.dtype:
        return Gauged(found)
    with np.errstate(all="ignore"):
        e = (candidate - reference).ravel()
        usable = np.isfinite(e)
        count = max(1, int(usable.sum()))
        error = math.sqrt(float(np.square(e[usable]).sum()) / count)
        scale = math.sqrt(float(np.square(reference.ravel()[usable]).sum()) / count)
    return Gauged(found, error, scale)


def put_onto(candidate: Array, own: Array, other: Array) -> Array:
    """``candidate - own + other``, also where that is no number: what is equal to ``own`` has no error to put there."""
    if candidate.dtype.kind not in "fiu":
        moved = candidate ^ own ^ other if candidate.dtype == bool else candidate
        return np.where(candidate == own, other, moved)
    with np.errstate(all="ignore"):
        return np.where(candidate == own, other, candidate - own + other)


def spread(reference: Value, draws: Sequence[Value]) -> Value:
    """Root mean square of the draws' distance, one amplitude; for other than floats, of the share that changed.

    ``None`` for what is no array, infinite where a draw has another shape.
    """
    if not isinstance(reference, np.ndarray):
        return None
    total = np.zeros(reference.shape)
    for moved in draws:
        if np.shape(moved) != reference.shape:
            return np.full(reference.shape, math.inf)
        if reference.dtype != np.float64:
            total += np.asarray(moved) != reference
            continue
        with np.errstate(all="ignore"):
            total += np.nan_to_num(np.square((moved - reference) / AMPLITUDE), nan=0.0, posinf=0.0)
    units: Value = np.sqrt(total / max(1, len(draws)))
    return units


@dataclass
class _Sums:
    """What the pass adds up, see :func:`onnxeq.measure.compare`."""

    error: float = 0.0
    squares: float = 0.0
    fourths: float = 0.0
    scale: float = 0.0
    largest: float = 0.0
    worst: float = 0.0


def _quick(held: Sequence[Real], pairs: int, unit: Value, step: float) -> Gauged | None:
    """The measure of a whole tensor; ``None`` where more has to be looked at."""
    flat = [v.reshape(-1) for v in held]
    size = flat[0].size
    own = np.asarray(unit, dtype=np.float64)
    units = own.reshape(-1) if own.size in (1, size) else np.broadcast_to(own, held[0].shape).reshape(-1)
    sums = _Sums()
    scratch = [np.empty(min(_BLOCK, size)) for _ in range(3)]
    with np.errstate(all="ignore"):
        for start in range(0, size, _BLOCK):
            parts = [v[start : start + _BLOCK] for v in flat]
            _add(sums, parts, pairs, units if units.size == 1 else units[start : start + _BLOCK], step, scratch)
            if not sums.worst <= _QUIET**2:  # also where it is no number
                return None
    if not math.isfinite(sums.error + sums.squares + sums.scale):
        return None
    error, scale = math.sqrt(sums.error / size), math.sqrt(sums.scale / size)
    mean = sums.squares / size
    if sums.largest == 0.0:
        return Gauged(Measure(0.0, math.sqrt(mean), 0.0), 0.0, scale)
    if mean == 0.0:
        return None
    few = sums.squares**2 / sums.fourths if sums.fourths > 0 else float(size)
    overall = math.sqrt(sums.error / size / mean) / (1 + 3 / math.sqrt(max(1.0, few)))
    single = math.sqrt(sums.worst) / (2 * math.sqrt(2 * math.log(2 * size)))
    return Gauged(Measure(sums.largest, math.sqrt(mean), max(overall, single)), error, scale)


def _add(sums: _Sums, parts: Sequence[Real], pairs: int, unit: Real, step: float, scratch: Sequence[Real]) -> None:
    """One block."""
    e, s, t = (v[: parts[0].size] for v in scratch)
    np.subtract(parts[1], parts[0], out=e)
    if pairs == 4:
        np.subtract(e, parts[3], out=e)
        np.add(e, parts[2], out=e)
    np.multiply(parts[0], step / 4, out=s)
    np.square(s, out=s)
    sums.scale += float(parts[0] @ parts[0])
    if unit.size > 1 or unit[0] != 0:
        s += np.square(unit)
    draws = parts[pairs:]
    for moved in draws:
        np.subtract(moved, parts[0], out=t)
        t *= 1 / AMPLITUDE
        np.square(t, out=t)
        t *= 1 / len(draws)
        s += t
    total = float(s.sum())
    sums.squares += total
    if total > 0:
        scaled = s * (1 / total)
        sums.fourths += float(scaled @ scaled) * total**2
    np.square(e, out=e)
    largest = float(e.max())
    if largest == 0.0:
        return
    sums.error += float(e.sum())
    sums.largest = max(sums.largest, math.sqrt(largest))
    np.divide(e, s, out=t)
    peak = float(t.max())
    if math.isnan(peak):  # nothing over nothing is no error, but may hide one
        peak = float(np.max(t, where=e > 0, initial=0.0)) if math.isfinite(largest) else math.inf
    sums.worst = max(sums.worst, peak)
