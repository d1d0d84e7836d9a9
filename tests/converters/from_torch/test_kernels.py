"""Each operator of the float32 run against its float64 form."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip
from torch.nn import functional  # noqa: E402  # after the skip

from onnxeq_converters.from_torch import kernels  # noqa: E402  # after the skip


class _Rough(nn.Linear):
    """Computes in bfloat16 whatever it is given."""

    def forward(self, x):
        weight, bias = self.weight.bfloat16(), self.bias.bfloat16()
        return functional.linear(x.bfloat16(), weight, bias).float()


def test_healthy_kernels_stay_near_one_unit():
    """Convolution, normalisation, attention, recurrence, reduction: none is more than two units of rounding away."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(8, 64, 9), nn.BatchNorm1d(64), nn.GELU(), nn.Flatten(0, 1), nn.LayerNorm(56), nn.Softmax(-1),
        nn.Linear(56, 512), nn.Linear(512, 3),
    ).eval()  # fmt: skip
    found = kernels.errors(model, (torch.randn(2, 8, 64),), {})
    assert {"aten.convolution.default", "aten.native_layer_norm.default", "aten._softmax.default"} <= {
        kernel.op for kernel in found
    }
    assert max(kernel.ratio for kernel in found) < 2.0


def test_a_layer_in_bfloat16_is_named():
    """Rounding to 8 bits is 2^16 float32 units: the layer's operators stand out by a factor of a thousand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), _Rough(64, 64), nn.ReLU(), nn.Linear(64, 8)).eval()
    bad = [kernel for kernel in kernels.errors(model, (torch.randn(4, 64),), {}) if kernel.ratio > 6.0]
    assert {kernel.native for kernel in bad} == {"2"}
    assert "aten.addmm.default" in {kernel.op for kernel in bad}
    assert min(kernel.ratio for kernel in bad) > 1000.0
    assert not any(module._forward_hooks for module in model.modules())
