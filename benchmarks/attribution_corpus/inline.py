"""Jobs in the benchmark's own process: what is judged is the same, the start of four processes per check is saved.

A crash or a hang then ends the benchmark, and peak memory means nothing: for a quick look, not for a published figure.
TensorFlow keeps its own process, since it does not share one with torch.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from onnxeq import errors, worker
from onnxeq.jobs import Jobs, JobSpec, Lane

__all__ = ["use"]

_LOCK = threading.RLock()
_SHARED: WeakKeyDictionary[Lane, dict[str, Any]] = WeakKeyDictionary()


def use() -> None:
    """Makes every later check of this process run so."""
    usual = Jobs._execute

    def execute(jobs: Jobs, spec: JobSpec, work: Path, lane: Lane) -> None:
        if spec.params.get("load", {}).get("converter") == "keras":
            usual(jobs, spec, work, lane)
            return
        with _LOCK, contextlib.redirect_stdout(io.StringIO()):
            try:
                worker.execute(work, shared=_SHARED.setdefault(lane, {}))
            except errors.OnnxeqError:
                raise
            except Exception as error:  # what would have ended the job's process
                raise errors.JobCrashed(f"{spec.label}: {type(error).__name__}: {error}") from error

    def expect(_jobs: Jobs, _wanted: Sequence[tuple[str, int]]) -> None:
        """No process is started beforehand."""

    Jobs._execute = execute  # type: ignore[method-assign]
    Jobs.expect = expect  # type: ignore[method-assign]
