"""A turn of onnxruntime in a comparison of latencies."""

from __future__ import annotations

import time
from typing import Any

from onnxeq.protocols import SessionOptions
from onnxeq.runners.runtime import load_runner
from onnxeq.runners.turns import Held, turn
from onnxeq.worker import Job

__all__ = ["run"]

_HELD = "latency"


def run(job: Job) -> dict[str, Any]:
    """Runs ``job.inputs['model']`` on the one feed of ``job.inputs['feeds']`` for ``job.params['seconds']``.

    The session is as its users get it: every optimisation on, its own number of threads, which spin while they wait.

    Returns:
        See :func:`onnxeq.runners.turns.turn`.

    Raises:
        onnxeq.errors.CannotRun: The provider is not to be had here, or the runtime refuses the model.
    """
    held: Held | None = job.shared.get(_HELD)
    if held is None:
        runner: Any = load_runner("onnxeq.runners.ort")
        runner.warm_up()  # importing it is no part of loading a model
        job.step("load")
        options = SessionOptions(provider=str(job.params["provider"]), settings={"spinning": True})
        began = time.perf_counter()
        session = runner.open(job.inputs["model"], options)
        held = job.shared[_HELD] = Held(session.run, time.perf_counter() - began)
    return turn(job, held)
