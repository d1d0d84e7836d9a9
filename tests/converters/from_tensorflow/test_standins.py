"""Weights kept aside during a conversion: nothing that comes out may show it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxeq_converters.from_keras as converter
from onnxeq.types import ExportForm, Precision
from onnxeq_converters.from_tensorflow import grappler
from onnxeq_converters.from_tensorflow.standins import StandIns, stand_ins

pytestmark = pytest.mark.keras

LARGE = np.arange(1 << 15, dtype=np.float32).reshape(128, 256)


@pytest.fixture
def large_cnn(keras: Any) -> Any:
    """Weights over 64 KiB that are folded, transposed, merged, looked up and left alone; two are alike."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    image = keras.Input((10, 10, 48), name="image")
    x = layers.Conv2D(64, 3, use_bias=False, name="folded")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    twins = [layers.Conv2D(64, 3, padding="same", name=f"twin{i}") for i in range(2)]
    x = layers.Add()([twin(x) for twin in twins])
    x = layers.Dense(32, name="before")(layers.Flatten()(x))
    ones = layers.Dense(1024, kernel_initializer="ones", name="ones")(x)
    scale = layers.Dense(1024, use_bias=False, name="scaled")(x) * np.linspace(1, 2, 1024, dtype=np.float32)
    table = layers.Embedding(700, 32, name="table")(layers.Lambda(lambda v: v[:, 0, 0, :3] * 0)(image))
    model = keras.Model(image, [layers.Dense(32, name="last")(ones + scale), table])
    twins[1].set_weights(twins[0].get_weights())
    for variable in model.variables:
        if "moving" in variable.path or "gamma" in variable.path:
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.5, tuple(variable.shape)))
    return model


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes in bytes of the graphs that TensorFlow's grappler is given."""
    module = pytest.importorskip("tensorflow.python.grappler.tf_optimizer")
    from types import SimpleNamespace

    original = module.tf_opt
    sizes: list[int] = []

    def optimize(cluster: Any, config: bytes, metagraph: bytes, *rest: Any) -> Any:
        sizes.append(len(metagraph))
        return original.TF_OptimizeGraphSerialized(cluster, config, metagraph, *rest)

    fake = SimpleNamespace(**{**vars(original), "TF_OptimizeGraphSerialized": optimize})
    monkeypatch.setattr(module, "tf_opt", fake)
    return sizes


def _meaning(model: onnx.ModelProto) -> list[Any]:
    """The graph without its internal names: each value is named by how it is computed.

    tf2onnx numbers its names by the order of Python sets, which differs from process to process.
    """
    key: dict[str, str] = {v.name: f"input {v.name}" for v in model.graph.input}
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        key[tensor.name] = hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()
    constants = sorted(key[t.name] for t in model.graph.initializer)
    nodes = []
    for node in model.graph.node:
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        text = repr((node.op_type, node.domain, [key.get(i, "") for i in node.input], attributes))
        nodes.append(hashlib.sha256(text.encode()).hexdigest())
        key.update({name: f"{nodes[-1]}:{i}" for i, name in enumerate(node.output)})
    versions = [(o.domain, o.version) for o in model.opset_import]
    # The names of the outputs are the converter's own, but not what they are.
    return [sorted(nodes), constants, sorted(key[o.name] for o in model.graph.output), versions, model.ir_version]


@pytest.mark.parametrize("many", [grappler.MANY, 0])
def test_deployed_is_the_plain_result_node_for_node(
    many: int, large_cnn: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nodes, attributes, wiring and constants are those of a plain ``from_keras`` call, bit for bit.

    And it is not the second, plain attempt that brought it: weights were put back.
    """
    tf2onnx = pytest.importorskip("tf2onnx")
    import tensorflow as tf

    restored = []
    original = StandIns.restore
    monkeypatch.setattr(StandIns, "restore", lambda self, proto: (restored.append(len(self)), original(self, proto)))
    monkeypatch.setattr(grappler, "MANY", many)
    (export,) = converter.wrap(large_cnn, request_for(), quiet).export(tmp_path, (ExportForm.DEPLOYED,), None)
    signature = (tf.TensorSpec((None, 10, 10, 48), tf.float32, name="image"),)
    plain, _ = tf2onnx.convert.from_keras(large_cnn, input_signature=signature)
    assert _meaning(onnx.load(export.path)) == _meaning(plain)
    assert len(restored) == 1
    assert restored[0] > 0


def test_unfolded_holds_every_large_weight(
    large_cnn: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Each native weight is a constant of the file, with its axes in ONNX's order."""
    native = converter.wrap(large_cnn, request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.UNFOLDED,), None)
    stored = set()
    for tensor in onnx.load(export.path).graph.initializer:
        value = numpy_helper.to_array(tensor)
        # ONNX has OIHW where Keras has HWIO.
        stored |= {value.tobytes(), (np.transpose(value, (2, 3, 1, 0)) if value.ndim == 4 else value).tobytes()}
    weights = native.weights()
    assert sum(w.nbytes >= 1 << 16 for w in weights.values()) >= 7
    assert [name for name, w in weights.items() if w.tobytes() not in stored] == []


