"""The referee as a job: the float64 trace, and on request the two units that limits are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx

from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.errors import CannotRun, OnnxeqError, UnsupportedOperator
from onnxeq.graph.inspect import load
from onnxeq.graph.same_values import values_to_take_over
from onnxeq.inputs import adapt
from onnxeq.measure import participation
from onnxeq.memory import check_trace
from onnxeq.noise import AMPLITUDE, ConstantFloor, OwnFloor, RoundingNoise, SingleRounding
from onnxeq.reduced import Reduced
from onnxeq.referee import Executor, Hook
from onnxeq.referee.elements import lift
from onnxeq.referee.frames import Entry
from onnxeq.runners.runtime import flatten
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["run", "run_once"]

Trace: TypeAlias = list[dict[str, Array]]

_ENOUGH = 128
"""Effective elements times draws that a unit rests on: then its root mean square is known to 6 %."""

_MOST_DRAWS = 6

_DISCRETE_DRAWS = 4
"""Draws when an output is discrete: an element near a tie flips in half of them."""


def run(job: Job) -> dict[str, Any]:
    """Runs ``job.inputs['model']`` in float64 on every feed.

    Writes ``out/trace``; with ``rounding``, ``single`` and ``floor`` set, ``out/rounding`` and so on: for each
    output element the root mean square of its movement under the draws (float outputs), or the share of
    draws in which it changed (others); with ``reduced``, a list of types, the same for each of them
    (:mod:`onnxeq.reduced`), and with ``native``, a list of constants, ``out/own``, the floor in which those stay.
    With ``job.inputs['normalized']`` also ``out/normalized``, the trace of that model,
    in which only what differs is computed again. ``stopped`` says why the trace ends before the feeds do.

    Raises:
        UnsupportedOperator: Naming every operator that has no validated float64 semantics.
    """
    params = job.params
    names: Mapping[str, str] = params["names"]
    feeds = [{names.get(k, k): v for k, v in feed.items()} for feed in load_feeds(job.inputs["feeds"])]
    job.step("load")
    model = load(job.inputs["model"])
    executor = _executor(model, job.inputs["model"])
    dtypes = {s.name: s.dtype for s in executor.inputs}
    feeds = [adapt(feed, dtypes) for feed in feeds]
    result: dict[str, Any] = {"nodes": len(model.graph.node), "initializers": len(model.graph.initializer)}
    if "normalized" in job.inputs:
        job.step("run, and what normalisation changed")
        trace, changed, error, stopped = _run_both(model, executor, job.inputs["normalized"], feeds)
        result["normalized_error"] = error
        if changed:
            save_feeds(job.out / "normalized", changed)
    else:
        job.step("run")
        trace, stopped = _as_far_as_it_runs(partial(run_once, executor), feeds)
    save_feeds(job.out / "trace", trace)
    feeds = feeds[: len(trace)]
    stored = bool(params.get("stored"))
    if params.get("rounding"):
        _spread(job, "rounding", executor, feeds, trace, RoundingNoise, AMPLITUDE)
    if params.get("single"):
        _spread(job, "single", executor, feeds, trace, SingleRounding, AMPLITUDE)
    if params.get("floor"):
        _spread(job, "floor", executor, feeds, trace, partial(ConstantFloor, stored=stored), 1.0)
    if "native" in params:
        own = partial(OwnFloor, native=frozenset(params["native"]), stored=stored)
        _spread(job, "own", executor, feeds, trace, own, 1.0)
    for kind in params.get("reduced", ()):
        _spread(job, kind, executor, feeds, trace, partial(_rounded_to, kind), 1.0, draws=1)
    return {**result, "stopped": stopped, "live": _live_outputs(model)}


def _rounded_to(kind: str, _seed: int) -> Hook:
    return Reduced(kind)


def _executor(model: onnx.ModelProto, path: Path) -> Executor:
    executor = Executor(model, base_dir=path.parent)
    if executor.missing:
        shown = ", ".join(executor.missing[:3]) + (
            f" and {len(executor.missing) - 3} more" if len(executor.missing) > 3 else ""
        )
        raise UnsupportedOperator(f"no validated float64 semantics for {shown}")
    return executor


def _as_far_as_it_runs(run: Callable[[Feed], dict[str, Array]], feeds: Sequence[Feed]) -> tuple[Trace, str]:
    """The outputs up to the first feed that fails, and why it does; a failure on the very first is raised."""
    trace: Trace = []
    for feed in feeds:
        try:
            made = run(feed)
        except CannotRun as error:
            if not trace:
                raise
            return trace, error.line()
        check_trace((array.nbytes for array in made.values()), len(feeds))
        trace.append(made)
    return trace, ""


def _run_both(
    model: onnx.ModelProto, executor: Executor, path: Path, feeds: Sequence[Feed]
) -> tuple[Trace, Trace, str, str]:
    """The traces of a model and of its normalised form; the second empty, with the reason, if it cannot be run.

    The last is why the model itself stopped before the last feed.
    """
    normalized = load(path)
    own = [spec.name for spec in executor.outputs]
    take, _ = values_to_take_over(model, normalized)
    try:
        other = _executor(normalized, path)
    except OnnxeqError as error:
        trace, stopped = _as_far_as_it_runs(partial(run_once, executor), feeds)
        return trace, [], error.line(), stopped
    changed: Trace = []
    reason = ""

    def both(feed: Feed) -> dict[str, Array]:
        nonlocal reason
        entries = executor.run_entries(feed, outputs=list(dict.fromkeys([*own, *take.values()])))
        if not reason:
            try:
                changed.append(_values(other.run_entries(feed, known={n: entries[m] for n, m in take.items()})))
            except OnnxeqError as error:
                reason = error.line()
        return _values({name: entries[name] for name in own})

    trace, stopped = _as_far_as_it_runs(both, feeds)
    return trace, [] if reason else changed, reason, stopped


def _values(entries: Mapping[str, Entry]) -> dict[str, Array]:
    return flatten(list(entries), [lift(entry.value) for entry in entries.values()])


def _draws(first: Trace) -> int:
    """How many draws the unit needs, told from the squared movements of the first one.

    A softmax that is nearly one-hot moves in two or three of a thousand elements. What counts is the
    effective number, the participation ratio ``(sum d^2)^2 / sum d^4``.
    """
    fewest = 1
    for feed in first:
        for moved in feed.values():
            effective = participation(moved)
            fewest = max(fewest, -(-_ENOUGH // max(1, int(effective))))
    return min(fewest, _MOST_DRAWS)


def run_once(executor: Executor, feed: Feed, hook: Hook | None = None) -> dict[str, Array]:
    """The outputs for one feed, sequences flattened."""
    values = executor.run(feed, hook=hook)
    return flatten(list(values), list(values.values()))


def _spread(
    job: Job,
    name: str,
    executor: Executor,
    feeds: Sequence[Feed],
    trace: Trace,
    make: Callable[[int], Hook],
    amplitude: float,
    draws: int = 0,
) -> None:
    """Writes a unit; ``draws`` says how many draws it takes where that is known, and is found from the first else."""
    totals: Trace = [{k: np.zeros(v.shape) for k, v in feed.items()} for feed in trace]
    discrete = any(a.dtype.kind != "f" for a in trace[0].values())
    adaptive = draws == 0
    draws, draw = draws or (_DISCRETE_DRAWS if discrete else 1), 0
    while draw < draws:
        job.step(f"{name} {draw + 1} of {draws}" if draw else f"{name} 1")
        for index, feed in enumerate(feeds):
            # The same seed for every feed of a draw: a constant moves in one way wherever it is read.
            moved = run_once(executor, feed, make(int(job.params["seed"]) * 1000 + draw))
            for key, base in trace[index].items():
                totals[index][key] = totals[index][key] + _movement(base, moved.get(key), amplitude)
        if draw == 0 and adaptive:
            draws = max(draws, _draws(totals))
        draw += 1
    save_feeds(job.out / name, _pooled([{k: v / draws for k, v in feed.items()} for feed in totals]))


def _pooled(squares: Trace) -> Trace:
    """Units from mean squares: each feed's level is averaged with that of all feeds.

    An error that moves all elements alike shows in one draw of one feed by luck only; the other feeds are
    draws of their own.
    """
    level = {k: float(np.mean([np.mean(feed[k]) for feed in squares if k in feed and feed[k].size])) for k in squares[0]
             if squares[0][k].size}  # fmt: skip
    units = []
    for feed in squares:
        unit = {}
        for key, value in feed.items():
            mine = float(np.mean(value)) if value.size else 0.0
            scale = (mine + level[key]) / (2 * mine) if mine > 0 and np.isfinite(mine) and key in level else 1.0
            unit[key] = np.sqrt(value * (scale if np.isfinite(scale) else 1.0))
        units.append(unit)
    return units


def _movement(base: Array, moved: Array | None, amplitude: float) -> Array:
    """Squared movement per element; 1 where a discrete value changed, or the shape did."""
    if moved is None or moved.shape != base.shape:
        return np.full(base.shape, np.inf)
    if base.dtype.kind != "f":
        changed: Array = (moved != base).astype(np.float64)
        return changed
    with np.errstate(invalid="ignore"):
        squares = np.square((moved - base) / amplitude)
    measured = np.isfinite(squares)
    if measured.all():
        return np.asarray(squares)
    # A draw that leaves the numbers (the root of a zero that moved) does not say how far: as far as the others do.
    lost = ~measured & np.isfinite(base)
    typical = float(squares[measured].mean()) if measured.any() else np.inf
    return np.where(measured, squares, np.where(lost, typical, 0.0))


def _live_outputs(model: onnx.ModelProto) -> list[str]:
    """The outputs that a path connects with an input of the graph."""
    stored = {t.name for t in model.graph.initializer}
    reached = {i.name for i in model.graph.input if i.name not in stored}
    for node in model.graph.node:
        # Sizes alone do not carry values.
        captured = {n for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs) for n in _captures(g)}
        if node.op_type not in ("Shape", "Size") and reached & {*node.input, *captured}:
            reached.update(node.output)
    return [o.name for o in model.graph.output if o.name in reached]


def _captures(graph: onnx.GraphProto) -> set[str]:
    found = {o.name for o in graph.output}
    for node in graph.node:
        found.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _captures(attribute.g)
    return found
