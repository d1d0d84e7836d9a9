"""Files of torch: what they are is told by their bytes; programs run, weights alone are compared."""

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest

from onnxeq.errors import BadInputs, CannotRun, ExportFailed, UnusableModel, UsageError
from onnxeq.protocols import LoadRequest
from onnxeq.types import ExportForm, ModelRef, Precision, TensorSpec

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

from onnxeq_converters import from_torch  # noqa: E402  # after the skip
from onnxeq_converters.from_torch import scripted  # noqa: E402
from onnxeq_converters.from_torch.kinds import FileKind, kind_of  # noqa: E402
from onnxeq_converters.from_torch.weights import load_file  # noqa: E402

_X = (TensorSpec("x", "float32", (2, 3)),)
_FEED = {"x": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)}


def _quiet(step: str) -> None:
    del step


def _load(path: Path, inputs: tuple[TensorSpec, ...] | None = _X, **options):
    return from_torch.load(LoadRequest(ModelRef(path.name, "file", str(path)), inputs, **options), _quiet)


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        y = torch.relu(self.norm(self.hidden(x)))
        if bool(y.sum() > 0):
            y = y * 0.1
        return y, y + 1


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen = self.seen + 1
        return x * self.seen


class _Scaled(nn.Module):
    def forward(self, x, times: int):
        return x * times


def _scripted(kind: type[nn.Module], path: Path, *args: int) -> nn.Module:
    torch.manual_seed(0)
    model = kind(*args)
    torch.jit.script(model.eval()).save(str(path))
    return model


