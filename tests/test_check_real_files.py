"""Pairs of real trained files of different formats, whose truth is known; skipped where they are not at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnxeq
from onnxeq.types import CauseKind, Status, Verdict

pytestmark = pytest.mark.keras


def test_outputs_of_other_names_and_order_are_paired_by_value(real_models: Path, fresh_cache: Path) -> None:
    """basic_pitch's ONNX outputs 0, 1, 2 are contour, note, onset: by position two of them would be exchanged."""
    folder = real_models / "basic_pitch"
    for target in ("nmp.onnx", "nmp.tflite"):
        report = onnxeq.check(folder / "saved_model", folder / target)
        assert report.verdict is Verdict.EQUIVALENT
        assert report.coverage.outputs_compared == report.coverage.outputs_total == 3
        (said,) = [note for note in report.notes if "paired by their values" in note]
        assert "StatefulPartitionedCall:2 is onset" in said


def test_a_float_file_of_tensorflow_lite_is_the_keras_model(real_models: Path, fresh_cache: Path) -> None:
    """Equal to 4e-7, judged as TensorFlow Lite's own interpreter runs it."""
    folder = real_models / "mlperf_tiny_resnet8"
    report = onnxeq.check(folder / "pretrainedResnet.h5", folder / "pretrainedResnet.tflite")
    assert report.verdict is Verdict.EQUIVALENT
    assert ("target-rounding", "target native/f32") in {(r.name, r.target) for r in report.rungs}
    assert report.outputs[0].max_abs < 4e-6


def test_a_quantised_file_is_divergent_by_quantisation(real_models: Path, fresh_cache: Path) -> None:
    """The 8-bit file takes and gives integers, and is held against the float model through float32."""
    folder = real_models / "mlperf_tiny_resnet8"
    pair = folder / "pretrainedResnet.h5", folder / "pretrainedResnet_quant.tflite"
    report = onnxeq.check(*pair)
    assert report.verdict is Verdict.DIVERGENT
    assert {c.cause for c in report.causes} == {CauseKind.GRAPH}
    assert "consistent with 8-bit quantisation" in report.causes[0].evidence
    assert next(r for r in report.rungs if r.name == "interface").status is Status.PASS
    assert onnxeq.check(*pair, accept=["int8"]).verdict is Verdict.EQUIVALENT


def test_each_file_of_tensorflow_lite_is_its_own_conversion(real_models: Path, fresh_cache: Path) -> None:
    """A framework without float64 is judged in rounding noise, and the report says so."""
    for path in (
        real_models / "mlperf_tiny_resnet8" / "pretrainedResnet.tflite",
        real_models / "mlperf_tiny_resnet8" / "pretrainedResnet_quant.tflite",
    ):
        report = onnxeq.check(path)
        assert report.verdict is Verdict.EQUIVALENT
        graph = next(r for r in report.rungs if r.name == "graph")
        assert (graph.source, graph.unit) == ("native/f32", "rounding noise")
        assert any("no float64" in note for note in report.notes)
