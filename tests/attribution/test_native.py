"""Faults of the framework's own kernels."""

from __future__ import annotations

import pytest

import onnxeq
from onnxeq.types import CauseKind

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip
from torch.nn import functional  # noqa: E402  # after the skip


class _Rough(nn.Module):
    """Stands in for a kernel that rounds badly: in float32 alone, and only when it really runs, it takes bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting() or x.dtype is torch.float64:
            return self.inner(x)
        weight, bias = self.inner.weight.bfloat16(), self.inner.bias.bfloat16()
        return functional.linear(x.bfloat16(), weight, bias).float()


def test_the_layer_and_its_operator_are_named() -> None:
    """The graph is right and the runtime too: the cause is a native kernel, at its module."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), _Rough(), nn.ReLU(), nn.Linear(64, 8))
    report = onnxeq.check(model, shapes={"input": (1, 64)}, batches=(1,))
    (cause,) = report.causes
    assert cause.cause is CauseKind.RUNTIME
    assert cause.rung == "native-rounding"
    assert (cause.where.native, cause.where.op_type) == ("2", "aten.addmm.default")
