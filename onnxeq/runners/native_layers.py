"""What lies inside the native run: jobs for when a rung has broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from onnxeq import inputs as inputs_
from onnxeq import native_values
from onnxeq.arrays import load_feeds
from onnxeq.runners.native import loaded_model, the_models_own_errors
from onnxeq.types import Feed, Precision
from onnxeq.worker import Job

__all__ = ["kernels", "layers", "smallest"]


def layers(job: Job) -> dict[str, Any]:
    """Writes the program's intermediate values for the smallest feed into ``out/layers``.

    Parameters: ``precision`` (``f64``, ``f32``), ``names`` (ONNX value names; ``None`` for all).

    Raises:
        onnxeq.errors.OnnxeqError: The program cannot be run step by step.
    """
    with the_models_own_errors():
        native = loaded_model(job)
        _, feed = smallest(job)
        found = native.layers(feed, Precision(job.params["precision"]), job.params["names"])
        return {"count": native_values.store(job.out / "layers", found)}


def kernels(job: Job) -> dict[str, Any]:
    """Judges every operator of the float32 run for the smallest feed, see :class:`onnxeq.protocols.KernelError`.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says.
    """
    with the_models_own_errors():
        native = loaded_model(job)
        _, feed = smallest(job)
        return {"kernels": [asdict(kernel) for kernel in native.kernels(feed)]}


def smallest(job: Job) -> tuple[int, Feed]:
    """The feed with the smallest batch, the first of several, and its place: what is inside is large."""
    feeds: list[Mapping[str, Any]] = [*load_feeds(job.inputs["feeds"])]
    place = min(range(len(feeds)), key=lambda i: inputs_.batch_size(feeds[i]))
    return place, feeds[place]
