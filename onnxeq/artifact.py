"""Every execution of one ONNX file: started side by side, gathered as executions of the ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq.arrays import load_feeds
from onnxeq.batches import OtherBatch
from onnxeq.errors import CannotRun, FrameworkMissing, JobCrashed, JobOutOfMemory, JobTimeout, OnnxeqError
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.ladder import Execution, RungPlan, Units
from onnxeq.model_files import reads_of
from onnxeq.providers import Provider
from onnxeq.reduced import KINDS
from onnxeq.runtimes import Runtime
from onnxeq.types import Array, Export, Feed

__all__ = [
    "REPEATS",
    "ArtifactRuns",
    "StartedRuns",
    "expected",
    "start_runs",
    "start_unfolded",
]

REPEATS = {"repeat": "again", "session": "new session", "threads": "1 thread"}
"""Trace of a runtime's job -> what the execution is called, after the runtime's own name."""


@dataclass(frozen=True)
class _Outcome:
    """A finished job, or the error in its place; ``refused`` when it is the model that made it fail."""

    job: JobResult | None
    error: str = ""
    refused: bool = False


@dataclass(frozen=True)
class ArtifactRuns:
    """The finished executions of one artifact, outputs under the source's names.

    Attributes:
        outcomes: Execution name -> its job.
        outputs: Execution name -> ONNX output name -> the source's output name.
        providers: What was asked for.
        question: A bare job of the referee on the artifact, for what is asked when a rung has broken.
        runtime: Whose executions these are.
        sharper: Folder of rounding noise that holds in the place of the referee's (:func:`onnxeq.anchoring.sharpen`).
    """

    outcomes: Mapping[str, _Outcome]
    outputs: Mapping[str, Mapping[str, str]]
    providers: tuple[Provider, ...]
    question: JobSpec
    runtime: Runtime
    sharper: Path | None = None

    @property
    def no_plain(self) -> str:
        """Why the runtime has no mode without graph optimisations; empty where it has one."""
        job = self.outcomes[self.runtime.plain].job
        return "" if job is None else str(job.data["no_plain"])

    @property
    def literal(self) -> str:
        """The execution that runs the graph as literally as the runtime can: what the referee is held against."""
        return self.runtime.deployed if self.no_plain else self.runtime.plain

    @property
    def refused(self) -> str:
        """What the runtime says of the model with its graph optimisations on, where it runs it without them."""
        plain, deployed = self.outcomes[self.runtime.plain], self.outcomes[self.runtime.deployed]
        return deployed.error if deployed.refused and plain.job is not None and not self.no_plain else ""

    def executions(self) -> dict[str, Execution]:
        """Execution name -> trace, or why there is none."""
        found = {}
        for name, outcome in self.outcomes.items():
            if name == "normalize":
                continue
            stopped = "" if outcome.job is None else str(outcome.job.data.get("stopped", ""))
            found[name] = Execution(name, self._trace(name, "trace"), outcome.error or stopped)
        along = self.outcomes[_NORMALIZED].job
        if along is not None and "normalized_error" in along.data:  # the referee ran it along with the artifact
            error = str(along.data["normalized_error"])
            found[_NORMALIZED] = Execution(_NORMALIZED, self._trace(_NORMALIZED, "normalized"), error)
        deployed, plain = self.runtime.deployed, self.runtime.plain
        if self.no_plain:
            found[plain] = Execution(plain, (), self.no_plain)
        for folder, text in REPEATS.items():
            name = f"{deployed} {text}"
            found[name] = Execution(name, self._trace(deployed, folder), self.outcomes[deployed].error)
        return found

    def units(self) -> Units:
        """The rounding noise and the constant floor, measured on the artifact itself."""
        error = self.outcomes["referee/f64"].error
        own = self._trace("referee/f64", "rounding")
        return Units(
            own if self.sharper is None else self.renamed(self.sharper),
            self._trace("referee/f64", "floor"),
            error,
            {kind: unit for kind in KINDS if (unit := self._trace("referee/f64", kind))},
        )

    def start_reduced(self, jobs: Jobs) -> Future[JobResult] | None:
        """Begins to measure what every reduced precision does; ``None`` where that is known, or cannot be."""
        units = self.units()
        if units.missing or set(units.reduced) == set(KINDS):
            return None
        params = {**self.question.params, "reduced": list(KINDS)}
        return jobs.start(replace(self.question, label="precision", params=params, threads=0))

    def reduced_units(self, asked: Future[JobResult] | None) -> Units:
        """The units, with those of every reduced precision, that :meth:`start_reduced` has begun to measure."""
        units = self.units()
        if asked is None:
            return units
        measured = replace(self, outcomes={**self.outcomes, "referee/f64": _outcome(asked)})
        return replace(units, reduced=measured.units().reduced)

    def own_floor(self, jobs: Jobs, native: Sequence[str]) -> tuple[Feed, ...]:
        """The constant floor when the constants ``native`` stay as they are; empty when it could not be measured."""
        params = {**self.question.params, "native": sorted(native)}
        asked = jobs.start(replace(self.question, label="own floor", params=params, threads=0))
        measured = replace(self, outcomes={**self.outcomes, "referee/f64": _outcome(asked)})
        return measured._trace("referee/f64", "own")

    def correctly_rounded(self, jobs: Jobs) -> tuple[Feed, ...]:
        """What the outputs' noise were if each kernel rounded its result once; empty when it could not be measured."""
        params = {**self.question.params, "single": True}
        asked = jobs.start(replace(self.question, label="single rounding", params=params, threads=0))
        measured = replace(self, outcomes={**self.outcomes, "referee/f64": _outcome(asked)})
        return measured._trace("referee/f64", "single")

    def isolate(self, jobs: Jobs, source: str, target: str, order: Sequence[int], limit: float) -> Mapping[str, Any]:
        """Where the runtime goes wrong between two executions, see :mod:`onnxeq.runners.isolate`.

        Args:
            jobs: Where to run.
            source: The execution that is taken as given.
            target: The runtime's execution that is judged.
            order: The feeds to look at, the worst first.
            limit: How many units of rounding noise are allowed.

        Returns:
            Empty when it could not be found out.
        """
        base, noise = self.outcomes[source].job, self.outcomes["referee/f64"].job
        if base is None or noise is None:
            return {}
        cuda = target.startswith("ort/cuda")
        optimize = target != self.runtime.plain
        params = {
            **self.question.params, "runner": self.runtime.params(), "optimize": optimize,
            "provider": "cuda" if cuda else "cpu", "tf32": target == "ort/cuda", "order": list(order), "limit": limit,
            "settings": optimize and not cuda and source == self.runtime.plain,
        }  # fmt: skip
        reads = {**self.question.inputs, "base": base.out / "trace"}
        reads |= {"exact": noise.out / "trace", "unit": self.sharper or noise.out / "rounding"}
        # Nothing runs beside it, so that it may have all threads.
        asked = JobSpec("isolate", f"isolate {target}", params, reads)
        found = _outcome(jobs.start(asked))
        return {} if found.job is None else found.job.data

    def other_batch(self) -> OtherBatch | None:
        """Items of one feed as a batch of their own; ``None`` where nothing is plainly a batch."""
        job = self.outcomes[self.runtime.deployed].job
        if job is None or not (chosen := job.data.get("other_batch")):
            return None
        trace = self._trace(self.runtime.deployed, "batch")
        return OtherBatch(int(chosen["feed"]), tuple(chosen["rows"]), trace[0] if trace else {}, str(chosen["error"]))

    def blame(self, jobs: Jobs, output: str) -> Mapping[str, Any]:
        """Which node's rounding makes an output (by the source's name) inaccurate, see :mod:`onnxeq.runners.blame`.

        Empty when it could not be found out.
        """
        ours = {theirs: mine for mine, theirs in self.outputs["referee/f64"].items()}
        params = {**self.question.params, "output": ours.get(output, output)}
        found = _outcome(jobs.start(replace(self.question, kind="blame", label="blame", params=params)))
        return {} if found.job is None else found.job.data

    def plans(self) -> tuple[RungPlan, ...]:
        """The rungs that lie within the artifact."""
        cuda = next(p for p in self.providers if p.name == "cuda")
        plain, deployed, missing = self.runtime.plain, self.runtime.deployed, self.no_plain
        providers = (
            RungPlan("provider", "ort/cpu", "ort/cuda no-tf32", asked=cuda.asked, why_not=cuda.why_not),
            RungPlan("provider", "ort/cuda no-tf32", "ort/cuda", asked=cuda.asked, why_not=cuda.why_not),
        )
        return (
            RungPlan("normalize", "referee/f64", _NORMALIZED),
            RungPlan("kernels", "referee/f64", self.literal),
            RungPlan("optimizer", plain, deployed, asked=not missing, why_not=missing),
            *(providers if self.runtime.name == "ort" else ()),
            *(RungPlan("stability", deployed, f"{deployed} {text}") for text in REPEATS.values()),
        )

    def live_outputs(self) -> list[str]:
        """Outputs, by the source's names, that depend on an input of the graph."""
        job = self.outcomes["referee/f64"].job
        pairs = self.outputs["referee/f64"]
        return [] if job is None else [pairs.get(n, n) for n in job.data["live"]]

    def initializers(self) -> int:
        """Number of stored constants."""
        job = self.outcomes["referee/f64"].job
        return 0 if job is None else int(job.data["initializers"])

    def described(self) -> dict[str, Any]:
        """The runtime that was judged: its name, settings and versions."""
        jobs = (self.outcomes[name].job for name in (self.runtime.deployed, self.runtime.plain))
        versions = next((dict(job.data["versions"]) for job in jobs if job is not None), {})
        return {"name": self.runtime.name, "settings": dict(self.runtime.settings), "versions": versions}

    def timings(self, prefix: str = "") -> tuple[Mapping[str, Any], ...]:
        """Wall seconds and peak bytes of each job."""
        return tuple(
            {
                "job": prefix + name,
                "seconds": round(o.job.seconds, 3),
                "peak_bytes": o.job.peak_bytes,
                "cached": o.job.cached,
            }
            for name, o in self.outcomes.items()
            if o.job is not None and not (name == _NORMALIZED and o.job == self.outcomes["referee/f64"].job)
        )

    def renamed(self, folder: Path) -> tuple[dict[str, Array], ...]:
        """A trace of the artifact that a further question has left, under the source's names."""
        pairs = self.outputs["referee/f64"]
        return tuple({pairs.get(k, k): v for k, v in feed.items()} for feed in load_feeds(folder))

    def _trace(self, name: str, folder: str) -> tuple[dict[str, Array], ...]:
        outcome = self.outcomes[name]
        if outcome.job is None or not (outcome.job.out / folder / "index.json").exists():
            return ()
        pairs = self.outputs[name]
        return tuple({pairs.get(k, k): v for k, v in feed.items()} for feed in load_feeds(outcome.job.out / folder))


