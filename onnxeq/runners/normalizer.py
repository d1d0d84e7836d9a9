"""The normaliser as a job: third-party simplifiers are native code and may crash."""

from __future__ import annotations

from typing import Any

from onnxeq.graph.normalize import normalize, write
from onnxeq.worker import Job

__all__ = ["run"]


def run(job: Job) -> dict[str, Any]:
    """Normalises ``job.inputs['model']`` into ``out/normalized.onnx``."""
    job.step("normalize")
    result = normalize(job.inputs["model"], opset=job.params.get("opset"))
    job.step("write")
    write(result.model, job.out / "normalized.onnx")
    return {
        "path": "normalized.onnx",
        "nodes": len(result.model.graph.node),
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