def test_fills_serve_where_grappler_changes_no_weight(
    keras: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch, runs: list[int],
) -> None:  # fmt: skip
    """Grappler gets a graph far smaller than the weights, once; the weights come out in full."""
    monkeypatch.setattr(grappler, "MANY", 0)
    x = keras.Input((300,), name="x")
    model = keras.Model(x, keras.layers.Dense(200)(keras.layers.Dense(400, activation="relu")(x)))
    native = converter.wrap(model, request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    kernels = [w for w in native.weights().values() if w.ndim == 2]
    assert len(runs) == 2  # the first inlines functions, before there are constants
    assert max(runs) < sum(w.nbytes for w in kernels) / 10
    stored = {numpy_helper.to_array(t).tobytes() for t in onnx.load(export.path).graph.initializer}
    assert len(kernels) == 2
    assert all(w.tobytes() in stored for w in kernels)


def test_grappler_gets_the_weights_where_it_changes_one(
    keras: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch, runs: list[int],
) -> None:  # fmt: skip
    """``c * conv(x, w) = conv(x, c*w)``: grappler multiplies, and the file holds the true product."""
    ort = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(grappler, "MANY", 0)
    scale = np.linspace(1, 2, 64, dtype=np.float32)
    x = keras.Input((5, 5, 64), name="x")
    model = keras.Model(x, keras.layers.Conv2D(64, 3, use_bias=False)(x) * scale)
    native = converter.wrap(model, request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    (kernel,) = native.weights().values()
    assert len(runs) == 3
    assert runs[1] < kernel.nbytes / 10
    assert runs[2] > kernel.nbytes
    value = np.random.default_rng(0).standard_normal((1, 5, 5, 64)).astype(np.float32)
    (expected,) = native.run({"x": value}, Precision.F64).values()
    session = ort.InferenceSession(str(export.path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": value})
    # |error| <= n u sum|c w x| (Higham, 3.1), n = 576 products with a rounded factor each.
    wide = np.abs(kernel.astype(float) * scale)
    bound = 2 * 577 * 2.0**-24 * np.abs(value).max() * wide.sum((0, 1, 2)).max()
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound)
    assert np.abs(expected).max() > 100 * bound


def test_stand_in_keeps_type_shape_and_comparison() -> None:
    """Equal bytes, equal ``raw_data``; the values come back, and small or integer arrays stay whole."""
    kept = StandIns()
    tensor, twin = kept.from_array(LARGE, "w"), kept.from_array(LARGE.copy(), "v")
    other = kept.from_array(LARGE + 1, "w")
    assert tensor.raw_data == twin.raw_data != other.raw_data
    assert len(tensor.raw_data) < 100
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("w", onnx.TensorProto.FLOAT, [128, 256])
    np.testing.assert_array_equal(kept.to_array(tensor), LARGE)
    np.testing.assert_array_equal(kept.to_array(kept.from_array(LARGE.T)), LARGE.T)
    assert len(kept) == 3
    for whole in (LARGE[:2], LARGE.astype(np.int32), np.array(["a"], object)):
        assert kept.from_array(whole, "x") == numpy_helper.from_array(whole, "x")
    assert len(kept) == 3


def test_restoring_reaches_initializers_attributes_and_bodies() -> None:
    """After ``restore`` every tensor is what ``onnx.numpy_helper`` would have made, at any depth."""
    helper = onnx.helper

    def build(make: Callable[..., Any]) -> onnx.ModelProto:
        constant = helper.make_node("Constant", [], ["c"], value=make(LARGE, "c"))
        body = helper.make_graph([constant], "body", [], [], initializer=[make(LARGE * 2, "i")])
        branch = helper.make_node("If", ["b"], [], then_branch=body, else_branch=body)
        return helper.make_model(helper.make_graph([branch], "g", [], [], initializer=[make(LARGE * 3, "j")]))

    kept = StandIns()
    model = build(kept.from_array)
    assert model.ByteSize() < LARGE.nbytes
    kept.restore(model)
    assert model == build(numpy_helper.from_array)
    assert len(kept) == 0


def test_all_is_put_back_even_after_an_exception() -> None:
    """The functions of TensorFlow and tf2onnx that are replaced are the originals again."""
    freezing = pytest.importorskip("tensorflow.python.framework.convert_to_constants")
    from tensorflow.python.grappler import tf_optimizer
    from tf2onnx import graph, tf_utils

    def doors() -> list[Any]:
        names = (tf_utils.get_tf_tensor_data, tf_utils.tf_to_onnx_tensor, tf_utils.numpy_helper)
        return [freezing.tensor_util, tf_optimizer.tf_opt, graph.numpy_helper, *names]

    before, inside = doors(), []

    def fail() -> None:
        with stand_ins():
            inside.extend(doors())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(now is was for now, was in zip(inside, before, strict=True))
    assert all(now is was for now, was in zip(doors(), before, strict=True))
