"""One golden that has been run: unchanged, within its error bar, or looked into until there is a cause.

It is loaded while the models run: what it needs takes longer to import than most of them take to run.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

from onnxeq import ladder
from onnxeq.errors import FrameworkMissing, OnnxeqError, UsageError
from onnxeq.golden import store
from onnxeq.golden.building import build, marks_of
from onnxeq.golden.causes import Finding, explain, suggested
from onnxeq.golden.findings import CauseKind, Outcome
from onnxeq.golden.identity import Marks, describe
from onnxeq.golden.judging import changes, distances
from onnxeq.golden.layers import from_arrays, located
from onnxeq.golden.measured import Measured, layers_of_runtime, measure, reduced
from onnxeq.golden.store import Stored
from onnxeq.golden.today import Opened, Ran, Today, run_all
from onnxeq.golden.values import Golden, Identity, Pending, Role, Verdict
from onnxeq.jobs import Jobs
from onnxeq.types import Rung, Status

__all__ = ["Asking", "judged"]


@dataclass(frozen=True)
class Asking:
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


def judged(one: Opened, today: Today | OnnxeqError, asking: Asking) -> Outcome:
    """What is to be said of a golden, from what its model gave today or why it could not be run."""
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


def _settled(asking: Asking, stored: Stored) -> None:
    """Takes away a pending record of an earlier check: what it told is not so any more."""
    name = stored.golden.name
    if asking.keep_pending and name in store.pending_names(asking.root):
        with store.locked(asking.root, name, wait=True):
            store.remove_pending(asking.root, name)


def _looked_into(one: Opened, today: Today, identity: Identity, marks: Marks, base: Outcome, asking: Asking) -> Outcome:
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


def _layer(asking: Asking, stored: Stored, today: Today, measured: Measured, finding: Finding) -> str:
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
