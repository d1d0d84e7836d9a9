"""Where a runtime goes wrong: a job for when a float32 rung breaks.

It narrows the fault down in three ways, each of them an experiment that a person can repeat:

1. *Settings.* The same model under other settings of the runtime: with one thread, without the memory pattern; at each
   optimisation level; with some optimiser passes switched off, halved again and again until those are left without
   which the fault goes away (:mod:`onnxeq.layers.kernels.trials`).
2. *Nodes.* The runtime's own values of every node's inputs are given to the referee, and what the referee makes of them
   is compared with the runtime's value of the node's output, in the rounding noise of that node alone
   (:mod:`onnxeq.layers.judging.local`). An optimised graph is saved by the runtime and run literally, so that asking
   for inner values does not change what runs.
3. *Effect.* Each suspect's error is put into the float64 run by itself, to see what it does to the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxeq.arrays import load_feeds
from onnxeq.errors import CannotRun, OnnxeqError
from onnxeq.graph.inspect import load
from onnxeq.layers.kernels.suspects import Analysis, Suspect, analyse
from onnxeq.layers.kernels.trials import Bench
from onnxeq.layers.probes import GraphIndex, Prober
from onnxeq.layers.program import native_name
from onnxeq.referee import Executor
from onnxeq.referee.plan import node_label
from onnxeq.runners.runtime import feeds_of, options_of, runner_of
from onnxeq.worker import Job

__all__ = ["run"]


def run(job: Job) -> dict[str, Any]:
    """Isolates the fault that broke a rung between two executions of ``job.inputs['model']``.

    Parameters: ``names``, ``seed``, ``runner``, ``optimize``, ``provider`` and ``tf32`` as for the judged execution
    (:mod:`onnxeq.runners.runtime`); ``order``, the indices of the feeds, the worst first; ``limit`` of the rung; and
    ``settings``, whether optimisation levels and passes are asked about. Inputs: the traces ``base`` (the rung's
    source), ``exact`` (the referee's) and ``unit`` (rounding noise).

    Returns:
        ``again``: whether the fault showed again, ``error``: how far the outputs were away; ``experiments``: in words
        -> the error that is left; ``level`` and ``before``; ``passes``: name -> the error that is left without it;
        ``refused``: what the runtime says of a model that it does not take, and ``first``, the node from which on it
        does not; ``analyses``: one row for each set of
        passes that was looked at, see :func:`_row`.
    """
    params = job.params
    job.step("load")
    model = load(job.inputs["model"])
    benches = _benches(job)
    job.step("run again")
    first = benches[0].run()
    attempts = 1
    while not first.broken and attempts < _ATTEMPTS:
        first, attempts = benches[0].run(), attempts + 1
    result: dict[str, Any] = {
        "again": first.broken,
        "error": first.measure.max_abs,
        "refused": first.refused,
        "experiments": {},
        "level": "",
        "before": "",
        "passes": {},
        "analyses": [],
        "first": {},
    }
    if first.broken:
        job.step("experiments")
        result["experiments"] = benches[0].experiments()
        if params["settings"]:
            job.step("optimisation levels")
            result["level"], result["before"] = benches[0].level()
            job.step("optimiser passes")
            result["passes"] = benches[0].passes()
    for named, disabled in _sets(tuple(result["passes"])):
        settings = {"disabled_passes": list(disabled)} if disabled else {}
        altered = [replace(b, options=_with(b, settings)) for b in benches]
        found, fused = _analysed(job, model, altered, str(result["level"]))
        if found is not None:
            result["analyses"].append(_row(found, GraphIndex(model), fused, named))
    if first.refused:
        job.step("the first node that is refused")
        result["first"] = _first_refused(job, model, benches[0])
    return result


def _first_refused(job: Job, model: onnx.ModelProto, bench: Bench) -> dict[str, Any]:
    """The node up to which the runtime takes the graph and from which on it refuses it.

    What a value needs contains what the values before it need, so that halving the order of the graph finds it.
    """
    index, prober = GraphIndex(model), Prober(model, job.out / "cut")
    values = [next(n for n in node.output if n) for node in index.nodes if node.op_type != "Constant"]
    low, high = -1, len(values) - 1

    def refuses(position: int) -> bool:
        cut = prober.cut(values[: position + 1], index)
        return bool(replace(bench, model=cut, base={}).run().refused)

    if not values or not refuses(high):
        return {}
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refuses(middle) else (middle, high)
    node = index.makers[values[high]]
    return {
        "node": node_label(node), "op_type": node.op_type, "value": values[high], "native": native_name(node)
    }  # fmt: skip


_ATTEMPTS = 3
"""Runs in which a fault that comes and goes is given the chance to show."""


def _benches(job: Job) -> list[Bench]:
    params = job.params
    feeds = feeds_of(job)
    base, exact, unit = (load_feeds(job.inputs[name]) for name in ("base", "exact", "unit"))
    runner, options = runner_of(job), options_of(params)
    return [
        Bench(runner, job.inputs["model"], options, feeds[i], base[i], exact[i], unit[i], float(params["limit"]))
        for i in params["order"]
    ]


def _sets(passes: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Which passes to look at together, and which to switch off meanwhile: of several culprits each by itself."""
    if len(passes) < 2:
        return [(tuple(passes), ())]
    return [((name,), tuple(n for n in passes if n != name)) for name in passes]


def _with(bench: Bench, settings: dict[str, Any]) -> Any:
    return replace(bench.options, settings={**bench.options.settings, **settings})


def _analysed(
    job: Job, model: onnx.ModelProto, benches: list[Bench], level: str
) -> tuple[Analysis | None, GraphIndex | None]:
    """The nodes as they run; as the second the graph that was run in the model's place, if it was another."""
    executor = Executor(model, base_dir=job.inputs["model"].parent)
    seed = int(job.params["seed"])
    runner = benches[0].runner
    if benches[0].options.optimize and hasattr(runner, "save_optimized"):
        for settings in ({"level": level}, {}) if level else ({},):
            saved = _saved(job, benches[0], settings)
            if saved is None:
                continue
            literal = [replace(b, model=saved[0], options=replace(b.options, optimize=False)) for b in benches]
            found = _tried(job, executor, model, literal, seed, saved[1])
            if found is not None and found.shows and found.suspects:
                return found, GraphIndex(saved[1])
    return _tried(job, executor, model, benches, seed, None), None


def _tried(
    job: Job, executor: Executor, model: onnx.ModelProto, benches: list[Bench], seed: int,
    subject: onnx.ModelProto | None,
) -> Analysis | None:  # fmt: skip
    try:
        return analyse(executor, model, benches, seed, job.out / "probed", job.step, subject=subject)
    except OnnxeqError:
        return None


def _saved(job: Job, bench: Bench, settings: dict[str, Any]) -> tuple[Path, onnx.ModelProto] | None:
    """The graph that the runtime makes of the model."""
    path = job.out / "optimized.onnx"
    path.unlink(missing_ok=True)
    options = replace(bench.options, settings={**bench.options.settings, **settings})
    save: Callable[..., None] = bench.runner.save_optimized  # type: ignore[attr-defined]
    try:
        save(bench.model, options, path)
    except CannotRun:
        return None
    return path, onnx.load(path)


def _row(found: Analysis, index: GraphIndex, fused: GraphIndex | None, passes: Sequence[str]) -> dict[str, Any]:
    """An analysis as JSON: ``suspects`` (see :func:`_suspect`) and what is said beside them."""
    return {
        "passes": list(passes),
        "suspects": [_suspect(s, fused) for s in found.suspects],
        "judged": found.judged,
        "healthy": _finite(found.healthy),
        "totals": found.totals,
        "changed": found.changed,
        "shows": found.shows,
        "hidden": [{"value": n, "node": index.label_of(n), "op_type": index.makers[n].op_type} for n in found.hidden],
        "literal": fused is not None,
    }


def _suspect(suspect: Suspect, fused: GraphIndex | None) -> dict[str, Any]:
    """A suspect as JSON; ``fused`` is the node of the optimised graph that makes its value."""
    error = suspect.error
    node = error.info.node
    maker = fused.makers.get(error.value) if fused is not None else None
    inner = sorted({inner.op_type for attribute in node.attribute for inner in attribute.g.node})
    return {
        "node": node_label(node),
        "op_type": node.op_type,
        "value": error.value,
        "native": native_name(node),
        "ratio": _finite(error.ratio),
        "max_abs": _finite(error.measure.max_abs),
        "rms": 0.0 if error.delta is None else _rms(error.delta),
        "scale": error.scale,
        "problem": error.measure.problem,
        "effect": _finite(suspect.effect),
        "moved": _finite(suspect.moved),
        "output": suspect.output,
        "feed": suspect.feed,
        "fits": {kind: _finite(ratio) for kind, ratio in error.fits.items()},
        "rounded": error.rounded,
        "inside": inner,
        "region": [{"node": node_label(n), "op_type": n.op_type} for n in suspect.region],
        "fused": "" if maker is None or maker.op_type == node.op_type else node_label(maker),
        "fused_type": "" if maker is None else maker.op_type,
    }


_HUGE = 1e300


def _rms(values: Any) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def _finite(value: float) -> float:
    """A number that JSON has."""
    return float(min(value, _HUGE))
