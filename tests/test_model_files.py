"""Which files a model consists of, told without parsing where that can be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq import model_files
from onnxeq.errors import UnusableModel
from onnxeq.model_files import reads_of


def _saved(path: Path, *, external: bool) -> Path:
    weight = numpy_helper.from_array(np.arange(600, dtype=np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [600]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:], [weight]))
    onnx.save(model, path, save_as_external_data=external, location=f"{path.stem}.data")
    return path


@pytest.mark.parametrize("most", [1 << 24, 1])
def test_external_data_belongs_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Found in small files, which are searched, and in large ones, whose folder is looked at."""
    monkeypatch.setattr(model_files, "_SEARCHED", most)
    path = _saved(tmp_path / "net.onnx", external=True)
    assert reads_of(path) == {"model": path, "data 0": tmp_path / "net.data"}
    (tmp_path / "net.data").unlink()
    (tmp_path / "other.bin").write_bytes(b"x")
    with pytest.raises(UnusableModel, match=r"net\.data"):
        reads_of(path)


def test_a_model_in_one_file_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies beside it."""
    path = _saved(tmp_path / "net.onnx", external=False)
    (tmp_path / "input.npz").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxeq.graph.skim", None)
    assert reads_of(path) == {"model": path}
