"""Stored tensors: narrow types, raw and typed fields, external data."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.errors import UnusableModel
from onnxeq.referee import Executor
from onnxeq.referee.constants import sparse_array, tensor_array

F32 = TensorProto.FLOAT
X = np.float32([1, 2, 3])


def _graph(node: onnx.NodeProto, tensor: TensorProto) -> onnx.ModelProto:
    x, y = helper.make_tensor_value_info("x", F32, ["N"]), helper.make_tensor_value_info("y", F32, None)
    graph = helper.make_graph([node], "g", [x], [y], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4"])
def test_stored_types(name: str) -> None:
    """Raw and typed storage of narrow types give the same numbers (odd count: half a byte is left)."""
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    values = np.array([1, 2, 3, 7, 1] if "4" in name and "int" in name else [0.5, -1, 3, 7, 1.5]).astype(dtype)
    raw = numpy_helper.from_array(values, "w")
    typed = helper.make_tensor("w", raw.data_type, [5], values.astype(np.float32).tolist())
    assert raw.HasField("raw_data") != typed.HasField("raw_data")
    for tensor in (raw, typed):
        model = _graph(helper.make_node("Cast", ["w"], ["y"], to=F32), tensor)
        np.testing.assert_array_equal(Executor(model).run({"x": X})["y"], values.astype(np.float64))


def test_signed_int4() -> None:
    """Four-bit two's complement: -8 to 7."""
    values = np.arange(-8, 8).astype(ml_dtypes.int4)
    got = tensor_array(numpy_helper.from_array(values, "w"))
    np.testing.assert_array_equal(got.astype(np.int64), np.arange(-8, 8))


def _external(folder: Path, location: str, length: int = 12) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=F32, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "4"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    (folder / "weights.bin").write_bytes(np.float32([9, 1, 2, 3]).tobytes())
    return _graph(helper.make_node("Mul", ["x", "w"], ["y"]), tensor)


def test_external_data(tmp_path: Path) -> None:
    """Read from the model's folder at its offset."""
    model = _external(tmp_path, "weights.bin")
    np.testing.assert_array_equal(Executor(model, base_dir=tmp_path).run({"x": X})["y"], [1, 4, 9])


def test_external_data_may_not_leave_the_folder(tmp_path: Path) -> None:
    """A path outside is refused, also through ``..``."""
    (tmp_path / "model").mkdir()
    model = _external(tmp_path, "../weights.bin")
    with pytest.raises(UnusableModel, match="outside the model's folder"):
        Executor(model, base_dir=tmp_path / "model").run({"x": X})


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    """Missing and truncated files are told apart."""
    with pytest.raises(UnusableModel, match="missing"):
        Executor(_external(tmp_path, "nothing.bin"), base_dir=tmp_path).run({"x": X})
    with pytest.raises(UnusableModel, match=r"needs bytes 4-20 of 'weights.bin', which holds 16"):
        Executor(_external(tmp_path, "weights.bin", 16), base_dir=tmp_path).run({"x": X})
    with pytest.raises(UnusableModel, match="folder is not known"):
        Executor(_external(tmp_path, "weights.bin")).run({"x": X})


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_tensors(indices: list[int] | list[list[int]]) -> None:
    """Linear indices and coordinates name the same elements of a 2 by 3 matrix."""
    values = numpy_helper.from_array(np.float32([7, 8]), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices)), [2, 3])
    np.testing.assert_array_equal(sparse_array(sparse), [[0, 7, 0], [0, 0, 8]])


def test_truncated_raw_data() -> None:
    """Fewer bytes than the shape needs is said with both numbers."""
    tensor = TensorProto(name="w", data_type=F32, dims=[4], raw_data=b"12345678")
    with pytest.raises(UnusableModel, match="holds 8 bytes, 16 needed"):
        tensor_array(tensor)


def test_inline_data_is_not_copied() -> None:
    """float32 raw data is viewed: a large model is not held twice before it is lifted."""
    tensor = numpy_helper.from_array(X, "w")
    assert not tensor_array(tensor).flags.owndata
