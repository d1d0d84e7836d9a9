from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq import inputs
from onnxeq.errors import BadInputs, OnnxeqError, UsageError
from onnxeq.types import TensorSpec, ValueRange

IMAGE = TensorSpec("x", "float32", ("N", 3, 32, 32))


def line_of(error: pytest.ExceptionInfo[OnnxeqError]) -> str:
    return error.value.line()


def test_default_feeds_are_four_samples_in_two_batch_sizes() -> None:
    """A dynamic batch gives batches of 1 and 3; a fixed one gives four feeds; all samples differ."""
    dynamic = inputs.generate([IMAGE])
    assert [f["x"].shape[0] for f in dynamic] == [1, 3]
    example = [TensorSpec("x", "float32", (2, 5)), TensorSpec("y", "float32", (2, 2)), TensorSpec("z", "float32", (7,))]
    assert [{n: a.shape for n, a in f.items()} for f in inputs.generate(example)] == [
        {"x": (b, 5), "y": (b, 2), "z": (7,)} for b in (2, 1, 3)
    ]
    fixed = inputs.generate([TensorSpec("x", "float32", (2, 3, 32, 32))], dynamic_batch=False)
    assert [f["x"].shape[0] for f in fixed] == [2, 2, 2, 2]
    samples = [s for f in dynamic for s in f["x"]]
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(samples) for b in samples[:i])


def test_sizes_that_nobody_fixed() -> None:
    """A free height and width become 224, a free sequence 16; a batch name is the batch everywhere."""
    image = TensorSpec("x", "float32", ("N", 3, "H", "W"))
    tokens = TensorSpec("t", "int64", ("N", "S"))
    state = TensorSpec("s", "float32", (2, "N", 8))
    feed = inputs.generate([state, image, tokens], batches=[5])[0]
    assert {n: a.shape for n, a in feed.items()} == {"x": (5, 3, 224, 224), "t": (5, 16), "s": (2, 5, 8)}
    cache = TensorSpec("past", "float32", ("N", 4, "past_sequence", 64))  # four heads are no channels of an image
    assert inputs.generate([cache], batches=[2])[0]["past"].shape == (2, 4, 16, 64)


def test_same_seed_same_bytes() -> None:
    """Inputs depend on the seed alone."""
    first, again, other = (inputs.generate([IMAGE], seed=s)[1]["x"] for s in (3, 3, 4))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_values_stay_in_the_declared_range() -> None:
    """A declared range holds for floats and integers, and both halves of it are used."""
    spec = TensorSpec("x", "float32", ("N", 8, 8, 3), ValueRange(0, 255))
    value = np.concatenate([f["x"].ravel() for f in inputs.generate([spec])])
    assert value.min() >= 0
    assert value.max() <= 255
    assert (value < 127).any()
    assert (value > 128).any()
    index = TensorSpec("i", "int64", ("N", 50), ValueRange(0, 7))
    ids = inputs.generate([index])[1]["i"]
    assert set(np.unique(ids)) == set(range(7))


def test_index_ranges_follow_the_input_to_the_table() -> None:
    """An integer input that reaches a Gather on a table of 11 rows may take 0 to 10."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "wide"], ["y"], axis=0),
        ],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 2])],
        [numpy_helper.from_array(np.zeros((11, 2), np.float32), "table")],
    )
    assert inputs.index_ranges(helper.make_model(graph)) == {"ids": ValueRange(0, 11)}


def test_reading_npz_npy_folder_and_test_data_set(tmp_path: Path) -> None:
    """Every documented kind of inputs file is read to the arrays that it holds."""
    x = np.arange(4, dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=x)
    np.save(tmp_path / "b.npy", x)
    data = tmp_path / "test_data_set_0"
    data.mkdir()
    (data / "input_0.pb").write_bytes(numpy_helper.from_array(x, "x").SerializeToString())
    unnamed = onnx.TensorProto()
    unnamed.CopyFrom(numpy_helper.from_array(x + 1, ""))
    (data / "input_1.pb").write_bytes(unnamed.SerializeToString())
    assert inputs.read([tmp_path / "a.npz"])[0]["x"].tolist() == x.tolist()
    assert inputs.read([tmp_path / "b.npy"])[0]["#0"].tolist() == x.tolist()
    assert [sorted(f) for f in inputs.read([tmp_path / "a.npz", data])] == [["x"], ["#1", "x"]]
    assert len(inputs.read([tmp_path])) == 2


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    """An object array would run code when loaded; it is an unusable input instead."""
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInputs, match="cannot be read"):
        inputs.read([tmp_path / "p.npy"])


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    """Half an .npz is an unusable input, not a crash."""
    np.savez(tmp_path / "a.npz", x=np.zeros(1000))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputs):
        inputs.read([tmp_path / "a.npz"])


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({"y": np.zeros((1, 3, 32, 32), np.float32)}, "no input 'y'"),
        ({}, "input 'x' (float32[N,3,32,32]) is not given"),
        (
            {"x": np.zeros((1, 3, 32, 31), np.float32)},
            "float32[1,3,32,31], the model takes float32[N,3,32,32]",
        ),
        ({"x": np.zeros((3, 32, 32), np.float32)}, "float32[3,32,32]"),
        ({"x": np.zeros((1, 3, 32, 32))}, "astype('float32')"),
    ],
)
def test_wrong_inputs_say_given_and_allowed(feed: dict[str, np.ndarray], says: str) -> None:
    """A wrong name, shape or dtype is named beside what the model takes."""
    with pytest.raises(BadInputs) as caught:
        inputs.check_feed(feed, [IMAGE])
    assert says in line_of(caught)


def test_shapes_are_parsed_and_refused() -> None:
    """``NAME=1x3x4`` and a bare ``1x3x4`` are shapes, anything else is a usage error with an example."""
    assert inputs.parse_shape(["a=1x3x4", "2x2", "s=scalar"]) == {"a": (1, 3, 4), "": (2, 2), "s": ()}
    with pytest.raises(UsageError) as caught:
        inputs.parse_shape(["x=1,3,4"])
    assert "NAME=1x3x224x224" in line_of(caught)
    with pytest.raises(BadInputs, match="no input 'z'"):
        inputs.with_shapes([IMAGE], {"z": (1,)})
    assert inputs.with_shapes([IMAGE], {"": (1, 3, 8, 8)})[0].shape == (1, 3, 8, 8)
