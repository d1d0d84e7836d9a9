"""What to do next."""

from __future__ import annotations

from onnxeq.report.advice import next_steps
from onnxeq.types import Role, Verdict

from .conftest import MakeLayer, MakeReport


def test_a_layer_that_creates_error_can_be_run_alone(layer: MakeLayer, report: MakeReport) -> None:
    """The command names both sides, or the one that there is, and stands first."""
    bad = [layer(0, Role.CREATES, local=50.0)]
    first, *rest = next_steps(report(bad))
    assert "onnxeq diff net.py:build net.onnx --repro DIR" in first
    assert "--plot FILE.svg" in first
    assert any("onnxruntime version" in step for step in rest)
    assert "onnxeq diff net.py:build --repro DIR" in next_steps(report(bad, target={}))[0]


def test_without_a_creating_layer_no_layer_is_proposed(layer: MakeLayer, report: MakeReport) -> None:
    """Neither where all is well nor where only something else is wrong."""
    assert next_steps(report([layer(0)])) == ()
    assert not any("diff" in step for step in next_steps(report([layer(0)], verdict=Verdict.INCONCLUSIVE)))
