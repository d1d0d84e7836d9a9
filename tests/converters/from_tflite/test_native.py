"""TensorFlow Lite files, from reading to export."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxeq.errors import BadInputs, CannotRun, UnusableModel, UsageError
from onnxeq.referee import Executor
from onnxeq.types import ExportForm, Precision, TensorSpec

pytestmark = pytest.mark.keras

FORMS = (ExportForm.DEPLOYED, ExportForm.UNFOLDED)


def _images(batch: int = 1, dtype: str = "float32") -> Any:
    rng = np.random.default_rng(1)
    if dtype == "int8":
        return rng.integers(-128, 128, (batch, 8, 8, 2)).astype(np.int8)
    return rng.standard_normal((batch, 8, 8, 2)).astype(np.float32)


def _feed(native: Any, value: Any) -> dict[str, Any]:
    return {native.signature.inputs[0].name: value}


def test_a_file_runs_as_in_the_interpreter(tf: Any, files: dict[str, Path], load: Callable[..., Any]) -> None:
    """Outputs are the interpreter's, in its order; the batch is open, and each item of one is as it is alone."""
    native = load(files["float"])
    interpreter = tf.lite.Interpreter(model_path=str(files["float"]))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], _images())
    interpreter.invoke()
    made = native.run(_feed(native, _images()), Precision.F32)
    assert list(made) == [d["name"] for d in interpreter.get_output_details()]
    for detail in interpreter.get_output_details():
        np.testing.assert_array_equal(made[detail["name"]], interpreter.get_tensor(detail["index"]))
    assert native.signature.inputs[0].text() == "float32[N,8,8,2]"
    together = native.run(_feed(native, _images(3)), Precision.F32)
    for index in range(3):
        alone = native.run(_feed(native, _images(3)[index : index + 1]), Precision.F32)
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][index], value[0], rtol=0, atol=2e-6)


def test_without_its_delegate_it_is_the_same_to_rounding(files: dict[str, Path], load: Callable[..., Any]) -> None:
    """The runtime's own kernels and XNNPACK's differ by rounding, and the shortcut names the latter."""
    native = load(files["float"])
    assert "XNNPACK" in native.shortcut
    feed = _feed(native, _images(2))
    with_it, without = native.run(feed, Precision.F32), native.run(feed, Precision.F32_PLAIN)
    for name in with_it:
        np.testing.assert_allclose(with_it[name], without[name], rtol=0, atol=1e-5)


def test_there_is_no_float64_and_it_is_said(files: dict[str, Path], load: Callable[..., Any]) -> None:
    """The reason is told, and asking for it all the same raises with it."""
    native = load(files["float"])
    assert native.no_float64 == "TensorFlow Lite's interpreter has no float64 form of a stored model"
    with pytest.raises(CannotRun) as caught:
        native.run(_feed(native, _images()), Precision.F64)
    assert caught.value.message == native.no_float64
    with pytest.raises(CannotRun):
        list(native.layers(_feed(native, _images()), Precision.F64))
    assert not list(native.kernels(_feed(native, _images())))


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_both_exports_are_the_same_graph_in_float64(
    kind: str, files: dict[str, Path], load: Callable[..., Any], tmp_path: Path
) -> None:
    """tf2onnx's optimizers change nothing in float64; both forms are near the interpreter; batches are open."""
    native = load(files[kind])
    feed = _feed(native, _images(3, "int8" if kind == "int8" else "float32"))
    made = []
    for export in native.export(tmp_path, FORMS, None):
        assert export.dynamic_batch
        run = Executor(onnx.load(str(export.path))).run(dict(zip(export.input_names, feed.values(), strict=True)))
        made.append([run[name] for name in export.output_names])
    expected = list(native.run(feed, Precision.F32).values())
    for deployed, unfolded, theirs in zip(*made, expected, strict=True):
        np.testing.assert_allclose(deployed, unfolded, rtol=1e-14)
        assert theirs.dtype == (np.int8 if kind == "int8" else np.float32)
        # A step of the quantisation, where a sum lies beside a tie; rounding otherwise.
        assert np.abs(deployed.astype(np.float64) - theirs).max() <= (2 if kind == "int8" else 1e-5)


