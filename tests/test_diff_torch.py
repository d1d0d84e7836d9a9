"""``onnxeq.diff`` on torch models: the layers of the program against those of the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxeq
from onnxeq.types import CauseKind, Role, Status, Verdict

pytestmark = pytest.mark.torch

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 6)

    def forward(self, image):
        x = torch.relu(self.norm(self.conv1(image)))
        x = torch.relu(self.conv2(x) + x)
        return self.head(x.mean((2, 3)))

def net():
    return Net()

def example_inputs(name):
    return torch.randn(2, 3, 12, 12)
"""


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("torch") / "factory.py"
    path.write_text(FACTORY)
    return f"{path}:net@seeded"


@pytest.fixture(scope="module")
def exported(factory: str) -> Path:
    path = Path(factory.partition(":")[0]).parent / "net.onnx"
    onnxeq.convert(factory, path)
    return path


def test_a_healthy_export_is_equivalent(factory: str) -> None:
    """Every layer is rounding, the folded normalisation too; layers bear the program's names."""
    report = onnxeq.diff(factory)
    assert report.verdict is Verdict.EQUIVALENT
    (rung,) = report.rungs
    assert (rung.source, rung.target, rung.status) == ("native/f32", "ort/cpu", Status.PASS)
    assert max(row.local.ratio for row in report.layers) < 3
    assert {"conv1", "conv2", "head"} & {row.native for row in report.layers}
    assert sum(row.paired_by is not None for row in report.layers) == len(report.layers)


@pytest.mark.parametrize("rung", ["native-rounding", "graph", "lowering"])
def test_the_rungs_of_a_framework_can_be_compared(factory: str, rung: str) -> None:
    """Each between its two executions."""
    report = onnxeq.diff(factory, rung=rung)
    assert (report.verdict, report.rungs[0].name) == (Verdict.EQUIVALENT, rung)


def test_a_scaled_channel_is_told_at_its_layer(factory: str, exported: Path, tmp_path: Path) -> None:
    """The artifact's second convolution is 1 % off in one channel: its layer is the one that creates error."""
    model = onnx.load(exported)
    name = next(t.name for t in model.graph.initializer if list(t.dims) == [16, 16, 3, 3])
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[3] *= np.float32(1.01)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "bad.onnx")
    assert onnxeq.diff(factory, exported).verdict is Verdict.EQUIVALENT
    report = onnxeq.diff(factory, tmp_path / "bad.onnx")
    assert report.verdict is Verdict.DIVERGENT
    reader = next(n for n in model.graph.node if name in n.input)
    guilty = [n for row in report.layers if row.role is Role.CREATES for n in (row.node, *row.region)]
    assert reader.name in guilty
    assert report.causes[0].where.native.startswith("conv2") or reader.name == report.causes[0].where.node


def test_a_wrong_weight_does_not_hide_a_fault_behind_it(factory: str, exported: Path, tmp_path: Path) -> None:
    """One channel is off, and the addition right behind it takes another operand: each is told once, the weight at its
    convolution and not a second time at the addition, whose own fault would then go untold.
    """
    model = onnx.load(exported)
    tensor = next(t for t in model.graph.initializer if list(t.dims) == [16, 16, 3, 3])
    array = numpy_helper.to_array(tensor).copy()
    array[3] *= np.float32(1.01)
    reader = next(n for n in model.graph.node if tensor.name in n.input)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    add = next(n for n in model.graph.node if n.op_type == "Add" and reader.output[0] in n.input)
    made = onnx.helper.make_node("Neg", [next(i for i in add.input if i != reader.output[0])], ["turned"], "turn")
    add.input[:] = [reader.output[0], "turned"]
    model.graph.node.insert(list(model.graph.node).index(add), made)
    onnx.save(model, tmp_path / "bad.onnx")
    report = onnxeq.diff(factory, tmp_path / "bad.onnx")
    assert report.verdict is Verdict.DIVERGENT
    weights = [c for c in report.causes if c.cause is CauseKind.WEIGHTS]
    assert [(c.where.node, c.where.initializer) for c in weights] == [(reader.name, tensor.name)]
    assert {c.where.node for c in report.causes} - {reader.name} <= {"turn", add.name}
    assert len(report.causes) == 2


def test_a_frameworks_values_can_be_kept(factory: str, tmp_path: Path) -> None:
    """``--rung native-rounding --save-trace`` keeps the program's own values, which are a side later on."""
    onnxeq.diff(factory, rung="native-rounding", save_trace=tmp_path / "t")
    report = onnxeq.diff(factory, load_trace=tmp_path / "t")
    assert report.verdict is Verdict.EQUIVALENT
    assert report.rungs[0].source == "saved native/f32"
    assert report.coverage.outputs_compared == 1
