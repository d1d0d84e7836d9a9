from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxeq.protocols import Native
from onnxeq.referee.executor import Executor
from onnxeq.types import ExportForm, Precision, TensorSpec
from onnxeq_converters.from_tflite.widened import Scale

pytestmark = pytest.mark.keras


def test_steps_are_the_nearest_and_stay_in_the_type() -> None:
    """``x = (q - zero_point) * scale``: there and back is half a step away at most, and the ends are the ends."""
    scale = Scale(0.25, 10, np.int8)
    values = np.linspace(-30, 25, 221, dtype=np.float32)
    back = scale.dequantized(scale.quantized(values))
    assert np.abs(back - values).max() <= 0.125
    assert scale.quantized(np.float32([1e9, -1e9, 0.0])).tolist() == [127, -128, 10]
    assert scale.spec(TensorSpec("x", "int8", (1,))).range.high == (127 - 10) * 0.25


def test_a_quantised_file_takes_floats_where_they_are_declared(
    files: dict[str, Path], load: Callable[..., Native], tmp_path: Path
) -> None:
    """Native run and export both quantise what comes in and dequantise what goes out, by the file's own scales."""
    stored = load(files["int8"])
    (spec,) = stored.signature.inputs
    assert spec.dtype == "int8"
    wide = load(files["int8"], inputs=(TensorSpec(spec.name, "float32", spec.shape),))
    assert [s.dtype for s in (*wide.signature.inputs, *wide.signature.outputs)] == ["float32"] * 3
    scale = wide.narrow[spec.name]
    given = np.random.default_rng(0).standard_normal((1, 8, 8, 2)).astype(np.float32)
    floats = wide.run({spec.name: given}, Precision.F32)
    steps = stored.run({spec.name: scale.quantized(given)}, Precision.F32)
    for name, value in floats.items():
        assert np.array_equal(value, wide.narrow[name].dequantized(steps[name]))
    (export,) = wide.export(tmp_path, (ExportForm.UNFOLDED,), None)
    model = onnx.load(export.path)
    onnx.checker.check_model(model)
    found = Executor(model).run({export.input_names[0]: given})
    for ours, theirs in zip(floats, export.output_names, strict=True):
        assert np.abs(found[theirs] - floats[ours]).max() <= 2.01 * wide.narrow[ours].scale
