"""The normaliser as a job: third-party simplifiers are native code and may crash."""

from __future__ import annotations

from typing import Any

import onnx

from onnxeq.graph.inspect import load
from onnxeq.graph.normalize import normalize, write
from onnxeq.graph.same_values import values_to_take_over
from onnxeq.worker import Job

__all__ = ["run"]


def run(job: Job) -> dict[str, Any]:
    """Normalises ``job.inputs['model']`` into ``out/normalized.onnx``."""
    job.step("normalize")
    source = load(job.inputs["model"])
    result = normalize(source, opset=job.params.get("opset"))
    job.step("write")
    write(result.model, job.out / "normalized.onnx")
    return {
        "path": "normalized.onnx",
        "nodes": len(result.model.graph.node),
        "changed": not _computes_the_same(source, result.model),
        "recomputed": values_to_take_over(source, result.model)[1],
        "steps": [
            {
                "name": s.name,
                "before": s.nodes_before,
                "after": s.nodes_after,
                "modified": s.modified,
                "note": s.note,
            }
            for s in result.steps
        ],
    }


def _computes_the_same(first: onnx.ModelProto, second: onnx.ModelProto) -> bool:
    """Whether all that decides the result of a run is equal: not so names of shapes, or notes."""
    parts = [(m.graph.node, m.functions, m.graph.initializer, m.graph.sparse_initializer) for m in (first, second)]
    opsets = [sorted((o.domain, o.version) for o in m.opset_import) for m in (first, second)]
    return opsets[0] == opsets[1] and all(
        len(mine) == len(theirs) and all(a == b for a, b in zip(mine, theirs, strict=True))
        for mine, theirs in zip(*parts, strict=True)
    )
