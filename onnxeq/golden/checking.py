"""``onnxeq golden check``: what changed since, and why.

First every model is run once (:mod:`.today`) and held against its golden's own bits and error bar. Only what does not
hold is looked into: the referee runs it, the cause is told (:mod:`.causes`), the first layer that departs is named, and
what would be the new golden is written beside the accepted one, where it waits for a decision.
"""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq import ladder, zoo
from onnxeq.envs.environment import find
from onnxeq.errors import FrameworkMissing, OnnxeqError, UnusableGolden, UsageError
from onnxeq.golden import feeds as feeds_
from onnxeq.golden import known, store
from onnxeq.golden.building import build, marks_of
from onnxeq.golden.causes import Finding, explain, suggested
from onnxeq.golden.findings import CauseKind, Checked, Outcome
from onnxeq.golden.identity import Marks, describe
from onnxeq.golden.judging import changes, distances
from onnxeq.golden.layers import from_arrays, located
from onnxeq.golden.measured import Measured, layers_of_runtime, measure, reduced
from onnxeq.golden.recording import check_provider
from onnxeq.golden.store import Stored
from onnxeq.golden.today import Ran, Subject, Today, run_all
from onnxeq.golden.values import Golden, How, Identity, InputsKind, Pending, Role, Verdict
from onnxeq.inputs import parse_shape
from onnxeq.jobs import Jobs, Listener
from onnxeq.sides import Request
from onnxeq.types import Array, Rung, Status

__all__ = ["check", "reference"]


def check(
    names: Sequence[str] = (),
    *,
    folder: str | os.PathLike[str] = store.DEFAULT_FOLDER,
    sources: Mapping[str, object] | None = None,
    runner: str | None = None,
    provider: str | None = None,
    exporter: str | None = None,
    opset: int | None = None,
    trust: bool = False,
    env: str = "",
    timeout_s: float | None = None,
    keep_pending: bool = True,
    listener: Listener | None = None,
) -> Checked:
    """Checks goldens against what their models give now.

    Args:
        names: Which; all of the folder when empty.
        folder: Where they lie.
        sources: Golden -> the model to run in the place of the one that the record names; for live models.
        runner: The runtime to run them in, in the place of the recorded one.
        provider: ``cpu`` or ``cuda``, in the place of the recorded one.
        exporter: The framework's exporter, in the place of the recorded one.
        opset: Of the export, in the place of the recorded one.
        trust: Whether code stored in model files may run.
        env: The environment in which the frameworks and the runtime run.
        timeout_s: Limit for each job in seconds.
        keep_pending: Whether what changed is written beside the accepted golden, to be accepted or rejected.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: There is no such golden, or none at all.
        onnxeq.errors.UnusableGolden: ``known_discrepancies.toml`` cannot be read.
    """
    root, there = Path(folder), store.names(Path(folder))
    for name in names:
        if name not in there:
            store.read(root, name)  # says which there are
    if not there:
        hint = "onnxeq golden record MODEL makes one"
        raise UsageError(f"there is no golden in {root}", hint=hint)
    entries = known.load(root)
    if provider is not None:
        check_provider(provider)
    chosen = [n for n in there if n in names] if names else there
    asked = {"runner": runner, "provider": provider, "exporter": exporter, "opset": opset}
    run = _Run(root, {key: value for key, value in asked.items() if value is not None}, trust, dict(sources or {}))
    opened = {name: run.open(name) for name in chosen}
    environment = find(env) if env else None
    jobs_as = functools.partial(Jobs, timeout_s=timeout_s, listener=listener, environment=environment)
    # What is asked is what happens now, so that nothing is looked up, but for what the referee says: that depends on
    # no version of a runtime and no machine.
    with jobs_as(use_cache=False) as jobs, jobs_as(use_cache=True) as kept:
        ready = {name: one for name, one in opened.items() if isinstance(one, _Opened)}
        found = run_all(jobs, [one.subject for one in ready.values()])
        outcomes = []
        for name, one in opened.items():
            if isinstance(one, Outcome):
                outcomes.append(one)
                continue
            outcomes.append(_judged(one, found[name], _Asking(jobs, kept, root, keep_pending)))
    marked, complaints = known.applied(entries, outcomes, there, datetime.datetime.now(datetime.UTC).date())
    return Checked(str(root), marked, complaints)


