"""A target that is no ONNX file: its export stands on the ladder, and its own framework runs it beside that."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

import onnxeq
from onnxeq.errors import UsageError
from onnxeq.types import CauseKind, Report, Status, Verdict

pytest.importorskip("torch")

FACTORIES = """
import torch


class Net(torch.nn.Module):
    def __init__(self, scale=1.0, exported=0.0, single=0.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = torch.nn.Linear(6, 8), torch.nn.Linear(8, 4)
        with torch.no_grad():
            self.first.weight[3] *= scale
        self.exported, self.single = exported, single

    def forward(self, x):
        y = self.last(torch.relu(self.first(x)))
        if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
            y = y + self.exported
        elif y.dtype == torch.float32:
            y = y + self.single
        return y


def net(): return Net()
def same(): return Net()
def heavier(): return Net(scale=1.01)
def exported_otherwise(): return Net(exported=0.01)
def rounds_badly(): return Net(single=0.001)


def example_inputs(name):
    return torch.linspace(-1, 1, 18).reshape(3, 6) if name == "net" else None
"""


@pytest.fixture
def factories(tmp_path: Path, fresh_cache: Path) -> Path:
    path = tmp_path / "factories.py"
    path.write_text(FACTORIES.replace('if name == "net" else None', ""))
    return path


def _check(path: Path, target: str) -> Report:
    return onnxeq.check(f"{path}:net", f"{path}:{target}", shapes={"x": (3, 6)})


def _rungs(report: Report) -> dict[str, Status]:
    return {r.name: r.status for r in report.rungs if r.name != "provider"}


def test_the_same_module_under_another_name_is_equivalent(factories: Path) -> None:
    """Each side has its float32 and its float64 run, and the target its export besides: all of them agree."""
    report = _check(factories, "same")
    assert report.verdict is Verdict.EQUIVALENT
    ran = {(r.name, r.source, r.target) for r in report.rungs if r.status is Status.PASS}
    assert {
        ("native-rounding", "native/f64", "native/f32"),
        ("graph", "native/f64", "referee/f64"),
        ("target-rounding", "target native/f64", "target native/f32"),
        ("target-export", "target native/f64", "referee/f64"),
        ("lowering", "native/f64", "target native/f32"),
        ("interface", "native/f32", "target native/f32"),
    } <= ran
    assert report.target["ref"] == f"{factories}:same"
    assert report.target["kind"] == "factory"


def test_other_weights_in_the_target_are_named(factories: Path) -> None:
    """One row of a weight is 1 % larger in the target: the cause is the weight, by its native name."""
    report = _check(factories, "heavier")
    assert report.verdict is Verdict.DIVERGENT
    assert {c.cause for c in report.causes} == {CauseKind.WEIGHTS}
    assert report.causes[0].where.native == "first.weight"


def test_an_exporter_that_changes_the_target_is_told_apart_from_the_target(factories: Path) -> None:
    """What only the export has is the target's exporter's doing; the target itself runs as its own float64 does."""
    report = _check(factories, "exported_otherwise")
    assert report.verdict is Verdict.DIVERGENT
    rungs = _rungs(report)
    assert rungs["target-export"] is Status.FAIL
    assert rungs["target-rounding"] is Status.PASS
    assert rungs["interface"] is Status.PASS


def test_a_target_that_its_framework_runs_badly_is_told(factories: Path) -> None:
    """An error that only the target's float32 run makes breaks its own rounding rung, and no other before it."""
    report = _check(factories, "rounds_badly")
    assert report.verdict is Verdict.DIVERGENT
    broken = [name for name, status in _rungs(report).items() if status is Status.FAIL]
    assert broken[0] == "target-rounding"
    assert not {"graph", "native-rounding", "target-export", "kernels"} & set(broken)
    assert report.causes[0].rung == "target-rounding"


def test_an_onnx_file_is_held_against_a_model_of_a_framework(factories: Path, tmp_path: Path) -> None:
    """The roles exchanged: a file that stores the module's own numbers is equivalent to the module."""
    onnxeq.convert(f"{factories}:net", tmp_path / "net.onnx", shapes={"x": (3, 6)})
    report = onnxeq.check(tmp_path / "net.onnx", f"{factories}:same")
    assert report.verdict is Verdict.EQUIVALENT
    assert ("target-rounding", "target native/f32") in {(r.name, r.target) for r in report.rungs}
    report = onnxeq.check(tmp_path / "net.onnx", f"{factories}:heavier")
    assert report.verdict is Verdict.DIVERGENT


def test_a_target_that_does_not_say_what_it_takes_is_given_what_the_source_takes(tmp_path: Path) -> None:
    """Only the source's file has example_inputs; without any, nobody knows."""
    source, target = tmp_path / "source.py", tmp_path / "target.py"
    source.write_text(FACTORIES)
    target.write_text(FACTORIES.partition("def example_inputs")[0])
    assert onnxeq.check(f"{source}:net", f"{target}:same").verdict is Verdict.EQUIVALENT
    with pytest.raises(UsageError, match="the inputs of Net are not known"):
        onnxeq.check(f"{target}:net", f"{target}:same")


def test_a_target_with_another_interface_is_refused_in_one_line(factories: Path, tmp_path: Path) -> None:
    """Two inputs against one."""
    path = tmp_path / "two.onnx"
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[3,6] x, float[3,6] z) => (float[3,6] y) {y = Add(x, z)}'
    onnx.save(parser.parse_model(text), path)
    with pytest.raises(UsageError, match=r"the target .*:same: 2 inputs are declared; forward takes 1"):
        onnxeq.check(path, f"{factories}:same", shapes={"x": (3, 6), "z": (3, 6)})


def test_diff_and_ledger_take_any_target(factories: Path) -> None:
    """``diff`` finds the heavier layer in the target's export, and the ledger its weight."""
    report = onnxeq.diff(f"{factories}:net", f"{factories}:heavier", shapes={"x": (3, 6)})
    assert report.verdict is Verdict.DIVERGENT
    assert report.causes[0].where.native == "first"
    found = onnxeq.ledger(f"{factories}:net", f"{factories}:heavier", shapes={"x": (3, 6)})
    assert [e.native for e in found.faults] == ["first.weight"]
