"""Which node answers differently when it is asked again, or lets the items of a batch influence one another.

A job for when the stability rung has broken, and for sizes that only some artifacts declare. Every value of the main
graph is made an output and two runs are compared in the order of execution: the first node whose inputs agree and
whose outputs do not is where the difference comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import onnx

from onnxeq.arrays import save_feeds
from onnxeq.batches import take
from onnxeq.errors import CannotRun
from onnxeq.graph.files import write
from onnxeq.graph.inspect import load
from onnxeq.referee.plan import node_label
from onnxeq.runners.anchor import DISCONTINUOUS
from onnxeq.runners.runtime import feeds_of, options_of, outputs_of, runner_of
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["run", "run_sizes"]

_Agrees: TypeAlias = Callable[[Array, Array], bool]

_CLOSE = 2.0**-12
"""Of a value's root mean square: what summation order changes at one node stays far below, what a batch's statistics or
uninitialised memory change lies far above."""

_UNTOUCHED = 2.0**-16
"""The same for a node's inputs: what rounding has made of a difference upstream."""


_ATTEMPTS = 4
"""Pairs of runs in which a difference that comes and goes is given the chance to show: of one that two runs in five
have, four pairs miss one in fourteen. What another batch does is the same each time."""


def run(job: Job) -> dict[str, Any]:
    """Compares two runs of ``job.inputs['model']`` value by value.

    Parameters: ``names``, ``feed`` (its index), ``how`` (``repeat``: the same session again, ``session``: a new one,
    ``threads``: a new one with one thread, ``batch``: the items ``rows`` in a batch of their own), and ``leading``
    (input name -> its declared first size).

    Returns:
        ``nodes``: where differences come from, with ``node``, ``op_type`` and ``value``, in the order of execution;
        ``optimized``: whether it takes the optimised graph to see them.
    """
    job.step("load")
    model = load(job.inputs["model"])
    feed = feeds_of(job)[int(job.params["feed"])]
    path = write(_all_shown(model), job.out / "shown.onnx")
    for optimized in (False, True):
        job.step("compare value by value, optimised" if optimized else "compare value by value")
        asked = replace(job, inputs={**job.inputs, "model": path}, params={**job.params, "optimize": optimized})
        for _ in range(1 if job.params["how"] == "batch" else _ATTEMPTS):
            found = _sources(model, *_two_runs(asked, feed))
            if found:
                return {"nodes": found, "optimized": optimized}
    return {"nodes": [], "optimized": False}


def run_sizes(job: Job) -> dict[str, Any]:
    """Runs every feed on its own, so that one that fails does not hide the others; writes ``out/trace``.

    Returns:
        ``errors``: for each feed why it could not be run, or nothing. What failed has no outputs in the trace.
    """
    job.step("run")
    trace: list[Feed] = []
    errors: list[str] = []
    for feed in feeds_of(job):
        try:
            trace += _execute(job, [feed])
            errors.append("")
        except CannotRun as error:
            trace.append({})
            errors.append(error.line())
    save_feeds(job.out / "trace", trace)
    return {"errors": errors}


def _execute(job: Job, feeds: Sequence[Feed], threads: int = 0) -> list[dict[str, Array]]:
    """The outputs for feeds under the model's own names, in a session of their own."""
    session = runner_of(job).open(job.inputs["model"], replace(options_of(job.params), threads=threads))
    return [outputs_of(session, feed) for feed in feeds]


def _all_shown(model: onnx.ModelProto) -> onnx.ModelProto:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {o.name for o in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name not in known)
    return shown


