"""Checks without processes: what these tests ask is not how jobs are started."""

from __future__ import annotations

import importlib
from concurrent.futures import Future
from typing import Any, ClassVar

import pytest

from onnxeq.errors import OnnxeqError
from onnxeq.jobs import JobResult, Jobs, JobSpec, Lane, _key


class InlineJobs(Jobs):
    """Runs each job at once in this process, and the same one only once."""

    _done: ClassVar[dict[str, JobResult]] = {}

    def start(self, spec: JobSpec, lane: Lane | None = None, *, urgency: int = 0) -> Future[JobResult]:
        """Runs it now."""
        future: Future[JobResult] = Future()
        try:
            key = _key(spec)
            if key not in self._done:
                self._done[key] = self.run_inline(spec, {}, {})
            future.set_result(self._done[key])
        except OnnxeqError as error:
            future.set_exception(error)
        return future

    def expect(self, wanted: Any) -> None:
        """Nothing is started ahead."""


@pytest.fixture
def inline_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job of :func:`onnxeq.check` runs in this process."""
    monkeypatch.setattr(importlib.import_module("onnxeq.check"), "Jobs", InlineJobs)
