"""Differential testing of operators: its own machinery, on cases whose outcome is known."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Imports a module of the benchmark by name, as it imports its neighbours when it is run."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("operator_cases", "operator_trials"):
            del sys.modules[name]


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """``y = x * 0.1`` as a file."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6])],
        [helper.make_tensor("k", TensorProto.FLOAT, [], [0.1])],
    )
    path = tmp_path / "scaled.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


_X = np.array([1, -2, 3, 0.5, 7, -0.25], dtype=np.float32)


def _judge(load: Any, path: Path, factor: float, single: Any = None) -> Any:
    """What the judge says when the framework multiplies by ``factor`` in float64, and gives ``single`` in float32."""
    judge = load("operator_trials.judge")
    exact = _X.astype(np.float64) * np.float64(np.float32(factor))
    native = judge.Native([{"y": exact.astype(np.float32) if single is None else single}], [{"y": exact}])
    work = path.parent / f"work-{factor}"
    findings, missing, _ = judge.judge(native, path, path, [{"x": _X}], {"x": "x"}, {"y": "y"}, work)
    return findings, missing


def test_a_right_file_has_no_findings(load: Any, scaled: Path) -> None:
    """Native program, referee, onnxruntime plain and optimised and onnx's evaluator agree: nothing is said."""
    assert _judge(load, scaled, 0.1) == ([], [])


def test_a_planted_fault_of_the_exporter_is_found(load: Any, scaled: Path) -> None:
    """A file that multiplies by 0.1 what the framework multiplies by 0.2 is the exporter's fault, and no one else's."""
    (found,), _ = _judge(load, scaled, 0.2)
    assert (found.component, found.rung, found.nodes, found.cause) == ("exporter", "graph", "Mul", "graph")
    assert found.what.startswith("0.7 off")


def test_a_planted_fault_of_the_framework_is_found(load: Any, scaled: Path) -> None:
    """A framework whose float32 result is off by a thousandth of its float64 result rounds badly itself."""
    wrong = (_X * np.float32(0.1)) * np.float32(1.001)
    findings, _ = _judge(load, scaled, 0.1, wrong)
    assert [(f.component, f.rung) for f in findings] == [("native", "native-rounding")]


def test_another_type_is_a_finding(load: Any, scaled: Path) -> None:
    """An output of another element type than the framework's is told as such."""
    exact = (_X * np.float32(0.1)).astype(np.float64)
    findings, _ = _judge(load, scaled, 0.1, exact)
    assert "output 'y' is float32, natively float64" in [f.what for f in findings]


def test_one_discrepancy_however_often_it_shows(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two exporters and several feeds are one line; what is allowed is not printed; what is new is marked."""
    table, results, judge = (load(f"operator_trials.{n}") for n in ("table", "results", "judge"))
    finding = judge.Finding("exporter", "graph", "AveragePool", "0.4 off")
    rows = [
        results.Result("pool divisor", "dynamo", "F.avg_pool2d(x)", (finding,)),
        results.Result("pool divisor", "torchscript", "F.avg_pool2d(x)", (finding, finding)),
        results.Result("sort ties", "dynamo", "torch.sort(x)", (finding,)),
        results.Result("new", "dynamo", "torch.new(x)", (finding,)),
        results.Result("refused", "dynamo", "torch.no(x)", export_error="no"),
    ]
    assert [results.from_json(results.to_json(r)) for r in rows] == rows
    monkeypatch.setattr(table, "TRUE", {"exporter: pool divisor": "the divisor is dropped"})
    monkeypatch.setattr(table, "ALLOWED", {"exporter: sort *": "the order of equal elements is not defined"})
    text = table.text(rows, 1.0)
    assert text.count("pool divisor") == 1
    assert "exporter (dynamo, torchscript): pool divisor" in text
    assert "sort ties" not in text
    assert "UNREVIEWED graph: exporter (dynamo): new" in text
    assert "1 true (exporter 1), 1 unreviewed, 1 allowed" in text
    assert "refused by the exporter: dynamo 1" in text


def test_the_noise_is_held_against_healthy_executions(load: Any, scaled: Path) -> None:
    """``x*0.1`` rounds once: all executions are within two units, and an error of a thousandth is thousands of them."""
    judge, table, results = (load(f"operator_trials.{n}") for n in ("judge", "table", "results"))
    exact = _X.astype(np.float64) * np.float64(np.float32(0.1))
    native = judge.Native([{"y": exact.astype(np.float32)}], [{"y": exact}])
    found = judge.judge(native, scaled, scaled, [{"x": _X}], {"x": "x"}, {"y": "y"}, scaled.parent / "work").ratios
    assert tuple(found) == judge.RATIOS
    assert max(found[name] for name in ("native", "plain", "optimised")) < 2
    assert found["thousandth"] > 1000
    rows = {"good": found, "loud": {**found, "plain": 7.0}, "blind": {"plain": 0.01, "thousandth": 1.0},
            "coarse": {"plain": 0.5, "thousandth": 1.0}}  # fmt: skip
    text = table.ratios([results.Result(name, "dynamo", "", ratios=r) for name, r in rows.items()])
    marks = [line.split()[-1] for line in text.splitlines()[2:]]
    assert marks == ["ALARM", "BLIND", "coarse"]


def test_every_table_of_cases_can_be_read(load: Any) -> None:
    """At least 300 cases for torch, 100 for tf2onnx; labels are unique in their table; every feed can be made."""
    counts = {}
    feed = load("operator_trials.feeds").feed
    tables = ("torch_pool", "torch_elementwise", "torch_tensors", "torch_layers", "keras_layers", "keras_functions")
    for name in (*tables, "torch_long", "fused_graphs"):
        cases = load(f"operator_cases.{name}").CASES
        labels = [case.label for case in cases]
        assert len(set(labels)) == len(labels), name
        assert all(feed(text) for case in cases for text in case.feeds)
        counts[name.partition("_")[0]] = counts.get(name.partition("_")[0], 0) + len(cases)
    assert counts["torch"] >= 300
    assert counts["keras"] >= 100


@pytest.mark.torch
def test_a_torch_case_from_end_to_end(load: Any) -> None:
    """A divisor that the exporter drops is found; the same pool without one is not."""
    pytest.importorskip("torch")
    case, side = load("operator_cases").Case, load("operator_trials.torch_side")
    good = case("good", "F.avg_pool2d(x, 2)", ("x=n(1,2,4,4)",))
    bad = case("bad", "F.avg_pool2d(x, 2, divisor_override=3)", ("x=n(1,2,4,4)",))
    results = [r for c in (good, bad) for r in side.try_case(c, ("torchscript",))]
    assert [[f.rung for f in r.findings] for r in results] == [[], ["graph"]]
    assert not any(r.native_error or r.export_error or r.harness_error for r in results)