@dataclass(frozen=True)
class _Opened:
    """A golden that can be run."""

    stored: Stored
    subject: Subject


@dataclass(frozen=True)
class _Run:
    """What the caller asked for, for every golden; ``instead`` stands in the place of the recorded :class:`How`."""

    root: Path
    instead: Mapping[str, Any]
    trust: bool
    sources: Mapping[str, object]

    def open(self, name: str) -> _Opened | Outcome:
        """The golden and how it is run, or what is to be said of it instead."""
        try:
            stored = store.read(self.root, name)
            golden = stored.golden
            if name not in self.sources and golden.model.startswith("live:"):
                return Outcome(name, Verdict.ELSEWHERE, notes=("a live model: its own test checks it",))
            source = self.sources.get(name) or reference(golden.model, self.root)
        except OnnxeqError as error:
            stale = not isinstance(error, UnusableGolden)
            return Outcome(name, Verdict.STALE if stale else Verdict.UNUSABLE, notes=(error.line(),))
        how = replace(golden.how, **self.instead)
        expected = {born.role: born.sha256 for born in golden.executions}
        files = (golden.identity.onnx, golden.provenance.get("opset", ""), golden.provenance.get("producer", ""))
        try:
            request = self._request(how, golden, stored.arrays)
        except OnnxeqError as error:
            return Outcome(name, Verdict.UNUSABLE, notes=(error.line(),))
        return _Opened(
            stored,
            Subject(
                name, source, how, request, self.root, inputs=golden.inputs, arrays=stored.arrays, expected=expected,
                known_onnx=files,
            ),
        )  # fmt: skip

    def _request(self, how: How, golden: Golden, arrays: Mapping[str, Array]) -> Request:
        shapes = parse_shape([f"{key}={text}" if key else text for key, text in how.shapes.items()])
        # Inputs that a user gave decide what a framework exports for, so they do again.
        seeded = golden.inputs.kind is InputsKind.SEED or not golden.identity.native
        given = [] if seeded else feeds_.of_golden(golden.inputs, arrays, self.root)
        return Request.of(
            given, shapes, batches=how.batches or (1,), seed=how.seed, opset=how.opset or None, trust=self.trust,
            exporter=how.exporter,
        )  # fmt: skip


def reference(text: str, folder: Path) -> str:
    """A record's reference as it is called from here; see :func:`onnxeq.golden.recording.in_folder`.

    Raises:
        onnxeq.errors.UsageError: The model is not there any more.
    """
    here = os.path.join(folder, text) if text.startswith(".") else text  # noqa: PTH118 - a reference is no path
    try:
        zoo.parse(here)
    except UsageError as error:
        hint = "onnxeq golden prune removes goldens without a model"
        raise UsageError(f"its model {text} is gone: {error.message}", hint=hint) from None
    return here


@dataclass(frozen=True)
class _Asking:
    """Where further questions are asked.

    Attributes:
        jobs: Jobs that look nothing up.
        kept: Jobs that do.
        root: The folder of goldens.
        keep_pending: Whether what changed is written.
    """

    jobs: Jobs
    kept: Jobs
    root: Path
    keep_pending: bool


def _judged(one: _Opened, today: Today | OnnxeqError, asking: _Asking) -> Outcome:
    golden, arrays = one.stored.golden, one.stored.arrays
    if isinstance(today, OnnxeqError):
        input_ = isinstance(today, UsageError) and not isinstance(today, FrameworkMissing)
        verdict = Verdict.UNUSABLE if input_ else Verdict.NOT_RUN
        return Outcome(golden.name, verdict, notes=(today.line(),))
    try:
        identity, marks = _identity(golden, one.stored, today)
        differing = changes(golden, today, None if identity == golden.identity else identity)
        apart = distances(golden, arrays, today)
        base = Outcome(
            golden.name, Verdict.UNCHANGED, max((d.ratio for d in apart), default=0.0), golden.bar.limit, apart,
            differing, notes=_notes(golden, today),
        )  # fmt: skip
        if all(d.passed for d in apart) and apart:
            _settled(asking, one.stored)
            if all(d.same for d in apart):
                return base
            return replace(
                base,
                verdict=Verdict.WITHIN,
                causes=suggested(differing, marks_of(arrays), marks, native=bool(golden.identity.native)),
            )
        return _looked_into(one, today, identity, marks, base, asking)
    except OnnxeqError as error:
        return Outcome(golden.name, Verdict.NOT_RUN, notes=(error.line(),))


