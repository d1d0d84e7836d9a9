"""Why a layer of a framework's model differs from the graph: asked only where one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxeq.errors import OnnxeqError
from onnxeq.executions import Models
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.layer_report import Reason
from onnxeq.layers.roles import LOCAL
from onnxeq.sides import BOTH_FORMS, NativeSide, reads_of
from onnxeq.types import CauseKind, Layer, Role

__all__ = ["of_native"]


def of_native(jobs: Jobs, models: Models, layers: Sequence[Layer]) -> dict[str, Reason]:
    """Value of the judged graph -> what is different there, for the layers that create error on the source's side.

    An export of our own is the exporter's doing; any other artifact is held against one.
    """
    native = models.native
    rows = [row for row in layers if row.role is Role.CREATES and row.source_ratio > LOCAL]
    if native is None or not rows:
        return {}
    try:
        if models.target_ref == "its own export":
            return _of_exporter(jobs, native, rows)
        return _of_artifact(jobs, models, native, rows)
    except OnnxeqError:
        return {}  # the layer is told without


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


def _of_artifact(jobs: Jobs, models: Models, native: NativeSide, rows: Sequence[Layer]) -> dict[str, Reason]:
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
    told = graph.findings(jobs, question, models.judged.outputs, references, sorted(native.weights()))
    found: dict[str, Reason] = {}
    for row in rows:
        nodes = {row.node, *row.region}
        for finding in told:
            where: Mapping[str, str] = finding["where"]
            if where["node"] in nodes and row.value not in found:
                found[row.value] = Reason(
                    CauseKind(finding["cause"]), where["node"], where["op_type"], where["initializer"], finding["text"]
                )
    return found
