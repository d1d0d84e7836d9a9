"""Jobs: one directory, one process, one result; cached by content.

A job's directory holds ``job.json`` (what to do), ``steps.jsonl`` (where it is), ``log.txt`` and
``out/`` (what it produced). It is the cache entry, the bug report and the repro at once::

    python -m onnxeq.worker DIRECTORY      # replays it

It is built under a temporary name and renamed into place only after ``result.json``, which lists every
file it produced with its size and SHA-256, has been written: no half-written job can be taken for a finished one.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import queue
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxeq import errors, fingerprint
from onnxeq.cache import cache_root, keep_failed, limit_bytes, lookup, place, prune_now_and_then, sweep
from onnxeq.envs.environment import Environment
from onnxeq.errors import JobCrashed, JobKilled, JobOutOfMemory, JobTimeout, OnnxeqError, UsageError
from onnxeq.memory import job_limit
from onnxeq.processes import Ended, Lane, Pool, command

__all__ = ["JobResult", "JobSpec", "Jobs", "Lane", "Listener"]

Listener = Callable[[str, str], None]
"""Called with a job's label and the step it began; the step is ``done``, ``cached`` or ``failed`` at the end."""


@dataclass(frozen=True)
class JobSpec:
    """What a job does.

    Attributes:
        kind: Key of ``onnxeq.worker.KINDS``.
        label: The name shown to the user (``ort/cpu plain``).
        params: JSON values; part of the cache key.
        inputs: Files and folders that the job reads; their content is part of the cache key.
        threads: Threads that numeric libraries may use; 0 leaves them their default.
        cache: Whether a finished result may be reused.
        environment: Where it runs; ``None`` leaves that to the :class:`Jobs`.
    """

    kind: str
    label: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    threads: int = 0
    cache: bool = True
    environment: Environment | None = None


_RUNTIME_KINDS = frozenset("anchor golden isolate latency ort predict runtime sizes steadiness trace".split())
"""Kinds of job that run a runtime."""


@dataclass(frozen=True)
class JobResult:
    """A finished job: its directory, what it returned, its cost."""

    folder: Path
    data: Mapping[str, Any]
    seconds: float
    peak_bytes: int
    cached: bool

    @property
    def out(self) -> Path:
        """The folder of the files that it produced."""
        return self.folder / "out"


@dataclass(frozen=True, order=True)
class _Queued:
    """A job that waits; the smallest is the next: by urgency, then in the order of asking."""

    rank: tuple[int, int]
    spec: JobSpec = field(compare=False)
    lane: Lane | None = field(compare=False)
    future: Future[JobResult] = field(compare=False)


