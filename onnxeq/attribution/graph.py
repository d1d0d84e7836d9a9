"""The float64 rungs: which nodes and constants of an artifact are not what the reference has, each with its proof.

The reference is the source itself where that is an ONNX file, else the source's own export, deployed and unfolded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxeq.attribution import shapes
from onnxeq.errors import OnnxeqError
from onnxeq.evidence import Evidence
from onnxeq.graph.files import read
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.kept import store_feeds
from onnxeq.ladder import LIMITS, Units
from onnxeq.measure import compare
from onnxeq.model_files import reads_of
from onnxeq.referee.plan import node_label
from onnxeq.sides import BOTH_FORMS
from onnxeq.types import Cause, CauseKind, ExportForm, Feed, Where

__all__ = ["Reference", "findings", "locate", "locate_interface", "proven"]

_MOST_CAUSES = 12
_PERVASIVE = 20
"""Departures from which on the artifact is another model throughout (a reduced precision), not one with faults."""


@dataclass(frozen=True)
class Reference:
    """A file to hold the artifact against, with the names of the source's inputs and outputs in it."""

    path: Path
    names: Mapping[str, str]
    outputs: Mapping[str, str]


def locate(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The faults behind a broken ``graph`` or ``weights`` rung; the cause as it was if none could be named."""
    try:
        references, exact, parameters = _references(found, cause)
        done = _held_against(jobs, found, references, exact, units, parameters)
    except OnnxeqError as error:
        return (replace(cause, evidence=f"{cause.evidence}; the place was not found: {error.line()}"),)
    if done is None:
        return (cause,)
    rows: Sequence[Mapping[str, Any]] = done.data["findings"]
    effects = _effects(done.out / "effects")
    index = int(done.data["feed"])
    told = [_cause(cause, row, effects[i], index, exact, units) for i, row in enumerate(rows)]
    limit = LIMITS["graph"].factor
    told.sort(key=lambda c: -c.ratio)
    return tuple([c for c in told if c.ratio > limit] or told[:1])[:_MOST_CAUSES]


def proven(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> int:
    """How many differences between an artifact and its reference are proven: taken back, a value is the reference's."""
    try:
        references, exact, parameters = _references(found, cause)
        done = _held_against(jobs, found, references, exact, units, parameters)
    except OnnxeqError:
        return 0
    return 0 if done is None else sum(bool(row["proven"]) for row in done.data["findings"])


def _held_against(
    jobs: Jobs, found: Evidence, references: Sequence[Reference], exact: Sequence[Feed], units: Units,
    parameters: Sequence[str],
) -> JobResult | None:  # fmt: skip
    """The finished comparison; ``None`` where there is no reference, or it is another model throughout, or the same."""
    if not references:
        return None
    question, outputs = found.runs.question, found.runs.outputs["referee/f64"]
    done = jobs.start(_asked(jobs, question, outputs, references, exact, units.floor, parameters)).result()
    return None if not done.data["findings"] or done.data["departures"] >= _PERVASIVE else done


def _cause(cause: Cause, row: Mapping[str, Any], effect: Feed, feed: int, exact: Sequence[Feed], units: Units) -> Cause:
    """A finding as a cause, its ratio by what it alone does to the outputs."""
    moved, ratio, output = 0.0, 0.0, ""
    for name, change in effect.items():
        size = float(np.max(change, initial=0.0))
        unit = units.floor[feed].get(name) if feed < len(units.floor) else None
        there = exact[feed].get(name) if feed < len(exact) else None
        comparable = there is not None and np.shape(there) == np.shape(change) and np.asarray(there).dtype.kind == "f"
        if not comparable or not np.isfinite(size):
            own = float("inf") if size else 0.0
        else:
            shifted = np.asarray(there, dtype=np.float64) + change
            one, other = [{name: np.asarray(there, dtype=np.float64)}], [{name: shifted}]
            own = compare(one, other, None if unit is None else [{name: unit}], step=2.0**-53).ratio
        if own >= ratio:
            moved, ratio, output = size, own, name
    where = Where(**row["where"])
    alone = f"; alone it moves output '{output}' by {moved:.3g} ({ratio:.3g}x its unit)" if output else ""
    if output and not np.isfinite(ratio):
        alone = f"; behind it output '{output}' cannot be compared"
    return Cause(CauseKind(row["cause"]), cause.rung, ratio, where, f"{row['text']}{alone}")


def _effects(folder: Path) -> list[dict[str, Any]]:
    from onnxeq.arrays import load_feeds

    return load_feeds(folder)


def _references(found: Evidence, cause: Cause) -> tuple[list[Reference], Sequence[Feed], Sequence[str]]:
    """What to hold the artifact against, what the outputs should be, and the framework's parameters by name."""
    if found.source_runs is not None:
        runs = found.source_runs
        question = runs.question
        reference = Reference(Path(question.inputs["model"]), question.params["names"], runs.outputs["referee/f64"])
        return [reference], found.executions["source referee/f64"].trace, ()
    native = found.native
    brought = native is not None and not native.exports
    if native is None or (cause.rung == "graph" and not brought):
        return [], (), ()
    exports = [native.export(ExportForm.UNFOLDED)] if not brought else [
        *native.exported(BOTH_FORMS)
    ]  # fmt: skip
    exact = found.executions["native/f64"].trace or found.executions["native/f32"].trace
    outputs = list(exact[0]) if exact else []
    ours = [spec.name for spec in native.inputs]
    references = [
        Reference(
            e.path,
            dict(zip(ours, e.input_names, strict=False)),
            dict(zip(e.output_names, outputs, strict=False)),
        )
        for e in exports
    ]
    return references, exact, sorted(native.weights())


def findings(
    jobs: Jobs,
    question: JobSpec,
    outputs: Mapping[str, str],
    references: Sequence[Reference],
    parameters: Sequence[str],
) -> Sequence[Mapping[str, Any]]:
    """What an artifact has differently from its nearest reference, see :func:`onnxeq.runners.attribute.run`.

    Args:
        jobs: Where to run.
        question: A bare job of the referee on the artifact: its names and inputs.
        outputs: The artifact's output -> the source's.
        references: What to hold it against.
        parameters: The framework's parameters by name.

    Raises:
        onnxeq.errors.OnnxeqError: It could not be run.
    """
    done = jobs.start(_asked(jobs, question, outputs, references, (), (), parameters)).result()
    rows: Sequence[Mapping[str, Any]] = done.data["findings"]
    return rows


def _asked(
    jobs: Jobs,
    question: JobSpec,
    outputs: Mapping[str, str],
    references: Sequence[Reference],
    exact: Sequence[Feed],
    floor: Sequence[Feed],
    parameters: Sequence[str],
) -> JobSpec:
    files = dict(question.inputs)
    for number, reference in enumerate(references):
        for name, path in reads_of(reference.path).items():
            key = f"reference {number}" if name == "model" else f"reference {number} {name}"
            files[key] = path
    if exact:
        files["exact"] = store_feeds(exact, jobs.root)
    if floor:
        files["unit"] = store_feeds(floor, jobs.root)
    params = {
        "names": question.params["names"],
        "outputs": dict(outputs),
        "references": [{"names": dict(r.names), "outputs": dict(r.outputs)} for r in references],
        "parameters": list(parameters),
        "tries": 4,
    }
    return JobSpec("attribute", "attribute", params, files, threads=0)


def locate_interface(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The faults that make the outputs others, or else the node that makes the one that is not the source's."""
    for ask in (locate, shapes.locate):
        named = ask(jobs, found, cause, units)
        if named != (cause,):
            return named
    graph = read(found.artifact.path).graph
    theirs = {source: name for name, source in found.runs.outputs["referee/f64"].items()}
    value = cause.where.value
    node = _maker(graph, theirs.get(value, value))
    if node is None:
        return (cause,)
    where = Where(node_label(node), node.op_type, theirs.get(value, value), "")
    return (replace(cause, where=where),)


def _maker(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if value in node.output), None)
