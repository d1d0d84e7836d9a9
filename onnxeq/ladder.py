"""The ladder: executions that differ in one respect, compared pairwise; the rungs that break are the cause.

This module knows what each rung compares, in which unit, up to which limit, and what a break means. It
takes executions and gives rungs, causes and a verdict; it runs nothing.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxeq.measure import Measure, compare, within
from onnxeq.noise import AMPLITUDE
from onnxeq.reduced import REDUCED
from onnxeq.rules import Rules, Tolerance
from onnxeq.types import Cause, CauseKind, Feed, Rung, Status, Verdict, Where

__all__ = [
    "ACCEPTED",
    "LIMITS",
    "RECOGNISED",
    "REDUCED",
    "Execution",
    "Limit",
    "Rules",
    "RungPlan",
    "Tolerance",
    "Unit",
    "Units",
    "causes",
    "climb",
    "made_by_kernels",
    "recognised",
    "verdict",
]


class Unit(enum.Enum):
    """What a rung's error is measured in (``onnxeq.noise``)."""

    ROUNDING = "rounding noise"
    FLOOR = "constant floor"
    NATIVE = "the native float32 run's own error"
    ULP = "units in the last place"


@dataclass(frozen=True)
class Limit:
    """Up to which ratio the unit explains the error, and why that many."""

    unit: Unit
    factor: float
    cause: CauseKind
    evidence: str


_HEALTHY = "largest of calibrate_noise.py, false_alarms.py and known_good.py in benchmarks/, 104 healthy checks: "

LIMITS: dict[str, Limit] = {
    "native-rounding": Limit(Unit.ROUNDING, AMPLITUDE, CauseKind.RUNTIME, _HEALTHY + "1.8"),
    "graph": Limit(Unit.FLOOR, 4.0, CauseKind.GRAPH, "as for weights, which is the same comparison"),
    "weights": Limit(Unit.FLOOR, 4.0, CauseKind.WEIGHTS, _HEALTHY + "2.1"),
    "target-rounding": Limit(Unit.ROUNDING, AMPLITUDE, CauseKind.RUNTIME, "as for native-rounding"),
    "target-export": Limit(Unit.FLOOR, 4.0, CauseKind.GRAPH, "as for weights, which is the same comparison"),
    "ledger": Limit(
        Unit.ULP,
        0.0,
        CauseKind.WEIGHTS,
        "a constant is what its native tensors give, or it is not; for a fold the recipes of weights/recipes.py and the"
        " bound of weights/verdicts.py stand in between",
    ),
    "normalize": Limit(Unit.FLOOR, 4.0, CauseKind.GRAPH, "as for weights: folding rounds constants once"),
    "kernels": Limit(Unit.ROUNDING, AMPLITUDE, CauseKind.RUNTIME, _HEALTHY + "1.6"),
    "optimizer": Limit(Unit.ROUNDING, AMPLITUDE, CauseKind.RUNTIME, _HEALTHY + "1.1"),
    "provider": Limit(Unit.ROUNDING, AMPLITUDE, CauseKind.RUNTIME, "as for kernels; not yet measured on a device"),
    "stability": Limit(Unit.ROUNDING, AMPLITUDE, CauseKind.NONDETERMINISM, "as for kernels"),
    "versions": Limit(
        Unit.ROUNDING,
        AMPLITUDE,
        CauseKind.RUNTIME,
        "healthy float32 runs are within 1.8 of their float64 run (native-rounding), so two of them within 3.6",
    ),
    "preprocessing": Limit(
        Unit.ROUNDING,
        AMPLITUDE,
        CauseKind.PREPROCESSING,
        "the same execution on both sides: pictures that are the same bits give the same outputs, ratio 0, and a map"
        " spelled otherwise moves the inputs by their own rounding",
    ),
    "lowering": Limit(
        Unit.NATIVE,
        100.0,
        CauseKind.GRAPH,
        "a mean over 65,536 elements is 15 times less accurate in onnxruntime than in torch, without any fault; log1p"
        " as Add and Log, or expm1 as Exp and Sub, is 1e5 times and more; " + _HEALTHY + "9.0",
    ),
}  # fmt: skip
"""Each rung's unit, how many of it are allowed, what a break means, and the evidence for the number."""

SHARP = 64.0
"""Float64 rounding units allowed where nothing was folded: both sides compute the same thing in float64.
Healthy models stay near 1 (same benchmarks: 4.2 at most); one constant rounded to float32 is at about 2^29 of
them, and is then judged by the constant floor."""

BARE_UNITS = 256.0
"""Float32 spacings that stand for the noise of a repeat when it could not be measured."""

