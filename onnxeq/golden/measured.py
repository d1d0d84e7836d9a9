"""What the referee says of a model today: its float64 outputs, the two units, and a digest for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onnxeq.arrays import load_feeds
from onnxeq.errors import OnnxeqError
from onnxeq.golden import feeds as feeds_
from onnxeq.golden.layers import Layers, digest_of, from_arrays
from onnxeq.golden.today import Today
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.kept import store_feeds
from onnxeq.model_files import reads_of
from onnxeq.reduced import KINDS
from onnxeq.runtimes import choose_runner
from onnxeq.types import Array, Feed

__all__ = ["Measured", "feeds_folder", "layers_of_runtime", "measure", "reduced"]

_DRAWS = 2


@dataclass(frozen=True)
class Measured:
    """The referee's account of one model.

    Attributes:
        trace: Its float64 outputs, under the source's names; empty where it could not run.
        rounding: The rounding noise of each output element.
        floor: The constant floor of each output element.
        layers: Digests of the graph's values on the first feed.
        missing: Why there is none of this.
    """

    trace: tuple[Feed, ...] = ()
    rounding: tuple[Feed, ...] = ()
    floor: tuple[Feed, ...] = ()
    layers: Layers | None = None
    missing: str = ""
    reduced: Mapping[str, tuple[Feed, ...]] = field(default_factory=dict)


def feeds_folder(jobs: Jobs, today: Today) -> Path:
    """The folder of a model's feeds."""
    subject = today.subject
    return store_feeds(feeds_.of_golden(today.inputs, today.kept or subject.arrays, subject.folder), jobs.root)


def _job(jobs: Jobs, today: Today, kind: str, label: str, **params: object) -> JobSpec:
    reads = {**reads_of(today.path), "feeds": feeds_folder(jobs, today)}
    asked = {"names": dict(today.names), "seed": 0, **params}
    return JobSpec(kind, f"{label} {today.subject.name}", asked, reads, threads=jobs.threads_each)


def measure(jobs: Jobs, today: Today) -> Measured:
    """Asks the referee; ``jobs`` may look its answers up, which depend on no runtime, version or machine.

    Raises:
        onnxeq.errors.OnnxeqError: The golden's inputs cannot be had.
    """
    common = {"rounding": True, "floor": True, "stored": today.stored, "reduced": []}
    asked = jobs.start(_job(jobs, today, "referee", "referee/f64", **common))
    inner = jobs.start(_job(jobs, today, "golden-layers", "layers", draws=_DRAWS))
    try:
        done = asked.result()
    except OnnxeqError as error:
        inner.exception()
        return Measured(missing=error.line())
    try:
        held = inner.result()
        layers = from_arrays(load_feeds(held.out / "layers")[0])
    except OnnxeqError:
        layers = None
    stopped = str(done.data["stopped"])
    if stopped:
        return Measured(missing=stopped)
    return Measured(_trace(done, today, "trace"), _trace(done, today, "rounding"), _trace(done, today, "floor"), layers)


def reduced(jobs: Jobs, today: Today) -> Mapping[str, tuple[Feed, ...]]:
    """What each reduced precision does to the outputs; empty where that cannot be computed."""
    try:
        done = jobs.start(_job(jobs, today, "referee", "precision", reduced=list(KINDS))).result()
    except OnnxeqError:
        return {}
    return {kind: _trace(done, today, kind) for kind in KINDS if (done.out / kind / "index.json").exists()}


def _trace(done: JobResult, today: Today, folder: str) -> tuple[Feed, ...]:
    return tuple({today.pairs.get(k, k): v for k, v in feed.items()} for feed in load_feeds(done.out / folder))


def layers_of_runtime(jobs: Jobs, today: Today, most_bytes: int = 2**28) -> Mapping[str, Array]:
    """Digests of the values that the runtime computes on the first feed; empty where it does not give them."""
    from onnxeq import traces

    runtime = choose_runner(today.subject.how.runner)
    cuda = today.subject.how.provider == "cuda"
    params = {
        "runner": runtime.params(), "memory": most_bytes, "provider": "cuda" if cuda else "cpu", "optimize": True,
        "tf32": cuda, "threads": 0,
    }  # fmt: skip
    spec = _job(jobs, today, "trace", "inner values", **params)
    try:
        done = jobs.start(spec).result()
        if done.data["failed"]:
            return {}
        held = traces.load(done.out / "trace-0")
    except OnnxeqError:
        return {}
    return {name: digest_of(held.array(name)) for name in _numbers(held)}


def _numbers(held: object) -> Sequence[str]:
    from onnxeq.traces import Trace

    return [n for n, row in held.rows.items() if row.dtype != "string"] if isinstance(held, Trace) else []
