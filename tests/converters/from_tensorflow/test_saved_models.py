"""SavedModel folders and frozen graphs, from reading to export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxeq.errors import BadInputs, UnusableModel, UsageError
from onnxeq.referee import Executor
from onnxeq.types import ExportForm, Precision, TensorSpec

pytestmark = pytest.mark.keras

FORMS = (ExportForm.DEPLOYED, ExportForm.UNFOLDED)


def _images(batch: int = 2) -> dict[str, Any]:
    return {"image": np.random.default_rng(1).standard_normal((batch, 6, 8, 2)).astype(np.float32)}


def _agrees(native: Any, feed: Any, folder: Path) -> float:
    """How far the unfolded export is from float64, relative to the outputs; both in float64."""
    (export,) = native.export(folder, (ExportForm.UNFOLDED,), None)
    names = dict(zip([s.name for s in native.signature.inputs], export.input_names, strict=True))
    made = Executor(onnx.load(str(export.path))).run({names[k]: v for k, v in feed.items()})
    wide = native.run(feed, Precision.F64)
    worst = 0.0
    for name, theirs in zip([s.name for s in native.signature.outputs], export.output_names, strict=True):
        assert wide[name].dtype == np.float64
        worst = max(worst, float(np.abs(made[theirs] - wide[name]).max() / np.abs(wide[name]).max()))
    return worst


def test_a_saved_model_runs_by_its_signature(tf: Any, saved_net: Path, load: Callable[..., Any]) -> None:
    """Outputs come by name in alphabetical order and are what the signature gives; float64 is near, not equal."""
    native = load(saved_net)
    assert [(s.name, s.text()) for s in native.signature.inputs] == [("image", "float32[N,d1,8,2]")]
    assert [s.name for s in native.signature.outputs] == ["features", "scores"]
    expected = tf.saved_model.load(str(saved_net)).signatures["serving_default"](**_images())
    single, wide = native.run(_images(), Precision.F32), native.run(_images(), Precision.F64)
    assert list(single) == list(wide) == ["features", "scores"]
    for name in single:
        np.testing.assert_array_equal(single[name], np.asarray(expected[name]))
        assert 0 < np.abs(wide[name] - single[name]).max() < 1e-5
    assert native.provenance["signature"] == "serving_default"


def test_weights_are_the_variables_by_name(saved_net: Path, load: Callable[..., Any]) -> None:
    """Every variable that the signature reads is there under its own name, with its shape."""
    shapes = {name: value.shape for name, value in load(saved_net).weights().items()}
    assert shapes == {"conv/kernel": (3, 3, 2, 4), "norm/gamma": (4,), "dense/kernel": (4, 5)}


def test_both_exports_and_the_float64_run_agree(saved_net: Path, load: Callable[..., Any], tmp_path: Path) -> None:
    """The unfolded export equals the float64 run to float64 rounding and keeps every weight; batches stay open."""
    native = load(saved_net, inputs=(TensorSpec("image", "float32", (1, 6, 8, 2)),))
    assert native.signature.inputs[0].shape == ("N", 6, 8, 2)
    assert _agrees(native, _images(3), tmp_path) < 1e-14
    exports = native.export(tmp_path, FORMS, None)
    assert all(e.dynamic_batch and e.output_names == ("features", "scores") for e in exports)
    model = onnx.load(str(tmp_path / "unfolded.onnx"))
    stored = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer]
    for value in native.weights().values():
        assert any(a.size == value.size and np.array_equal(np.sort(a.ravel()), np.sort(value.ravel())) for a in stored)


def test_layers_have_the_names_of_the_unfolded_export(
    saved_net: Path, load: Callable[..., Any], tmp_path: Path
) -> None:
    """Most inner values are there under the export's names, in float32 and float64, functions inlined."""
    native = load(saved_net, inputs=(TensorSpec("image", "float32", (1, 6, 8, 2)),))
    native.export(tmp_path, (ExportForm.UNFOLDED,), None)
    graph = onnx.load(str(tmp_path / "unfolded.onnx")).graph
    made = {name for node in graph.node for name in node.output}
    single = {v.name: v for v in native.layers(_images(), Precision.F32)}
    wide = {v.name: v.array for v in native.layers(_images(), Precision.F64)}
    assert {v.op for v in single.values()} >= {"Conv2D", "Relu", "MatMul", "Softmax"}
    shared = [n for n in single if n in made]
    assert len(shared) >= 6
    assert {"features", "scores"} <= set(shared)
    for name in shared:
        np.testing.assert_allclose(single[name].array, wide[name], rtol=0, atol=1e-5)
    assert all(k.ratio < 3 for k in native.kernels(_images()))


