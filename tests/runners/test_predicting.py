"""Predictions: the largest classes of each item, whatever batches a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxeq.errors import BadInputs, CannotRun
from onnxeq.runners.predicting import UNKNOWN, _largest, run
from onnxeq.worker import Job


def _model(path: Path, nodes: Sequence[onnx.NodeProto], given: Sequence[int | str], *outputs: str) -> Path:
    graph = helper.make_graph(
        list(nodes), "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(given))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def _ran(folder: Path, model: Path, items: np.ndarray, shape: Sequence[int | str], **shared: Any) -> tuple[Any, Any]:
    np.save(folder / "items.npy", items)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    params: Mapping[str, Any] = {
        "input": {"name": "x", "dtype": "float32", "shape": list(shape), "range": None}, "layout": "", "wanted": "",
        "threads": 1,
    }  # fmt: skip
    job = Job(params, {"model": model, "items": folder / "items.npy"}, out, lambda _step: None, shared=shared)
    data = run(job)
    return data, np.load(out / "top.npy")


SCORES = np.array([[3, 9, 5, 1, 7, 0], [1, 1, 2, 0, 2, 0]], np.float32)


def test_the_largest_classes_come_first() -> None:
    """Of equal scores the first class; fewer than five classes leave places empty, NaN all of them."""
    assert _largest(SCORES).tolist() == [[1, 4, 2, 0, 3], [2, 4, 0, 1, 3]]
    assert _largest(SCORES[:, :2]).tolist() == [[1, 0, *[UNKNOWN] * 3], [0, 1, *[UNKNOWN] * 3]]
    nan = SCORES.copy()
    nan[1, 5] = np.nan
    assert _largest(nan)[1].tolist() == [UNKNOWN] * 5


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_any_batch_gives_the_same(tmp_path: Path, batch: int | str) -> None:
    """Forty items by a model of any batch, of one and of four: the classes that numpy says, the fixed one filled up."""
    items = np.random.default_rng(0).standard_normal((38, 6)).astype(np.float32)
    model = _model(tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], [batch, 6], "y")
    data, top = _ran(tmp_path, model, items, [batch, 6])
    assert np.array_equal(top, np.argsort(items, axis=1, kind="stable")[:, :5])
    assert data == {"classes": 6, "turn": "", "nan": 0, "single": False}


def test_a_batch_that_the_export_fixed_is_noticed(tmp_path: Path) -> None:
    """A model declares any batch and reshapes to one of 1: it is run item by item, and that is told."""
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1, 6])
    nodes = [helper.make_node("Constant", [], ["s"], value=shape), helper.make_node("Reshape", ["x", "s"], ["y"])]
    model = _model(tmp_path / "m.onnx", nodes, ["N", 6], "y")
    data, top = _ran(tmp_path, model, SCORES, ["N", 6])
    assert data["single"]
    assert top[:, 0].tolist() == [1, 2]


def test_the_first_row_of_classes_is_taken(tmp_path: Path) -> None:
    """An output of rank 3 is none, ``[N,classes,1,1]`` is one."""
    axes = [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in (("a", [2, 3]), ("b", [1]))]
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in axes]
    nodes += [helper.make_node("Unsqueeze", ["x", "a"], ["wide"])]
    nodes += [
        helper.make_node("Unsqueeze", ["x", "b"], ["thin"]),
        helper.make_node("Concat", ["thin", "thin"], ["two"], axis=1),
    ]
    model = _model(tmp_path / "m.onnx", nodes, ["N", 6], "two", "wide")
    assert _ran(tmp_path, model, SCORES, ["N", 6])[1][:, 0].tolist() == [1, 2]
    del model
    model = _model(tmp_path / "n.onnx", nodes, ["N", 6], "two")
    with pytest.raises(CannotRun, match=r"no output is a row of classes for each of 1 items: two float32\[1,2,6\]"):
        _ran(tmp_path, model, SCORES, ["N", 6])


def test_items_that_do_not_fit_are_told_before_the_runtime_starts(tmp_path: Path) -> None:
    """The file need not even exist."""
    with pytest.raises(BadInputs, match=r"it takes float32\[N,7\], and an item is float32\[6\]"):
        _ran(tmp_path, tmp_path / "none.onnx", SCORES, ["N", 7])
