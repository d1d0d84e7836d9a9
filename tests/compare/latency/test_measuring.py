"""Latency from references to figures, on files that need no framework, and the batch sizes they are run with."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxeq
from onnxeq.cli.main import run
from onnxeq.compare.latency.feeding import batches_of
from onnxeq.compare.latency.values import Latency
from onnxeq.errors import UsageError

_WIDTH = 384


def _products(count: int, batch: int | str = "N", op: str = "MatMul") -> onnx.ModelProto:
    """So many products with a matrix one after another."""
    weight = np.random.default_rng(0).standard_normal((_WIDTH, _WIDTH)).astype(np.float32) / _WIDTH**0.5
    nodes = [helper.make_node(op, [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(count)]
    shape = [batch, 64, _WIDTH]
    graph = helper.make_graph(
        nodes, "products", [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, shape)], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {"one": _products(1), "twenty": _products(20), "three_only": _products(1, 3)}
    for name, model in made.items():
        Path(f"{name}.onnx").write_bytes(model.SerializeToString())


def _timed(*names: str, seconds: float = 0.6, **more: object) -> Latency:
    found = onnxeq.compare(*(f"{n}.onnx" for n in names), parts=["latency"], seconds=seconds, **more)  # type: ignore[arg-type]
    assert found.latency is not None
    return found.latency


def test_twenty_times_the_work_takes_about_twenty_times_as_long() -> None:
    """Twenty products against one: a ratio of 20 less what a call costs, whatever else the machine does."""
    found = _timed("one", "twenty", seconds=1.5)
    (pair,) = found.pairs
    assert (pair.left.model, pair.right.model, pair.left.runtime) == ("one.onnx", "twenty.onnx", "ort/cpu")
    assert 6 < 1 / pair.ratio < 60
    assert pair.discrepancy
    assert pair.interval.low <= pair.ratio <= pair.interval.high < 1
    assert not found.runtimes  # files have no framework of their own
    one, twenty = found.figures
    assert one.median_ms < twenty.median_ms
    assert one.items_per_s == pytest.approx(1000 / one.median_ms)
    assert one.rounds == twenty.rounds >= 3
    assert one.peak_mib > 20
    assert 0 < one.load_s < 60


def test_a_fixed_batch_is_run_and_told() -> None:
    """A file for batches of 3 is run with 3, and the other one with 3 as well, so that there is a ratio."""
    found = _timed("one", "three_only", seconds=0.2)
    assert [(f.of.model, f.of.batch) for f in found.figures] == [
        ("one.onnx", 1), ("one.onnx", 3), ("three_only.onnx", 3),
    ]  # fmt: skip
    assert found.notes == ("three_only.onnx takes batches of 3 only, and is run with that",)
    (pair,) = found.pairs
    assert (pair.left.batch, pair.right.batch) == (3, 3)
    assert found.figures[1].items_per_s == pytest.approx(3000 / found.figures[1].median_ms)


def test_batches_are_those_asked_for_and_those_that_are_fixed() -> None:
    """A model that takes any size runs with all of them, one that takes a single size with that."""
    assert batches_of({"a": None, "b": None}, (1, 8)) == {"a": (1, 8), "b": (1, 8)}
    assert batches_of({"a": None, "b": 4}, (1,)) == {"a": (1, 4), "b": (4,)}
    assert batches_of({"a": 1, "b": 4}, (8,)) == {"a": (1,), "b": (4,)}
    assert batches_of({"a": 2, "b": None}, (2,)) == {"a": (2,), "b": (2,)}


def test_what_a_runtime_refuses_is_told_and_the_others_go_on() -> None:
    """An operator that onnxruntime does not have: a reason in the place of its figures, and the ratio of the others."""
    alien = _products(1)
    alien.graph.node[0].CopyFrom(helper.make_node("Alien", ["x0"], ["x1"], domain="com.example"))
    alien.opset_import.append(helper.make_opsetid("com.example", 1))
    Path("alien.onnx").write_bytes(alien.SerializeToString())
    found = _timed("one", "alien", "twenty", seconds=0.3)
    (refused,) = found.not_run
    assert (refused.model, refused.runtime) == ("alien.onnx", "ort/cpu")
    assert "onnxruntime refuses" in refused.reason
    assert [(r.left.model, r.right.model) for r in found.pairs] == [("one.onnx", "twenty.onnx")]


def test_a_provider_that_is_not_there_is_told(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA, asked for on a machine without a device: said, and the status of an otherwise equal pair is 3."""
    monkeypatch.setattr("onnxeq.providers._device", lambda: "")
    arguments = ["compare", "one.onnx", "one.onnx", "--only", "latency", "--seconds", "0.1", "--quiet"]
    assert run([*arguments, "--providers", "cpu,cuda"]) == 3
    assert "could not be run: ort/cuda: no CUDA device on this machine" in " ".join(capfd.readouterr().out.split())


def test_given_inputs_decide_the_batch() -> None:
    """The user's own array of 5 items is what is run."""
    np.save("five.npy", np.zeros((5, 64, _WIDTH), np.float32))
    found = _timed("one", "twenty", seconds=0.2, inputs=["five.npy"])
    assert {f.of.batch for f in found.figures} == {5}


def test_settings_that_cannot_be_are_wrong_usage() -> None:
    """No time, no provider of that name."""
    with pytest.raises(UsageError, match="0 s leave no time"):
        _timed("one", "twenty", seconds=0.0)
    with pytest.raises(UsageError, match="'tpu' is no provider"):
        _timed("one", "twenty", providers=["tpu"])


def test_the_command_prints_and_writes_it(capfd: pytest.CaptureFixture[str]) -> None:
    """As a sentence on the screen, in JSON, and as three cells of the pair's line in CSV; the status is the
    architecture's.
    """
    arguments = ["compare", "one.onnx", "twenty.onnx", "--only", "latency", "--seconds", "0.3", "--quiet"]
    assert run([*arguments, "--report", "cost.csv"]) == 1
    shown = " ".join(capfd.readouterr().out.split())
    assert "times as long as one.onnx" in shown
    (row,) = csv.DictReader(io.StringIO(Path("cost.csv").read_text()))
    ratio = float(row["latency ratio ort/cpu batch 1"])
    assert float(row["latency ratio ort/cpu batch 1 low"]) <= ratio <= float(row["latency ratio ort/cpu batch 1 high"])
    assert ratio < 1
    assert run(["compare", "one.onnx", "one.onnx", *arguments[3:], "--json"]) == 0
    document = json.loads(capfd.readouterr().out)["latency"]
    assert document["share"] == 0.05
    assert [f["of"]["runtime"] for f in document["figures"]] == ["ort/cpu", "ort/cpu"]
    assert set(document["stopped"]) == {"1"}