def test_weights_are_kept_as_they_are_stored(files: dict[str, Path], load: Callable[..., Any]) -> None:
    """Every constant is there: float32 of a float file, 8 and 32 bits of a quantised one, output channels first."""
    plain, small = load(files["float"]).weights(), load(files["int8"]).weights()
    assert {(4, 3, 3, 2), (5, 4)} <= {v.shape for v in plain.values() if v.dtype == np.float32}
    assert {(4, 3, 3, 2), (5, 4)} <= {v.shape for v in small.values() if v.dtype == np.int8}
    assert any(v.dtype == np.int32 and v.shape == (4,) for v in small.values())


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_layers_are_the_values_of_their_names_in_the_unfolded_export(
    kind: str, files: dict[str, Path], load: Callable[..., Any], tmp_path: Path
) -> None:
    """Every tensor of an operator is there and has, but for rounding, the value of its name; a fused Relu counts."""
    native = load(files[kind])
    (export,) = native.export(tmp_path, (ExportForm.UNFOLDED,), None)
    model = onnx.load(str(export.path))
    feed = _feed(native, _images(1, "int8" if kind == "int8" else "float32"))
    found = {v.name: v for v in native.layers(feed, Precision.F32)}
    assert {"CONV_2D", "FULLY_CONNECTED", "SOFTMAX"} <= {v.op for v in found.values()}
    assert any(v.arguments.get("fused") == "Relu" for v in found.values())
    assert {s.name for s in native.signature.outputs} <= set(found)
    have = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in found if name not in have)
    made = Executor(model).run(dict(zip(export.input_names, feed.values(), strict=True)))
    for name, value in found.items():
        theirs = made[name].astype(np.float64)
        if theirs.shape != value.array.shape:  # ONNX has the channels first
            theirs = theirs.transpose(0, 2, 3, 1)
        assert np.abs(value.array - theirs).max() <= (2 if kind == "int8" else 1e-5), name
    only = next(iter(found))
    (one,) = native.layers(feed, Precision.F32, [only])
    np.testing.assert_array_equal(one.array, found[only].array)


def test_a_quantised_input_takes_every_value_of_its_type(files: dict[str, Path], load: Callable[..., Any]) -> None:
    """The range of an 8-bit input is that of its type; other types and sizes are refused."""
    native = load(files["int8"])
    (spec,) = native.signature.inputs
    assert (spec.dtype, spec.range.low, spec.range.high) == ("int8", -128, 128)
    with pytest.raises(BadInputs, match=r"int8\[N,8,8,2\]"):
        native.run(_feed(native, _images()), Precision.F32)
    with pytest.raises(BadInputs, match=r"1,9,8,2"):
        load(files["int8"], inputs=(TensorSpec("image", "int8", (1, 9, 8, 2)),))


def test_other_files_are_refused_in_one_line(files: dict[str, Path], load: Callable[..., Any], tmp_path: Path) -> None:
    """No such file, another kind, a truncated one, text as an input, weights from elsewhere: each says what it is."""
    with pytest.raises(UnusableModel, match="no such file"):
        load(tmp_path / "none.tflite")
    other = tmp_path / "other.tflite"
    other.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(UnusableModel, match="no TensorFlow Lite file: it has no 'TFL3' at byte 4"):
        load(other)
    other.write_bytes(struct.pack("<i", 10**8) + b"TFL3" + b"\0" * 64)
    with pytest.raises(UnusableModel, match="is damaged"):
        load(other)
    with pytest.raises(UnusableModel, match="cannot make up"):
        load(files["text"])


def test_operators_that_are_not_the_runtimes_own_are_named(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """A custom operator that the interpreter lacks is named; one that would read a file is refused without trust."""

    @tf.function(input_signature=[tf.TensorSpec([1, 2], name="x")])  # type: ignore[untyped-decorator]
    def reads(x: Any) -> Any:
        return {"y": x + tf.strings.to_number(tf.io.read_file("/nowhere"))}

    maker = tf.lite.TFLiteConverter.from_concrete_functions([reads.get_concrete_function()], tf.Module())
    maker.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path = tmp_path / "reads.tflite"
    path.write_bytes(maker.convert())
    with pytest.raises(UnusableModel, match="holds FlexReadFile, which") as caught:
        load(path)
    assert caught.value.hint == "if you trust it: --trust"
    path.write_bytes(path.read_bytes().replace(b"FlexReadFile", b"NobodyKnowsI"))
    with pytest.raises(UnusableModel, match=r"custom operators are .*NobodyKnowsI"):
        load(path)


def test_an_exporter_that_there_is_not_is_refused(files: dict[str, Path]) -> None:
    """Only tf2onnx converts these files, and live objects are none."""
    from onnxeq.protocols import LoadRequest
    from onnxeq.types import ModelRef
    from onnxeq_converters import from_tflite

    ref = ModelRef("x", "file", str(files["float"]))
    with pytest.raises(UsageError, match="no exporter 'dynamo'"):
        from_tflite.load(LoadRequest(ref, exporter="dynamo"), print)
    with pytest.raises(UsageError, match="a live object"):
        from_tflite.wrap(object(), LoadRequest(ref), print)


def test_a_missing_framework_is_one_line(tmp_path: Path) -> None:
    """Without TensorFlow, loading raises ``FrameworkMissing`` with the install command."""
    code = f"""if True:
        import sys
        sys.modules["tensorflow"] = None
        from onnxeq.errors import FrameworkMissing
        from onnxeq.protocols import LoadRequest
        from onnxeq.types import ModelRef
        from onnxeq_converters import from_tensorflow
        try:
            from_tensorflow.load(LoadRequest(ModelRef("x", "file", "{tmp_path}")), print)
        except FrameworkMissing as error:
            assert "pip install" in error.hint and "\\n" not in error.line()
        else:
            raise AssertionError("no error")
    """
    subprocess.run([sys.executable, "-c", code], check=True)