def test_an_lstm_and_control_flow_agree_in_float64(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """A loop over time and a branch on the data, with weights read inside of both, are the same program in ONNX."""
    rng = np.random.default_rng(3)

    class Recurrent(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.standard_normal((3, 16)).astype(np.float32), name="kernel")
            self.recurrent = tf.Variable(rng.standard_normal((4, 16)).astype(np.float32) / 2, name="recurrent")

        @tf.function(input_signature=[tf.TensorSpec([2, 5, 3], name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            h = c = tf.zeros([2, 4])
            for t in tf.range(5):
                i, f, g, o = tf.split(x[:, t] @ self.kernel + h @ self.recurrent, 4, axis=-1)
                c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
                h = tf.sigmoid(o) * tf.tanh(c)
            return {"h": tf.cond(tf.reduce_sum(x) > 0, lambda: h * 2.0, lambda: h - 1.0)}

    net = Recurrent()
    tf.saved_model.save(net, str(tmp_path / "net"), signatures={"serving_default": net.__call__})
    native = load(tmp_path / "net")
    x = np.abs(rng.standard_normal((2, 5, 3))).astype(np.float32)
    up, down = (native.run({"x": v}, Precision.F64)["h"] for v in (x, -x))
    assert up.shape == down.shape == (2, 4)
    assert _agrees(native, {"x": x}, tmp_path) < 1e-13
    assert _agrees(native, {"x": -x}, tmp_path) < 1e-13


def test_the_signature_can_be_named_and_must_be_where_it_is_not_clear(
    tf: Any, load: Callable[..., Any], tmp_path: Path
) -> None:
    """``FOLDER:NAME`` chooses; without a default and with several, the error lists them with what to type."""

    class Two(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])  # type: ignore[untyped-decorator]
        def double(self, x: Any) -> Any:
            return {"y": 2 * x}

        @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])  # type: ignore[untyped-decorator]
        def triple(self, x: Any) -> Any:
            return {"y": 3 * x}

    two, folder = Two(), tmp_path / "two"
    tf.saved_model.save(two, str(folder), signatures={"double": two.double, "triple": two.triple})
    feed = {"x": np.ones((1, 2), np.float32)}
    assert load(folder, "double").run(feed, Precision.F32)["y"][0, 0] == 2
    assert load(folder, "triple").run(feed, Precision.F32)["y"][0, 0] == 3
    with pytest.raises(UsageError) as caught:
        load(folder)
    assert caught.value.hint == f"name one: {folder}:double"
    with pytest.raises(UsageError, match="no signature 'quadruple'") as caught:
        load(folder, "quadruple")
    assert caught.value.hint == "it has: double, triple"


@pytest.mark.parametrize("resources", [False, True])
def test_what_tensorflow_1_saved_is_read(tf: Any, load: Callable[..., Any], tmp_path: Path, resources: bool) -> None:
    """A graph with a session's variables, of both kinds: the same values, float64, export, the variables by name."""
    v1 = tf.compat.v1
    weight = np.random.default_rng(4).standard_normal((3, 2)).astype(np.float32)
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        w = v1.get_variable("layer/w", initializer=weight, use_resource=resources)
        y = tf.matmul(x, w, name="y")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "old"), {"x": x}, {"y": y})
    native = load(tmp_path / "old")
    feed = {"x": np.eye(3, dtype=np.float32)}
    np.testing.assert_array_equal(native.run(feed, Precision.F32)["y"], weight)
    np.testing.assert_array_equal(native.run(feed, Precision.F64)["y"], weight.astype(np.float64))
    assert _agrees(native, feed, tmp_path) < 1e-15
    assert [v.shape for v in native.weights().values()] == [(3, 2)]
    assert list(native.weights()) == ["layer/w"]


def test_a_frozen_graph_is_read(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """A ``.pb`` of constants: placeholders are its inputs, what nothing reads its outputs."""
    weight = np.random.default_rng(5).standard_normal((3, 2)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.nn.relu(tf.matmul(x, tf.constant(weight, name="w")), name="y")
        path = tmp_path / "frozen.pb"
        path.write_bytes(graph.as_graph_def().SerializeToString())
    native = load(path)
    assert [s.name for s in native.signature.outputs] == ["y"]
    feed = {"x": np.eye(3, dtype=np.float32)}
    np.testing.assert_array_equal(native.run(feed, Precision.F32)["y"], np.maximum(weight, 0))
    assert _agrees(native, feed, tmp_path) < 1e-15
    assert list(native.weights()) == ["w"]
    path.write_bytes(b"no graph")
    with pytest.raises(UnusableModel, match="no TensorFlow graph"):
        load(path)


def test_declared_sizes_that_contradict_are_refused(saved_net: Path, load: Callable[..., Any]) -> None:
    """A size that the signature fixes cannot be declared otherwise; other weights cannot be asked for."""
    with pytest.raises(BadInputs, match=r"1,6,9,2"):
        load(saved_net, inputs=(TensorSpec("image", "float32", (1, 6, 9, 2)),))


def test_the_optimizer_of_keras_2_is_no_hindrance(real_models: Path, load: Callable[..., Any]) -> None:
    """A model of Keras 2 with its optimizer's slots is read without Keras 2, and gives what its ONNX file gives."""
    native = load(real_models / "basic_pitch" / "saved_model")
    assert len(native.weights()) == 24
    assert [s.name for s in native.signature.outputs] == ["contour", "note", "onset"]
    x = np.random.default_rng(0).standard_normal((1, 43844, 1)).astype(np.float32) / 10
    made = native.run({"input_2": x}, Precision.F32)
    session = pytest.importorskip("onnxruntime").InferenceSession(
        str(real_models / "basic_pitch" / "nmp.onnx"), providers=["CPUExecutionProvider"]
    )
    theirs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {session.get_inputs()[0].name: x}),
                      strict=True))  # fmt: skip
    for place, name in enumerate(("contour", "note", "onset")):
        assert np.abs(made[name] - theirs[f"StatefulPartitionedCall:{place}"]).max() < 1e-5
