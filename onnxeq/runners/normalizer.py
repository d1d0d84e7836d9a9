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
    result = normalize(job.inputs["model"], opset=job.params.get("opset"))
    job.step("write")
    write(result.model, job.out / "normalized.onnx")
    source = load(job.inputs["model"])
    return {
        "path": "normalized.onnx",
        "nodes": len(result.model.graph.node),
        "changed": _computes(result.model) != _computes(source),
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


def _computes(model: onnx.ModelProto) -> tuple[object, ...]:
    """What decides the result of a run: nodes, constants, functions and opsets, not names of shapes or notes."""
    return (
        [node.SerializeToString(deterministic=True) for node in model.graph.node],
        [tensor.SerializeToString(deterministic=True) for tensor in model.graph.initializer],
        [function.SerializeToString(deterministic=True) for function in model.functions],
        sorted((o.domain, o.version) for o in model.opset_import),
    )
