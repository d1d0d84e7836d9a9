"""The rung ``versions``: the same model under two versions of its framework, or of onnxruntime.

``onnxeq check REF --env ONE --against-env OTHER`` runs the framework's model again in OTHER, on the same feeds, in
float32 and float64; where OTHER has onnxruntime, the judged file as well. Each is compared in the rounding noise of the
model. What differs is told by its cause:

- float64 agrees to its own rounding: a kernel computes otherwise, or in reduced precision (``runtime``);
- float64 does not, and the weights are not the same bytes: seeded weights that are drawn otherwise, other pretrained
  ones (``weights``);
- float64 does not, with the same weights: the operators mean something else (``graph``).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq import ladder, sides, zoo
from onnxeq.arrays import dtype_name, load_feeds
from onnxeq.envs.environment import Environment, in_words, own_places, told
from onnxeq.errors import CannotRun, FrameworkMissing, OnnxeqError, UsageError
from onnxeq.evidence import Evidence
from onnxeq.evidence.common import rows
from onnxeq.interface import check_interface
from onnxeq.jobs import Jobs
from onnxeq.kept import store_feeds
from onnxeq.ladder import Execution, RungPlan
from onnxeq.measure import compare
from onnxeq.sides import NativeSide, Request
from onnxeq.types import Array, Cause, CauseKind, Feed, ModelRef, Report, Rung, Status, TensorSpec, Verdict, Where

__all__ = ["Parts", "extended", "plan"]


@dataclass(frozen=True)
class Parts:
    """What of a model runs in the other environment.

    Attributes:
        there: The other environment.
        native: Whether the framework's model does.
        runtime: Whether the judged file does, in onnxruntime.
    """

    there: Environment
    native: bool
    runtime: bool


def plan(ref: ModelRef, here: Environment | None, there: Environment | None, runner: str) -> Parts | None:
    """What runs in ``there``, the environment of ``--against-env``; ``None`` without one.

    Args:
        ref: The source.
        here: The environment of ``--env``.
        there: The other.
        runner: The runtime that is judged.

    Raises:
        UsageError: An environment has neither the source's framework nor the runtime, or the source is a live object.
    """
    for each in (here, there):
        if each is not None and not any(_runs(ref, each, runner)):
            hint = "make one that does: onnxeq env create NAME --with PACKAGE==VERSION"
            raise UsageError(f"the environment '{each.name}' holds nothing that runs {ref.text}", hint=hint)
    if there is None:
        return None
    if ref.zoo == "live":
        hint = "name a file or a factory in its place"
        raise UsageError(f"a live model cannot be handed to the environment '{there.name}'", hint=hint)
    return Parts(there, *_runs(ref, there, runner))


def _runs(ref: ModelRef, there: Environment, runner: str) -> tuple[bool, bool]:
    """Whether an environment holds the source's framework, and the runtime."""
    native = there.runs_frameworks and (ref.zoo == "live" or zoo.converter_for(ref) != "onnx")
    if native:
        try:
            zoo.require_framework(ref, environment=there)
        except FrameworkMissing:
            native = False
    return native, runner == "ort" and there.runs_onnxruntime


def placed(jobs: Jobs, found: Evidence) -> tuple[str, ...]:
    """Which part of a check ran in the environment of ``--env``, or in one that a zoo needs, in words."""
    there = jobs.environment
    own = own_places(jobs.environments, there)
    if there is None:
        return own
    native = found.native is not None and jobs.where("native") is None
    rest = "the source's framework" if native else "" if jobs.where("ort") else found.runs.runtime.shown
    said = in_words(there)
    return (f"{said}; outside of it: {rest}" if rest else said, *own)


def extended(
    report: Report, found: Evidence, parts: Parts, others: Jobs, request: Request, rules: ladder.Rules
) -> Report:
    """The report with the rung ``versions``, and with the causes that it gives.

    Args:
        report: Of the check in the first environment.
        found: What was executed for it.
        parts: What runs in the other one.
        others: Jobs of the other environment.
        request: What the user asked for.
        rules: A tolerance or a reduced precision that was accepted.
    """
    rungs: list[Rung] = []
    causes: list[Cause] = []
    notes: list[str] = []
    timings: list[Mapping[str, Any]] = []
    if parts.native and found.native is not None:
        told = _native(found, found.native, others, request, parts.there, rules)
        rungs.append(told.rung)
        causes += told.causes
        notes += told.notes
        timings += told.timings
    if parts.runtime:
        told = _runtime(found, others, parts.there.name, rules)
        rungs.append(told.rung)
        causes += told.causes
        timings += told.timings
    verdict = report.verdict
    if causes:
        verdict = Verdict.DIVERGENT
    elif verdict is Verdict.EQUIVALENT and any(r.status is Status.NOT_RUN for r in rungs):
        verdict = Verdict.INCONCLUSIVE
    return replace(
        report,
        verdict=verdict,
        causes=tuple(sorted((*report.causes, *causes), key=lambda c: -c.ratio)) if causes else report.causes,
        rungs=(*report.rungs, *rungs),
        notes=(*report.notes, *notes),
        timings=(*report.timings, *timings),
        environment={**report.environment, "against": parts.there.described()},
    )