@dataclass(frozen=True)
class StartedRuns:
    """Executions of one artifact that are on their way.

    Attributes:
        futures: Execution name -> its job; ``normalize`` is the normaliser's.
        providers: What was asked for.
        question: See :class:`ArtifactRuns`.
        runtime: Whose executions these are.
    """

    futures: Mapping[str, Future[JobResult]]
    providers: tuple[Provider, ...]
    question: JobSpec
    runtime: Runtime

    def raw(self) -> tuple[Feed, ...]:
        """The artifact's outputs under its own names, in float64 where it could be run so; empty when nothing ran."""
        runs = self.finish({}).executions()
        names = ("referee/f64", self.runtime.plain, self.runtime.deployed)
        return next((runs[n].trace for n in names if runs[n].trace), ())

    def finish(self, outputs: Mapping[str, str], unfolded: Mapping[str, str] | None = None) -> ArtifactRuns:
        """Waits for all of them.

        Where the referee has run the normalised graph along with the artifact, its trace lies beside the artifact's.

        Args:
            outputs: ONNX output name -> the source's output name.
            unfolded: The same of the unfolded export.
        """
        outcomes = {name: _outcome(future) for name, future in self.futures.items()}
        pairs = dict.fromkeys(outcomes, outputs)
        return ArtifactRuns(outcomes, pairs | {_UNFOLDED: unfolded or {}}, self.providers, self.question, self.runtime)


