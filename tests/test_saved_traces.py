"""Traces that were saved come back with their inputs; what is none is said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxeq import native_values, traces
from onnxeq.errors import UnusableModel, UsageError
from onnxeq.protocols import NativeValue
from onnxeq.saved_traces import check_target, open_saved, save
from onnxeq.traces import TraceWriter

FEED: dict[str, NDArray[Any]] = {
    "file": np.ones((2, 3), np.float32),  # a name that numpy.savez keeps for itself
    "serving/x:0": np.array([1, 2], np.int64),
    "brain": np.array([1, 3.140625]).astype(ml_dtypes.bfloat16),
    "words": np.array(["a", "ä"], object),
    "none": np.zeros((0, 2), np.float32),
}


def held(folder: Path) -> Path:
    """The trace of a job."""
    with TraceWriter(folder) as writer:
        writer.add("h", np.arange(6, dtype=np.float32).reshape(2, 3))
        writer.add("y", np.array([True]))
    return folder


def test_a_trace_comes_back_with_its_inputs(tmp_path: Path) -> None:
    """Values, inputs of any name and type, the execution and the model that made it."""
    save(tmp_path / "t", held(tmp_path / "job"), FEED, {"execution": "ort/cpu", "model": "abc"})
    found = open_saved(tmp_path / "t", tmp_path)
    assert (found.name, found.model, found.folder) == ("saved ort/cpu", "abc", tmp_path / "t")
    assert list(found.feed) == list(FEED)
    for name, value in FEED.items():
        assert found.feed[name].dtype == value.dtype
        assert np.array_equal(found.feed[name], value)
    trace = traces.load(found.folder)
    assert list(trace) == ["h", "y"]
    assert trace.array("h").tobytes() == np.arange(6, dtype=np.float32).tobytes()
    assert len(trace.record["inputs_sha256"]) == 64


def test_a_frameworks_values_are_saved_in_the_same_form(tmp_path: Path) -> None:
    """Under the names that the export gives them."""
    value = NativeValue("relu", np.ones(3, np.float32), "aten.relu", {}, (), "layer1", "")
    native_values.store(tmp_path / "job", [value])
    save(tmp_path / "t", tmp_path / "job", {}, {"execution": "native/f32"})
    assert list(traces.load(open_saved(tmp_path / "t", tmp_path).folder)) == ["relu"]


def test_a_trace_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A value that cannot be read leaves nothing behind; an empty folder of that name is taken."""
    damaged = held(tmp_path / "job")
    (damaged / "1.npy").write_bytes(b"")
    with pytest.raises(UnusableModel):
        save(tmp_path / "t", damaged, FEED, {})
    assert [p.name for p in tmp_path.iterdir()] == ["job"]
    (tmp_path / "t").mkdir()
    check_target(tmp_path / "t")
    save(tmp_path / "t", held(tmp_path / "job"), FEED, {})
    assert {p.name for p in tmp_path.iterdir()} == {"job", "t"}


def test_a_place_that_is_taken_is_refused_beforehand(tmp_path: Path) -> None:
    """A file, a folder with something in it, a folder in no folder."""
    (tmp_path / "file").write_text("x")
    for path, said in ((tmp_path / "file", "something already"), (tmp_path, "something already"),
                       (tmp_path / "a" / "b", "there is no folder")):  # fmt: skip
        with pytest.raises(UsageError, match=said) as caught:
            check_target(path)
        assert caught.value.hint
    check_target(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_damaged_inputs_are_said(tmp_path: Path) -> None:
    """An index that is none, or a file that is missing; without any inputs the feed is empty."""
    save(tmp_path / "t", held(tmp_path / "job"), FEED, {})
    (tmp_path / "t" / "inputs" / "0-0.npy").unlink()
    with pytest.raises(UnusableModel, match="inputs of the trace t are damaged"):
        open_saved(tmp_path / "t", tmp_path)
    (tmp_path / "t" / "inputs" / "index.json").write_text("{")
    with pytest.raises(UnusableModel, match="inputs of the trace t are damaged"):
        open_saved(tmp_path / "t", tmp_path)
    assert open_saved(held(tmp_path / "bare"), tmp_path).feed == {}


def data_set(folder: Path, **names: str) -> Path:
    """The test data of an ONNX model with two inputs and eleven outputs."""
    folder.mkdir()
    for kind, count in (("input", 2), ("output", 11)):
        for index in range(count):
            tensor = numpy_helper.from_array(np.full(2, index, np.float32), names.get(f"{kind}_{index}", ""))
            (folder / f"{kind}_{index}.pb").write_bytes(tensor.SerializeToString())
    return folder


def test_the_standards_test_data_are_a_trace(tmp_path: Path) -> None:
    """Outputs by their names, or by their numbers where they have none (``10`` comes after ``9``)."""
    folder = data_set(tmp_path / "test_data_set_0", input_0="x", output_1="probabilities")
    found = open_saved(folder, tmp_path)
    assert (found.name, found.model) == ("test_data_set_0", "")
    assert {n: v.tolist() for n, v in found.feed.items()} == {"x": [0, 0], "#1": [1, 1]}
    trace = traces.load(found.folder)
    assert list(trace) == ["#0", "probabilities", *(f"#{i}" for i in range(2, 11))]
    assert all(trace.array(f"#{i}").tolist() == [i, i] for i in range(2, 11))


def test_test_data_without_inputs_have_no_feed(tmp_path: Path) -> None:
    """Then the inputs are those that the user gives."""
    folder = data_set(tmp_path / "set")
    for path in folder.glob("input_*.pb"):
        path.unlink()
    assert open_saved(folder, tmp_path).feed == {}


@pytest.mark.parametrize("content", [b"\x00\x01nonsense", onnx.TensorProto(data_type=1, dims=[3]).SerializeToString()])
def test_damaged_test_data_are_said(tmp_path: Path, content: bytes) -> None:
    """A file that is no tensor, or one without its numbers."""
    folder = data_set(tmp_path / "set")
    (folder / "output_3.pb").write_bytes(content)
    with pytest.raises(UnusableModel, match=r"output_3\.pb is no tensor") as caught:
        open_saved(folder, tmp_path)
    assert "\n" not in caught.value.line()


def test_what_is_no_trace_is_said(tmp_path: Path) -> None:
    """Nothing there, an empty folder, a file that is something else."""
    with pytest.raises(UsageError, match="no such file"):
        open_saved(tmp_path / "none", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnusableModel, match="holds neither"):
        open_saved(tmp_path / "empty", tmp_path)
    (tmp_path / "file.json").write_text("[1, 2]")
    with pytest.raises(UnusableModel, match="Polygraphy"):
        open_saved(tmp_path / "file.json", tmp_path)
    (tmp_path / "file.json").write_bytes(b"\x80\x00")
    with pytest.raises(UnusableModel, match="Polygraphy"):
        open_saved(tmp_path / "file.json", tmp_path)
