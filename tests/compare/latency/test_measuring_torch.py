"""Latency of torch's own models beside onnxruntime's."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnxeq

pytestmark = pytest.mark.torch

MODELS = """
import torch

class Products(torch.nn.Module):
    def __init__(self, count):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(384, 384) for _ in range(count)))

    def forward(self, x):
        return self.layers(x)

def one():
    return Products(1)

def twenty():
    return Products(20)
"""


def test_twenty_times_the_work_shows_in_both_runtimes(tmp_path: Path) -> None:
    """Twenty layers against one: a ratio towards 20 in torch and in onnxruntime, each at both batch sizes."""
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    found = onnxeq.compare(
        f"{path}:one", f"{path}:twenty", parts=["latency"], shapes={"": (1, 64, 384)}, batches=(1, 2), seconds=2.0
    ).latency
    assert found is not None
    assert not found.not_run
    assert {(f.of.runtime, f.of.batch) for f in found.figures} == {
        ("native", 1), ("ort/cpu", 1), ("native", 2), ("ort/cpu", 2),
    }  # fmt: skip
    assert [r.left.runtime for r in found.pairs] == ["native", "ort/cpu"] * 2
    assert all(4 < 1 / r.ratio < 60 and r.discrepancy for r in found.pairs)
    assert [(r.left.model == r.right.model, r.left.runtime) for r in found.runtimes] == [(True, "native")] * 4


def test_two_live_models_are_timed_where_they_are() -> None:
    """Modules in memory are exported one after the other and run in this process, beside onnxruntime in its own."""
    import torch

    small = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).eval()
    large = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(4))).eval()
    found = onnxeq.compare(small, large, parts=["latency"], shapes={"": (1, 64)}, seconds=0.3).latency
    assert found is not None
    assert not found.not_run
    assert [f.of.runtime for f in found.figures] == ["native", "ort/cpu"] * 2
