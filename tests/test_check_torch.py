"""``onnxeq check`` on torch models: live modules, factories, zoo models, and artifacts with known faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxeq
from onnxeq.cli.main import run
from onnxeq.types import CauseKind, Report, Status, Verdict

pytestmark = pytest.mark.torch

FACTORIES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 6)
        self.small = nn.Linear(16, 4)

    def forward(self, image):
        x = torch.relu(self.norm(self.conv1(image)))
        x = torch.nn.functional.gelu(self.conv2(x) * 0.1 + 1 / 3).mean((2, 3))
        return {"logits": self.head(x), "tiny": self.small(x) * 1e-6}

def net():
    return Net()

def example_inputs(name):
    return torch.randn(2, 3, 12, 12)

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(37, 8)
        self.lstm = nn.LSTM(8, 12, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, ids):
        y, _ = self.lstm(self.table(ids))
        logits = self.head(y[:, -1])
        return logits, logits.argmax(-1)

def words():
    return Words()

class Dropped(nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.5, training=True)

def dropped():
    return Dropped()

class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x, pad):
        return self.encoder(x, src_key_padding_mask=pad)

def padded():
    return Padded().eval()

class Small(nn.Module):
    def forward(self, x):
        return torch.log1p(x * 1e-6) * 1e6

def small():
    return Small()

# In float16 an activation, a Linear, attention and a convolution; in bfloat16 a normalisation.
class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.linear = nn.Linear(16, 16), nn.Linear(16, 16).half()
        self.conv = nn.Conv1d(5, 5, 3, padding=1).half()
        self.norm, self.last = nn.LayerNorm(16).bfloat16(), nn.Linear(16, 4)

    def forward(self, x):
        h = self.linear(nn.functional.hardswish(self.first(x).half()))
        h = torch.softmax(h @ h.transpose(1, 2) * 0.3, -1) @ h
        h = torch.relu(self.conv(h)) + x.type_as(h) * 0.1
        return self.last(self.norm(h.bfloat16()).float())

def halves():
    return Halves()

# As a whole in half precision, so that the exporter folds its normalisation there as well.
def narrow():
    layers = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3)
    return nn.Sequential(*layers).half()

class Cast(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = torch.relu(self.hidden(x))
        return self.last(y.float())

def cast():
    return Cast()

def needs():
    raise RuntimeError("no data here")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch")
    (path / "factories.py").write_text(FACTORIES)
    return path


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Path:
    """The exporter's own graph of the seeded factory, not normalised."""
    path = folder / "net.onnx"
    assert run(["convert", f"{folder}/factories.py:net@seeded", "-o", str(path), "--raw", "-q"]) == 0
    return path


def rung(report: Report, name: str) -> Any:
    return next(r for r in report.rungs if r.name == name)


def test_a_seeded_factory_is_equivalent_and_the_semantic_rung_is_sharp(folder: Path) -> None:
    """Native float64 and the unfolded export agree to float64 rounding; folding stays within its floor."""
    report = onnxeq.check(f"{folder}/factories.py:net@seeded")
    assert report.verdict is Verdict.EQUIVALENT
    assert rung(report, "graph").reason == "agrees to float64 rounding"
    assert rung(report, "graph").max_abs < 1e-13
    assert rung(report, "weights").status is Status.PASS
    assert {o.name for o in report.outputs} == {"logits", "tiny"}
    assert report.coverage.outputs_compared == 2
    assert report.coverage.inputs_tried >= 4


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_blocks_in_half_precision_are_equivalent_and_sharp(exporter: str, folder: Path) -> None:
    """Native float64 and the referee round at the same casts and nowhere else: they agree to float64 rounding."""
    shape = {"": (2, 5, 16)}
    report = onnxeq.check(f"{folder}/factories.py:halves@seeded", shapes=shape, exporter=exporter, providers=["cpu"])
    assert report.verdict is Verdict.EQUIVALENT
    assert rung(report, "graph").reason == "agrees to float64 rounding"
    assert rung(report, "graph").max_abs < 1e-13


def test_a_normalisation_folded_in_half_precision_is_equivalent(folder: Path) -> None:
    """What the exporter computes in float16 is rounded to float16: floor and ledger go by the source's own type."""
    given = {"input": np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float16)}
    report = onnxeq.check(f"{folder}/factories.py:narrow@seeded", inputs=[given], providers=["cpu"])
    assert report.verdict is Verdict.EQUIVALENT
    assert (report.coverage.weights_accounted, report.coverage.weights_total) == (8, 8)


