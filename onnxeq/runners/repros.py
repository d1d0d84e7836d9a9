"""Stand-alone repros of the layers that create error, made where the traces and the graph are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnxeq.arrays import dtype_of
from onnxeq.errors import OnnxeqError
from onnxeq.layers.judging.roles import LOCAL
from onnxeq.layers.judging.sweep import EXACT, Values
from onnxeq.layers.probes import GraphIndex
from onnxeq.repro import AtFault, Fault, write_repro
from onnxeq.runners.runtime import options_of
from onnxeq.types import Array, Feed, Layer, Role
from onnxeq.worker import Job

__all__ = ["write_repros"]

_MOST = 12
"""Layers that a repro is written for, the worst first."""


def write_repros(
    job: Job, model: onnx.ModelProto, layers: Sequence[Layer], feed: Feed, source: Values, target: Values
) -> list[dict[str, Any]]:
    """Writes ``out/repros/NN_name`` for each layer that creates error.

    Args:
        job: Its parameters ``optimize``, ``provider``, ``tf32``, ``runner`` say how the target was run, ``reference``
            what the source is.
        model: The judged graph.
        layers: All rows.
        feed: Its inputs.
        source: The source's values under the graph's names.
        target: The target's.

    Returns:
        A record for each: ``value``, and its ``folder``'s name or the ``problem`` for which there is none.
    """
    faulty = sorted((row for row in layers if row.role is Role.CREATES), key=lambda row: -row.local.ratio)
    found = []
    for row in faulty[:_MOST]:
        job.step(f"repro of {row.node}")
        try:
            fault = _fault(job, model, row, feed, source, target)
            found.append({"value": row.value, "folder": write_repro(job.out / "repros", fault).name})
        except OnnxeqError as error:
            found.append({"value": row.value, "problem": error.line()})
    return found


def _fault(job: Job, model: onnx.ModelProto, row: Layer, feed: Feed, source: Values, target: Values) -> Fault:
    """What the repro needs: the values that go into the layer's region, as one side had them."""
    side = AtFault.TARGET if row.target_ratio > LOCAL and row.target_ratio >= row.source_ratio else AtFault.SOURCE
    judged, other = (target, source) if side is AtFault.TARGET else (source, target)
    index = GraphIndex(model)
    known = {name: True for name in index.makers if name in judged and name != row.value}
    names = [*sorted(index.frontier(index.makers[row.value], known)), *feed]
    inputs = {name: feed[name] if name in feed else _array(name, (source, target)) for name in names}
    return Fault(
        model=model,
        base_dir=job.inputs["model"].parent,
        layer=row,
        inputs=inputs,
        source=_stored(_array(row.value, (source, target)), row.dtype),
        target=_stored(_array(row.value, (target, other, judged)), row.dtype),
        unit=None,
        limit=LOCAL,
        side=side,
        options=options_of(job.params),
        reference=str(job.params.get("reference", "")),
    )


def _array(name: str, sides: Sequence[Values]) -> Array:
    """A value as the first side that has it on disk."""
    for side in sides:
        held = side.array(name, None) if side is not EXACT and name in side else None
        if held is not None:
            return held
    return np.zeros(0)


def _stored(array: Array, dtype: str) -> Array:
    """A float in the type that the graph gives it: a float64 run holds it wider."""
    return array.astype(dtype_of(dtype)) if array.dtype == np.float64 and dtype else array
