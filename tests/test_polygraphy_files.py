from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import onnxeq
from onnxeq import inputs, saved_traces, traces
from onnxeq.errors import BadInputs, OnnxeqError, UnusableModel, UsageError
from onnxeq.types import Verdict

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(1, 3, 2, 2)
W = np.array([[1, 2, 0], [0, -1, 1]], np.float32)


def text_of(array: NDArray[Any], *, pickled: bool = False) -> str:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    return base64.b64encode(file.getvalue()).decode()


def stored(array: NDArray[Any]) -> dict[str, Any]:
    return {"array": text_of(array), "polygraphy_class": "ndarray"}


def outputs_document(*iterations: dict[str, NDArray[Any]], runner: str = "onnxrt-runner") -> dict[str, Any]:
    """What ``polygraphy run --save-outputs FILE`` writes."""
    results = [
        {
            "outputs": {n: {"values": stored(a), "polygraphy_class": "LazyArray"} for n, a in outputs.items()},
            "runtime": 0.01,
            "runner_name": runner,
            "polygraphy_class": "IterationResult",
        }
        for outputs in iterations
    ]
    return {"lst": [[runner, results]], "polygraphy_class": "RunResults"}


def written(path: Path, document: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=4))
    return path


def small_model(path: Path, weight: NDArray[np.float32] = W) -> Path:
    """``y = relu(w . mean(x))`` for ``x: float32[1,3,2,2]``; inner values ``p``, ``f``, ``m``."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w"], ["m"], name="gemm", transB=1),
        helper.make_node("Relu", ["m"], ["y"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [helper.make_tensor_value_info("y", 1, (1, 2))],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def values_of(weight: NDArray[np.float32] = W) -> dict[str, NDArray[Any]]:
    """The same by numpy; every mean and product of these numbers is exact."""
    pooled = X.mean((2, 3), keepdims=True)
    flat = pooled.reshape(1, 3)
    product = flat @ weight.T
    return {"p": pooled, "f": flat, "m": product, "y": np.maximum(product, 0)}


def test_outputs_become_a_trace(tmp_path: Path) -> None:
    """Names, order, types, shapes and bits of the first iteration arrive; the runner's time of day does not."""
    first = {"b": X, "a": np.array(7, np.int64), "c": np.zeros((0, 2), bool), "d": np.float16([1.5])}
    document = outputs_document(first, {"b": X + 1}, runner="onnxrt-runner-N0-11/27/26-14:30:38")
    saved = saved_traces.open_saved(written(tmp_path / "out.json", document), tmp_path)
    trace = traces.load(saved.folder)
    assert saved.name == "saved onnxrt-runner"
    assert saved.feed == {}
    assert list(trace) == ["b", "a", "c", "d"]
    for name, value in first.items():
        assert (trace.array(name).dtype, trace.array(name).shape) == (value.dtype, value.shape)
        assert trace.array(name).tobytes() == value.tobytes()


def test_a_folder_of_iterations_is_read_like_a_file(tmp_path: Path) -> None:
    """``--save-outputs FOLDER`` gives a file for each iteration, of which the first by number counts; ``--save-inputs
    FOLDER`` a feed each.
    """
    for i in (1, 0):
        written(tmp_path / "out" / f"{i:010}.json", outputs_document({"y": X + i}))
        written(tmp_path / "in" / f"{i:010}.json", {"x": stored(X + i)})
    trace = traces.load(saved_traces.open_saved(tmp_path / "out", tmp_path).folder)
    assert trace.array("y").tobytes() == X.tobytes()
    feeds = inputs.read([tmp_path / "in"])
    assert [f["x"].tobytes() for f in feeds] == [X.tobytes(), (X + 1).tobytes()]