def test_a_half_precision_source_is_fed_in_its_own_type(folder: Path) -> None:
    """A shape alone, or the file that was exported from it, says no more: float16 is what the module takes."""
    source, good = f"{folder}/factories.py:narrow@seeded", folder / "narrow.onnx"
    assert run(["convert", source, "-o", str(good), "--shape", "2x3x12x12", "--raw", "-q"]) == 0
    assert onnxeq.check(source, good, providers=["cpu"]).verdict is Verdict.EQUIVALENT

    def scaled(model: onnx.ModelProto) -> None:
        weight = next(t for t in model.graph.initializer if list(t.dims) == [16, 3, 3, 3])
        value = numpy_helper.to_array(weight).copy()
        value[5] *= np.float16(1.02)
        weight.CopyFrom(numpy_helper.from_array(value, weight.name))

    report = onnxeq.check(source, edit(good, folder / "narrow-bad.onnx", scaled), providers=["cpu"])
    assert (report.verdict, report.causes[0].cause) == (Verdict.DIVERGENT, CauseKind.WEIGHTS)


def test_autocast_is_in_the_float64_run_too(folder: Path) -> None:
    """A Linear under autocast rounds its operands on both sides, although float64 tensors are not cast for.

    onnxruntime has no bfloat16 kernel for it on the CPU, so that the verdict stays open.
    """
    shape = {"": (3, 16)}
    report = onnxeq.check(f"{folder}/factories.py:cast@seeded", shapes=shape, providers=["cpu"])
    assert rung(report, "graph").reason == "agrees to float64 rounding"
    assert not report.causes


def _in_bfloat16(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "HardSwish":
            index = list(model.graph.node).index(node)
            narrow = onnx.helper.make_node("Cast", [node.input[0]], ["narrow"], to=onnx.TensorProto.BFLOAT16)
            back = onnx.helper.make_node("Cast", ["narrow"], ["back"], to=onnx.TensorProto.FLOAT16)
            node.input[0] = "back"
            model.graph.node.insert(index, back)
            model.graph.node.insert(index, narrow)
            return


def _a_wrong_weight(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16 and list(tensor.dims) == [16, 16]:
            value = numpy_helper.to_array(tensor).copy()
            value[3, 4] += 0.05
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


@pytest.mark.parametrize(("change", "kind"), [(_in_bfloat16, CauseKind.GRAPH), (_a_wrong_weight, CauseKind.WEIGHTS)])
def test_faults_in_a_half_precision_block_are_found(
    change: Callable[[onnx.ModelProto], None], kind: CauseKind, folder: Path
) -> None:
    """bfloat16 in the place of float16, and one wrong element of a float16 weight, break the ladder."""
    source, shape = f"{folder}/factories.py:halves@seeded", {"": (2, 5, 16)}
    good = folder / "halves.onnx"
    if not good.exists():
        assert run(["convert", source, "-o", str(good), "--shape", "2x5x16", "--raw", "-q"]) == 0
    bad = edit(good, folder / f"halves-{kind.value}.onnx", change)
    report = onnxeq.check(source, bad, shapes=shape, providers=["cpu"])
    assert report.verdict is Verdict.DIVERGENT
    assert kind in {cause.cause for cause in report.causes}


def test_integer_inputs_index_their_table(folder: Path) -> None:
    """Ids are drawn within the embedding, the recurrent layer is refereed, argmax is compared exactly."""
    report = onnxeq.check(f"{folder}/factories.py:words@seeded", shapes={"ids": (2, 7)}, inputs=[{"ids": IDS}])
    assert report.verdict is Verdict.EQUIVALENT
    assert {o.dtype for o in report.outputs} == {"float32", "int64"}


IDS = np.array([[0, 36, 5, 17, 2, 9, 11], [3, 3, 1, 30, 8, 21, 6], [4, 7, 7, 2, 36, 0, 1]], np.int64)


def test_a_live_module_is_checked_and_left_as_it_was() -> None:
    """``onnxeq.check(module)`` works in the caller's process and changes nothing of the module."""
    import torch

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = onnxeq.check(model, shapes={"": (1, 3, 8, 8)})
    assert report.verdict is Verdict.EQUIVALENT
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def edit(path: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> str:
    model = onnx.load(path)
    change(model)
    onnx.save(model, target)
    return str(target)


def weight(model: onnx.ModelProto, rank: int, change: Callable[[np.ndarray], None]) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == rank)
    value = numpy_helper.to_array(tensor).copy()
    change(value)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def scale_channel(model: onnx.ModelProto) -> None:
    def change(value: np.ndarray) -> None:
        value[0] *= np.float32(1.002)

    weight(model, 4, change)


def move_pad(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    pads = next(a for a in node.attribute if a.name == "pads")
    pads.ints[:] = [0, 1, 2, 1]


def flip_tiny(model: onnx.ModelProto) -> None:
    producer = next(n for n in model.graph.node if n.output[0] == "tiny")
    producer.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Neg", ["before"], ["tiny"]))


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def widen_output(model: onnx.ModelProto) -> None:
    producer = next(n for n in model.graph.node if n.output[0] == "tiny")
    producer.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Cast", ["before"], ["tiny"], to=onnx.TensorProto.DOUBLE))
    output = next(o for o in model.graph.output if o.name == "tiny")
    output.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        (scale_channel, "ledger"),
        (move_pad, "graph"),
        (flip_tiny, "graph"),
        (drop_output, "interface"),
        (widen_output, "interface"),
    ],
)
def test_each_fault_that_peers_pass_is_divergent(
    folder: Path, artifact: Path, tmp_path: Path, fault: Callable[[onnx.ModelProto], None], where: str
) -> None:
    """The undamaged artifact is equivalent, each damaged one breaks its rung."""
    source = f"{folder}/factories.py:net@seeded"
    assert onnxeq.check(source, artifact).verdict is Verdict.EQUIVALENT
    report = onnxeq.check(source, edit(artifact, tmp_path / "bad.onnx", fault))
    assert report.verdict is Verdict.DIVERGENT
    assert where in {c.rung for c in report.causes}


def test_dropout_left_on_is_nondeterminism(folder: Path) -> None:
    """A model that answers differently when asked again is named so."""
    report = onnxeq.check(f"{folder}/factories.py:dropped", shapes={"x": (4, 64)})
    assert report.verdict is Verdict.DIVERGENT
    assert report.causes[0].cause is CauseKind.NONDETERMINISM


def test_a_native_fast_path_is_named(folder: Path, tmp_path: Path) -> None:
    """Torch's fast path fills the rows of padded tokens with zeros, the module's own code and the export do not: the
    graph is right, and the native kernels are said to differ, with the fast path as the reason.
    """
    pad = np.zeros((2, 10), bool)
    pad[:, 7:] = True
    x = np.random.default_rng(0).standard_normal((2, 10, 32)).astype(np.float32)
    np.savez(tmp_path / "padded.npz", x=x, pad=pad)
    report = onnxeq.check(f"{folder}/factories.py:padded", inputs=[tmp_path / "padded.npz"])
    (cause,) = report.causes
    assert (cause.cause, cause.rung) == (CauseKind.RUNTIME, "native-rounding")
    assert "fast path for transformer encoders" in cause.evidence
    assert "without it the native float32 run agrees" in cause.evidence
    assert rung(report, "graph").status is Status.PASS
    pad[:] = False
    np.savez(tmp_path / "padded.npz", x=x, pad=pad)
    same = onnxeq.check(f"{folder}/factories.py:padded", inputs=[tmp_path / "padded.npz"])
    assert same.verdict is Verdict.EQUIVALENT


def test_what_a_kernel_loses_by_itself_is_said_and_no_fault() -> None:
    """Groups of 100,352 elements whose mean is 100 deviations: onnxruntime runs GroupNormalization by its definition,
    with a variance that is a difference of squares, a hundred times less accurate than torch. Neither is wrong.
    """
    import torch
    from torch import nn

    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(x)).mean((2, 3))

    x = (100 + np.random.default_rng(0).standard_normal((1, 4, 224, 224))).astype(np.float32)
    report = onnxeq.check(Grouped().eval(), inputs=[{"x": x}], batches=(1,), opset=23, providers=["cpu"])
    assert report.verdict is Verdict.EQUIVALENT
    assert rung(report, "kernels").ratio < 2
    found = rung(report, "lowering")
    assert found.max_abs > 1e-4
    assert found.ratio < found.limit or "few accumulators" in found.reason