_ANYWHERE = frozenset(LIMITS) - {"native-rounding", "ledger", "preprocessing", "stability"}

ACCEPTED: dict[str, frozenset[str]] = {
    "tf32": frozenset({"provider", "lowering"}),
    "float16": _ANYWHERE,
    "bfloat16": _ANYWHERE,
    "int8": _ANYWHERE,
}
"""``--accept``: on which rungs a type's own unit is tried after the rung's."""


@dataclass(frozen=True)
class Execution:
    """One execution's outputs, or why there are none."""

    name: str
    trace: tuple[Feed, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class RungPlan:
    """What a rung compares.

    Attributes:
        name: Key of :data:`LIMITS`.
        source: The execution that is taken as given.
        target: The execution that is judged.
        sharp: Whether nothing was folded between the two, so that :data:`SHARP` is tried first.
        asked: Whether the verdict depends on it; otherwise ``not-run`` is only said.
        why_not: A reason known beforehand for which it cannot run.
        measure: The execution whose own error is the unit, for :attr:`Unit.NATIVE`.
        limit: The rung by whose unit and factor it is judged; its own where this is empty.
    """

    name: str
    source: str
    target: str
    sharp: bool = False
    asked: bool = True
    why_not: str = ""
    measure: str = ""
    limit: str = ""


@dataclass(frozen=True)
class Units:
    """The measured units of one artifact, per feed and output element; ``reduced`` holds those of other types."""

    rounding: tuple[Feed, ...] = ()
    floor: tuple[Feed, ...] = ()
    missing: str = ""
    reduced: Mapping[str, tuple[Feed, ...]] = field(default_factory=dict)


def climb(
    plans: Sequence[RungPlan], executions: Mapping[str, Execution], units: Units, rules: Rules
) -> tuple[Rung, ...]:
    """Compares the executions of each planned rung."""
    return tuple(_rung(plan, executions, units, rules) for plan in plans)


def _rung(plan: RungPlan, executions: Mapping[str, Execution], units: Units, rules: Rules) -> Rung:
    limit = LIMITS[plan.limit or plan.name]
    source, target = executions.get(plan.source), executions.get(plan.target)
    reason = plan.why_not
    for name, side in ((plan.source, source), (plan.target, target)):
        if not reason and (side is None or not side.trace):
            reason = side.missing if side is not None and side.missing else f"{name} was not executed"
    needless = plan.name == "stability" or rules.tolerance is not None
    if not reason and units.missing and not needless:
        reason = units.missing
    if reason or source is None or target is None:
        return _not_run(plan, limit, reason)
    count = min(len(source.trace), len(target.trace))  # a repeat runs the first feeds only
    ours, theirs = source.trace[:count], target.trace[:count]
    if rules.tolerance is not None:
        asked = within(ours, theirs, rules.tolerance.rtol, rules.tolerance.atol)
        return _finish(plan, asked, 1.0, "within --rtol and --atol")
    if units.missing:
        # A repeat can be judged without the referee (a random operator is just why it is missing): a
        # difference above float32's own spacing, BARE_UNITS times, is no summation order.
        return _finish(plan, compare(ours, theirs, None, step=BARE_UNITS * 2.0**-24), limit.factor, "")
    double = [{k: v * 2.0**-29 for k, v in feed.items()} for feed in units.rounding[:count]]
    if plan.sharp:
        found = compare(ours, theirs, double, step=2.0**-52)
        if found.ratio <= SHARP and not found.undecided:
            return _finish(plan, found, SHARP, "agrees to float64 rounding")
    if limit.unit is Unit.ROUNDING:
        found = compare(ours, theirs, units.rounding[:count], step=2.0**-24)
    elif limit.unit is Unit.FLOOR:
        found = compare(ours, theirs, _floor(units.floor[:count], double), step=2.0**-53)
    else:
        native = executions.get(plan.measure, Execution(plan.measure))
        if not native.trace:
            return _not_run(plan, limit, native.missing or f"{plan.measure} was not executed")
        found = compare(ours, theirs, _own_errors(ours, native.trace), step=2.0**-24)
    if found.ratio > limit.factor and not found.problem:
        for kind in rules.accept:
            if _excuses(kind, plan) and (ratio := _in_units_of(kind, ours, theirs, units)) <= REDUCED:
                said = f"accepted as {kind}: {ratio:.2g} of {REDUCED:g} times what {kind} does to this model"
                return _finish(plan, found, max(found.ratio, limit.factor), said)
    said = ""
    if limit.unit is Unit.FLOOR and found.ratio <= limit.factor and not found.problem:
        said = "identical" if found.max_abs == 0 else "explained by rounding of stored constants"
    return _finish(plan, found, limit.factor, said)


def _excuses(kind: str, plan: RungPlan) -> bool:
    """Whether a type may explain a rung: where TF32 is off, it excuses nothing."""
    return plan.name in ACCEPTED[kind] and not (plan.target == "ort/cuda no-tf32" and kind == "tf32")


def _in_units_of(kind: str, ours: Sequence[Feed], theirs: Sequence[Feed], units: Units) -> float:
    unit = units.reduced.get(kind, ())
    return compare(ours, theirs, unit[: len(ours)], step=2.0**-24).ratio if unit else math.inf


def _floor(floor: Sequence[Feed], double: Sequence[Feed]) -> list[Feed]:
    """The constant floor, and beneath it what float64 arithmetic itself does (a graph without constants)."""
    return [
        {k: np.hypot(v, SHARP * d[k]) if k in d else v for k, v in f.items()}
        for f, d in zip(floor, double, strict=True)
    ]


def _own_errors(exact: Sequence[Feed], native: Sequence[Feed]) -> list[Feed]:
    """For each float output the root mean square, over all inputs, of the native float32 run's error.

    At least float32's unit roundoff of the output's own root mean square: a native run that happens to hit
    the exact value is no measure.
    """
    unit: list[Feed] = [{} for _ in exact]
    for name, first in exact[0].items():
        values = [(e[name], n[name]) for e, n in zip(exact, native, strict=True) if name in e and name in n]
        if first.dtype.kind != "f" or any(a.shape != b.shape for a, b in values):
            continue
        a = np.concatenate([v[0].ravel() for v in values])
        b = np.concatenate([v[1].astype(np.float64).ravel() for v in values])
        usable = np.isfinite(a) & np.isfinite(b)
        if not usable.any():
            continue
        error = float(np.sqrt(np.mean(np.square(a[usable] - b[usable]))))
        error = max(error, 2.0**-24 * float(np.sqrt(np.mean(np.square(a[usable])))))
        for feed, values_ in zip(unit, exact, strict=True):
            if name in values_:
                feed[name] = np.full(values_[name].shape, error)  # type: ignore[index]
    return unit


def made_by_kernels(rung: Rung, measure: str, executions: Mapping[str, Execution], single: Sequence[Feed]) -> bool:
    """Whether a broken ``lowering`` rung is the kernels' own doing: the graph is as well-conditioned as its source.

    It is when kernels that round each result once would stay within the rung's limit, :data:`AMPLITUDE` times their
    noise. A logarithm of a sum near one, or a variance as a difference of squares, loses its digits to single roundings
    already; a sum of many terms in few accumulators does not.

    Args:
        rung: The rung.
        measure: The execution whose own error is the unit.
        executions: All executions.
        single: What single roundings do to the outputs (:class:`onnxeq.noise.SingleRounding`).
    """
    exact, native = executions[rung.source].trace, executions[measure].trace
    allowed = [f[rung.output] for f in _own_errors(exact, native) if rung.output in f]
    made = [f[rung.output] for f in single if rung.output in f]
    if not allowed or not made:
        return False
    most = AMPLITUDE * max(float(np.sqrt(np.mean(np.square(unit)))) for unit in made)
    return bool(most <= LIMITS["lowering"].factor * float(np.max(allowed[0])))


def _not_run(plan: RungPlan, limit: Limit, reason: str) -> Rung:
    nan = math.nan
    return Rung(plan.name, plan.source, plan.target, nan, nan, nan, limit.factor, Status.NOT_RUN, reason)


def _finish(plan: RungPlan, found: Measure, allowed: float, said: str) -> Rung:
    unit = LIMITS[plan.limit or plan.name].unit.value
    passed = found.ratio <= allowed and not found.problem
    status = Status.PASS if passed else Status.FAIL
    if passed and found.undecided:
        status = Status.NOT_RUN
    reason = found.problem or found.undecided or "; ".join(t for t in (said if passed else "", found.note) if t)
    return Rung(
        plan.name, plan.source, plan.target, found.max_abs, found.noise, found.ratio, allowed, status, reason,
        found.output, unit,
    )  # fmt: skip


_SHOWN = {
    "tf32": "TF32 (operands of 10 mantissa bits)",
    "float16": "float16 (10 mantissa bits)",
    "bfloat16": "bfloat16 (7 mantissa bits)",
    "int8": "8-bit quantisation",
}
_FAINTEST = 0.1
"""Of a type's unit, below which an error is too small to have come from it."""


def recognised(rung: Rung, executions: Mapping[str, Execution], units: Units, *, quantized: bool = False) -> str:
    """Which reduced precision a broken rung's error is the size of, in words; empty when it is none's.

    Args:
        rung: The rung.
        executions: All executions.
        units: The measured units.
        quantized: Whether the artifact stores or computes in 8 bits: what other types do to it is then to cross its
            steps as well, and says nothing.
    """
    if rung.reason or rung.name == "stability" or not math.isfinite(rung.ratio):
        return ""
    ours, theirs = executions[rung.source].trace, executions[rung.target].trace
    found = {kind: _in_units_of(kind, ours, theirs, units) for kind in units.reduced}
    near = {kind: ratio for kind, ratio in found.items() if _FAINTEST <= ratio <= REDUCED}
    near = {"int8": near["int8"]} if quantized and "int8" in near else near
    if not near:
        return ""
    kind = min(near, key=lambda k: abs(math.log(near[k] / _TYPICAL)))
    return f"{RECOGNISED}{_SHOWN[kind]}: {near[kind]:.2g}x what that does to this model"


RECOGNISED = "consistent with "
"""Begins what an error's size was recognised as."""


_TYPICAL = 0.6
"""Of its unit, what an execution in a type typically is away."""


_MEANING = {
    "native-rounding": "the native float32 run is further from its own float64 run than rounding explains",
    "target-rounding": "the target as its own framework runs it is further from its program in float64 than rounding"
    " explains",
    "target-export": "the target's exporter has made something else of it, so that its export says little about it",
    "graph": "the ONNX graph computes something else than the native model",
    "weights": "the exported constants differ from the native ones by more than rounding to float32",
    "ledger": "stored constants are not what the native tensors give",
    "normalize": "the normalised graph computes something else than the graph as exported",
    "kernels": "a kernel of the runtime is further from the float64 referee than rounding explains",
    "optimizer": "the runtime's graph optimisation changes the result",
    "provider": "the CUDA provider differs from the CPU provider",
    "stability": "the same model gives another result when it is run again",
    "lowering": "what runs after conversion is far less accurate than the native float32 run, though each kernel does"
    " its graph justice: an inferior lowering, or an ill-conditioned artifact",
    "preprocessing": "pictures that are prepared by the other recipe give another result",
    "versions": "another version gives another result",
    "interface": "the outputs are not those of the source",
}


def causes(
    rungs: Sequence[Rung], joint: bool, recognise: Callable[[Rung], str] = lambda _rung: ""
) -> tuple[Cause, ...]:
    """One cause per broken rung, worst first.

    Args:
        rungs: The climbed rungs.
        joint: Whether the ``graph`` rung compares an artifact whose weights may differ as well.
        recognise: Says in words what an error looks like, see :func:`recognised`.
    """
    found = []
    broken = [r for r in rungs if r.status is Status.FAIL]
    for rung in broken:
        if rung.name == "lowering" and any(r.name not in ("lowering", "stability") for r in broken):
            continue  # a consequence of what broke before it
        if rung.name == "native-rounding" and joint and any(r.name == "graph" for r in broken):
            continue  # its unit was measured on an artifact that is not the native model
        kind = CauseKind.GRAPH if rung.name == "interface" else LIMITS[rung.name].cause
        found.append(
            Cause(kind, rung.name, rung.ratio, Where(value=rung.output), _evidence(rung, joint, recognise(rung)))
        )
    return tuple(sorted(found, key=lambda c: -c.ratio))


def _evidence(rung: Rung, joint: bool, precision: str) -> str:
    meaning = _MEANING[rung.name]
    if rung.name == "graph" and joint:
        meaning = "the artifact differs from the native model in float64, so its weights or its graph do"
    if rung.reason:
        return f"{meaning}: {rung.reason}"
    unit = rung.unit or LIMITS[rung.name].unit.value
    at = f" at output '{rung.output}' ({rung.target} against {rung.source})"
    tail = f"; {precision}" if precision else ""
    return f"{meaning}: {rung.max_abs:.3g}{at}, {rung.ratio:.3g}x {unit} ({rung.limit:g}x allowed){tail}"


def verdict(rungs: Iterable[Rung], plans: Sequence[RungPlan], doubts: Sequence[str]) -> Verdict:
    """``divergent`` if a rung broke; ``inconclusive`` if one that was asked for did not run, or in doubt."""
    by_asked = {(p.name, p.source, p.target): p.asked for p in plans}
    statuses = [(r.status, by_asked.get((r.name, r.source, r.target), True)) for r in rungs]
    if any(status is Status.FAIL for status, _ in statuses):
        return Verdict.DIVERGENT
    if doubts or any(status is Status.NOT_RUN and asked for status, asked in statuses):
        return Verdict.INCONCLUSIVE
    return Verdict.EQUIVALENT
