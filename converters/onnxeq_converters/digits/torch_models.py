"""The digits architectures in torch: each takes ``image: float32[N,8,8]`` and gives ``logits: float32[N,10]``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import shipped

__all__ = ["BUILDERS", "Cnn", "Gru", "Resnet", "Vit", "trained"]

_CLASSES = 10


def _convolution(given: int, made: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(given, made, size, stride=stride, padding=size // 2, bias=False)


class Cnn(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Three convolutions, each with batch normalisation; 14 thousand weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = _convolution(1, 16), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = _convolution(16, 32), nn.BatchNorm2d(32)
        self.conv3, self.norm3 = _convolution(32, 32), nn.BatchNorm2d(32)
        self.head = nn.Linear(32, _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """``float32[N,8,8] -> float32[N,10]``."""
        x = torch.relu(self.norm1(self.conv1(image.unsqueeze(1))))
        x = functional.max_pool2d(torch.relu(self.norm2(self.conv2(x))), 2)
        x = torch.relu(self.norm3(self.conv3(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Block(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """``relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))``."""

    def __init__(self, given: int, made: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.norm1 = _convolution(given, made, 3, stride), nn.BatchNorm2d(made)
        self.conv2, self.norm2 = _convolution(made, made), nn.BatchNorm2d(made)
        self.projects = given != made
        if self.projects:
            self.projection, self.norm3 = _convolution(given, made, 1, stride), nn.BatchNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        """``float32[N,C,H,W] -> float32[N,D,H/stride,W/stride]``."""
        shortcut = self.norm3(self.projection(x)) if self.projects else x
        x = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(x)) + shortcut)


class Resnet(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A stem and three residual blocks; 38 thousand weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = _convolution(1, 16), nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList([Block(16, 16), Block(16, 32, stride=2), Block(32, 32)])
        self.head = nn.Linear(32, _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """``float32[N,8,8] -> float32[N,10]``."""
        x = torch.relu(self.norm(self.stem(image.unsqueeze(1))))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Attention(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Self-attention of several heads, queries, keys and values out of one product."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``float32[N,T,D] -> float32[N,T,D]``."""
        count, length, width = x.shape
        apart = self.qkv(x).reshape(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(apart[0], apart[1], apart[2])
        joined: Tensor = self.project(mixed.transpose(1, 2).reshape(count, length, width))
        return joined


class Layer(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """``x + attention(norm1(x))``, then ``x + second(gelu(first(norm2(x))))``."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.first, self.second = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """``float32[N,T,D] -> float32[N,T,D]``."""
        x = x + self.attention(self.norm1(x))
        deeper: Tensor = x + self.second(functional.gelu(self.first(self.norm2(x))))
        return deeper


class Vit(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Sixteen patches of 2x2, learned positions, three transformer blocks, the mean; 26 thousand weights."""

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Linear(4, width)
        self.positions = nn.Parameter(0.02 * torch.randn(16, width))
        self.layers = nn.ModuleList(Layer(width, heads, 2 * width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """``float32[N,8,8] -> float32[N,10]``."""
        cut = image.reshape(-1, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(-1, 16, 4)
        x = self.patches(cut) + self.positions
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


class Gru(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A gated recurrent unit that reads eight rows of eight pixels; 15 thousand weights."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(8, width, batch_first=True), nn.Linear(width, _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """``float32[N,8,8] -> float32[N,10]``."""
        states, _ = self.gru(image)
        logits: Tensor = self.head(states[:, -1])
        return logits


BUILDERS: dict[str, Callable[[], nn.Module]] = {"cnn": Cnn, "resnet": Resnet, "vit": Vit, "gru": Gru}
"""Architecture -> what builds it, with torch's random weights."""


def trained(architecture: str, kind: str = "pretrained") -> nn.Module:
    """A model in inference mode with weights that come with the package (``pretrained``, ``retrained``)."""
    model = BUILDERS[architecture]()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in shipped(architecture, kind).items()})
    return model.eval()