def _notes(golden: Golden, today: Today) -> tuple[str, ...]:
    missing = [b.name for b in golden.executions if b.role is Role.NATIVE and Role.NATIVE not in today.executions]
    return (*today.notes, *(f"{name} was recorded and is not run now" for name in missing))


def _identity(golden: Golden, stored: Stored, today: Today) -> tuple[Identity, Marks]:
    """What the model is now; looked into only when its file is another one."""
    from onnxeq import fingerprint

    if fingerprint.of_path(today.path) == golden.identity.onnx:
        return replace(golden.identity, native=today.native_sha256), marks_of(stored.arrays)
    return describe(today.path, today.native_sha256)


def _settled(asking: _Asking, stored: Stored) -> None:
    """Takes away a pending record of an earlier check: what it told is not so any more."""
    name = stored.golden.name
    if asking.keep_pending and name in store.pending_names(asking.root):
        with store.locked(asking.root, name, wait=True):
            store.remove_pending(asking.root, name)


def _looked_into(
    one: _Opened, today: Today, identity: Identity, marks: Marks, base: Outcome, asking: _Asking
) -> Outcome:
    """The verdict, cause and place of a golden that does not hold."""
    golden, arrays = one.stored.golden, one.stored.arrays
    if any(not ran.trace for ran in today.executions.values()):  # what was as expected was not brought back
        again = run_all(asking.jobs, [replace(one.subject, expected={})])[golden.name]
        if isinstance(again, OnnxeqError):
            raise again
        today = again
    measured = measure(asking.kept, today)
    recognise = functools.partial(_recognised, asking.kept, today, measured)
    finding = explain(golden, arrays, today, measured, identity, marks, base.distances, base.changes, recognise)
    layer = _layer(asking, one.stored, today, measured, finding)
    outcome = replace(base, verdict=finding.verdict, causes=finding.causes, layer=layer)
    if not asking.keep_pending:
        return outcome
    record, new = build(today, measured, identity, marks, model=golden.model)
    record = replace(record, history=golden.history, pending=(_pending(outcome, one.stored),))
    with store.locked(asking.root, golden.name, wait=True):
        if store.read(asking.root, golden.name).sha256 != one.stored.sha256:
            return replace(outcome, notes=(*outcome.notes, "another one was accepted meanwhile: check again"))
        store.commit(asking.root, record, new, pending=True)
    return replace(outcome, pending=True)


def _pending(outcome: Outcome, stored: Stored) -> Pending:
    told = tuple(f"{c.kind}: {c.evidence}" + (f" ({c.where})" if c.where else "") for c in outcome.causes)
    lines = tuple(c.text() for c in outcome.changes)
    return Pending(stored.sha256, outcome.verdict, outcome.ratio, told, lines)


def _layer(asking: _Asking, stored: Stored, today: Today, measured: Measured, finding: Finding) -> str:
    """The first value that departs from the golden's digests."""
    before = from_arrays(stored.arrays)
    if before is None:
        return ""
    if finding.moved and measured.layers is not None:
        now = dict(zip(measured.layers.names, measured.layers.digests, strict=True))
        return located(before, now, exact=True)
    if finding.verdict is Verdict.CHANGED and any(c.kind is not CauseKind.FRAMEWORK for c in finding.causes):
        return located(before, layers_of_runtime(asking.kept, today), exact=False)
    return ""


def _recognised(jobs: Jobs, today: Today, measured: Measured, ran: Ran) -> str:
    """Which reduced precision an execution's error is the size of, in the ladder's words."""
    rung = Rung("kernels", "referee/f64", ran.name, 0.0, 0.0, 1.0, 0.0, Status.FAIL)
    executions = {
        "referee/f64": ladder.Execution("referee/f64", measured.trace),
        ran.name: ladder.Execution(ran.name, ran.trace),
    }
    units = ladder.Units(measured.rounding, measured.floor, reduced=reduced(jobs, today))
    return ladder.recognised(rung, executions, units)
