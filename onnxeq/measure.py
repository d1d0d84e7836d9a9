"""How far two outputs are apart, in noise units; and the classic figures beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxeq.arrays import dtype_name
from onnxeq.types import Array, Feed, OutputSummary

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Measure", "compare", "participation", "summarize", "within"]


@dataclass(frozen=True)
class Measure:
    """One comparison of two traces, at the output where the ratio is largest.

    Attributes:
        max_abs: Largest absolute difference at the worst output.
        noise: Root mean square of the unit at the worst output.
        ratio: Largest error in units: 0 when identical, infinite when no rounding could explain it.
        output: The worst output.
        problem: One sentence when the two cannot be compared as numbers (shape, NaN); else empty.
        note: What else a reader must know (a flip that rounding explains).
        undecided: Why nothing can be concluded (a shape that rounding alone changes); else empty.
    """

    max_abs: float = 0.0
    noise: float = 0.0
    ratio: float = 0.0
    output: str = ""
    problem: str = ""
    note: str = ""
    undecided: str = ""


def compare(
    reference: Sequence[Feed], candidate: Sequence[Feed], unit: Sequence[Feed] | None, *, step: float
) -> Measure:
    """Compares two traces output by output.

    For a float output with errors ``e_i`` and units ``s_i`` (one per element) the ratio is the larger of

    - ``rms(e) / rms(s) / (1 + 3/sqrt(m))``: the whole output; the slack is for few effective elements
      ``m`` (:func:`participation`), where a root mean square of draws is itself uncertain;
    - ``max |e_i| / t_i / (2*sqrt(2*ln(2n)))`` with ``t_i^2 = (s_i^2 + rms(s)^2)/2``: single elements, against
      what the largest of ``n`` normal deviates may reach, doubled for the tails of small units.

    It is taken over the whole output and over its elements of similar magnitude, the larger counts.

    Other outputs must be equal, except where the draws changed them too.

    Args:
        reference: Trace of the execution that is taken as given, one mapping per feed.
        candidate: Trace of the execution that is judged, under the same output names.
        unit: The unit per output element, same shapes as ``reference``; an output that it lacks is not
            judged (the artifact has none of that name, which the interface rung reports). Without any
            unit, ``step`` alone is the measure.
        step: Relative spacing below which the unit never falls: the two executions' own rounding of
            the finished output (2^-24 for float32, 2^-53 for float64).
    """
    worst = Measure()
    notes: list[str] = []
    undecided = ""
    for index, (ours, theirs) in enumerate(zip(reference, candidate, strict=True)):
        for name, a in ours.items():
            if name not in theirs or (unit is not None and name not in unit[index]):
                continue
            found = _compare_output(name, a, theirs[name], unit[index][name] if unit is not None else None, step)
            undecided = undecided or found.undecided
            if found.note and found.note not in notes:
                notes.append(found.note)
            if (found.ratio, found.max_abs) > (worst.ratio, worst.max_abs) or not worst.output:
                worst = found
    return Measure(worst.max_abs, worst.noise, worst.ratio, worst.output, worst.problem, "; ".join(notes), undecided)


def within(reference: Sequence[Feed], candidate: Sequence[Feed], rtol: float, atol: float) -> Measure:
    """Compares by a classic tolerance: the ratio is the largest ``|a-b| / (atol + rtol*|b|)``, 1 is the limit.

    ``b`` is the reference. NaN equals nothing; other than float outputs must be equal.
    """
    worst = Measure()
    for theirs, ours in zip(candidate, reference, strict=True):
        for name, b in ours.items():
            if name not in theirs:
                continue
            a = theirs[name]
            unit = np.zeros(b.shape)
            found = _compare_output(name, b, a, unit, 1.0)
            if not found.problem and b.dtype.kind in "fV" and b.size:
                with np.errstate(all="ignore"):
                    e = np.abs(a.astype(np.float64) - b.astype(np.float64))
                    ratio = np.where(e == 0, 0.0, e / (atol + rtol * np.abs(b.astype(np.float64))))
                found = Measure(float(np.nanmax(e)), atol, float(np.nanmax(ratio)), name)
            if found.ratio > worst.ratio or not worst.output:
                worst = found
    return worst


def _compare_output(name: str, a: Array, b: Array, unit: Array | None, step: float) -> Measure:
    if unit is not None and np.isinf(np.asarray(unit, dtype=np.float64)).any():
        said = f"rounding alone changes the shape of '{name}' at these inputs, or leaves no number in it"
        return Measure(output=name, undecided=f"{said}: try others (--inputs)")
    if a.shape != b.shape:
        return Measure(
            math.inf, 0.0, math.inf, name, f"output '{name}' has shape {list(a.shape)} against {list(b.shape)}"
        )
    if unit is not None and unit.shape != a.shape:
        # The unit belongs to an artifact whose output has another shape; the interface rung says so.
        return Measure(output=name)
    if a.size == 0:
        return Measure(output=name)
    if a.dtype.kind in "fV" and b.dtype.kind in "fV":
        return _compare_floats(name, a.astype(np.float64), b.astype(np.float64), unit, step)
    return _compare_discrete(name, a, b, unit)


def _compare_floats(
    name: str, a: NDArray[np.float64], b: NDArray[np.float64], unit: Array | None, step: float
) -> Measure:
    nan_a, nan_b = np.isnan(a), np.isnan(b)
    if (one_sided := nan_a != nan_b).any():
        side = "the first" if nan_a[one_sided][0] else "the second"
        return Measure(
            math.inf, 0.0, math.inf, name,
            f"output '{name}' is NaN in {side} only, at {int(one_sided.sum())} of {a.size} elements",
        )  # fmt: skip
    infinite = np.isinf(a) | np.isinf(b)
    if (infinite & ~nan_a & (a != b)).any():
        count = int((infinite & ~nan_a & (a != b)).sum())
        return Measure(
            math.inf,
            0.0,
            math.inf,
            name,
            f"output '{name}' is infinite on one side at {count} of {a.size} elements",
        )
    usable = ~(nan_a | infinite)
    n = int(usable.sum())
    if n == 0:
        return Measure(output=name)
    with np.errstate(invalid="ignore"):
        e = np.where(usable, np.abs(a - b), 0.0)
    spread = np.zeros_like(a) if unit is None else np.asarray(unit, dtype=np.float64)
    own = np.where(usable, np.abs(a), 0.0) * step / 4 + (_SMALLEST if step >= _COARSE else 0.0)
    s2 = np.where(usable, np.square(spread) + np.square(own), 0.0)
    worst = Measure(float(e.max()), math.sqrt(float(s2.sum()) / n), 0.0, name)
    for group in _groups(a, usable):
        ratio, noise = _ratio(e[group], s2[group])
        if ratio > worst.ratio:
            worst = Measure(worst.max_abs, noise, ratio, name)
    return worst


_COARSE = 2.0**-24
_SMALLEST = 2.0**-126
"""Float32's smallest normal number: kernels may flush what is below it to zero."""

