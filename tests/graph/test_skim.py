from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.errors import UnusableModel
from onnxeq.graph import skim as module
from onnxeq.graph.files import read
from onnxeq.graph.inspect import inspect
from onnxeq.graph.skim import by_reference, skim
from onnxeq.graph.wire import varint
from onnxeq.referee.constants import tensor_array


def a_model() -> onnx.ModelProto:
    """``y = (x @ w + b) * c`` with 4096 raw bytes in ``w``, 12 in ``b``, and ``c`` as a list of numbers."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Mul", ["s", "c"], ["y"]),
    ]
    stored = [
        numpy_helper.from_array(np.arange(1024, dtype=np.float32).reshape(2, 512), "w"),
        numpy_helper.from_array(np.ones(3, np.float32), "b"),
        helper.make_tensor("c", TensorProto.FLOAT, [512], np.ones(512)),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 2])],
        [helper.make_tensor_value_info("y", 1, ["N", 512])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_only_large_raw_data_is_left_out(tmp_path: Path) -> None:
    """What is missing from the whole model is the raw data of ``w``, whose 4096 bytes are counted."""
    path = tmp_path / "m.onnx"
    onnx.save(a_model(), path)
    skimmed = skim(path)
    assert skimmed.left_out == {"w": 4096}
    expected = read(path)
    expected.graph.initializer[0].ClearField("raw_data")
    assert skimmed.model.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_what_a_file_says_of_itself_is_what_the_model_says(tmp_path: Path) -> None:
    """Parameters and bytes are the same whether the weights were stepped over or not: 1539 and 6156."""
    path = tmp_path / "m.onnx"
    onnx.save(a_model(), path)
    skimmed, whole = inspect(path), inspect(a_model())
    assert (skimmed.parameters, skimmed.parameter_bytes) == (1024 + 3 + 512, 4 * (1024 + 3 + 512))
    assert (whole.parameters, whole.parameter_bytes) == (skimmed.parameters, skimmed.parameter_bytes)


def test_a_file_cut_anywhere_is_read_whole(tmp_path: Path) -> None:
    """Whatever the length, a cut file gives what :func:`read` gives: the same error, or the same structure."""
    data = a_model().SerializeToString()
    path = tmp_path / "m.onnx"
    for size in (0, 1, 2, 100, 1000, 5000, len(data) - 30, len(data) - 5, len(data) - 1):
        path.write_bytes(data[:size])
        try:
            expected: object = len(read(path).graph.node)
        except UnusableModel as error:
            expected = error.line()
        try:
            found: object = len(skim(path).model.graph.node)
        except UnusableModel as error:
            found = error.line()
        assert found == expected, size


def test_random_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    """Damage in single bytes leads to a model or to the one error of a file that is none."""
    data, rng = bytearray(a_model().SerializeToString()), np.random.default_rng(0)
    path = tmp_path / "m.onnx"
    for _ in range(200):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            skim(path)
        except UnusableModel:
            continue


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**21, 2**32])
def test_lengths_are_written_as_they_are_read(value: int) -> None:
    """A varint of any length comes back, and no more bytes of it are taken than it has."""
    encoded = module._record(5, b"")[:1] + module._length(value) + b"rest"
    assert varint(encoded, 1, len(encoded)) == (value, len(encoded) - 4)


def test_references_lead_to_the_same_bytes(tmp_path: Path) -> None:
    """Every initializer has the values that the whole model has; the large one holds no byte of them."""
    path = tmp_path / "m.onnx"
    onnx.save(a_model(), path)
    model = by_reference(path)
    assert [t.HasField("raw_data") for t in model.graph.initializer] == [False, True, False]
    for mine, whole in zip(model.graph.initializer, a_model().graph.initializer, strict=True):
        assert tensor_array(mine, tmp_path).tobytes() == tensor_array(whole).tobytes()


def test_external_data_stays_where_it_is(tmp_path: Path) -> None:
    """A model with its weights beside it keeps its references, and they lead to the same values."""
    path = tmp_path / "m.onnx"
    onnx.save(a_model(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    model = by_reference(path)
    assert {e.value for e in model.graph.initializer[0].external_data if e.key == "location"} == {"m.bin"}
    assert tensor_array(model.graph.initializer[0], tmp_path).tobytes() == np.arange(1024, dtype=np.float32).tobytes()
