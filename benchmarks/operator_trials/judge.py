"""One ONNX file of one case against its native program, rung by rung, with the ladder's own units and limits."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from onnxeq import ladder
from onnxeq.arrays import dtype_name, load_feeds, save_feeds
from onnxeq.errors import OnnxeqError
from onnxeq.graph.inspect import load
from onnxeq.ladder import Execution, RungPlan, Units
from onnxeq.measure import compare
from onnxeq.runners import ort, referee
from onnxeq.runners.runtime import flatten
from onnxeq.runtimes import choose_runner
from onnxeq.types import Feed, Rung, Status
from onnxeq.worker import Job

__all__ = ["RATIOS", "Finding", "Judged", "Native", "judge"]

COMPONENTS = {
    "native-rounding": "native",
    "graph": "exporter",
    "interface": "exporter",
    "weights": "exporter",
    "lowering": "exporter",
    "runs": "exporter",
    "kernels": "onnxruntime",
    "optimizer": "onnxruntime",
    "reference": "onnx.reference",
}
"""Rung -> whose fault a break is."""

_CAUSE = {"exporter": "graph", "onnxruntime": "runtime", "native": "runtime", "onnx.reference": "reference"}


@dataclass(frozen=True)
class Native:
    """What the framework gave: per feed, float32 and float64 (empty with the reason where it could not)."""

    single: Sequence[Feed]
    double: Sequence[Feed]
    why_not: str = ""


@dataclass(frozen=True)
class Finding:
    """One broken rung of one file.

    Attributes:
        component: ``exporter``, ``onnxruntime``, ``native``, ``onnx.reference``.
        rung: Which.
        nodes: The operators of the file.
        what: What differs, how much.
    """

    component: str
    rung: str
    nodes: str
    what: str

    @property
    def cause(self) -> str:
        """``graph``, ``runtime`` or ``reference``."""
        return _CAUSE[self.component]


RATIOS = ("native", "plain", "optimised", "thousandth")
"""Errors in the rounding noise of the file as users get it: the framework's float32, onnxruntime plain and optimised,
and what an output that is wrong by a thousandth of itself has."""


class Judged(NamedTuple):
    """What breaks, what could not be run, and how far each execution is from the truth (:data:`RATIOS`)."""

    findings: list[Finding]
    missing: list[str]
    ratios: dict[str, float]


def judge(
    native: Native, unfolded: Path, deployed: Path, feeds: Sequence[Feed], names: Mapping[str, str],
    outputs: Mapping[str, str], folder: Path,
) -> Judged:  # fmt: skip
    """What breaks, what could not be run, and by how much all are off.

    Args:
        native: The framework's outputs; empty for a graph that was built by hand.
        unfolded: The file as exported.
        deployed: The file as users get it; may be the same.
        feeds: The inputs, of one shape and type.
        names: Feed name -> ONNX input name.
        outputs: ONNX output name -> native output name.
        folder: A place to work in; emptied at the end.
    """
    save_feeds(folder / "feeds", feeds)
    found, missing = _execute(unfolded, deployed, names, outputs, folder)
    executions: dict[str, Execution] = dict(found)
    if native.single:
        executions["native/f32"] = Execution("native/f32", tuple(native.single))
        executions["native/f64"] = Execution("native/f64", tuple(native.double), native.why_not)
    units = _units(folder / "deployed-referee", outputs, executions["referee/f64"])
    findings = [*_interface(executions), *_invalid(executions, deployed)]
    rungs = [ladder.climb((plan,), executions, units, ladder.Rules())[0] for plan in _plans(executions)]
    broken = {r.name for r in rungs if r.status is Status.FAIL}
    for rung in rungs:
        if rung.status is Status.FAIL and not (rung.name == "lowering" and broken - {"lowering", "native-rounding"}):
            label = "reference" if rung.target == "onnx.reference" else rung.name
            findings.append(_finding(label, rung, load(deployed)))
        if rung.status is Status.NOT_RUN and rung.reason:
            missing.append(f"{rung.name}: {rung.reason}")
    shutil.rmtree(folder)
    findings = _range(findings)
    if any(f.rung == "graph" for f in findings):  # what is exported wrongly has no rounding to speak of
        findings = [f for f in findings if f.rung not in ("native-rounding", "interface")]
    return Judged(findings, missing, _ratios(executions, units))


def _ratios(executions: Mapping[str, Execution], units: Units) -> dict[str, float]:
    exact = executions["referee/f64"].trace
    if not exact or not units.rounding:
        return {}
    absent = Execution("")
    found = {
        "native": (executions.get("native/f64", absent).trace, executions.get("native/f32", absent).trace),
        "plain": (exact, executions["ort/cpu plain"].trace),
        "optimised": (exact, executions["ort/cpu"].trace),
        "thousandth": (exact, [{k: v * 1.001 if v.dtype.kind == "f" else v for k, v in f.items()} for f in exact]),
    }
    assert tuple(found) == RATIOS
    return {k: compare(a, b, units.rounding, step=2.0**-24).ratio for k, (a, b) in found.items() if a and b}


def _plans(executions: Mapping[str, Execution]) -> list[RungPlan]:
    """The ladder's rungs; where the float64 native run or the referee is missing, the next best comparison."""
    plans = [
        RungPlan("kernels", "referee/f64", "ort/cpu plain"),
        RungPlan("optimizer", "ort/cpu plain", "ort/cpu"),
        RungPlan("kernels", "referee/f64 unfolded", "onnx.reference"),
    ]
    if "native/f32" not in executions:
        return plans
    if executions["native/f64"].trace:
        plans = [
            RungPlan("native-rounding", "native/f64", "native/f32"),
            RungPlan("graph", "native/f64", "referee/f64 unfolded", sharp=True),
            RungPlan("weights", "referee/f64 unfolded", "referee/f64", sharp=True),
            *plans,
            RungPlan("lowering", "native/f64", "ort/cpu", measure="native/f32"),
        ]
    else:
        plans = [RungPlan("graph", "referee/f64", "native/f32"), *plans]
    return plans