def test_kinds(tmp_path: Path) -> None:
    """TorchScript, a program, both pickles and safetensors are told apart under one suffix; the rest is refused."""
    safetensors = pytest.importorskip("safetensors.torch")
    linear = nn.Linear(3, 2).eval()
    made = {kind: tmp_path / f"{n}.pt" for n, kind in enumerate(FileKind)}
    torch.jit.script(linear).save(str(made[FileKind.TORCHSCRIPT]))
    torch.export.save(torch.export.export(linear, (torch.randn(2, 3),)), tmp_path / "program.pt2")
    (tmp_path / "program.pt2").rename(made[FileKind.PROGRAM])
    torch.save(linear.state_dict(), made[FileKind.PICKLE])
    safetensors.save_file(linear.state_dict(), made[FileKind.SAFETENSORS])
    for kind, path in made.items():
        assert kind_of(path) is kind
    torch.save(linear.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert kind_of(tmp_path / "old.pt") is FileKind.PICKLE
    (tmp_path / "text.pt").write_text("weights")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("notes.txt", "none")
    for name in ("text.pt", "other.pt"):
        with pytest.raises(UnusableModel):
            kind_of(tmp_path / name)


def test_scripted_runs_in_both_precisions(tmp_path: Path) -> None:
    """float32 is the script's own result to the bit; float64 multiplies by float32's 0.1, as ONNX stores it."""
    path = tmp_path / "net.pt"
    model = _scripted(_Branching, path)
    native = _load(path)
    with torch.no_grad():
        want = model(torch.from_numpy(_FEED["x"]))[0]
        double = copy.deepcopy(model).double()
        y = torch.relu(double.norm(double.hidden(torch.from_numpy(_FEED["x"]).double())))
    assert np.array_equal(native.run(_FEED, Precision.F32)["output_0"], want.numpy())
    got = native.run(_FEED, Precision.F64)["output_0"]
    assert y.sum() > 0
    # BatchNorm's epsilon is rounded to float32, too: a few 1e-13 here, against 1.5e-9 for 0.1.
    assert np.abs(got / float(np.float32(0.1)) - y.numpy()).max() < 1e-11
    assert np.abs(got / 0.1 - y.numpy()).max() > 1e-9


def test_scripted_exports_unfolded(tmp_path: Path) -> None:
    """The older exporter writes it, with both branches and, unfolded, its BatchNormalization."""
    import onnx

    path = tmp_path / "net.pt"
    _scripted(_Branching, path)
    native = _load(path)
    (unfolded,) = native.export(tmp_path, (ExportForm.UNFOLDED,), None)
    assert {"If", "BatchNormalization"} <= {node.op_type for node in onnx.load(unfolded.path).graph.node}
    assert native.provenance["exporter"] == "torch.onnx.export(dynamo=False)"
    assert native.provenance["form"] == "TorchScript"


def test_scripted_says_what_it_takes(tmp_path: Path) -> None:
    """Without a shape the parameters are named with their types; a number is fed as a scalar of int64."""
    path = tmp_path / "net.jit"
    _scripted(_Scaled, path)
    with pytest.raises(UsageError, match=r"x \(Tensor\), times \(int\)") as caught:
        _load(path, None)
    assert "--shape x=" in caught.value.hint
    native = _load(path, (*_X, TensorSpec("times", "float32", (1,))))
    assert native.signature.inputs[1].text() == "int64[]"
    got = native.run({**_FEED, "times": np.array(3)}, Precision.F32)["output"]
    assert np.array_equal(got, _FEED["x"] * 3)


def test_state_between_calls_is_told(tmp_path: Path) -> None:
    """Every run begins as loaded, so that repeats agree; a note says so; nothing is exported that would forget it."""
    path = tmp_path / "net.pt"
    _scripted(_Counting, path)
    native = _load(path)
    assert "every run begins as the file was loaded" in native.provenance["note"]
    for precision in (Precision.F32, Precision.F32, Precision.F64):
        assert np.array_equal(native.run(_FEED, precision)["output"], _FEED["x"])
    with pytest.raises(ExportFailed, match="keeps nothing from one run to the next") as caught:
        native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    assert "FILE.py:FACTORY" in caught.value.hint


def test_wrong_inputs_of_a_script(tmp_path: Path) -> None:
    """What the interpreter raises is one line about the inputs."""
    path = tmp_path / "net.pt"
    _scripted(nn.Linear, path, 3, 2)
    native = _load(path, (TensorSpec("input", "float32", (2, 4)),))
    with pytest.raises(BadInputs, match="the model itself raises on these inputs") as caught:
        native.run({"input": np.zeros((2, 4), np.float32)}, Precision.F32)
    assert "\n" not in caught.value.line()


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    """Refused with --trust as the hint; trusted, it runs as it is."""
    path = tmp_path / "net.pth"
    linear = nn.Linear(3, 2).eval()
    torch.save(linear, path)
    with pytest.raises(UnusableModel) as caught:
        _load(path)
    assert "--trust" in caught.value.hint
    got = _load(path, trust=True).run({"input": _FEED["x"]}, Precision.F32)["output"]
    with torch.no_grad():
        assert np.array_equal(got, linear(torch.from_numpy(_FEED["x"])).numpy())


def test_weights_alone(tmp_path: Path) -> None:
    """A state dict has weights, bfloat16 among them, and no program: whatever would run it names the factory."""
    safetensors = pytest.importorskip("safetensors.torch")
    state = {"a.weight": torch.randn(3, 2).bfloat16(), "a.bias": torch.randn(3)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "net.th")
    safetensors.save_file(state, tmp_path / "net.safetensors")
    for name in ("net.th", "net.safetensors"):
        native = _load(tmp_path / name, None)
        held = native.weights()
        assert {k: str(v.dtype) for k, v in held.items()} == {"a.weight": "bfloat16", "a.bias": "float32"}
        assert np.array_equal(held["a.weight"].astype(np.float32), state["a.weight"].float().numpy())
        assert native.provenance["program"] == "none"
        for refused in (
            lambda n=native: n.run({}, Precision.F32),
            lambda n=native: n.export(tmp_path, (ExportForm.DEPLOYED,), None),
            lambda n=native: n.layers({}, Precision.F64),
            lambda n=native: n.kernels({}),
        ):
            with pytest.raises(CannotRun) as caught:
                refused()
            assert f"FILE.py:FACTORY@{name}" in caught.value.hint


def test_weights_of_a_script_for_a_module(tmp_path: Path) -> None:
    """The state dict of TorchScript is the module's own."""
    model = _scripted(_Branching, tmp_path / "net.pt")
    state = load_file(tmp_path / "net.pt", trust=False)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_a_module_that_holds_a_script(tmp_path: Path) -> None:
    """A live module around TorchScript is copied, lifted, and exported by the exporter that takes it."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.jit.script(_Branching().eval())

        def forward(self, x):
            return self.inner(x)[0]

    native = from_torch.wrap(Around(), LoadRequest(ModelRef("m", "live", "m"), _X), _quiet)
    low, high = (native.run(_FEED, p)["output"] for p in (Precision.F32, Precision.F64))
    assert high.dtype == np.float64
    assert np.abs(low - high).max() < 1e-6
    (export,) = native.export(tmp_path, (ExportForm.DEPLOYED,), None)
    assert export.dynamic_batch


class _Writes(nn.Module):
    def __init__(self, mark: str):
        super().__init__()
        self.mark = mark

    def forward(self, x):
        torch.save(x, self.mark)
        return x + 1


def test_a_script_that_writes_a_file_needs_trust(tmp_path: Path) -> None:
    """``torch.save`` is an operator of TorchScript: it is told from the text, and nothing is written."""
    mark = tmp_path / "mark"

    path = tmp_path / "net.pt"
    torch.jit.script(_Writes(str(mark))).save(str(path))
    with pytest.raises(UnusableModel, match=r"calls torch.save in .*, which reaches files") as caught:
        scripted.read(path, trust=False)
    assert caught.value.hint == "if you trust the file: --trust"
    assert not mark.exists()
    scripted.read(path, trust=True)(torch.ones(2))
    assert mark.exists()