def test_older_forms_of_an_array(tmp_path: Path) -> None:
    """An archive in the place of an array, and Latin-1 text in the place of base64, give the same bits."""
    archive, plain = io.BytesIO(), io.BytesIO()
    np.savez(archive, X)
    np.save(plain, X)
    document = [
        {"x": {"array": base64.b64encode(archive.getvalue()).decode()}},
        {"x": {"array": plain.getvalue().decode("latin-1")}},
    ]
    assert [f["x"].tobytes() for f in inputs.read([written(tmp_path / "in.json", document)])] == [X.tobytes()] * 2


def test_inputs_are_one_feed_for_each_entry(tmp_path: Path) -> None:
    """Two entries of ``--save-inputs FILE`` are two feeds with the entries' names."""
    document = [{"x": stored(X), "n": stored(np.array([3], np.int32))}, {"x": stored(2 * X), "n": stored(X)}]
    feeds = inputs.read([written(tmp_path / "in.json", document)])
    assert [list(f) for f in feeds] == [["x", "n"], ["x", "n"]]
    assert feeds[0]["n"].dtype == np.int32
    assert feeds[1]["x"].tobytes() == (2 * X).tobytes()


SOUND = text_of(X)
PICKLED = text_of(np.array([{"a": 1}], dtype=object), pickled=True)
BAD_ARRAYS = {
    "cut": SOUND[: len(SOUND) // 2 // 4 * 4],
    "empty": "",
    "other bytes": base64.b64encode(b"not an array at all").decode(),
    "no base64": "\u20ac" * 8,
    "a broken archive": base64.b64encode(b"PK\x03\x04" + b"\0" * 40).decode(),
    "a damaged header": base64.b64encode(base64.b64decode(SOUND).replace(b"'shape': (", b"'shape': [")).decode(),
    "more than there is": base64.b64encode(
        base64.b64decode(SOUND).replace(b"(1, 3, 2, 2), }", b"(9**9,  ), }   ")
    ).decode(),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_a_damaged_array_is_one_line(tmp_path: Path, kind: str) -> None:
    """Whatever stands in an array's place, the error is typed, names file and value, and has one line."""
    record = {"array": BAD_ARRAYS[kind]}
    with pytest.raises(BadInputs, match=r"in\.json.*'x'") as of_inputs:
        inputs.read([written(tmp_path / "in.json", [{"x": record}])])
    outputs = {"lst": [["r", [{"outputs": {"y": {"values": record}}}]]]}
    with pytest.raises(UnusableModel, match=r"out\.json.*'y'") as of_outputs:
        saved_traces.open_saved(written(tmp_path / "out.json", outputs), tmp_path)
    assert all("\n" not in error.value.line() for error in (of_inputs, of_outputs))


def test_what_is_pickled_is_never_loaded(tmp_path: Path) -> None:
    """An array of objects and a torch tensor would run code: both are refused, the second by name."""
    with pytest.raises(BadInputs, match="allow_pickle=False"):
        inputs.read([written(tmp_path / "in.json", [{"x": {"array": PICKLED}}])])
    with pytest.raises(BadInputs, match="'x' is a pickled torch tensor"):
        inputs.read([written(tmp_path / "in.json", [{"x": {"tensor": PICKLED, "polygraphy_class": "Tensor"}}])])


FOREIGN = {
    "an object": {"a": 1},
    "a number": 3,
    "nothing": None,
    "an empty list": [],
    "an empty object": {},
    "numbers": [1, 2],
    "no runner": {"lst": []},
    "no iteration": {"lst": [["r", []]]},
    "another order": {"lst": [[[{"outputs": {}}], "r"]]},
    "a list for outputs": {"lst": [["r", [{"outputs": [1]}]]]},
    "a number for an array": {"lst": [["r", [{"outputs": {"y": 3}}]]]},
    "no text": {"lst": [["r", [{"outputs": {"y": {"values": {"array": [1]}}}}]]]},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_json_is_one_line(tmp_path: Path, kind: str) -> None:
    """JSON of something else is refused on both sides, with the command that writes what is wanted."""
    path = written(tmp_path / "x.json", FOREIGN[kind])
    with pytest.raises(UnusableModel, match=r"x\.json") as of_outputs:
        saved_traces.open_saved(path, tmp_path)
    with pytest.raises(BadInputs, match=r"x\.json") as of_inputs:
        inputs.read([path])
    assert "--save-outputs FILE.json" in of_outputs.value.line()
    assert "--save-inputs FILE.json" in of_inputs.value.line()
    assert all("\n" not in error.value.line() for error in (of_inputs, of_outputs))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"])
def test_what_is_no_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    """A file that does not parse is refused on both sides."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    reads = (lambda: saved_traces.open_saved(path, tmp_path), lambda: inputs.read([path]))
    for read in reads:
        with pytest.raises(OnnxeqError, match=r"x\.json") as error:
            read()
        assert "\n" not in error.value.line()


def test_inputs_and_outputs_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """Each file given in the other's place is told the option that takes it."""
    with pytest.raises(BadInputs, match="--load-trace takes"):
        inputs.read([written(tmp_path / "out.json", outputs_document({"y": X}))])
    with pytest.raises(UnusableModel, match="--inputs takes"):
        saved_traces.open_saved(written(tmp_path / "in.json", [{"x": stored(X)}]), tmp_path)


def test_values_of_unnamed_types_are_left_out(tmp_path: Path) -> None:
    """bfloat16 is stored as two bytes without a meaning: the trace goes on without it."""
    document = outputs_document({"h": np.zeros(3, "V2"), "y": X})
    assert list(traces.load(saved_traces.open_saved(written(tmp_path / "out.json", document), tmp_path).folder)) == [
        "y"
    ]


def test_diff_against_saved_outputs(tmp_path: Path) -> None:
    """The values of the model itself are equivalent to it; those of a model with a row of weights scaled by 1.5 are
    not, and the Gemm is named.
    """
    model = small_model(tmp_path / "a.onnx")
    feed = written(tmp_path / "in.json", [{"x": stored(X)}])
    scaled = W * np.float32([[1.5], [1]])
    for weight, verdict in ((W, Verdict.EQUIVALENT), (scaled, Verdict.DIVERGENT)):
        path = written(tmp_path / "out.json", outputs_document(values_of(weight)))
        report = onnxeq.diff(str(model), str(model), inputs=[feed], load_trace=path)
        assert report.verdict is verdict
        assert [c.where.node for c in report.causes] == ["gemm"] * (verdict is Verdict.DIVERGENT)


def test_saved_outputs_need_their_inputs(tmp_path: Path) -> None:
    """Polygraphy's outputs do not hold the inputs: made-up ones would make every layer differ."""
    model = small_model(tmp_path / "a.onnx")
    path = written(tmp_path / "out.json", outputs_document(values_of()))
    with pytest.raises(UsageError, match="holds no inputs"):
        onnxeq.diff(str(model), str(model), load_trace=path)


@pytest.mark.skipif(util.find_spec("polygraphy") is None, reason="polygraphy is not installed")
def test_files_that_polygraphy_itself_has_written(tmp_path: Path) -> None:
    """Inputs and all values of two iterations, as its command line writes them, are equivalent to the model."""
    model = small_model(tmp_path / "a.onnx")
    main = "import sys; sys.modules['torch'] = None; from polygraphy.tools import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "run", str(model), "--onnxrt", "--onnx-outputs", "*", "--iterations", "2"]
    command += ["--save-outputs", str(tmp_path / "out.json"), "--save-inputs", str(tmp_path / "in.json")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=120)
    assert len(inputs.read([tmp_path / "in.json"])) == 2
    report = onnxeq.diff(
        str(model), str(model), inputs=[tmp_path / "in.json"], load_trace=tmp_path / "out.json", rung="kernels"
    )
    assert report.verdict is Verdict.EQUIVALENT
    assert report.coverage.nodes_compared == 4