def _execute(
    unfolded: Path, deployed: Path, names: Mapping[str, str], outputs: Mapping[str, str], folder: Path
) -> tuple[dict[str, Execution], list[str]]:
    same = _same_graph(unfolded, deployed)
    runs = {
        "referee/f64": (referee.run, deployed, "deployed-referee", {"rounding": True, "floor": True}),
        "ort/cpu plain": (
            ort.run,
            deployed,
            "plain",
            {"runner": choose_runner(None).params(), "provider": "cpu", "optimize": False, "tf32": False},
        ),
        "ort/cpu": (
            ort.run,
            deployed,
            "optimised",
            {"runner": choose_runner(None).params(), "provider": "cpu", "optimize": True, "tf32": False},
        ),
        "onnx.reference": (_reference, unfolded, "reference", {}),
    }
    if not same:
        runs["referee/f64 unfolded"] = (referee.run, unfolded, "unfolded-referee", {})
    found: dict[str, Execution] = {}
    missing: list[str] = []
    for name, (run, model, place, params) in runs.items():
        out = folder / place
        out.mkdir(parents=True)
        job = Job({"names": dict(names), "seed": 0, **params}, {"model": model, "feeds": folder / "feeds"}, out, _quiet)
        try:
            run(job)
            found[name] = Execution(name, _trace(out / "trace", outputs))
        except OnnxeqError as error:
            found[name] = Execution(name, missing=error.line())
            missing.append(f"{name}: {error.line()}")
    if same:
        base = found["referee/f64"]
        found["referee/f64 unfolded"] = Execution("referee/f64 unfolded", base.trace, base.missing)
    return found, missing


def _quiet(_step: str) -> None:
    return None


def _trace(folder: Path, outputs: Mapping[str, str]) -> tuple[dict[str, Any], ...]:
    if not (folder / "index.json").exists():
        return ()
    return tuple({outputs.get(k, k): v for k, v in feed.items()} for feed in load_feeds(folder))


def _units(folder: Path, outputs: Mapping[str, str], base: Execution) -> Units:
    if not base.trace:
        return Units(missing=base.missing)
    return Units(_trace(folder / "rounding", outputs), _trace(folder / "floor", outputs))


def _reference(job: Job) -> dict[str, Any]:
    """Onnx's own evaluator, judged like a runtime."""
    from onnx.reference import ReferenceEvaluator

    from onnxeq.errors import CannotRun

    names = job.params["names"]
    feeds = [{names.get(k, k): v for k, v in f.items()} for f in load_feeds(job.inputs["feeds"])]
    try:
        evaluator = ReferenceEvaluator(load(job.inputs["model"]))
        with np.errstate(all="ignore"):
            made = [evaluator.run(None, feed) for feed in feeds]
    except Exception as error:  # it raises anything
        text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CannotRun(f"onnx.reference fails: {text}") from error
    save_feeds(job.out / "trace", [flatten(evaluator.output_names, values) for values in made])
    return {}