def test_an_inferior_lowering_is_a_graph_finding(folder: Path) -> None:
    """The exporter writes log1p as Add and Log: right in float64, and in float32 the digits of a millionth are
    gone (1 + 1e-6 keeps 2^-24, a relative 6e-2 of it), where the native kernel keeps all. No other rung breaks.
    """
    report = onnxeq.check(f"{folder}/factories.py:small", shapes={"x": (4, 64)})
    assert [(c.cause, c.rung) for c in report.causes] == [(CauseKind.GRAPH, "lowering")]
    assert 1e-3 < rung(report, "lowering").max_abs < 0.1
    assert rung(report, "graph").status is rung(report, "kernels").status is Status.PASS
    (cause,) = report.causes
    assert (cause.where.op_type, cause.where.native) == ("Add", "log1p")
    assert "inferior lowering of log1p" in cause.evidence
    assert "which Log reads" in cause.evidence


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["torchvision:resnet5"], "resnet50"),
        (["torchvision:resnet18"], "@seeded"),
        (["{folder}/factories.py:nte"], "net"),
        (["{folder}/factories.py:needs"], "no data here"),
        (["{folder}/factories.py:words"], "--inputs"),
        (["{folder}/factories.py:net", "--shape", "other=1x3x8x8", "--shape", "more=1x1"], "image"),
    ],
)
def test_what_the_user_can_mend_is_one_line_with_status_2(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    """Unknown names list the nearest, pretrained weights without a network are no fall-back."""
    status = run(["check", *(a.format(folder=folder) for a in arguments), "-q"])
    shown = capfd.readouterr()
    assert status == 2, shown.err
    assert says in shown.err
    assert len(shown.err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_zoo_models_are_equivalent_with_spread_of_order_one(name: str) -> None:
    """Every rung passes, and the outputs vary over the inputs by order one, so that this proves something."""
    report = onnxeq.check(f"torchvision:{name}@seeded")
    assert report.verdict is Verdict.EQUIVALENT
    assert rung(report, "graph").max_abs < 1e-11
