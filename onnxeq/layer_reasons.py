"""Why a layer of a framework's model differs from the graph: asked only where one does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from onnxeq import weighing
from onnxeq.errors import OnnxeqError
from onnxeq.executions import Models
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.layer_report import Reason
from onnxeq.layers.judging.roles import LOCAL
from onnxeq.model_files import reads_of
from onnxeq.referee.plan import node_label
from onnxeq.rules import Rules
from onnxeq.sides import BOTH_FORMS, NativeSide
from onnxeq.types import CauseKind, Layer, Role

if TYPE_CHECKING:
    import onnx

__all__ = ["Explained", "of_files", "of_native", "start_ledger", "with_ledger"]


def start_ledger(models: Models) -> Future[JobResult] | None:
    """Has a framework's weights compared with the artifact's, exactly: what outputs and layers cannot show."""
    if models.native is None or models.bridge is None:
        return None
    files = {**reads_of(models.judged.path), "reference": models.bridge.path}
    return models.native.question("native-ledger", "ledger", {}, files)


_HIDDEN = 4096.0
"""Units in the last place that rounding may hide at a layer: a constant that is further off shows by itself..."""

_PARTLY = frozenset({"Gather", "GatherND", "GatherElements", "If", "Loop", "Scan"})
"""...unless its node may leave a part of it unread at these inputs."""


def of_files(jobs: Jobs, models: Models) -> Future[JobResult] | None:
    """The same of two ONNX files."""
    if models.source is None:
        return None
    files = {**reads_of(models.judged.path), "source": models.source.path}
    return jobs.start(JobSpec("ledger", "ledger", {}, files, threads=jobs.threads_each))


def with_ledger(
    asked: Future[JobResult] | None, layers: Sequence[Layer], graph: onnx.GraphProto, rules: Rules, *, files: bool
) -> tuple[tuple[Layer, ...], dict[str, Reason]]:
    """The rows, those marked that read a wrong constant, however little it does at these inputs, and why.

    Of two ``files`` the constants are as they were stored; a framework's may have been merged with something.
    """
    found = None if asked is None else weighing.weighed(asked).ledger
    reasons: dict[str, Reason] = {}
    if found is None:
        return tuple(layers), reasons
    marked = {row.value: row for row in layers}
    for entry in weighing.faults(found, rules, confirmed=True):
        readers = [node_label(n) for n in graph.node if entry.initializer in n.input] or [entry.node]
        reading = [row for row in layers if set(readers) & {row.node, *row.region}]
        may_hide = files or entry.ulp <= _HIDDEN or entry.op_type in _PARTLY
        hidden = reading[0] if reading and entry.sure and may_hide else None
        row = next((r for r in reading if r.role is Role.CREATES), hidden)
        if row is None:  # merely unlike, and nothing shows
            continue
        reasons.setdefault(
            row.value, Reason(CauseKind.WEIGHTS, readers[0], entry.op_type, entry.initializer, entry.evidence)
        )
        if row.role is not Role.CREATES:
            note = "a constant is not the source's; at these inputs that does not show"
            marked[row.value] = replace(row, role=Role.CREATES, note=note)
    return tuple(marked[row.value] for row in layers), reasons


@dataclass(frozen=True)
class Explained:
    """What a float64 comparison of both graphs tells of layers.

    Attributes:
        reasons: Value -> what is different there.
        aftermath: Values of layers that are off only because of those differences, which explain everything.
    """

    reasons: Mapping[str, Reason] = field(default_factory=dict)
    aftermath: frozenset[str] = frozenset()


def of_native(
    jobs: Jobs, models: Models, layers: Sequence[Layer], known: Mapping[str, Reason], graph: onnx.GraphProto
) -> Explained:
    """Why layers create error on the source's side; those whose value is in ``known``, and its faults, are left out.

    An export of our own is the exporter's doing; any other artifact is held against one.
    """
    native = models.native
    rows = [r for r in layers if r.role is Role.CREATES and r.source_ratio > LOCAL and r.value not in known]
    if native is None or not rows:
        return Explained()
    try:
        if models.target_ref == "its own export":
            return Explained(_of_exporter(jobs, native, rows))
        return _of_artifact(jobs, models, native, rows, graph, known)
    except OnnxeqError:
        return Explained()  # the layer is told without


def _of_exporter(jobs: Jobs, native: NativeSide, rows: Sequence[Layer]) -> dict[str, Reason]:
    from onnxeq.attribution import exporter  # it brings the whole ledger along, which few diffs ask

    by_source = {row.source_value: row for row in rows}
    found = {}
    for fault in exporter.faults_of(jobs, native):
        row = by_source.get(str(fault["value"]))
        if row is not None:
            words = exporter.evidence_of(fault, [fault])
            found[row.value] = Reason(CauseKind.GRAPH, row.node, row.op_type, "", words)
    return found


def _of_artifact(
    jobs: Jobs,
    models: Models,
    native: NativeSide,
    rows: Sequence[Layer],
    judged: onnx.GraphProto,
    known: Mapping[str, Reason],
) -> Explained:
    from onnxeq.attribution import graph

    question = JobSpec(
        "referee", "question", {"names": dict(models.judged.names), "seed": 0},
        {**reads_of(models.judged.path), "feeds": models.feeds}, threads=jobs.threads_each,
    )  # fmt: skip
    names = [spec.name for spec in native.inputs]
    references = [
        graph.Reference(
            export.path,
            dict(zip(names, export.input_names, strict=False)),
            {name: name for name in export.output_names} if models.bridge is None
            else dict(zip(export.output_names, models.bridge.outputs.values(), strict=False)),
        )
        for export in native.exported(BOTH_FORMS)
    ]  # fmt: skip
    every = graph.findings(jobs, question, models.judged.outputs, references, sorted(native.weights()))
    order = {node_label(node): i for i, node in enumerate(judged.node)}
    found: dict[str, Reason] = {}
    constants = {reason.initializer for reason in known.values() if reason.initializer}
    told = [finding for finding in every if finding["where"]["initializer"] not in constants]
    for finding in told:
        left = [row for row in rows if row.value not in found]
        row = _row_of(finding["where"]["node"], order, left, proven=bool(finding["proven"]))
        if row is not None:
            found[row.value] = _reason(finding)
    whole = bool(every) and all(finding["proven"] for finding in every) and len(found) == len(told)
    return Explained(found, frozenset(r.value for r in rows if r.value not in found) if whole else frozenset())


def _row_of(node: str, order: Mapping[str, int], rows: Sequence[Layer], *, proven: bool) -> Layer | None:
    """The layer of a node; for what is proven the first that it shows in where its own is not known on both sides."""
    own = next((row for row in rows if node in (row.node, *row.region)), None)
    if own is not None or not proven:
        return own
    behind = [row for row in rows if row.index >= order.get(node, math.inf)]
    return min(behind, key=lambda row: row.index, default=None)


def _reason(finding: Mapping[str, Any]) -> Reason:
    where: Mapping[str, str] = finding["where"]
    kind = CauseKind(finding["cause"])
    return Reason(kind, where["node"], where["op_type"], where["initializer"], finding["text"])
