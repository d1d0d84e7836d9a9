"""Checks of SavedModel folders and TensorFlow Lite files from end to end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxeq
from onnxeq.types import Report, Rung, Status, Verdict

pytestmark = pytest.mark.keras


@pytest.fixture
def real_models() -> Path:
    """The folder of real trained models; skips where it is absent."""
    folder = Path(os.environ.get("ONNXEQ_REAL_MODELS", "../shared/models"))
    if not folder.is_dir():
        pytest.skip(f"no real models at {folder}: set ONNXEQ_REAL_MODELS")
    return folder


def _rungs(report: Report) -> dict[str, Rung]:
    return {rung.name: rung for rung in report.rungs}


def test_a_saved_model_is_equivalent_to_its_export(tmp_path: Path) -> None:
    """Every rung passes, the graph rung sharply; a scaled channel of the artifact is found with its weight's name."""
    tf = pytest.importorskip("tensorflow")
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)

    class Net(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.standard_normal((3, 3, 2, 4)).astype(np.float32), name="conv/kernel")
            self.matrix = tf.Variable(rng.standard_normal((4, 5)).astype(np.float32), name="dense/kernel")

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 2], name="image")])  # type: ignore[untyped-decorator]
        def __call__(self, image: Any) -> Any:
            x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME"))
            return {"scores": tf.reduce_mean(x, [1, 2]) @ self.matrix}

    net = Net()
    folder = tmp_path / "net"
    tf.saved_model.save(net, str(folder), signatures={"serving_default": net.__call__})
    report = onnxeq.check(str(folder), providers=["cpu"])
    assert report.verdict is Verdict.EQUIVALENT
    assert _rungs(report)["graph"].max_abs < 1e-12
    path = tmp_path / "net.onnx"
    onnxeq.convert(str(folder), path)
    model = onnx.load(str(path))
    (matrix,) = (t for t in model.graph.initializer if tuple(t.dims) in ((4, 5), (5, 4)))
    value = onnx.numpy_helper.to_array(matrix).copy()
    value[..., :1] *= 1.01
    matrix.CopyFrom(onnx.numpy_helper.from_array(value, matrix.name))
    onnx.save(model, str(path))
    damaged = onnxeq.check(str(folder), path, providers=["cpu"])
    assert damaged.verdict is Verdict.DIVERGENT
    assert damaged.causes[0].where.native == "dense/kernel"


def test_a_real_saved_model_of_keras_2_is_equivalent_to_its_export(real_models: Path) -> None:
    """Keras 2 saved it with its optimizer; all of its three outputs pass every rung."""
    report = onnxeq.check(str(real_models / "basic_pitch" / "saved_model"), providers=["cpu"])
    assert report.verdict is Verdict.EQUIVALENT
    assert report.coverage.outputs_compared == 3
    assert _rungs(report)["graph"].max_abs < 1e-12


@pytest.mark.parametrize("name", ["pretrainedResnet.tflite", "pretrainedResnet_quant.tflite"])
def test_a_real_tensorflow_lite_file_passes_what_can_be_judged(real_models: Path, name: str) -> None:
    """No rung that needs no native float64 fails, quantised or not, and the reason for the others is told."""
    report = onnxeq.check(str(real_models / "mlperf_tiny_resnet8" / name), providers=["cpu"])
    rungs = _rungs(report)
    for passed in ("interface", "weights", "ledger", "stability", "normalize", "kernels", "optimizer"):
        assert rungs[passed].status is Status.PASS, passed
    native = [rungs[name] for name in ("native-rounding", "graph") if name in rungs]
    assert all("no float64" in rung.reason for rung in native if rung.status is Status.NOT_RUN)
    assert report.outputs[0].dtype == ("int8" if "quant" in name else "float32")
