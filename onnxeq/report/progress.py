"""Progress on standard error while jobs run: one line that says what each is doing."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["JobProgress"]


class JobProgress:
    """A listener for :class:`onnxeq.jobs.Jobs` that draws on a terminal, or prints plain lines elsewhere.

    On a terminal each running job is a line with its step and its seconds; finished jobs disappear. Into a
    file or a pipe only job beginnings and failures are written, so that a log stays short.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live = console.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> JobProgress:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def __call__(self, label: str, step: str) -> None:
        """Takes a job's step; see :data:`onnxeq.jobs.Listener`."""
        if self._quiet:
            return
        with self._lock:
            self._draw(label, step) if self._live else self._print(label, step)

    def _draw(self, label: str, step: str) -> None:
        ended = step in ("done", "cached", "failed")
        if label not in self._tasks and not ended:
            self._tasks[label] = self._progress.add_task("", total=None)
        if label in self._tasks:
            self._progress.update(self._tasks[label], description=f"{label}: {step}")
            if ended:
                self._progress.remove_task(self._tasks.pop(label))

    def _print(self, label: str, step: str) -> None:
        now = time.monotonic()
        began = self._began.setdefault(label, now)
        if step in ("done", "failed"):
            self._console.print(f"onnxeq: {label}: {step} ({now - began:.1f} s)", highlight=False)