_OCTAVES = 6
_FEWEST = 64


def _groups(a: NDArray[np.float64], usable: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """All elements, and those of similar magnitude: large ones must not license errors in small ones.

    Boxes in pixels beside scores in one tensor are the common case. Groups go by the reference's magnitude
    (:data:`_OCTAVES` octaves each) and not by the unit, whose small values may be luck of the draw.
    """
    if a.size < 2 * _FEWEST:
        return [usable]
    octave = np.frexp(a)[1] // _OCTAVES
    groups = [usable]
    for value in np.unique(octave[usable]):
        members = usable & (octave == value) & (a != 0)
        if _FEWEST <= int(members.sum()) < int(usable.sum()):
            groups.append(members)
    return groups


def _ratio(e: NDArray[np.float64], s2: NDArray[np.float64]) -> tuple[float, float]:
    """The ratio of errors ``e`` to units of squares ``s2``, see :func:`compare`; and the units' rms."""
    n = e.size
    mean_s2 = float(s2.sum()) / n
    if float(e.max()) == 0.0:
        return 0.0, math.sqrt(mean_s2)
    if mean_s2 == 0.0:
        return math.inf, 0.0
    overall = math.sqrt(float(np.square(e).sum()) / n / mean_s2) / (1 + 3 / math.sqrt(participation(s2)))
    single = float((e / np.sqrt((s2 + mean_s2) / 2)).max()) / (2 * math.sqrt(2 * math.log(2 * n)))
    return max(overall, single), math.sqrt(mean_s2)


def _compare_discrete(name: str, a: Array, b: Array, unit: Array | None) -> Measure:
    different = a != b
    count = int(np.count_nonzero(different))
    if count == 0:
        return Measure(output=name)
    share = np.zeros(a.shape) if unit is None else np.square(np.asarray(unit, dtype=np.float64))
    unstable = share > 0
    size = float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)))) if a.dtype.kind in "iub" else math.inf
    if _flips_are_rounding(different, share):
        return Measure(
            size,
            output=name,
            note=f"'{name}' is unstable at these inputs: {count} of {a.size} elements flip under rounding alone",
        )
    different &= ~unstable | ~(different & ~unstable).any()  # show one that the draws do not explain
    where = tuple(int(i) for i in np.argwhere(different)[0])
    problem = (
        f"output '{name}' ({dtype_name(a)}) differs at {count} of {a.size} elements, "
        f"first at {list(where)}: {a[where]} against {b[where]}"
    )
    return Measure(size, 0.0, math.inf, name, problem)


