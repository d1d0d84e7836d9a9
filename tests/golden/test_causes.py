"""What lines of the provenance suggest, before anything is run."""

from __future__ import annotations

import pytest

from onnxeq.golden.causes import suggested
from onnxeq.golden.findings import CauseKind, Change
from onnxeq.golden.identity import Marks


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("torch", CauseKind.FRAMEWORK), ("tensorflow", CauseKind.FRAMEWORK), ("threads", CauseKind.FRAMEWORK),
        ("a framework of tomorrow", CauseKind.FRAMEWORK), ("exporter", CauseKind.EXPORTER),
        ("tf2onnx", CauseKind.EXPORTER), ("opset", CauseKind.EXPORTER), ("producer", CauseKind.EXPORTER),
        ("onnxruntime", CauseKind.RUNTIME), ("runtime", CauseKind.RUNTIME), ("runtime mine", CauseKind.RUNTIME),
        ("provider", CauseKind.PROVIDER), ("device", CauseKind.PROVIDER), ("cpu", CauseKind.MACHINE),
        ("weights_sha256", CauseKind.WEIGHTS), ("native_weights_sha256", CauseKind.WEIGHTS),
        ("graph_sha256", CauseKind.GRAPH),
    ],
)  # fmt: skip
def test_each_line_is_about_one_thing(key: str, kind: CauseKind) -> None:
    """Framework, exporter, runtime, provider, machine, weights or graph, with both values in words."""
    (found,) = suggested([Change(key, "1", "2")])
    assert (found.kind, found.proven) == (kind, False)
    assert found.evidence == f"{key} 1 -> 2"


@pytest.mark.parametrize("key", ["python", "numpy", "onnxeq", "onnx_sha256"])
def test_what_makes_no_output_is_no_cause(key: str) -> None:
    """It is shown as a change, and nothing is put down to it."""
    assert suggested([Change(key, "1", "2")]) == ()


def test_an_exporter_explains_what_it_writes() -> None:
    """Another graph, and constants stored otherwise as long as the framework's own weights are the same."""
    lines = [Change(k, "1", "2") for k in ("exporter", "graph_sha256", "weights_sha256")]
    marks = Marks({"w": ("float32[1]", "a")}, ()), Marks({"w": ("float32[1]", "b")}, ())
    assert [c.kind for c in suggested(lines, *marks, native=True)] == [CauseKind.EXPORTER]
    kinds = {c.kind: c.where for c in suggested(lines, *marks)}
    assert kinds == {CauseKind.EXPORTER: "", CauseKind.WEIGHTS: "1 of 1 weights changed: 'w' float32[1]"}
    lines.append(Change("native_weights_sha256", "1", "2"))
    assert CauseKind.WEIGHTS in [c.kind for c in suggested(lines, *marks, native=True)]
