"""Programs that would do more than compute are not run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxeq.errors import UnusableModel
from onnxeq.types import Precision
from onnxeq_converters.from_tensorflow.safety import reaches_out, reaching_out

pytestmark = pytest.mark.keras

X = {"x": np.ones((1, 2), np.float32)}


def _save(tf: Any, folder: Path, body: Callable[[Any], Any]) -> Path:
    class Net(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"y": body(x)}

    net = Net()
    tf.saved_model.save(net, str(folder), signatures={"serving_default": net.__call__})
    return folder


def test_an_operator_that_writes_a_file_is_refused(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """Nothing is written when it is loaded; with trust it runs, and writes."""
    mark = tmp_path / "mark"

    def body(x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(mark), "seen")]):
            return x + 1.0

    folder = _save(tf, tmp_path / "net", body)
    mark.unlink(missing_ok=True)
    with pytest.raises(UnusableModel, match="holds WriteFile, which") as caught:
        load(folder)
    assert caught.value.hint == "if you trust it: --trust"
    assert not mark.exists()
    load(folder, trust=True).run(X, Precision.F32)
    assert mark.read_text() == "seen"


def test_it_is_found_in_a_branch_of_a_branch(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """Functions that functions call are looked through, too."""

    def body(x: Any) -> Any:
        def read() -> Any:
            return tf.strings.to_number(tf.io.read_file("/nowhere")) + x

        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.cond(x[0, 0] > 9, read, lambda: x), lambda: x)

    with pytest.raises(UnusableModel, match="holds ReadFile, which"):
        load(_save(tf, tmp_path / "net", body))


def test_a_call_into_python_is_refused(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """A ``py_function`` is no part of a stored program; it is named."""
    folder = _save(
        tf, tmp_path / "net", lambda x: tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), [1, 2])
    )
    with pytest.raises(UnusableModel, match="holds EagerPyFunc, which"):
        load(folder)


def test_an_initialiser_that_writes_is_found_before_it_runs(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """What TensorFlow 1 would run when the model is loaded counts; what saves and restores its weights does not."""
    v1, mark = tf.compat.v1, tmp_path / "mark"
    for name, harmful in (("good", False), ("bad", True)):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 2], name="x")
            y = tf.identity(x * v1.get_variable("w", initializer=2.0), name="y")
            session.run(v1.global_variables_initializer())
            main = tf.io.write_file(str(mark), "seen") if harmful else tf.no_op()
            builder = v1.saved_model.Builder(str(tmp_path / name))
            signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=main)
            builder.save()
    assert load(tmp_path / "good").run(X, Precision.F32)["y"][0, 0] == 2
    with pytest.raises(UnusableModel, match="holds WriteFile, which"):
        load(tmp_path / "bad")
    assert not mark.exists()


def test_a_table_of_the_model_is_no_harm(tf: Any, load: Callable[..., Any], tmp_path: Path) -> None:
    """A vocabulary in a file beside the model is read by its initialiser."""
    words = tmp_path / "words.txt"
    words.write_text("3\n5\n7\n")

    class Net(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
            initializer = tf.lookup.TextFileInitializer(str(words), tf.int64, whole, tf.int64, line)
            self.table = tf.lookup.StaticHashTable(initializer, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"y": self.table.lookup(x)}

    net = Net()
    tf.saved_model.save(net, str(tmp_path / "net"), signatures={"serving_default": net.__call__})
    made = load(tmp_path / "net").run({"x": np.array([7, 3, 4])}, Precision.F32)["y"]
    assert made.tolist() == [2, 0, -1]


def test_what_computes_is_not_mistaken(tf: Any) -> None:
    """Of a sample of TensorFlow's operators none that only computes is refused, and what reaches outside is."""
    harmless = (
        "Conv2D MatMul LookupTableFindV2 TensorListReserve StatefulPartitionedCall DecodeJpeg ParseExampleV2 Print"
    )
    harmful = "ReadFile WriteFile SaveV2 RestoreV2 PyFunc EagerPyFunc TFRecordDataset MergeV2Checkpoints LoadDataset"
    assert not [op for op in harmless.split() if reaches_out(op)]
    assert all(reaches_out(op) for op in harmful.split())
    assert all(hasattr(tf.raw_ops, op) for op in (harmless + " " + harmful).split())


def test_a_function_that_only_an_object_names_is_looked_at(tf: Any) -> None:
    """The loader makes an object of it whether the list of functions has it or not."""
    meta = tf.compat.v1.MetaGraphDef()
    body = meta.graph_def.library.function.add()
    body.signature.name = "evil"
    body.node_def.add(name="w", op="WriteFile")
    assert reaching_out(meta, objects=True) == ()
    meta.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = "evil"
    assert reaching_out(meta, objects=True) == ("WriteFile",)


def test_saving_excuses_only_what_saves(tf: Any) -> None:
    """What hangs on the saver, or on what a stored variable names, is looked at like the rest."""
    from tensorflow.core.framework.variable_pb2 import VariableDef

    meta = tf.compat.v1.MetaGraphDef()
    meta.graph_def.node.add(name="save/SaveV2", op="SaveV2")
    meta.graph_def.node.add(name="save/Identity", op="Identity", input=["^save/SaveV2"])
    meta.saver_def.save_tensor_name = "save/Identity:0"
    assert reaching_out(meta, objects=False) == ()
    stored = VariableDef(variable_name="save/Identity:0").SerializeToString()
    meta.collection_def["variables"].bytes_list.value.append(stored)
    assert reaching_out(meta, objects=False) == ("SaveV2",)
    meta.collection_def["variables"].bytes_list.value[:] = []
    meta.graph_def.node.add(name="evil", op="WriteFile")
    meta.graph_def.node[1].input.append("^evil")
    assert reaching_out(meta, objects=False) == ("WriteFile",)
