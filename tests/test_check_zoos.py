"""Checks of what torch can load: timm, transformers, TorchScript, and files of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxeq
from onnxeq.cli.main import run
from onnxeq.types import Cause, CauseKind, Report, Status, Verdict

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()

def example_inputs(name):
    return {"input": torch.randn(2, 6)}
"""

SILERO = """
import os
from pathlib import Path
import torch

class Vad(torch.nn.Module):
    # The two networks inside, fed as the ONNX file is: context in front, the state an input and an output.
    def __init__(self):
        super().__init__()
        file = Path(os.environ["ONNXEQ_SILERO"]) / "silero_vad.jit"
        self.inner = torch.jit.load(str(file), map_location="cpu")

    def forward(self, input, state, sr):
        model = self.inner._model if int(sr) == 16000 else self.inner._model_8k
        return model(input, state)

def vad():
    return Vad()
"""


def _check(source: str, target: Path | None = None, **options: Any) -> Report:
    return onnxeq.check(source, target, providers=["cpu"], **options)


def _rung(report: Report, name: str) -> Any:
    return next(r for r in report.rungs if r.name == name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factory, its export, its state dict, and one in which a single weight is another."""
    import torch

    path = tmp_path_factory.mktemp("weights")
    (path / "net.py").write_text(NET)
    assert run(["convert", f"{path}/net.py:net", "-o", str(path / "net.onnx"), "-q"]) == 0
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    torch.save({"state_dict": model.state_dict()}, path / "net.ckpt")
    state = model.state_dict()
    state["2.weight"][1, 4] += 0.01
    torch.save(state, path / "other.pth")
    return path


def test_weights_alone_are_undecided_at_best(folder: Path) -> None:
    """Every tensor is found in the artifact; without a program the verdict is inconclusive, and says what to name."""
    report = _check(str(folder / "net.ckpt"), folder / "net.onnx")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert [r.name for r in report.rungs] == ["ledger"]
    assert _rung(report, "ledger").status is Status.PASS
    assert (report.coverage.weights_accounted, report.coverage.weights_total) == (4, 4)
    assert "FILE.py:FACTORY@net.ckpt" in report.notes[0]
    assert _check(str(folder / "net.ckpt"), folder / "net.onnx", weights_only=True).verdict is Verdict.EQUIVALENT


def test_another_weight_is_divergent(folder: Path) -> None:
    """One element that is 0.01 off is a weights cause at its tensor, also where nothing can run."""
    report = _check(str(folder / "other.pth"), folder / "net.onnx")
    assert report.verdict is Verdict.DIVERGENT
    cause: Cause = report.causes[0]
    assert cause.cause is CauseKind.WEIGHTS
    assert cause.where.native == "2.weight"


def test_weights_without_a_target_say_what_to_name(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing to compare with and nothing to run: status 3 and the factory as the hint."""
    assert run(["check", str(folder / "net.ckpt"), "-q"]) == 3
    assert "FILE.py:FACTORY@net.ckpt" in capfd.readouterr().err


def test_a_script_is_equivalent_to_its_export(folder: Path) -> None:
    """TorchScript is held against both forms of the older exporter, and the semantic rung is sharp."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU()).eval()
    path = folder / "scripted.pt"
    torch.jit.script(model).save(str(path))
    report = _check(str(path), shapes={"": (2, 6)})
    assert report.verdict is Verdict.EQUIVALENT
    assert _rung(report, "graph").target == "referee/f64 unfolded"
    assert _rung(report, "graph").max_abs < 1e-12


@pytest.mark.parametrize(("rate", "samples"), [(16000, 576), (8000, 288)])
def test_silero_vad(
    real_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, samples: int
) -> None:
    """A trained TorchScript network, fed as its ONNX file is, is equivalent to it on either branch of its ``If``."""
    monkeypatch.setenv("ONNXEQ_SILERO", str(real_models / "silero_vad"))
    (tmp_path / "silero.py").write_text(SILERO)
    rng = np.random.default_rng(0)
    t = np.arange(samples) / rate
    sound = [0.3 * np.sin(2 * np.pi * f * t) + 0.05 * rng.normal(size=samples) for f in (180, 330, 720)]
    feed = {
        "input": np.stack(sound).astype(np.float32),
        "state": (0.3 * rng.normal(size=(2, 3, 128))).astype(np.float32),
        "sr": np.array(rate, np.int64),
    }
    report = _check(f"{tmp_path}/silero.py:vad", real_models / "silero_vad" / "silero_vad.onnx", inputs=[feed])
    assert report.verdict is Verdict.EQUIVALENT
    assert _rung(report, "graph").max_abs < 1e-12
    assert report.coverage.outputs_compared == 2


def test_timm_is_equivalent_to_its_export() -> None:
    """The smallest residual network of timm, seeded."""
    pytest.importorskip("timm")
    report = _check("timm:test_resnet@seeded")
    assert report.verdict is Verdict.EQUIVALENT
    assert report.source["timm"]
    assert _rung(report, "graph").max_abs < 1e-11


def test_a_folder_of_transformers_is_equivalent_to_its_export(tmp_path: Path) -> None:
    """A tiny BERT in a folder: at the usual size, and with other lengths, which its export leaves free."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(**small, vocab_size=100, max_position_embeddings=64)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    report = _check(f"hf:{tmp_path}@seeded")
    assert report.verdict is Verdict.EQUIVALENT
    assert "ort/cpu other sizes" in {r.target for r in report.rungs}
    assert report.notes == ()


@pytest.mark.slow
def test_a_model_type_says_what_it_was_reduced_to() -> None:
    """``hf:distilbert@seeded`` is the default configuration with two layers in place of six, and a note says so."""
    pytest.importorskip("transformers")
    report = _check("hf:distilbert@seeded")
    assert report.verdict is Verdict.EQUIVALENT
    assert any("n_layers 6 to 2" in note for note in report.notes)