def _same_graph(a: Path, b: Path) -> bool:
    """Whether two files hold the same graph, whatever is noted beside it."""
    if a == b:
        return True
    one, two = load(a), load(b)
    for model in (one, two):
        for node in model.graph.node:
            del node.metadata_props[:]
        for tensor in model.graph.initializer:
            del tensor.metadata_props[:]
        del model.graph.metadata_props[:]
        del model.graph.value_info[:]
    return bool(one.graph == two.graph)


def _interface(executions: Mapping[str, Execution]) -> list[Finding]:
    """Outputs whose type or shape differs between the framework and onnxruntime."""
    ours, theirs = executions.get("native/f32", Execution("")).trace, executions["ort/cpu plain"].trace
    if not ours or not theirs:
        return []
    for a, b in zip(ours, theirs, strict=True):
        for name, value in a.items():
            if name not in b:
                return [Finding("exporter", "interface", "", f"output '{name}' is missing")]
            kinds = dtype_name(value), dtype_name(b[name])
            if kinds[0] != kinds[1]:
                return [Finding("exporter", "interface", "", f"output '{name}' is {kinds[1]}, natively {kinds[0]}")]
            if value.shape != b[name].shape:
                what = f"output '{name}' has shape {list(b[name].shape)}, natively {list(value.shape)}"
                return [Finding("exporter", "interface", "", what)]
    return []


def _range(findings: Sequence[Finding]) -> list[Finding]:
    """What float32's range alone makes: two evaluators that know nothing of each other overflow alike.

    Where the framework does not, the exporter has chosen a lowering that does; where it does too, nothing is wrong.
    """
    over = {f.rung: f for f in findings if _overflows(f)}
    if not {"kernels", "reference"} <= over.keys():
        return list(findings)
    rest = [f for f in findings if f.rung not in ("kernels", "reference", "native-rounding", "lowering")]
    if "native-rounding" in over:
        return rest
    what = f"{over['kernels'].what} in float32, where the framework has a number: an inferior lowering"
    return [*rest, Finding("exporter", "lowering", over["kernels"].nodes, what)]


def _overflows(finding: Finding) -> bool:
    return "infinite on one side" in finding.what or "NaN in the second only" in finding.what


def _invalid(executions: Mapping[str, Execution], deployed: Path) -> list[Finding]:
    """A file that the exporter wrote without a word and that no executor can run, or that breaks ONNX's own rules."""
    if "native/f32" not in executions:
        return []
    before = executions["referee/f64 unfolded"]
    if executions["referee/f64"].trace and "failed on inputs" in before.missing:
        return [Finding("exporter", "runs", "", f"before it is optimised the file cannot be run: {before.missing}")]
    if executions["ort/cpu plain"].trace:
        return []
    runtime = executions["ort/cpu plain"].missing
    if not executions["referee/f64"].trace:
        if "no validated float64 semantics" in executions["referee/f64"].missing:
            return []
        return [Finding("exporter", "runs", _kinds(load(deployed)), f"the file cannot be run: {runtime[:300]}")]
    try:
        onnx.checker.check_model(load(deployed), full_check=True)
    except Exception as error:  # the checker's errors and those of shape inference share no base class
        text = " ".join(str(error).split())[:300]
        return [Finding("exporter", "runs", _kinds(load(deployed)), f"the file breaks ONNX's rules: {text}")]
    return []


def _kinds(model: onnx.ModelProto) -> str:
    kinds = dict.fromkeys(n.op_type for n in model.graph.node if n.op_type not in ("Constant", "Identity"))
    return ", ".join(list(kinds)[:5]) + (f" and {len(kinds) - 5} more" if len(kinds) > 5 else "")


def _finding(label: str, rung: Rung, model: onnx.ModelProto) -> Finding:
    shown = _kinds(model)
    if rung.reason:
        what = rung.reason
    elif math.isfinite(rung.max_abs):
        what = f"{rung.max_abs:.3g} off, {rung.ratio:.3g}x its unit"
    else:
        what = "not comparable"
    return Finding(COMPONENTS[label], label, shown, what)
