"""Worker processes, from the host's side: started, handed a job's directory, watched, ended.

A worker imports what its kind of job needs and waits for directories on its standard input, one path a line
(:mod:`onnxeq.worker`). It ends itself when that input closes, so it cannot outlive the host. Since it is told
what to do only after it has started, workers can be started ahead, while the host waits for something else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onnxeq import launch
from onnxeq.envs import locks
from onnxeq.envs.environment import Environment
from onnxeq.envs.environment import read as read_environment
from onnxeq.errors import UsageError
from onnxeq.memory import Watch

__all__ = ["Ended", "Lane", "Pool", "Worker", "start_early"]

_POLL_S = 0.02

_WATCH = Watch()
"""Looks after the memory that the workers of this host take, all of them together."""


@dataclass(frozen=True)
class Ended:
    """How a worker left a job.

    Attributes:
        status: Exit status of the process (negative: the signal); ``None`` while it lives, waiting for more.
        step: The last step that the job told.
        overdue: Whether it was stopped because its time was up.
        heavy: Why it was stopped, when that was for its memory.
    """

    status: int | None
    step: str
    overdue: bool = False
    heavy: str = ""


class Worker:
    """One process of ``python -m onnxeq.worker``.

    Args:
        root: The folder of jobs; it stands in the command line, so that a process list tells whose it is.
        kind: The kind of job whose modules it imports while it waits.
        threads: Threads that numeric libraries may use; 0 leaves them their default.
        subjects: What the jobs will be about, for the ``warm_up`` of that kind's module.
        environment: Where to run it; ``None`` is the host's own Python.

    Raises:
        UsageError: The environment is being built or removed.
    """

    def __init__(
        self,
        root: Path,
        kind: str,
        threads: int,
        subjects: Sequence[str] = (),
        environment: Environment | None = None,
    ) -> None:
        self.kind = kind
        self.converter = subjects[0] if subjects else ""
        self.threads = threads
        self.environment = environment
        # Until it has a directory, and with it a log, what it prints (an import error, say) goes here.
        self._early = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with _used(environment) as held:
            self._process = subprocess.Popen(
                [*command(environment), "--attached", str(root), kind, *subjects],
                stdin=subprocess.PIPE,
                stdout=self._early,
                stderr=subprocess.STDOUT,
                env=_variables(kind, threads),
                start_new_session=True,
                pass_fds=held,
            )

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def run(
        self, folder: Path, tell: Callable[[str], None], stop: threading.Event, timeout_s: float | None = None
    ) -> Ended:
        """Has the job in ``folder`` done, and returns once its result, its error or the process's end is there.

        Raises:
            KeyboardInterrupt: ``stop`` was set.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died while it waited: its status tells
                self._process.stdin.write(f"{folder}\n".encode())
                self._process.stdin.flush()
        began = time.monotonic()
        steps = _Steps(folder / "steps.jsonl", tell)
        overdue, heavy = False, ""
        _WATCH.add(self._process.pid)
        try:
            while self.alive and not _settled(folder):
                steps.read()
                if stop.is_set():
                    raise KeyboardInterrupt
                if heavy := _WATCH.verdict(self._process.pid):
                    self.end()
                    break
                if timeout_s is not None and time.monotonic() - began > timeout_s:
                    self.end()
                    overdue = True
                time.sleep(_POLL_S)
        finally:
            _WATCH.remove(self._process.pid)
        steps.read()
        status = None if _settled(folder) else self._process.wait()
        if status is not None and not self._early.closed and not (folder / "log.txt").exists():
            self._early.seek(0)
            (folder / "log.txt").write_bytes(self._early.read())
        return Ended(status, steps.last, overdue, heavy)

    def end(self) -> None:
        """Stops the process and its children."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._early.close()


def command(environment: Environment | None) -> list[str]:
    """How ``onnxeq.worker`` is started there; a job's directory behind it replays the job."""
    if environment is None:
        return [sys.executable, "-m", "onnxeq.worker"]
    return launch.command(environment.python, "onnxeq.worker")


@contextmanager
def _used(environment: Environment | None) -> Iterator[tuple[int, ...]]:
    """Descriptors that the worker holds on to, so that nobody removes the environment that it runs in."""
    if environment is None:
        yield ()
        return
    try:
        with locks.shared(environment.lock) as descriptor:
            if read_environment(environment.name) != environment:
                said = f"the environment '{environment.name}' has been removed or built anew meanwhile"
                raise UsageError(said, hint="run the command again")
            yield (descriptor,) if sys.platform != "win32" else ()
    except locks.Busy:
        said = f"the environment '{environment.name}' is being built or removed"
        raise UsageError(said, hint="try again when that is done: onnxeq env list") from None


