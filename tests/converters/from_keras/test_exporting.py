"""The two exports: the one that users get, and the one that keeps every weight."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxeq_converters.from_keras as converter
from onnxeq.errors import ExportFailed
from onnxeq.types import ExportForm, Precision, TensorSpec

pytestmark = pytest.mark.keras

BOTH = (ExportForm.DEPLOYED, ExportForm.UNFOLDED)


def _constants(model: onnx.ModelProto) -> list[Any]:
    return [numpy_helper.to_array(t) for t in model.graph.initializer] + [
        numpy_helper.to_array(a.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name == "value"
    ]


def test_deployed_is_what_tf2onnx_writes_by_default(
    small_cnn: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """The deployed file has the operators and constants of a plain ``from_keras`` call.

    Operators are counted, for tf2onnx orders equal graphs by the names of their nodes.
    """
    tf2onnx = pytest.importorskip("tf2onnx")
    import tensorflow as tf

    (export,) = converter.wrap(small_cnn, request_for(), quiet).export(tmp_path, (ExportForm.DEPLOYED,), None)
    signature = (tf.TensorSpec((None, 12, 12, 3), tf.float32, name="image"),)
    plain, _ = tf2onnx.convert.from_keras(small_cnn, input_signature=signature)
    ours = onnx.load(export.path)
    assert Counter(n.op_type for n in ours.graph.node) == Counter(n.op_type for n in plain.graph.node)
    assert ours.opset_import == plain.opset_import
    values = sorted(c.tobytes() for c in _constants(plain))
    assert sorted(c.tobytes() for c in _constants(ours)) == values
    assert export.dynamic_batch
    assert export.input_names == ("image",)
    assert export.output_names == ("classes",)


def test_unfolded_keeps_every_weight_and_the_float64_result(
    small_cnn: Any, images: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Each native weight is a constant of the unfolded graph, and in float64 the two programs are equal.

    The deployed one has lost weights (folded), and its float64 result is off by float32 rounding.
    """
    executor = pytest.importorskip("onnxeq.referee.executor")
    native = converter.wrap(small_cnn, request_for(), quiet)
    deployed, unfolded = native.export(tmp_path, BOTH, None)
    (expected,) = native.run({"image": images}, Precision.F64).values()
    gaps, missing = {}, {}
    for export in (deployed, unfolded):
        model = onnx.load(export.path)
        result = executor.Executor(model).run({export.input_names[0]: images})
        gaps[export.form] = np.abs(result[export.output_names[0]] - expected).max() / np.abs(expected).max()
        stored = {np.sort(c, axis=None).tobytes() for c in _constants(model)}
        missing[export.form] = [
            name for name, value in native.weights().items() if np.sort(value, axis=None).tobytes() not in stored
        ]
    assert missing[ExportForm.UNFOLDED] == []
    assert missing[ExportForm.DEPLOYED] != []
    assert gaps[ExportForm.UNFOLDED] < 1e-14
    assert gaps[ExportForm.DEPLOYED] > 1e-10


