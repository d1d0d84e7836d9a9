"""The inner values of an execution on disk: a job that runs a model and writes what it computes on the way.

A runtime is asked for its own values without being disturbed: an optimised graph is saved by the runtime and run
literally, with further outputs, some at a time, so that they are never all in memory. In each of these runs the model's
own outputs are compared bit by bit with those of the run as deployed. Values that change them are left out and named.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxeq.arrays import save_feeds
from onnxeq.errors import CannotRun
from onnxeq.graph.inspect import load
from onnxeq.graph.skim import by_reference
from onnxeq.inputs import adapt
from onnxeq.layers.extents import extents_of
from onnxeq.layers.kernels.hidden import hiding
from onnxeq.layers.optimized.observed import Observed, observed, observed_in_optimized
from onnxeq.layers.probes import Extent, GraphIndex, Prober
from onnxeq.protocols import Runner, Session, SessionOptions
from onnxeq.referee import Executor
from onnxeq.runners.runtime import feeds_of, flatten, options_of, outputs_of, runner_of
from onnxeq.traces import TraceWriter
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["referee", "run", "warm_up"]


def warm_up() -> None:
    """Has the runtime imported while the process waits for a job."""
    from onnxeq.runners import ort

    ort.warm_up()


@dataclass(frozen=True)
class _Subject:
    """A runtime with the graph that is run for its values.

    Attributes:
        runner: The runtime.
        model: The graph, with its data.
        options: How it is opened.
        values: Its values that are values of the model, in order.
        extents: Their types and sizes.
        prober: Writes copies with further outputs.
        moved: Whether it is not the model's own graph, so that a value may lie otherwise there.
    """

    runner: Runner
    model: onnx.ModelProto
    options: SessionOptions
    values: tuple[Observed, ...]
    extents: Mapping[str, Extent]
    prober: Prober
    moved: bool = False

    def open(self, values: Sequence[Observed]) -> Session:
        """A session that gives these values as well."""
        names = [v.name for v in values]
        with contextlib.suppress(CannotRun):
            return self.runner.open(self.prober.write(names, self.extents), self.options)
        return self.runner.open(self.prober.write(names, self.extents, typed=False), self.options)


def run(job: Job) -> dict[str, Any]:
    """Writes ``out/trace-N`` for feed N, under the names of ``job.inputs['model']``, and ``out/outputs``.

    Parameters: ``names``, ``runner``, ``optimize``, ``provider``, ``tf32`` as for :mod:`onnxeq.runners.runtime`,
    ``threads``, and ``memory``, the bytes of inner values that one run may give.

    Returns:
        ``values``: how many were written; ``total``: how many the graph that ran makes; ``literal``: whether it was run
        as it is, because the runtime does not say what it makes of it; ``changed``: outputs that had other bits while
        inner values were asked for; ``hidden``: values that were left out because they change them; ``versions``; and
        ``failed``: what the runtime says where it refuses the model, or fails on it. Then nothing is written.
    """
    runner, options = runner_of(job), replace(options_of(job.params), threads=int(job.params.get("threads", 0)))
    feeds = feeds_of(job)
    job.step("run as deployed")
    (job.out / _COPIES).mkdir()
    try:
        session = _as_deployed(job, runner, options)
        deployed = [outputs_of(session, feed) for feed in feeds]
        del session
    except CannotRun as error:
        _tidy(job.out)
        return {"failed": error.line(), "changed": [], "hidden": [], "versions": dict(runner.versions())}
    _give_back()
    save_feeds(job.out / "outputs", deployed)
    job.step("load")
    subject, literal = _subject(job, runner, options, feeds)
    _give_back()
    changed: set[str] = set()
    left_out: list[Observed] = []
    for number, feed in enumerate(feeds):
        job.step("inner values" + (f" on feed {number + 1} of {len(feeds)}" if len(feeds) > 1 else ""))
        folder, most = job.out / f"trace-{number}", int(job.params["memory"])
        differing = _write(subject, feed, deployed[number], folder, most)
        if differing and not left_out:
            job.step("values that must not be asked for")
            left_out = _disturbing(subject, feed, deployed[number])
            subject = replace(subject, values=tuple(v for v in subject.values if v not in left_out))
            shutil.rmtree(folder)
            differing = _write(subject, feed, deployed[number], folder, most)
        changed.update(differing)
    _tidy(job.out)
    return {
        "failed": "",
        "values": len(subject.values),
        "total": sum(1 for node in subject.model.graph.node for name in node.output if name),
        "literal": literal,
        "changed": sorted(changed),
        "hidden": [v.value for v in left_out],
        "versions": dict(runner.versions()),
    }


def _give_back() -> None:
    """Returns freed memory to the system where the C library keeps it: two of these jobs run side by side."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _tidy(out: Path) -> None:
    """Removes the copies of the model, which nobody reads any more: what stays is hashed and kept."""
    shutil.rmtree(out / _COPIES, ignore_errors=True)


_COPIES = "copies"
_OPTIMIZED = "optimized.onnx"