def _two_runs(job: Job, feed: Feed) -> tuple[Feed, Feed, _Agrees, _Agrees]:
    """Both runs, the inputs among their values; what counts as the same for what a node takes and what it gives."""
    how, rows = str(job.params["how"]), [int(r) for r in job.params.get("rows", ())]
    if how == "repeat":
        first, again = _execute(job, [feed, feed])
        return {**feed, **first}, {**feed, **again}, _same_bits, _same_bits
    (first,) = _execute(job, [feed])
    if how == "batch":
        other = take(feed, job.params["leading"], rows)
        (again,) = _execute(job, [other])
        free = {name for name, first_size in job.params["leading"].items() if not isinstance(first_size, int)}
        size = max(v.shape[0] for k, v in feed.items() if v.ndim and k in free)
        return (
            {**feed, **first},
            {**other, **again},
            _items(size, rows, _UNTOUCHED),
            _floats(_items(size, rows, _CLOSE)),
        )
    (again,) = _execute(job, [feed], threads=int(how == "threads"))
    return {**feed, **first}, {**feed, **again}, _near(_UNTOUCHED), _near(_CLOSE)


def _sources(model: onnx.ModelProto, first: Feed, again: Feed, untouched: _Agrees, agrees: _Agrees) -> list[Any]:
    def same(names: Sequence[str], test: _Agrees) -> bool:
        return all(test(first[n], again[n]) for n in names if n in first and n in again)

    return [
        {"node": node_label(node), "op_type": node.op_type, "value": next(n for n in node.output if n)}
        for node in model.graph.node
        if any(node.output)
        and (agrees is _same_bits or node.op_type not in DISCONTINUOUS)
        and not same(node.output, agrees)
        and same(node.input, untouched)
    ]


def _same_bits(a: Array, b: Array) -> bool:
    if a.dtype == object or b.dtype == object:
        return np.array_equal(a, b)
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _near(share: float) -> _Agrees:
    """Whether two values of one shape are equal up to a share of their root mean square."""

    def near(a: Array, b: Array) -> bool:
        if a.shape != b.shape or a.dtype.kind not in "fV":
            return _same_bits(a, b)
        x, y = a.astype(np.float64), b.astype(np.float64)
        usable = np.isfinite(x) & np.isfinite(y)
        if not np.array_equal(np.isfinite(x), np.isfinite(y)):
            return False
        if not usable.any():
            return True
        scale = float(np.sqrt(np.mean(np.square(x[usable]))))
        return float(np.max(np.abs(x - y)[usable])) <= share * max(scale, 2.0**-100)

    return near


def _floats(agrees: _Agrees) -> _Agrees:
    """The same, for floats and truth values: integers may follow the batch, as its size does."""
    return lambda a, b: a.dtype.kind not in "fVb" or agrees(a, b)


def _items(size: int, rows: Sequence[int], share: float) -> _Agrees:
    """Whether a value of the other batch holds the same items, wherever the batch lies in it.

    A value without the batch must be the same. One that has it on some axis, perhaps multiplied with another size
    there, must hold the chosen items. Any other pair of shapes says nothing, and is no difference.
    """
    near = _near(share)

    def taken(a: Array, b: Array, axis: int) -> bool:
        each = a.shape[axis] // size
        before, behind = a.shape[:axis], a.shape[axis + 1 :]
        outer = a.reshape(*before, size, each, *behind).take(list(rows), axis)
        inner = a.reshape(*before, each, size, *behind).take(list(rows), axis + 1)
        return near(outer.reshape(b.shape), b) or near(inner.reshape(b.shape), b)

    def same(a: Array, b: Array) -> bool:
        if a.ndim != b.ndim:
            return True
        axes = [axis for axis in range(a.ndim) if a.shape[axis] != b.shape[axis]]
        if not axes:  # as many items as before, in another order, do not show which axis is the batch
            able = [k for k in range(a.ndim) if a.shape[k] and a.shape[k] % size == 0] if len(rows) == size else []
            return near(a, b) or any(taken(a, b, axis) for axis in able)
        axis = axes[0]
        each, rest = divmod(a.shape[axis], size)
        if len(axes) > 1 or rest or b.shape[axis] != each * len(rows):
            return True
        return taken(a, b, axis)

    return same