def test_switching_folding_off_is_undone(
    small_cnn: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """After an unfolded export tf2onnx is as it was, its environment variable included."""
    import os

    from tf2onnx import optimizer, tf_loader, tfonnx

    names = (
        (tf_loader, "tf_optimize"), (optimizer, "_get_optimizers"),
        (tfonnx, "rewrite_constant_fold"), (tfonnx, "compute_const_folding_using_tf"),
    )  # fmt: skip
    before = [getattr(module, name) for module, name in names]
    environment = dict(os.environ)
    converter.wrap(small_cnn, request_for(), quiet).export(tmp_path, (ExportForm.UNFOLDED,), None)
    assert [getattr(module, name) for module, name in names] == before
    assert dict(os.environ) == environment


def test_names_come_in_the_native_order(
    keras: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """With several inputs and outputs of one shape, each ONNX name stands for the right native one."""
    ort = pytest.importorskip("onnxruntime")
    z, a = keras.Input((2,), name="zeta"), keras.Input((2,), name="alpha")
    last = keras.layers.Activation("linear", name="zz_first")(2 * z + a)
    model = keras.Model([z, a], [last, keras.layers.Activation("linear", name="aa_second")(z - a)])
    native = converter.wrap(model, request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    values = [np.full((1, 2), v, np.float32) for v in (5, 3)]
    session = ort.InferenceSession(str(export.path), providers=["CPUExecutionProvider"])
    result = session.run(list(export.output_names), dict(zip(export.input_names, values, strict=True)))
    assert [float(r[0, 0]) for r in result] == [13, 2]
    names = [spec.name for spec in native.signature.outputs]
    assert names == ["zz_first", "aa_second"]


@pytest.mark.parametrize("opset", [13, 15, 18])
def test_opset_is_the_one_asked_for(
    opset: int, small_cnn: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """The file imports the opset that was asked for; the default is tf2onnx's own."""
    native = converter.wrap(small_cnn, request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.UNFOLDED,), opset)
    assert {i.domain: i.version for i in onnx.load(export.path).opset_import}[""] == opset


def test_fixed_batch_is_not_called_dynamic(
    keras: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A model built for a batch of two exports as such."""
    x = keras.Input(batch_shape=(2, 3), name="x")
    native = converter.wrap(keras.Model(x, keras.layers.Dense(1)(x)), request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    assert not export.dynamic_batch
    dims = onnx.load(export.path).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [2, 3]


@pytest.mark.parametrize(("policy", "rounding"), [("float32", 2.0**-22), ("mixed_float16", 2.0**-9)])
def test_exact_gelu_is_lowered_and_said(
    policy: str,
    rounding: float,
    keras: Any,
    tmp_path: Path,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """``gelu`` is ``x/2 * erfc(-x/sqrt(2))``; where tf2onnx lacks Erfc it is ``1 - Erf``, with a note.

    The one is of the type of ``x``, or no runtime takes the graph.
    """
    ort = pytest.importorskip("onnxruntime")
    x = keras.Input((9,), name="x")
    native = converter.wrap(keras.Model(x, keras.layers.Activation("gelu", dtype=policy)(x)), request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    value = np.linspace(-4, 4, 9, dtype=np.float32)[None]
    session = ort.InferenceSession(str(export.path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": value})
    expected = [[v / 2 * math.erfc(-v / math.sqrt(2)) for v in value[0]]]
    # One rounding of erf near 1, times x/2.
    np.testing.assert_allclose(y, expected, rtol=0, atol=4 * rounding)
    assert "Erfc" not in {n.op_type for n in onnx.load(export.path).graph.node}
    assert any("Erfc" in note for note in export.notes)


def test_grouped_convolution_is_exported_and_lifted(
    keras: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Keras compiles grouped convolutions with XLA; each channel's result is its own group's sum."""
    ort = pytest.importorskip("onnxruntime")
    x = keras.Input((4, 4, 4), name="x")
    model = keras.Model(x, keras.layers.Conv2D(4, 1, groups=2, use_bias=False)(x))
    native = converter.wrap(model, request_for(), quiet)
    value = np.random.default_rng(0).standard_normal((2, 4, 4, 4)).astype(np.float32)
    kernel = next(iter(native.weights().values())).astype(np.float64)[0, 0]
    expected = np.concatenate(
        [value[..., :2].astype(float) @ kernel[:, :2], value[..., 2:].astype(float) @ kernel[:, 2:]], axis=-1
    )
    (wide,) = native.run({"x": value}, Precision.F64).values()
    np.testing.assert_allclose(wide, expected, rtol=0, atol=1e-15 * np.abs(expected).max() * 4)
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    session = ort.InferenceSession(str(export.path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": value})
    np.testing.assert_allclose(y, expected, rtol=0, atol=4 * 2.0**-23 * np.abs(expected).max())
    assert export.dynamic_batch
    assert any("XLA" in note for note in export.notes)


def test_operator_that_onnx_lacks_fails_in_one_line(
    keras: Any, tmp_path: Path, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """What tf2onnx cannot convert is named, not written into the file."""
    import tensorflow as tf

    class Odd(keras.Model):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return tf.raw_ops.Betainc(a=x, b=x, x=x / 2)

    native = converter.wrap(Odd(), request_for(inputs=(TensorSpec("x", "float32", (1, 2)),)), quiet)
    with pytest.raises(ExportFailed, match="Betainc") as caught:
        native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    assert "\n" not in caught.value.line()
