"""Predictions as a job: onnxruntime says the largest classes of each item; the outputs themselves are not kept.

The session stays in its process for the next items of the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.arrays import dtype_name, load_feeds
from onnxeq.compare.accuracy.fitting import fit
from onnxeq.errors import CannotRun
from onnxeq.protocols import Session, SessionOptions
from onnxeq.records import spec_from_record
from onnxeq.runners import ort
from onnxeq.runners.ort import warm_up
from onnxeq.runners.runtime import outputs_of
from onnxeq.types import Array, TensorSpec
from onnxeq.worker import Job

__all__ = ["KEPT", "UNKNOWN", "run", "warm_up"]

KEPT = 5
"""Classes of each item that are kept, the largest first."""

UNKNOWN = -(2**31)
"""In place of a class, for an item whose outputs are NaN, and where there are fewer classes."""


@dataclass
class _Held:
    """A session, and whether the model was seen to refuse batches."""

    model: Path
    session: Session
    single: bool = False


def run(job: Job) -> dict[str, Any]:
    """Runs ``job.inputs['model']`` on the items of ``job.inputs['items']``; writes ``out/top.npy``, ``int32[N,5]``.

    Parameters: ``input`` (what the model declares), ``layout`` of the items (empty for arrays), ``wanted`` (that of the
    model's own recipe), ``threads``.

    Returns:
        ``classes``, ``turn`` (what was done to the items' axes), ``nan`` (items whose outputs are NaN), ``single``
        (whether the model runs one item at a time only).

    Raises:
        BadInputs: The items do not fit the model.
        CannotRun: onnxruntime refuses, or no output is a row of classes.
    """
    spec = spec_from_record(job.params["input"])
    layout, wanted = str(job.params["layout"]), str(job.params["wanted"])
    items = _items(job.inputs["items"], layout)
    turn = fit(items[0], spec, layout=layout, wanted=wanted).turn  # told before onnxruntime is loaded
    held = _held(job)
    job.step("run")
    top, classes = [], 0
    for scores in _scores(held, items, spec, layout, wanted):
        if classes and scores.shape[1] != classes:
            raise CannotRun(f"it gives {classes} classes for one item and {scores.shape[1]} for another")
        classes = scores.shape[1]
        top.append(_largest(scores))
    found = np.concatenate(top)
    np.save(job.out / "top.npy", found)
    return {"classes": classes, "turn": turn, "nan": int((found[:, 0] == UNKNOWN).sum()), "single": held.single}


def _held(job: Job) -> _Held:
    model = job.inputs["model"]
    found: _Held | None = job.shared.get("predict")
    if found is None or found.model != model:
        job.step("load")
        found = _Held(model, ort.open(model, SessionOptions(threads=int(job.params["threads"]))))
        job.shared["predict"] = found
    return found


def _items(path: Path, layout: str) -> list[Array]:
    """The items without a batch axis, in their order."""
    if path.is_file():
        return list(np.load(path, allow_pickle=False))
    arrays = [next(iter(feed.values())) for feed in load_feeds(path)]
    return arrays if layout == "CHW" else [array[0] for array in arrays]


def _scores(held: _Held, items: Sequence[Array], spec: TensorSpec, layout: str, wanted: str) -> Iterator[Array]:
    """A row of classes for each item, in batches of items of one shape."""
    at = 0
    while at < len(items):
        how = fit(items[at], spec, layout=layout, wanted=wanted)
        alike = 0
        size = 1 if held.single and not how.padded else how.batch
        while alike < size and at + alike < len(items) and items[at + alike].shape == items[at].shape:
            alike += 1
        batch = items[at : at + alike]
        given = how.input(batch)
        try:
            outputs = outputs_of(held.session, {spec.name: given})
            rows = _rows(outputs, len(given))
        except CannotRun:
            if how.padded or alike == 1:
                raise
            held.single = True  # its batch was fixed by whoever exported it, and its declaration does not say so
            continue
        yield rows[:alike]
        at += alike


def _rows(outputs: dict[str, Array], batch: int) -> Array:
    """The first output that is a row of classes for each item, ``[N,classes]`` or with further axes of size 1."""
    for array in outputs.values():
        sizes = [size for size in array.shape[1:] if size != 1]
        if array.ndim >= 2 and array.shape[0] == batch and len(sizes) == 1 and dtype_name(array) != "string":
            return array.reshape(batch, -1)
    shown = ", ".join(f"{n} {dtype_name(a)}[{','.join(map(str, a.shape))}]" for n, a in outputs.items())
    raise CannotRun(f"no output is a row of classes for each of {batch} items: {shown}")


def _largest(scores: Array) -> Array:
    """The classes with the largest scores, ``int32[N,5]``; of equal ones the first."""
    values = scores.astype(np.float64)
    order = np.argsort(-values, axis=1, kind="stable")[:, :KEPT].astype(np.int32)
    found = np.full((len(values), KEPT), UNKNOWN, np.int32)
    found[:, : order.shape[1]] = order
    found[np.isnan(values).any(axis=1)] = UNKNOWN
    return found