_UNFOLDED = "referee/f64 unfolded"
_NORMALIZED = "referee/f64 normalized"


def expected(jobs: Jobs, providers: Sequence[Provider], runtime: Runtime, *, unfolded: bool) -> list[tuple[str, int]]:
    """Kind and threads of the jobs that :func:`start_runs` will start, for :meth:`onnxeq.jobs.Jobs.expect`."""
    threads = jobs.threads_each
    usable = sum(1 if p.name == "cpu" else 2 for p in providers if not p.why_not)
    cpu = [("referee", threads)] * (1 + unfolded)
    return [("normalize", threads), *cpu, *[(runtime.kind, 0)] * (1 + usable)]


def start_runs(
    jobs: Jobs,
    model: Path,
    feeds: Path,
    names: Mapping[str, str],
    providers: Sequence[Provider],
    seed: int,
    unfolded: Future[JobResult] | None = None,
    *,
    runtime: Runtime,
    stored: bool = False,
    reduced: Sequence[str] = (),
) -> StartedRuns:
    """Starts an artifact in every way that the ladder needs, side by side.

    Args:
        jobs: Where to run.
        model: The ONNX file.
        feeds: Folder of the feeds.
        names: Feed name -> ONNX input name.
        providers: Which providers to use.
        seed: Seed of the noise draws.
        unfolded: The referee's job on the unfolded export, when there is one (:func:`start_unfolded`).
        runtime: Which runtime to judge.
        stored: Whether constants are perturbed by the unit of the type they are stored in (an ONNX source, an export
            of our own) and not by float32's (a file that may have been rounded to another type than the source's).
        reduced: The reduced precisions that are accepted.
    """
    threads = jobs.threads_each
    common = {"names": dict(names), "seed": seed}
    own = reads_of(model)

    def referee(label: str, reads: Mapping[str, Path], *, urgency: int = 0, **params: Any) -> Future[JobResult]:
        spec = JobSpec("referee", label, {**common, **params}, {**reads, "feeds": feeds}, threads=threads)
        return jobs.start(spec, urgency=urgency)

    def run(label: str, provider: str, **params: Any) -> Future[JobResult]:
        asked = {**common, "runner": runtime.params(), "provider": provider, **params}
        return jobs.start(JobSpec(runtime.kind, label, asked, {**own, "feeds": feeds}))

    # The normaliser first, since the longest waits for it: where little changes, the referee runs both graphs as one.
    started = {"normalize": jobs.start(JobSpec("normalize", "normalize", {}, own, threads=threads), urgency=2)}

    def base(done: JobResult | None) -> Future[JobResult]:
        reads = {**own, "normalized": _written(done)} if done is not None and _little_changed(done) else own
        return referee("referee/f64", reads, urgency=3, rounding=True, floor=True, stored=stored, reduced=list(reduced))

    def normalized(done: JobResult | None) -> Future[JobResult]:
        if done is None:
            return started["normalize"]
        if not done.data["changed"] or _little_changed(done):
            return started["referee/f64"]
        return referee(_NORMALIZED, reads_of(_written(done)))

    started["referee/f64"] = jobs.then(started["normalize"], base)
    started[_NORMALIZED] = jobs.then(started["normalize"], normalized)
    if unfolded is not None:
        started[_UNFOLDED] = unfolded
    deployed, plain = runtime.deployed, runtime.plain
    started[deployed] = run(deployed, "cpu", optimize=True, tf32=False, repeats=True)
    started[plain] = run(plain, "cpu", optimize=False, tf32=False)
    cuda = next(p for p in providers if p.name == "cuda")
    if not cuda.why_not and runtime.name == "ort":
        started["ort/cuda no-tf32"] = run("ort/cuda no-tf32", "cuda", optimize=True, tf32=False, device=cuda.device)
        started["ort/cuda"] = run("ort/cuda", "cuda", optimize=True, tf32=True, device=cuda.device)
    question = JobSpec("referee", "question", common, {**own, "feeds": feeds}, threads=threads)
    return StartedRuns(started, tuple(providers), question, runtime)


