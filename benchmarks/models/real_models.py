"""Published architectures whose trained weights come as a bare state dict, from ``ONNXEQ_REAL_MODELS``."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(os.environ.get("ONNXEQ_REAL_MODELS", Path(__file__).resolve().parents[3] / "shared" / "models"))


def example_inputs(name: str) -> Tensor:
    """Two CIFAR-10 sized images for the factory ``name``, which there is one of."""
    del name
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class _Residual(nn.Module):
    """Two convolutions; the shortcut drops every other pixel and pads the new channels with zeros."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.extra = stride, (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1 or self.extra:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return functional.relu(y + x)


class _ResNet20(nn.Module):
    """The CIFAR-10 network of "Deep residual learning" (He et al., arXiv 1512.03385, section 4.2), n = 3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_Residual(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(_Residual(16, 32, 2), *(_Residual(32, 32, 1) for _ in range(2)))
        self.layer3 = nn.Sequential(_Residual(32, 64, 2), *(_Residual(64, 64, 1) for _ in range(2)))
        self.linear = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(image)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def resnet20() -> nn.Module:
    """ResNet-20 with its trained CIFAR-10 weights."""
    stored = torch.load(FOLDER / "resnet20_cifar10" / "resnet20-12fca82f.th", map_location="cpu", weights_only=True)
    model = _ResNet20()
    model.load_state_dict({name.removeprefix("module."): value for name, value in stored["state_dict"].items()})
    return model
