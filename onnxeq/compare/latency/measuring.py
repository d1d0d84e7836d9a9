"""The latency of several models, the straight line.

1. For each model the file that would be deployed is found, and a feed for each batch size.
2. Each model in each runtime gets a process of its own, which loads it once. Nothing else runs meanwhile.
3. Batch size by batch size they are asked in turn (:mod:`onnxeq.compare.latency.turns`).
4. Figures and ratios come from the rounds (:mod:`onnxeq.compare.latency.statistics`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxeq.compare.latency.feeding import Subject, batches_of, feed_of, for_onnx, prepare
from onnxeq.compare.latency.statistics import half_width, interval, median
from onnxeq.compare.latency.turns import Arm, Rounds, Turn, ratios, take_turns, undisturbed
from onnxeq.compare.latency.values import NATIVE, Execution, Figure, Latency, NotRun
from onnxeq.compare.sources import Source
from onnxeq.envs.environment import Environment
from onnxeq.errors import OnnxeqError, UsageError
from onnxeq.jobs import JobResult, Jobs, JobSpec, Listener
from onnxeq.kept import store_feeds
from onnxeq.model_files import reads_of
from onnxeq.processes import Lane
from onnxeq.providers import Provider, choose_providers, restricted
from onnxeq.sides import Request

__all__ = ["Asked", "measure", "quiet_turns"]

_SECONDS_EACH = 5.0
"""Measuring time for each model and batch size, where the user says none."""

_WARM_UP_S = 5.0
"""Warming up ends after so many seconds at the latest."""

_TURN = "turn of "


@dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Attributes:
        batches: Batch sizes.
        providers: Of onnxruntime, with why one cannot be had here.
        seconds: For all rounds together; ``None`` for :data:`_SECONDS_EACH` for each model and batch size.
    """

    batches: tuple[int, ...] = (1,)
    providers: tuple[Provider, ...] = (Provider("cpu", True),)
    seconds: float | None = None

    @classmethod
    def of(
        cls, batches: Sequence[int], providers: Sequence[str] | None, seconds: float | None, here: Environment | None
    ) -> Asked:
        """Reads and checks what a caller handed over.

        Raises:
            UsageError: No time, no batch sizes, or an unknown provider.
        """
        if seconds is not None and not seconds > 0:
            raise UsageError(f"{seconds:g} s leave no time to measure", hint="write --seconds 10, say")
        if not batches or any(size < 1 for size in batches):
            raise UsageError(f"{tuple(batches)} are no batch sizes", hint="write --batch 1,8")
        given = providers or ["cpu"]
        return cls(tuple(batches), restricted(choose_providers(given), here, given), seconds)


def quiet_turns(listener: Listener | None) -> Listener | None:
    """A listener that is not told of each single turn: there are hundreds."""
    if listener is None:
        return None
    return lambda label, step: None if label.startswith(_TURN) else listener(label, step)


def measure(
    jobs: Jobs, sources: Sequence[Source], request: Request, asked: Asked, listener: Listener | None = None
) -> Latency:
    """Times each model in its framework and in onnxruntime; one that fails is told, and the others go on.

    Args:
        jobs: Where to run; no job of theirs may be running.
        sources: The models.
        request: What else the user asked for: feeds, shapes, seed.
        asked: What is to be measured.
        listener: Told how far it has come.
    """
    tell = listener or (lambda _label, _step: None)
    subjects = [prepare(jobs, source) for source in sources]
    not_run = [NotRun("", f"ort/{p.name}", p.why_not) for p in asked.providers if p.asked and p.why_not]
    providers = [p.name for p in asked.providers if p.asked and not p.why_not]
    not_run += [NotRun(s.name, f"ort/{p}", s.error.line()) for s in subjects if s.error for p in providers]
    wanted = _given_batches(request) or asked.batches
    sizes = batches_of({s.name: s.fixed for s in subjects}, wanted)
    batches = sorted({size for each in sizes.values() for size in each})
    seconds = asked.seconds / len(batches) if asked.seconds else _SECONDS_EACH * len(subjects)
    done: list[Rounds] = []
    try:
        lanes: dict[tuple[str, str], Lane] = {}
        for source in sources:
            if source.native is not None:
                source.native.release()  # what exported it has grown, and waits for other threads than users' do
        for batch in batches:
            arms: list[Arm] = []
            for subject in (s for s in subjects if batch in sizes[s.name]):
                made, failed = _arms(jobs, lanes, subject, request, batch, providers)
                arms, not_run = [*arms, *made], [*not_run, *failed]
            label = f"latency, batch of {batch}"
            tell(label, "load and warm up")
            done.append(take_turns(arms, seconds, request.seed, tell=functools.partial(tell, label)))
            tell(label, "done")
    finally:
        for lane in lanes.values():
            lane.close()
        for source in sources:
            if source.native is not None:
                source.native.release()
    return _result(done, batches, _notes(subjects, wanted), not_run, request.seed)