def _as_deployed(job: Job, runner: Runner, options: SessionOptions) -> Session:
    """A session as users have it; where the runtime gives its optimised graph away, that is written as well.

    It is one session and not two, since what a runtime makes of a model takes longer than to run it.
    """
    path = job.inputs["model"]
    if options.optimize and hasattr(runner, "save_optimized"):
        target = job.out / _COPIES / _OPTIMIZED
        try:
            session: Session | None = runner.save_optimized(_with_weights_apart(path, target.parent), options, target)
        except CannotRun:
            target.unlink(missing_ok=True)
            session = None
        if session is not None:
            return session
    return runner.open(path, options)


def _with_weights_apart(path: Path, folder: Path) -> Path:
    """The same model, its weights read from where they lie in its file: then a runtime need not hold them twice.

    The file itself where it cannot be linked to, or where its data lies elsewhere already.
    """
    apart = folder / "apart" / path.name
    with contextlib.suppress(OSError):
        apart.parent.mkdir()
        apart.hardlink_to(path)
        copy = apart.with_name(f"apart-{path.name}")
        copy.write_bytes(by_reference(path).SerializeToString())
        return copy
    return path


def _subject(job: Job, runner: Runner, options: SessionOptions, feeds: Sequence[Feed]) -> tuple[_Subject, bool]:
    """What is run for its values: the optimised graph where the runtime gives it away, else the model itself."""
    path, copies = job.inputs["model"], job.out / _COPIES
    if (copies / _OPTIMIZED).exists():
        model, ran = by_reference(path), onnx.load(copies / _OPTIMIZED, load_external_data=False)
        found = tuple(observed_in_optimized(model, ran, path.parent, copies))
        extents = extents_of(model, feeds)
        sizes = {v.name: extents[v.value] for v in found}
        literally = replace(options, optimize=False)
        return _Subject(runner, ran, literally, found, sizes, Prober(ran, copies), moved=True), False
    model = load(path)
    extents = extents_of(model, feeds)
    return _Subject(
        runner, model, options, tuple(observed(model)), extents, Prober(model, copies)
    ), not options.optimize


def _parts(values: Sequence[Observed], extents: Mapping[str, Extent], most: int) -> Iterator[list[Observed]]:
    """The values in order, at most so many bytes at a time."""
    part: list[Observed] = []
    size = 0
    for value in values:
        own = extents[value.name].nbytes
        if part and size + own > most:
            yield part
            part, size = [], 0
        part.append(value)
        size += own
    if part:
        yield part


def _write(subject: _Subject, feed: Feed, deployed: Feed, folder: Path, most: int) -> list[str]:
    """Writes the values; gives the outputs that had other bits meanwhile."""
    changed: set[str] = set()
    own = list(subject.prober.outputs)
    with TraceWriter(folder, {"moved": subject.moved}) as writer:
        for part in _parts(subject.values, subject.extents, most):
            values = dict(subject.open(part).run(feed))
            outputs = flatten(own, [values[name] for name in own])
            changed |= {name for name, value in outputs.items() if not _equal(value, deployed.get(name))}
            for value in part:
                array = values.pop(value.name, None)
                if array is None or isinstance(array, list):
                    continue
                plain = value.plain(np.asarray(array))
                wanted = subject.extents[value.name].shape
                if wanted is not None and plain.shape != wanted and value.name != value.value:
                    continue  # the same numbers in another layout: an optimiser moves Transposes about
                writer.add(value.value, plain)
    return sorted(changed)


def _disturbing(subject: _Subject, feed: Feed, deployed: Feed) -> list[Observed]:
    """The values that change the outputs when they are asked for."""
    by_name = {v.name: v for v in subject.values}
    own = list(subject.prober.outputs)

    def hides(names: Sequence[str]) -> bool:
        values = subject.open([by_name[n] for n in names]).run(feed)
        outputs = flatten(own, [values[name] for name in own])
        return any(not _equal(value, deployed.get(name)) for name, value in outputs.items())

    if hides([]):
        return []  # the outputs change from run to run, whatever is asked for
    return [by_name[n] for n in hiding([v.name for v in subject.values if v.value not in own], hides)]


def _equal(a: Array, b: Array | None) -> bool:
    return b is not None and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == np.asarray(b).tobytes()


class _Tap:
    """A hook of the referee that writes every value of the main graph."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer

    def constant(self, _name: str, value: Any, _dtype: str) -> Any:
        return value

    def node(self, info: Any, _inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
        if not info.path:
            for name, value in zip(info.node.output, outputs, strict=False):
                if name and isinstance(value, np.ndarray):
                    self._writer.add(name, value)
        return outputs


def referee(job: Job) -> dict[str, Any]:
    """The same of the referee, in float64. Parameter: ``names``.

    Raises:
        onnxeq.errors.OnnxeqError: It lacks an operator, or the graph fails.
    """
    job.step("load")
    model = load(job.inputs["model"])
    executor = Executor(model, base_dir=job.inputs["model"].parent)
    dtypes = {s.name: s.dtype for s in executor.inputs}
    outputs = []
    for number, feed in enumerate(feeds_of(job)):
        job.step("inner values")
        with TraceWriter(job.out / f"trace-{number}") as writer:
            values = executor.run(adapt(feed, dtypes), hook=_Tap(writer))
        outputs.append(flatten(list(values), list(values.values())))
    save_feeds(job.out / "outputs", outputs)
    total = len(GraphIndex(model).makers)
    return {"failed": "", "values": total, "total": total, "literal": True, "changed": [], "hidden": [], "versions": {}}
