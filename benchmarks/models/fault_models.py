"""Compact torch models for ``detection.py``: each holds the operator that one fault is put into.

They are checked as ``@seeded``, so that no channel is dead and a fault in any of them reaches the output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.BatchNorm2d(outside), nn.ReLU())


def compact() -> nn.Module:
    """Four convolutions with batch normalisation, the third with stride two; a linear head."""
    return nn.Sequential(
        _block(3, 16), _block(16, 24), _block(24, 24, 2), _block(24, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip


def upsampling() -> nn.Module:
    """Features doubled in size by bilinear interpolation."""
    layers: list[nn.Module] = [_block(3, 8)]
    layers += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(8, 4, 3)]
    return nn.Sequential(*layers)


class _Shrinking(nn.Module):
    """Features interpolated down to one row: a size of one is where half_pixel and pytorch_half_pixel differ."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = _block(3, 8), nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.interpolate(self.stem(image), size=(1, 8), mode="bilinear", align_corners=False)
        return self.head(x)


def shrinking() -> nn.Module:
    """See :class:`_Shrinking`."""
    return _Shrinking()


def gelu() -> nn.Module:
    """Two layers with GELU by the error function."""
    return nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 12))


def pooling() -> nn.Module:
    """Average pooling over padded borders, which count."""
    layers: list[nn.Module] = [_block(3, 8)]
    layers += [nn.AvgPool2d(3, 2, 1, count_include_pad=True), nn.Conv2d(8, 4, 3, padding=1)]
    return nn.Sequential(*layers)


class _Attention(nn.Module):
    """One attention head with its softmax written out."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2) / 32**0.5, -1)
        return weights @ self.v(x)


def attention() -> nn.Module:
    """See :class:`_Attention`."""
    return _Attention()