@dataclass(frozen=True)
class _Told:
    rung: Rung
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    timings: tuple[Mapping[str, Any], ...] = ()


def _native(
    found: Evidence, here: NativeSide, others: Jobs, request: Request, other: Environment, rules: ladder.Rules
) -> _Told:
    """The framework's model in the other environment."""
    name = other.name
    target = f"native/f32 in {name}"
    try:
        there = sides.prepare_native(
            others, found.ref, None, replace(request, feeds=()), declared=_declared(found, here), forms=(), feeds=False
        )
        ran = there.question("native-run", "native", {}, {"feeds": _feeds_for(here, there, others.root)}).result()
    except OnnxeqError as error:
        return _Told(_not_run("native/f32", target, error))
    single = {"native/f32": found.executions["native/f32"].trace, target: _named(found, sides.native_trace(ran, "f32"))}
    seconds = rows({f"native in {name}": there.job, f"run in {name}": ran})
    if other_face := _faced("native/f32", target, single, rules):
        said = f"{_framework_of(other)} gives other outputs: {other_face.reason}"
        where = Where(value=other_face.output)
        return _Told(other_face, (Cause(CauseKind.GRAPH, other_face.name, math.inf, where, said),), (), seconds)
    rung = _climbed(found, "native/f32", single, target, rules)
    double = found.executions["native/f64"].trace, _named(found, sides.native_trace(ran, "f64"))
    exact = _exact(found, *double)
    if rung.status is not Status.FAIL:
        apart = "" if exact is None or exact.agrees else _NOT_THE_SAME.format(apart=exact.apart, name=name)
        return _Told(rung, (), (apart,) if apart else (), seconds)
    kind, said, where = _kind(exact, here, there)
    evidence = _sentence(rung, f"{_framework_of(other)} gives another result: {said}")
    return _Told(rung, (Cause(kind, rung.name, rung.ratio, where, evidence),), (), seconds)


def _faced(source: str, target: str, traces: Mapping[str, Sequence[Feed]], rules: ladder.Rules) -> Rung | None:
    """The rung, broken, where the two do not even give the same outputs: names, types, shapes, NaN on both sides."""
    ours, theirs = traces[source], traces[target]
    if not ours or not theirs:
        return None
    count = min(len(ours), len(theirs))
    face = check_interface(source, target, ours[:count], theirs[:count], (), rules.accept)
    return replace(face, name="versions") if face.status is Status.FAIL else None


_NOT_THE_SAME = (
    "in float64 the model in '{name}' is {apart:.2g} away, more than float64 rounding: the versions compute it"
    " otherwise, or hold other weights, by less than float32 shows"
)


def _declared(found: Evidence, here: NativeSide) -> tuple[TensorSpec, ...] | None:
    """The inputs as they were settled here, with the sizes that a feed has."""
    return None if found.ref.zoo == "factory" and not here.inputs else here.inputs


def _feeds_for(here: NativeSide, there: NativeSide, root: Path) -> Path:
    """The feeds under the other version's names for the inputs, which some frameworks count up."""
    names = {a.name: b.name for a, b in zip(here.inputs, there.inputs, strict=False)}
    if all(a == b for a, b in names.items()):
        return here.feeds
    return store_feeds([{names.get(k, k): v for k, v in f.items()} for f in load_feeds(here.feeds)], root)


def _named(found: Evidence, trace: Sequence[Mapping[str, Array]]) -> tuple[Feed, ...]:
    """A trace under this side's names of the outputs, when there are as many."""
    ours = found.executions["native/f32"].trace
    if not ours or not trace or set(ours[0]) == set(trace[0]) or len(ours[0]) != len(trace[0]):
        return tuple(trace)
    return tuple(dict(zip(ours[0], feed.values(), strict=True)) for feed in trace)


