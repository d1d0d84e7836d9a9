"""The predictions of models on labelled items.

Pictures are prepared some at a time, run by every model that takes that recipe's pictures, and dropped; the next ones
are prepared meanwhile. What a model says of prepared items is a job's result, so that it is known the next time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnxeq import zoo
from onnxeq.compare.accuracy.datasets import Items
from onnxeq.compare.accuracy.entrants import Entrant, Way
from onnxeq.errors import BadInputs, OnnxeqError, UsageError
from onnxeq.jobs import JobResult, Jobs, JobSpec, Lane
from onnxeq.model_files import reads_of
from onnxeq.preprocessing.pictures import load_params, reads
from onnxeq.preprocessing.recipe import recipe_to_record
from onnxeq.records import spec_to_record
from onnxeq.types import Array

__all__ = ["CHUNK", "Predictions", "predict"]

CHUNK = 128
"""Pictures that are prepared at a time: 77 MB of 224x224 in float32."""


@dataclass(frozen=True)
class Predictions:
    """What one model says of all items.

    Attributes:
        top: ``int32[N,5]``, the largest classes of each item; :data:`onnxeq.runners.predicting.UNKNOWN` for none.
        classes: How many it tells apart.
        notes: What was done to the items, and what came out.
    """

    top: Array
    classes: int
    notes: tuple[str, ...]


@dataclass
class _Taker:
    """A model that is run on the items, and what it has said so far."""

    entrant: Entrant
    lane: Lane
    files: Mapping[str, Path]
    parts: list[JobResult] = field(default_factory=list)
    problem: str = ""


def predict(
    jobs: Jobs, items: Items, way: Way | None, entrants: Sequence[Entrant], *, trust: bool
) -> dict[str, Predictions | str]:
    """Model -> its predictions on the items, prepared in one way, or why there are none.

    Args:
        jobs: Where to run.
        items: The items.
        way: How pictures are prepared; ``None`` where arrays are fed.
        entrants: The models.
        trust: Whether code stored in model files may run.

    Raises:
        BadInputs: A picture cannot be read.
    """
    takers = [_Taker(e, jobs.lane(), reads_of(e.source.artifact.path)) for e in entrants]
    layout = "" if way is None else way.layout
    try:
        for begin, chunk in _chunks(jobs, items, way, trust):
            running = [t for t in takers if not t.problem]
            if not running:
                break
            place = f"from item {begin + 1} of {len(items.labels)}"
            waiting = [_run(jobs, t, chunk, layout, place, way) for t in running]
            for taker, future in zip(running, waiting, strict=True):
                try:
                    taker.parts.append(future.result())
                except OnnxeqError as error:
                    taker.problem = error.line()
    except UsageError:
        raise
    except OnnxeqError as error:
        return {taker.entrant.name: error.line() for taker in takers}
    finally:
        for taker in takers:
            taker.lane.close()
    return {taker.entrant.name: taker.problem or _joined(taker) for taker in takers}


def _chunks(jobs: Jobs, items: Items, way: Way | None, trust: bool) -> Iterator[tuple[int, Path]]:
    """The place of the first item, and where some of them lie, prepared."""
    if way is None:
        begin = 0
        for path in items.chunks:
            yield begin, path
            begin += len(np.load(path, mmap_mode="r"))
        return
    lane = jobs.lane()
    begins = range(0, len(items.pictures), CHUNK)
    try:
        following = _prepare(jobs, way, items, 0, lane, trust)
        for begin in begins:
            done = following.result()
            with _dropped(done):
                if begin + CHUNK < len(items.pictures):
                    following = _prepare(jobs, way, items, begin + CHUNK, lane, trust)
                if said := next((text for text in done.data.get("errors", ()) if text), ""):
                    raise BadInputs(said)
                yield begin, done.out / "feeds"
    finally:
        lane.close()


@contextmanager
def _dropped(done: JobResult) -> Iterator[None]:
    """Prepared pictures take a hundred times the room of the files: they go when they have been run."""
    try:
        yield
    finally:
        if not done.cached:
            shutil.rmtree(done.folder, ignore_errors=True)


def _prepare(jobs: Jobs, way: Way, items: Items, begin: int, lane: Lane, trust: bool) -> Future[JobResult]:
    chosen = items.pictures[begin : begin + CHUNK]
    label = f"pictures by {way.name} from item {begin + 1} of {len(items.pictures)}"
    if way.ref is None:
        files = {f"picture {index:04d}": path.resolve() for index, path in enumerate(chosen)}
        params = {"recipes": [recipe_to_record(way.recipe)]}
        return jobs.start(JobSpec("pictures", label, params, files), lane, urgency=1)
    where = zoo.require_framework(way.ref, environment=jobs.where("native-pictures"))
    load = {"load": load_params(way.ref, trust)}
    spec = JobSpec("native-pictures", label, load, reads(way.ref, chosen), environment=where)
    return jobs.start(spec, lane, urgency=1)


def _run(jobs: Jobs, taker: _Taker, chunk: Path, layout: str, place: str, way: Way | None) -> Future[JobResult]:
    artifact = taker.entrant.source.artifact
    params = {
        "input": spec_to_record(artifact.info.inputs[0]),
        "layout": layout,
        "wanted": taker.entrant.wanted,
        "threads": jobs.threads_each,
    }
    other = f" as {way.name}" if way is not None and way != taker.entrant.way else ""
    label = f"accuracy of {taker.entrant.name}{other} {place}"
    spec = JobSpec("predict", label, params, {**taker.files, "items": chunk}, threads=jobs.threads_each)
    return jobs.start(spec, taker.lane)


def _joined(taker: _Taker) -> Predictions | str:
    parts = taker.parts
    counts = {part.data["classes"] for part in parts}
    if len(counts) > 1:
        return f"it gives {' and '.join(map(str, sorted(counts)))} classes"
    notes = [f"items are fed with {turn}" for turn in dict.fromkeys(part.data["turn"] for part in parts) if turn]
    if nan := sum(part.data["nan"] for part in parts):
        notes.append(f"its outputs for {nan} {'items are' if nan != 1 else 'item is'} NaN, which counts as wrong")
    if any(part.data["single"] for part in parts):
        notes.append("it is run one item at a time, since it refuses batches")
    top = np.concatenate([np.load(part.out / "top.npy", allow_pickle=False) for part in parts])
    return Predictions(top, counts.pop(), tuple(notes))