def _given_batches(request: Request) -> tuple[int, ...]:
    """The batch sizes of the feeds that the user gave."""
    from onnxeq.inputs import batch_size

    return tuple(sorted({batch_size(feed) for feed in request.feeds}))


def _arms(
    jobs: Jobs, lanes: dict[tuple[str, str], Lane], subject: Subject, request: Request, batch: int,
    providers: Sequence[str],
) -> tuple[list[Arm], list[NotRun]]:  # fmt: skip
    """The executions of one model; none where there are no inputs for it."""
    native, artifact = subject.source.native, subject.artifact
    runtimes = [NATIVE] if native is not None else []
    runtimes += [f"ort/{p}" for p in providers] if artifact is not None else []
    try:
        feed = feed_of(subject, request, batch)
    except OnnxeqError as error:
        return [], [NotRun(subject.name, runtime, error.line()) for runtime in runtimes]
    arms = []
    for runtime in runtimes:
        of = Execution(subject.name, runtime, batch)
        if runtime == NATIVE:
            arms.append(Arm(of, _native(subject, store_feeds([feed], jobs.root))))
        else:
            lane = lanes.setdefault((subject.name, runtime), jobs.lane())
            arms.append(Arm(of, _ort(jobs, lane, subject, runtime, store_feeds([for_onnx(subject, feed)], jobs.root))))
    return arms, []


def _native(subject: Subject, feeds: Path) -> Callable[[float], Turn]:
    native = subject.source.native
    assert native is not None  # noqa: S101 - the caller has just looked

    def ask(seconds: float) -> Turn:
        params = {"seconds": seconds, "warm_up_s": _WARM_UP_S}
        label = f"{_TURN}{subject.name}, {NATIVE}"
        return _turn(native.question("native-latency", label, params, {"feeds": feeds}, cache=False).result())

    return ask


def _ort(jobs: Jobs, lane: Lane, subject: Subject, runtime: str, feeds: Path) -> Callable[[float], Turn]:
    artifact = subject.artifact
    assert artifact is not None  # noqa: S101 - the caller has just looked
    reads = {**reads_of(artifact.path), "feeds": feeds}

    def ask(seconds: float) -> Turn:
        params: dict[str, Any] = {"provider": runtime.partition("/")[2], "seconds": seconds, "warm_up_s": _WARM_UP_S}
        spec = JobSpec("latency", f"{_TURN}{subject.name}, {runtime}", params, reads, cache=False)
        return _turn(jobs.start(spec, lane).result())

    return ask


def _turn(done: JobResult) -> Turn:
    data: Mapping[str, Any] = done.data
    steady = None if data["warmed"] is None else bool(data["warmed"]["steady"])
    return Turn(tuple(data["times_s"]), tuple(data["quiet_s"]), float(data["load_s"]), int(data["peak_bytes"]), steady)


def _notes(subjects: Sequence[Subject], wanted: Sequence[int]) -> tuple[str, ...]:
    """Which models take one batch size only, where others were asked for."""
    fixed = [s for s in subjects if s.fixed is not None and list(wanted) != [s.fixed]]
    return tuple(f"{s.name} takes batches of {s.fixed} only, and is run with that" for s in fixed)


def _result(
    done: Sequence[Rounds], batches: Sequence[int], notes: tuple[str, ...], not_run: Sequence[NotRun], seed: int
) -> Latency:
    found = [r for each in done for r in ratios(each.turns, seed)]
    failed = [NotRun(of.model, of.runtime, error.line()) for each in done for of, error in each.failed.items()]
    return Latency(
        tuple(_figure(each, of, seed) for each in done for of in each.turns),
        tuple(r for r in found if r.left.model != r.right.model),
        tuple(r for r in found if r.left.model == r.right.model),
        tuple(dict.fromkeys((*not_run, *failed))),
        notes,
        sum(each.seconds for each in done),
        tuple((batch, each.stopped) for batch, each in zip(batches, done, strict=True)),
        max((half_width(r.interval) for r in found), default=0.0),
    )


def _figure(rounds: Rounds, of: Execution, seed: int) -> Figure:
    first, turns = rounds.first[of], rounds.turns[of]
    counted = undisturbed(turns)
    medians_ms = [turn.median_s * 1000 for turn in counted]
    middle, between = median(medians_ms), interval(medians_ms, seed)
    peak = max(turn.peak_bytes for turn in (first, *turns)) / 2**20
    runs = sum(len(turn.times_s) for turn in counted)
    quiet = sum(bool(turn.quiet_s) for turn in turns)
    return Figure(
        of, middle, between, of.batch * 1000 / middle, peak, first.load_s, len(turns), quiet, runs,
        first.steady is not False,
    )  # fmt: skip