def _runtime(found: Evidence, others: Jobs, name: str, rules: ladder.Rules) -> _Told:
    """The judged file in the other environment's onnxruntime, as deployed."""
    runs = found.runs
    source, target = runs.runtime.deployed, f"{runs.runtime.deployed} in {name}"
    asked = {
        **runs.question.params, "runner": runs.runtime.params(), "provider": "cpu", "optimize": True, "tf32": False,
    }  # fmt: skip
    spec = replace(runs.question, kind=runs.runtime.kind, label=source, params=asked, threads=0)
    try:
        ran = others.start(spec).result()
    except OnnxeqError as error:
        return _Told(_not_run(source, target, error))
    traces = {source: found.executions[source].trace, target: runs.renamed(ran.out / "trace")}
    row = rows({target: ran})
    if stopped := str(ran.data.get("stopped", "")):
        broken = _not_run(source, target, CannotRun(stopped))
        if len(traces[target]) >= len(traces[source]):
            return _Told(broken, timings=row)
        broken = replace(broken, ratio=math.inf, status=Status.FAIL)
        said = f"onnxruntime of '{name}' does not run what this one runs: {stopped}"
        return _Told(broken, (Cause(CauseKind.RUNTIME, broken.name, math.inf, Where(), said),), timings=row)
    if other_face := _faced(source, target, traces, rules):
        said = f"onnxruntime of '{name}' gives other outputs: {other_face.reason}"
        where = Where(value=other_face.output)
        return _Told(other_face, (Cause(CauseKind.RUNTIME, other_face.name, math.inf, where, said),), timings=row)
    rung = _climbed(found, source, traces, target, rules)
    if rung.status is not Status.FAIL:
        return _Told(rung, timings=row)
    version = dict(ran.data["versions"])
    said = f"onnxruntime {version.get('onnxruntime', '')} of '{name}' gives another result for the same file"
    return _Told(rung, (Cause(CauseKind.RUNTIME, rung.name, rung.ratio, Where(), _sentence(rung, said)),), timings=row)


def _framework_of(there: Environment) -> str:
    """Its name and version, as far as they are known: ``torch 2.9.1 of 'torch-2.9'``."""
    held = " and ".join(f"{n} {v}" for n, v in told(there).items() if not n.startswith("onnxruntime"))
    return f"{held or 'the framework'} of '{there.name}'"


def _climbed(
    found: Evidence, source: str, traces: Mapping[str, Sequence[Feed]], target: str, rules: ladder.Rules
) -> Rung:
    missing = found.executions[source].missing
    executions = {n: Execution(n, tuple(t), missing if n == source else "") for n, t in traces.items()}
    return ladder.climb((RungPlan("versions", source, target),), executions, found.runs.units(), rules)[0]


def _not_run(source: str, target: str, error: OnnxeqError) -> Rung:
    nan = math.nan
    factor = ladder.LIMITS["versions"].factor
    return Rung("versions", source, target, nan, nan, nan, factor, Status.NOT_RUN, error.line())


def _sentence(rung: Rung, meaning: str) -> str:
    if rung.reason:
        return f"{meaning}: {rung.reason}"
    unit = ladder.LIMITS["versions"].unit.value
    return (
        f"{meaning}: {rung.max_abs:.3g} at output '{rung.output}', {rung.ratio:.3g}x {unit} ({rung.limit:g}x allowed)"
    )


@dataclass(frozen=True)
class _Exact:
    """How far the float64 runs are apart, and whether float64 rounding explains it."""

    agrees: bool
    apart: float


def _exact(found: Evidence, ours: Sequence[Feed], theirs: Sequence[Feed]) -> _Exact | None:
    units = found.runs.units()
    if not ours or not theirs or units.missing:
        return None
    unit = [{k: v * 2.0**-29 for k, v in feed.items()} for feed in units.rounding[: len(ours)]]
    measured = compare(ours, theirs, unit, step=2.0**-52)
    return _Exact(measured.ratio <= ladder.SHARP and not measured.problem, measured.max_abs)


def _kind(exact: _Exact | None, here: NativeSide, there: NativeSide) -> tuple[CauseKind, str, Where]:
    """What a break means, in words, and where."""
    if exact is not None and exact.agrees:
        return CauseKind.RUNTIME, "in float64 the two agree, so a kernel or its precision is another one", Where()
    try:
        name = _other_weight(here, there)
    except OnnxeqError as error:
        return CauseKind.WEIGHTS, f"its weights are others; which could not be told: {error.line()}", Where()
    if name:
        said = f"its weights are others, '{name}' first; to compare one set of weights, name a file of them: REF@FILE"
        return CauseKind.WEIGHTS, said, Where(native=name)
    if exact is None:
        return CauseKind.RUNTIME, "the weights are the same; float64 could not be compared", Where()
    said = f"with the same weights it is {exact.apart:.2g} away in float64 too, so its operators mean something else"
    return CauseKind.GRAPH, said, Where()


def _other_weight(here: NativeSide, there: NativeSide) -> str:
    """The first weight whose bytes the other side does not hold under any name; empty when it holds all."""
    same = here.job.data["provenance"]["weights_sha256"] == there.job.data["provenance"]["weights_sha256"]
    if same:
        return ""
    ours, theirs = here.weights(), there.weights()
    left = Counter(_digest(array) for array in theirs.values())
    for name, array in ours.items():
        mark = _digest(array)
        if not left[mark]:
            return name
        left[mark] -= 1
    return ""


def _digest(array: Array) -> str:
    return hashlib.sha256(f"{dtype_name(array)}{array.shape}".encode() + array.tobytes()).hexdigest()
