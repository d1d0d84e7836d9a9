"""The ledger as a check asks for it: started beside the other jobs, asked again with a reference, and its rung."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxeq.errors import JobCrashed, JobKilled, JobTimeout, OnnxeqError
from onnxeq.jobs import JobResult
from onnxeq.ladder import LIMITS, Rules
from onnxeq.types import Rung, Status
from onnxeq.weights.document import from_record
from onnxeq.weights.types import Basis, Entry, EntryStatus, Ledger

__all__ = ["PutBack", "Weighing", "faults", "rung", "undecided", "unexecuted", "weighed", "weighed_of"]


@dataclass(frozen=True)
class PutBack:
    """What it does to the error when one native tensor is put back.

    Attributes:
        ratio: How far the artifact moves, in units of the constant floor.
        before: The largest error at the worst output, in its unit.
        after: The same with the tensor put back.
        worse: Whether the error grew, so that it did not belong there.
    """

    ratio: float
    before: float
    after: float
    worse: bool = False


@dataclass(frozen=True)
class Weighing:
    """A ledger and what it takes to go on from it.

    Attributes:
        ledger: What was found; ``None`` when the job failed.
        missing: Why.
        broke: Whether the job itself broke, and not what it was given: then its answer is missed.
        expected: The folder of what near misses should hold.
        again: Asks once more, with the unfolded export as a reference.
        back: By initializer, what putting it back does.
        job: The finished job.
    """

    ledger: Ledger | None
    missing: str = ""
    broke: bool = False
    expected: Path = Path()
    again: Callable[[], Future[JobResult]] | None = None
    back: Mapping[str, PutBack] = field(default_factory=dict)
    job: JobResult | None = None


def weighed(done: Future[JobResult], again: Callable[[], Future[JobResult]] | None = None) -> Weighing:
    """Waits for a ledger."""
    try:
        job = done.result()
    except OnnxeqError as error:
        broke = isinstance(error, (JobCrashed, JobKilled, JobTimeout))
        return Weighing(None, error.line(), broke, again=again)
    return weighed_of(job, again)


def weighed_of(job: JobResult, again: Callable[[], Future[JobResult]] | None = None) -> Weighing:
    """What a finished job of the kinds ``ledger`` and ``native-ledger`` found."""
    return Weighing(from_record(job.data["ledger"]), expected=job.out / "expected", again=again, job=job)


def faults(ledger: Ledger, rules: Rules, *, confirmed: bool) -> tuple[Entry, ...]:
    """What makes the artifact divergent.

    Args:
        ledger: The ledger.
        rules: A tolerance, or a reduced precision, may have been accepted.
        confirmed: Whether the outputs differ in float64, so that what may be merely unlike counts, too.
    """
    if rules.tolerance is not None:
        return ()
    found = [e for e in ledger.faults if e.sure or confirmed]
    return tuple(e for e in found if not any(f"is rounded to {kind} " in e.evidence for kind in rules.accept))


def unexecuted(ledger: Ledger) -> tuple[Entry, ...]:
    """What is a fault where nothing is executed that could confirm it: what is sure, and what the names say."""
    return tuple(e for e in ledger.faults if e.sure or e.basis is Basis.NAME)


def undecided(ledger: Ledger) -> str:
    """What weights alone cannot tell, in words; empty where every native tensor and every constant is accounted for.

    A constant that merely stands in a weight's place and is unlike it may be a fault or merged with something; one that
    no native tensor gives may hold what those natives should have given that no constant holds.
    """
    unlike = [e for e in ledger.near_misses if not e.sure]
    strange = [e for e in ledger.entries if e.status is EntryStatus.UNEXPLAINED]
    missing = ledger.natives_total - ledger.natives_accounted
    if unlike:
        more = f"; and {len(unlike) - 1} more" if len(unlike) > 1 else ""
        return f"{unlike[0].evidence}{more}: only the outputs could tell a fault from a merged constant"
    if strange and missing:
        said = f"{missing} of {ledger.natives_total} native tensors are in no constant, and {len(strange)} constants"
        return f"{said} of a weight's size come from none, '{strange[0].initializer}' the first"
    return ""


def rung(weighing: Weighing, rules: Rules, *, confirmed: bool, executed: bool = True) -> Rung:
    """The rung between the native tensors and the initializers, in units in the last place."""
    limit, nan = LIMITS["ledger"].factor, math.nan
    names = ("ledger", "native weights", "initializers", nan, nan)
    if weighing.ledger is None:
        return Rung(*names, nan, limit, Status.NOT_RUN, weighing.missing)
    found = faults(weighing.ledger, rules, confirmed=confirmed) if executed else unexecuted(weighing.ledger)
    if not found and not executed and (doubt := undecided(weighing.ledger)):
        return Rung(*names, nan, limit, Status.NOT_RUN, doubt)
    if not found:
        unsure = [e for e in weighing.ledger.near_misses if not e.sure]
        doubt = f"{unsure[0].evidence}; the outputs do not confirm it" if unsure else ""
        said = "not judged: --rtol and --atol are" if rules.tolerance is not None and weighing.ledger.faults else doubt
        return Rung(*names, 0.0, limit, Status.PASS, said)
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    worst = max(e.ulp if e.status is EntryStatus.NEAR_MISS else math.inf for e in found)
    return Rung(*names, worst, limit, Status.FAIL, found[0].evidence + more)


def with_rung(rungs: Sequence[Rung], added: Rung) -> list[Rung]:
    """The rungs with the ledger's in its place: behind those that compare graph and weights by their outputs."""
    before = max((i for i, r in enumerate(rungs) if r.name in ("native-rounding", "graph", "weights")), default=-1)
    return [*rungs[: before + 1], added, *rungs[before + 1 :]]


def without(weighing: Weighing, doubted: Sequence[Entry]) -> Weighing:
    """With near misses that turned out to be none: they were merged with something that the ledger does not know."""
    if weighing.ledger is None:
        return weighing
    entries = tuple(replace(e, status=EntryStatus.UNEXPLAINED) if e in doubted else e for e in weighing.ledger.entries)
    return replace(weighing, ledger=replace(weighing.ledger, entries=entries))


def replaced(weighing: Weighing, back: Mapping[str, PutBack]) -> Weighing:
    """With what put-back tensors do."""
    return replace(weighing, back=back)
