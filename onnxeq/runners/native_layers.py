"""What lies inside the native run: jobs for when a rung has broken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from onnxeq import inputs as inputs_
from onnxeq import native_values
from onnxeq.arrays import load_feeds
from onnxeq.runners.native import loaded_model, the_models_own_errors
from onnxeq.types import Feed, Precision
from onnxeq.worker import Job

__all__ = ["kernels", "layers", "smallest"]


def layers(job: Job) -> dict[str, Any]:
    """Writes the program's intermediate values for the smallest feed into ``out/layers``.

    Parameters: ``precision`` (``f64``, ``f32``), ``names`` (ONNX value names; ``None`` for all), and ``outputs``: the
    names among them that the model's outputs have, in order, to see whether the program step by step gives the very
    bits that the model gives as its users run it.

    Returns:
        ``count``, and with ``outputs`` also ``apart``: output -> how far the two are apart, where they differ.

    Raises:
        onnxeq.errors.OnnxeqError: The program cannot be run step by step.
    """
    with the_models_own_errors():
        native = loaded_model(job)
        _, feed = smallest(job)
        precision = Precision(job.params["precision"])
        found = native.layers(feed, precision, job.params["names"])
        count = native_values.store(job.out / "layers", found)
        outputs = job.params.get("outputs", ())
        apart = _apart(job, native.run(feed, precision), outputs) if outputs else {}
        return {"count": count, "apart": apart}


def _apart(job: Job, whole: Feed, names: Sequence[str]) -> dict[str, float]:
    """The outputs in which a run step by step has other bits than the whole model: how far, at most."""
    stepwise = native_values.load(job.out / "layers")
    found = {}
    for name, array in zip(names, whole.values(), strict=False):
        if name not in stepwise or np.asarray(array).dtype.kind not in "fiub":
            continue
        ours = stepwise.array(name)
        if ours.shape != array.shape:
            found[name] = math.inf
        elif ours.tobytes() != np.asarray(array, dtype=ours.dtype).tobytes():
            with np.errstate(all="ignore"):
                found[name] = float(
                    np.nanmax(np.abs(ours.astype(np.float64) - np.asarray(array, np.float64)), initial=0)
                )
    return {name: size for name, size in found.items() if size > 0}


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