class Jobs:
    """Runs jobs side by side and keeps their results.

    Use as a context manager: leaving it on an exception (Ctrl-C included) stops all jobs and removes half-written work.

    Args:
        parallel: How many processes may run at once.
        timeout_s: Limit for each job; ``None`` for none.
        listener: Told of each step.
        use_cache: Whether finished jobs are looked up (they are always stored).
        environment: Where jobs of a framework it holds run, and those of onnxruntime if it holds that; all others, what
            judges above all (the referee, the normaliser), run in the host's own Python.
    """

    def __init__(
        self,
        *,
        parallel: int | None = None,
        timeout_s: float | None = None,
        listener: Listener | None = None,
        use_cache: bool = True,
        environment: Environment | None = None,
    ) -> None:
        self.root = cache_root()
        self.environment = environment
        self.environments = [] if environment is None else [environment]  # and those that jobs name themselves
        self.parallel = parallel or max(1, min(4, os.cpu_count() or 1))
        self._timeout_s = timeout_s
        self._listen = listener or (lambda _label, _step: None)
        self._use_cache = use_cache
        self._pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="onnxeq-job")
        self._workers = Pool(self.root / "jobs")
        self._queue: queue.PriorityQueue[_Queued] = queue.PriorityQueue()
        self._asked = itertools.count()
        self._lanes: list[Lane] = []
        self._stop = threading.Event()
        self._inline = threading.Lock()  # frameworks are not made for two threads: an export patches what it traces
        self._wrote = False
        if timeout_s is not None and not timeout_s > 0:
            raise UsageError(f"a time limit of {timeout_s:g} s leaves no time", hint="write --timeout 600, say")
        limit_bytes()  # a bad setting is said before the work, not after it
        job_limit()
        try:
            for name in ("jobs", "failed"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "set ONNXEQ_CACHE to a folder that can be written"
            raise UsageError(f"the cache {self.root} cannot be made: {error.strerror}", hint=hint) from error
        sweep(self.root / "jobs")

    @property
    def threads_each(self) -> int:
        """How many threads a job may use when as many as can run side by side."""
        return max(1, (os.cpu_count() or 1) // self.parallel)

    @functools.cached_property
    def scratch(self) -> Path:
        """A folder for what is needed while these jobs run, and goes with them."""
        folder = self.root / "jobs" / f"scratch.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
        folder.mkdir()
        return folder

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is not None:
            self._stop.set()
            for queued in tuple(self._queue.queue):
                queued.future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for lane in self._lanes:
            lane.close()
        self._workers.close()
        if "scratch" in self.__dict__:
            shutil.rmtree(self.scratch, ignore_errors=True)
        if self._wrote:
            prune_now_and_then(self.root)

    def start(self, spec: JobSpec, lane: Lane | None = None, *, urgency: int = 0) -> Future[JobResult]:
        """Queues a job; the future raises the job's typed error.

        Args:
            spec: What to do.
            lane: Jobs of one lane share a process and what they load in it; without one the job has its own.
            urgency: Whoever waits with less goes behind it.
        """
        if (there := spec.environment or self.where(spec.kind)) is not None:
            spec = replace(spec, environment=there, label=f"{spec.label} in {there.name}")
            self.environments += [] if there in self.environments else [there]
        queued = _Queued((-urgency, next(self._asked)), spec, lane, Future())
        self._queue.put(queued)
        self._pool.submit(self._next)
        return queued.future

    def lane(self) -> Lane:
        """A lane whose process lives until these jobs end, unless it is closed before."""
        self._lanes.append(Lane())
        return self._lanes[-1]

    def _next(self) -> None:
        """Runs the job whose turn it is: there is one for each call."""
        queued = self._queue.get_nowait()
        if not queued.future.set_running_or_notify_cancel():
            return
        try:
            result = self._run(queued.spec, queued.lane)
        except BaseException as error:  # the future carries it to whoever waits
            queued.future.set_exception(error)
        else:
            queued.future.set_result(result)

    def then(
        self, first: Future[JobResult], follow: Callable[[JobResult | None], Future[JobResult]]
    ) -> Future[JobResult]:
        """The job that ``follow`` starts when another has ended, without a thread that waits for it.

        ``follow`` is given the first job's result, or ``None`` when that failed.
        """
        last: Future[JobResult] = Future()

        def settle(done: Future[JobResult]) -> None:
            error = CancelledError() if done.cancelled() else done.exception()
            last.set_result(done.result()) if error is None else last.set_exception(error)

        def go_on(done: Future[JobResult]) -> None:
            error = CancelledError() if done.cancelled() else done.exception()
            if error is not None and not isinstance(error, OnnxeqError):  # interrupted
                last.set_exception(error)
                return
            try:
                follow(done.result() if error is None else None).add_done_callback(settle)
            except (OnnxeqError, RuntimeError) as refused:  # RuntimeError: the pool takes no jobs any more
                last.set_exception(refused)

        first.add_done_callback(go_on)
        return last

    def expect(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Says which jobs will follow, by kind and threads: their processes are started beside the next job."""
        self._workers.expect([(kind, threads, self.where(kind)) for kind, threads in wanted])

    def where(self, kind: str) -> Environment | None:
        """The environment of jobs of a kind; ``None`` is the host's own Python."""
        there = self.environment
        if there is None:
            return None
        framework = kind.startswith("native") or kind == "catalogue"
        runs = there.runs_frameworks if framework else kind in _RUNTIME_KINDS and there.runs_onnxruntime
        return there if runs else None

    def run_inline(self, spec: JobSpec, objects: Mapping[str, Any], shared: dict[str, Any]) -> JobResult:
        """Runs a job in this process, for live objects that cannot cross to another; never cached.

        Args:
            spec: What to do.
            objects: The live objects.
            shared: What the inline jobs of one model leave for each other.
        """
        from onnxeq import worker

        final = self.root / "jobs" / f"live-{uuid.uuid4().hex}"
        work, tell = self._prepare(spec, final), functools.partial(self._listen, spec.label)
        began = time.perf_counter()
        try:
            with self._inline:
                worker.execute(work, objects=objects, shared=shared, listener=tell)
            return self._finish(spec, work, final, time.perf_counter() - began)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _run(self, spec: JobSpec, lane: Lane | None) -> JobResult:
        final = self.root / "jobs" / _key(spec)
        if self._use_cache and spec.cache:
            found = lookup(final)
            if found is not None:
                self._listen(spec.label, "cached")
                return JobResult(final, found["data"], float(found["seconds"]), int(found["peak_bytes"]), cached=True)
        work = self._prepare(spec, final)
        began = time.perf_counter()
        used = lane or Lane()
        try:
            self._execute(spec, work, used)
            return self._finish(spec, work, final, time.perf_counter() - began)
        except OnnxeqError:
            self._listen(spec.label, "failed")
            raise
        finally:
            if lane is None:
                used.close()
            shutil.rmtree(work, ignore_errors=True)

    def _prepare(self, spec: JobSpec, final: Path) -> Path:
        work = final.with_name(f"{final.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
        (work / "out").mkdir(parents=True)
        job = {
            "kind": spec.kind,
            "label": spec.label,
            "params": dict(spec.params),
            "inputs": {name: str(Path(path).resolve()) for name, path in spec.inputs.items()},
            "threads": spec.threads,
            "versions": _versions(spec),
            "user_path": [str(Path.cwd())],
        }
        if spec.environment is not None:
            job["environment"] = {"name": spec.environment.name, "python": str(spec.environment.python)}
        (work / "job.json").write_text(json.dumps(job, indent=1, sort_keys=True))
        return work

    def _execute(self, spec: JobSpec, work: Path, lane: Lane) -> None:
        tell = functools.partial(self._listen, spec.label)
        converter = str(spec.params.get("load", spec.params).get("converter", ""))
        with lane.worker(self._workers, spec.kind, spec.threads, spec.environment, converter=converter) as worker:
            try:
                ended = worker.run(work, tell, self._stop, self._timeout_s)
                self._judge(spec, work, ended)
            except BaseException:
                worker.end()
                raise

    def _judge(self, spec: JobSpec, work: Path, ended: Ended) -> None:
        """Raises the typed error of a job without a result."""
        step = ended.step
        keep = functools.partial(keep_failed, self.root, work, command(spec.environment))
        if ended.overdue:
            raise JobTimeout(
                f"{spec.label}: ran longer than the {self._timeout_s:g} s allowed, in step '{step}'",
                hint=f"allow more with --timeout, or replay it: {keep()}",
                step=step,
            )
        if ended.heavy:
            raise JobOutOfMemory(
                f"{spec.label}: stopped in step '{step}', since {ended.heavy}",
                hint="give it smaller inputs with --shape or --batch, or run it on a larger machine",
                step=step,
            )
        if (work / "error.json").exists():
            error = errors.from_record(json.loads((work / "error.json").read_text()))
            if isinstance(error, JobCrashed):
                error.hint = f"the log and a replay: {keep()}"
            raise error
        if ended.status is not None and ended.status < 0:
            name = signal.Signals(-ended.status).name
            guess = " (out of memory, unless somebody killed it)" if name == "SIGKILL" else ""
            last = _last_line(work / "log.txt")
            raise JobKilled(
                f"{spec.label}: its process died by {name}{guess} in step '{step}'" + (f": {last}" if last else ""),
                hint=f"replay it: {keep()}",
                step=step,
            )
        if not (work / "result.json").exists():
            raise JobCrashed(
                f"{spec.label}: its process ended with status {ended.status} and no result in step '{step}'",
                hint=f"the log and a replay: {keep()}",
                step=step,
            )

    def _finish(self, spec: JobSpec, work: Path, final: Path, seconds: float) -> JobResult:
        record = json.loads((work / "result.json").read_text())
        record["seconds"] = seconds
        _write_synced(work / "result.json", json.dumps(record))
        if self._use_cache and spec.cache and lookup(final) is not None:
            # Somebody finished the same job meanwhile, and may be reading it: theirs stays.
            shutil.rmtree(work, ignore_errors=True)
        else:
            final = place(work, final, seconds)
            for name, (_, sha256) in record["files"].items():
                fingerprint.learn(final / name, sha256)
        self._wrote = True
        self._listen(spec.label, "done")
        return JobResult(final, record["data"], seconds, int(record.get("peak_bytes", 0)), cached=False)


def _versions(spec: JobSpec) -> dict[str, str]:
    """The versions of what the job runs."""
    return fingerprint.versions() if spec.environment is None else spec.environment.versions()


def _key(spec: JobSpec) -> str:
    content = {
        "kind": spec.kind,
        "params": dict(spec.params),
        "inputs": {name: fingerprint.of_path(Path(path)) for name, path in spec.inputs.items()},
        "threads": spec.threads,
        "versions": _versions(spec),
        "code": fingerprint.of_code() if spec.cache else "",  # what is never looked up only needs a place of its own
        "machine": fingerprint.machine(),
    }
    if spec.environment is not None:
        content["environment"] = spec.environment.key
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def _write_synced(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