_early_starters: list[Worker] = []


def start_early(root: Path, kind: str, *subjects: str, environment: Environment | None = None) -> None:
    """Starts a worker before there is a :class:`Pool`, so that it imports its modules while the host does; the
    next pool takes it over. See :class:`Worker` for the arguments.
    """
    _early_starters.append(Worker(root, kind, 0, subjects, environment))


class Pool:
    """The workers of one host: those that run, those that wait, and how to get one.

    Args:
        root: The folder of jobs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._expected: list[tuple[str, int, Environment | None]] = []
        self._waiting: list[Worker] = _early_starters.copy()
        _early_starters.clear()
        self._all: list[Worker] = self._waiting.copy()
        self._closed = False

    def expect(self, wanted: Sequence[tuple[str, int, Environment | None]]) -> None:
        """Kinds of job, with threads and environment, that will follow; their workers start beside the next job."""
        with self._lock:
            self._expected += wanted

    def take(self, kind: str, threads: int, environment: Environment | None = None, *, converter: str = "") -> Worker:
        """A worker for one job: one that waits if there is one of that kind, threads and environment, or a new one.

        One that has imported the framework of a converter waits for that converter's jobs only: with two frameworks
        in it, a process crashes.
        """
        wanted = (kind, threads, environment)
        with self._lock:
            fitting = [
                w
                for w in self._waiting
                if (w.kind, w.threads, w.environment) == wanted and w.converter in ("", converter) and w.alive
            ]
            worker = fitting[0] if fitting else self._start(*wanted)
            self._waiting = [w for w in self._waiting if w is not worker]
            ahead, self._expected = self._expected, []
            self._waiting += [self._start(*each) for each in ahead]
        return worker

    def _start(self, kind: str, threads: int, environment: Environment | None) -> Worker:
        if self._closed:
            raise KeyboardInterrupt
        worker = Worker(self._root, kind, threads, environment=environment)
        self._all = [*(w for w in self._all if w.alive), worker]
        return worker

    def close(self) -> None:
        """Ends every worker."""
        with self._lock:
            self._closed = True
            for worker in self._all:
                worker.end()


class Lane:
    """A place for jobs that follow one another in one process, so that the later find what the earlier loaded.

    The process starts with the first job that has to be run, and a job that fails takes it along.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    @contextmanager
    def worker(
        self, pool: Pool, kind: str, threads: int, environment: Environment | None = None, *, converter: str = ""
    ) -> Iterator[Worker]:
        """The lane's process, for one job at a time."""
        with self._lock:
            if self._worker is None or not self._worker.alive:
                self._worker = pool.take(kind, threads, environment, converter=converter)
            yield self._worker

    def close(self) -> None:
        """Ends the process, once the job that it does is done."""
        with self._lock:
            if self._worker is not None:
                self._worker.end()
                self._worker = None


def _settled(folder: Path) -> bool:
    return (folder / "result.json").exists() or (folder / "error.json").exists()


class _Steps:
    """Follows a job's ``steps.jsonl`` as it grows."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._offset = 0
        self.last = "start"

    def read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self.last = str(json.loads(line)["step"])
                self._tell(self.last)


_ARRAYS = frozenset({"anchor", "blame", "diff", "golden-layers", "isolate", "referee", "trace-referee"})
"""Kinds of job that run the referee."""

_ALONE = frozenset({"diff", "trace-referee"})
"""Those of them that have the machine to themselves; see :func:`onnxeq.referee.blocks.product_threads`."""


def _variables(kind: str, threads: int) -> dict[str, str]:
    env = dict(os.environ)
    env["PYTHONSAFEPATH"] = "1"  # a folder named like a framework must not shadow it
    env.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Several jobs share the cores: a thread that waits must not burn the core that its partner waits for.
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if kind in _ARRAYS:
        # Large arrays come and go with every node: memory that was given back would be cleared page by page again.
        env.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
        env.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31))
    if kind in _ALONE:
        env.setdefault("OPENBLAS_NUM_THREADS", "1")  # its products are shared out by the referee itself
    if threads:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            env[name] = str(threads)
    return env