def _flips_are_rounding(different: NDArray[np.bool_], share: NDArray[np.float64]) -> bool:
    """Whether the draws flip as much, and where it counts: at the limit's amplitude an element near a tie
    flips in about half of the draws, so that among many some are never hit.
    """
    count = int(np.count_nonzero(different))
    uncovered = int(np.count_nonzero(different & (share == 0)))
    few = different.size < 64
    return bool(uncovered <= (0 if few else count // 2) and count <= max(1.0, 2 * float(share.sum())) and share.any())


def participation(squares: Array) -> float:
    """How many elements carry a sum of squares: ``(sum x)^2 / sum x^2``, from 1 (one alone) to n (all alike)."""
    x = np.asarray(squares, dtype=np.float64).ravel()
    x = x[np.isfinite(x)]
    largest = float(x.max(initial=0.0))
    if largest == 0.0:
        return float(max(1, x.size))
    x = x / largest  # squares of squares of small units would vanish
    return float(x.sum()) ** 2 / float(np.square(x).sum())


def summarize(reference: Sequence[Feed], candidate: Sequence[Feed]) -> tuple[OutputSummary, ...]:
    """The classic figures for each output of the deployed execution against the native one.

    ``max_rel`` is relative to the largest reference value; ``sqnr_db = 10*log10(sum a^2 / sum (a-b)^2)``;
    ``top1_agreement`` is the share of rows (last axis) with the same largest element.
    """
    rows = []
    for name in reference[0]:
        pairs = [
            (r[name], c[name])
            for r, c in zip(reference, candidate, strict=True)
            if name in r and name in c and r[name].shape == c[name].shape
        ]
        shape = tuple(int(d) for d in reference[0][name].shape)
        kind = dtype_name(reference[0][name])
        if not pairs or pairs[0][0].dtype.kind not in "fViub":
            rows.append(OutputSummary(name, kind, shape, math.nan, math.nan, math.nan, math.nan, math.nan))
            continue
        a = np.concatenate([p[0].astype(np.float64).ravel() for p in pairs])
        b = np.concatenate([p[1].astype(np.float64).ravel() for p in pairs])
        rows.append(OutputSummary(name, kind, shape, *_figures(a, b), _top1(pairs)))
    return tuple(rows)


def _figures(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float, float, float]:
    if a.size == 0:
        return 0.0, 0.0, 1.0, math.inf
    with np.errstate(all="ignore"):
        e = a - b
        max_abs = float(np.max(np.abs(e)))
        scale = float(np.max(np.abs(a)))
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        power, error = float(np.sum(np.square(a))), float(np.sum(np.square(e)))
    cosine = float(a @ b) / norms if norms else (1.0 if error == 0 else 0.0)
    if error == 0:
        sqnr = math.inf
    else:
        sqnr = 10 * math.log10(power / error) if power > 0 and math.isfinite(error) else -math.inf
    return max_abs, (max_abs / scale if scale else (0.0 if max_abs == 0 else math.inf)), cosine, sqnr


def _top1(pairs: Sequence[tuple[Array, Array]]) -> float:
    agree, total = 0, 0
    for a, b in pairs:
        if a.ndim == 0 or a.shape[-1] < 2 or a.size == 0:
            continue
        same = np.argmax(a.astype(np.float64), axis=-1) == np.argmax(b.astype(np.float64), axis=-1)
        agree, total = agree + int(np.count_nonzero(same)), total + int(np.size(same))
    return agree / total if total else math.nan
