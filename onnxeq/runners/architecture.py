"""The canonical layers of an ONNX file, as a job: shape inference is native code and may crash."""

from __future__ import annotations

import json
from typing import Any

from onnxeq.compare.reading.opening import read_graph
from onnxeq.compare.records import graph_to_record
from onnxeq.worker import Job

__all__ = ["run"]


def run(job: Job) -> dict[str, Any]:
    """Reads ``job.inputs['model']`` into ``out/graph.json``; the sizes of its inputs may be in ``shapes``."""
    job.step("read the layers")
    shapes = {str(name): [int(n) for n in shape] for name, shape in job.params.get("shapes", {}).items()}
    graph = read_graph(job.inputs["model"], shapes)
    (job.out / "graph.json").write_text(json.dumps(graph_to_record(graph)))
    return {"path": "graph.json", "layers": len(graph.layers)}
