"""Seeded weights are deterministic and healthy at every depth."""

import os
import subprocess
import sys

import pytest

from onnxeq.types import TensorSpec

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

_IMAGE = (TensorSpec("x", "float32", ("N", 3, 64, 64)),)


def _seed(model, specs=_IMAGE, seed=0):
    from onnxeq_converters.from_torch.inputs import resolve, with_ranges
    from onnxeq_converters.from_torch.seeding import seed_weights

    model = model.eval()
    calling = with_ranges(model, resolve(model, specs))
    return seed_weights(model, calling, seed)


def _spread(tensor):
    return float(tensor.double().var(dim=0, correction=1).mean().sqrt())


class _Plain(nn.Module):
    """Twelve convolutions and ReLUs without normalisation: plain initialisation forgets the input."""

    def __init__(self):
        super().__init__()
        layers = [layer for i in range(12) for layer in (nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.ReLU())]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class _Tokens(nn.Module):
    """A pre-norm transformer with a zero class token, a zero head and a layer scale of 1e-6."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.position = nn.Parameter(torch.zeros(1, 17, 32))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True) for _ in range(3)
        )
        self.scale = nn.Parameter(torch.full((32,), 1e-6))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(len(y), -1, -1), y], 1) + self.position
        for layer in self.layers:
            y = y + self.scale * layer(y)
        return self.head(self.norm(y)[:, 0])


class _Gated(nn.Module):
    """Residual squeeze-and-excitation blocks: gates that double make a product that grows with depth."""

    def __init__(self, depth=24):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "body": nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
                    "gate": nn.Conv2d(16, 16, 1),
                    "end": nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16)),
                }
            )
            for _ in range(depth)
        )

    def forward(self, x):
        y = self.stem(x)
        for block in self.blocks:
            z = block["body"](y)
            y = y + block["end"](z * torch.sigmoid(block["gate"](z.mean((2, 3), keepdim=True))))
        return y


class _Words(nn.Module):
    """An embedding, a GRU and a head tied to nothing."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 16, padding_idx=0)
        self.gru = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, ids):
        return self.head(self.gru(self.table(ids))[0][:, -1])


@pytest.mark.parametrize("make", [_Plain, _Tokens])
def test_outputs_differ_between_unseen_inputs_by_about_one(make):
    """The spread over inputs that calibration has not seen is between 0.2 and 5."""
    model = make()
    assert _seed(model) == ()
    generator = torch.Generator().manual_seed(99)
    with torch.no_grad():
        assert 0.2 < _spread(model(torch.randn(8, 3, 64, 64, generator=generator))) < 5


def test_every_parameter_matters():
    """Zero tokens, positions and heads and a layer scale of 1e-6 are gone."""
    model = _Tokens()
    _seed(model)
    for name, parameter in model.named_parameters():
        assert float(parameter.detach().abs().mean()) > 0.01, name


def test_gates_do_not_explode_on_unusual_inputs():
    """A constant picture at the end of the range gives at most five times what noise gives.

    With gates that start half open, 24 blocks make it 32 times for the worst of these seeds.
    """
    for seed in range(4):
        model = _Gated()
        _seed(model, seed=seed)
        noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            usual = model(noise).square().mean().sqrt()
            unusual = model(torch.full((1, 3, 64, 64), 3.0)).square().mean().sqrt()
        assert unusual < 5 * usual, seed


def test_recurrent_model_with_integer_inputs():
    """Token ids are drawn inside the embedding table, the padding row is zero, and outputs differ."""
    model = _Words()
    assert _seed(model, (TensorSpec("ids", "int64", ("N", 7)),)) == ()
    assert not model.table.weight[0].any()
    with torch.no_grad():
        assert 0.1 < _spread(model(torch.randint(1, 50, (16, 7)))) < 10


def test_weight_normalised_layer_is_scaled_through_its_magnitude():
    """A weight-normalised convolution has outputs of about unit size."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU())
    _seed(model, (TensorSpec("input", "float32", ("N", 3, 16, 16)),))
    with torch.no_grad():
        size = float(model[0](torch.randn(4, 3, 16, 16)).std())
    assert 0.3 < size < 3


def test_softmax_output_is_not_driven_to_one_hot():
    """A layer whose output does not follow its scale (a softmax follows) keeps unit-sized logits."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.Softmax(-1))
    _seed(model, (TensorSpec("input", "float32", ("N", 3, 4, 4)),))
    with torch.no_grad():
        assert float(model(torch.randn(8, 3, 4, 4)).max()) < 0.95


_PROGRAM = """
import torch, sys
torch.set_num_threads(int(sys.argv[1])); torch.manual_seed(int(sys.argv[2]))
from torch import nn
from onnxeq.types import TensorSpec
from onnxeq_converters.from_torch import inputs, seeding, weights
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30 * 30, 10)).eval()
calling = inputs.resolve(model, (TensorSpec("input", "float32", ("N", 3, 32, 32)),))
seeding.seed_weights(model, calling, 7)
print(weights.fingerprint(weights.named(model)))
"""


def test_same_seed_same_bits_in_any_process():
    """Two processes with other thread counts and another state of the generator give the same SHA-256."""
    prints = set()
    for threads, state in (("1", "0"), ("2", "5")):
        command = [sys.executable, "-c", _PROGRAM, threads, state]
        prints.add(subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout)
    assert len(prints) == 1


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "mobilenet_v3_small"])
def test_zoo_models_are_alive(name):
    """Logits of a seeded zoo model differ between pictures by order one (plain init: 3e-9)."""
    from onnxeq.protocols import LoadRequest
    from onnxeq.types import ModelRef, Precision
    from onnxeq_converters import from_torch

    native = from_torch.load(LoadRequest(ModelRef(name, "torchvision", name, "seeded")), lambda step: None)
    pictures = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(3)).clamp(-2, 2)
    out = native.run({"x": pictures.numpy()}, Precision.F32)["output"]
    assert 0.1 < _spread(torch.from_numpy(out)) < 10
