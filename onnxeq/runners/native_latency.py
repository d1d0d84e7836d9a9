"""A turn of a framework's own model in a comparison of latencies."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from onnxeq.runners.native import loaded_model, the_models_own_errors, warm_up
from onnxeq.runners.turns import Held, turn
from onnxeq.types import Precision
from onnxeq.worker import Job

__all__ = ["run"]

_HELD = "native latency"


def run(job: Job) -> dict[str, Any]:
    """Runs the model in float32, as its users run it, on the one feed of ``job.inputs['feeds']``.

    Arrays go in and come out as for onnxruntime. Telling steps is left out while it runs: that writes files.

    Returns:
        See :func:`onnxeq.runners.turns.turn`.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says, or a model that is another one at every loading.
    """
    with the_models_own_errors():
        held: Held | None = job.shared.get(_HELD)
        if held is None:
            load = job.params["load"]
            if not job.objects and load["converter"] != "factory":
                warm_up(load["converter"], load["ref"]["zoo"])  # importing the framework is no part of loading a model
            job.step("load")
            began = time.perf_counter()
            native = loaded_model(replace(job, step=lambda _: None))
            seconds = time.perf_counter() - began
            held = job.shared[_HELD] = Held(lambda feed: native.run(feed, Precision.F32), seconds)
        return turn(job, held)