def start_unfolded(jobs: Jobs, export: Export, feeds: Path, inputs: Sequence[str], seed: int) -> Future[JobResult]:
    """Starts the referee on an unfolded export, while the exporter still works on the deployed one.

    Args:
        jobs: Where to run.
        export: The unfolded export.
        feeds: Folder of the feeds.
        inputs: Their names, in the export's order.
        seed: Part of every referee's job.
    """
    params = {"names": dict(zip(inputs, export.input_names, strict=False)), "seed": seed}
    reads = {**reads_of(export.path), "feeds": feeds}
    return jobs.start(JobSpec("referee", _UNFOLDED, params, reads, threads=jobs.threads_each))


def _written(normalize: JobResult) -> Path:
    return normalize.out / str(normalize.data["path"])


def _little_changed(normalize: JobResult) -> bool:
    """Whether less than half of the graph has to be computed again; more is better run beside the rest."""
    return bool(normalize.data["changed"]) and 2 * int(normalize.data["recomputed"]) < int(normalize.data["nodes"])


def _outcome(future: Future[JobResult]) -> _Outcome:
    """What could not be run is said on its rung."""
    try:
        return _Outcome(future.result())
    except FrameworkMissing:  # the user can mend it
        raise
    except OnnxeqError as error:
        return _Outcome(None, error.line(), _is_refusal(error))


def _is_refusal(error: OnnxeqError) -> bool:
    """Whether a runtime said no, or died of the model; running out of memory or time is not the model's doing."""
    if isinstance(error, (JobCrashed, JobOutOfMemory, JobTimeout)):
        return False
    return isinstance(error, CannotRun) and "SIGKILL" not in error.message
