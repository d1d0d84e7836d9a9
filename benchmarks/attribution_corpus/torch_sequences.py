"""Small torch architectures over sequences and numbers: attention, recurrence, indices, delicate functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["WORDS", "bidirectional", "decoder", "encoder", "indices", "lstm", "numbers", "perceptron", "vit"]

WORDS = 61
_LENGTH = 8


class _Attention(nn.Module):
    """Heads written out; the three projections in one matrix, or each in its own."""

    def __init__(self, width: int, heads: int, *, causal: bool = False, joined: bool = True) -> None:
        super().__init__()
        self.heads, self.causal, self.joined = heads, causal, joined
        if joined:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        _, length, width = x.shape
        found = self.qkv(x).split(width, -1) if self.joined else (self.q(x), self.k(x), self.v(x))
        q, k, v = (t.view(-1, length, self.heads, width // self.heads).transpose(1, 2) for t in found)
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        if self.causal:
            keep = torch.tril(torch.ones(length, length, dtype=torch.bool))
            scores = scores.masked_fill(~keep, -1e4)
        y = torch.softmax(scores, -1) @ v
        return self.out(y.transpose(1, 2).reshape(-1, length, width))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, act: nn.Module, *, causal: bool = False, joined: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, heads, causal=causal, joined=joined)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), act, nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def encoder() -> nn.Module:
    """Two blocks with GELU by the error function; as many tokens as one head is wide, so that a mix-up fits."""
    return nn.Sequential(_Block(32, 4, nn.GELU()), _Block(32, 4, nn.GELU(), joined=False), nn.LayerNorm(32))


class _Vit(nn.Module):
    """Patches, a class token, positions; GELU by tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, 24)), nn.Parameter(torch.zeros(1, 17, 24))
        self.blocks = nn.Sequential(*(_Block(24, 3, nn.GELU(approximate="tanh")) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(24, eps=1e-6), nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit() -> nn.Module:
    """See :class:`_Vit`."""
    return _Vit()


class _Decoder(nn.Module):
    """Causal blocks between a table of tokens and a head that shares it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(WORDS, 32), nn.Embedding(_LENGTH, 32)
        self.blocks = nn.Sequential(*(_Block(32, 4, nn.SiLU(), causal=True) for _ in range(2)))
        self.norm = nn.LayerNorm(32)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) * math.sqrt(32) + self.positions(torch.arange(_LENGTH))
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def decoder() -> nn.Module:
    """See :class:`_Decoder`."""
    return _Decoder()


class _Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], layers: int, *, both_ways: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 16)
        self.layer = kind(16, 16, num_layers=layers, batch_first=True, bidirectional=both_ways)
        self.norm = nn.LayerNorm(32 if both_ways else 16)
        self.head = nn.Linear(32 if both_ways else 16, 5)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(self.layer(self.table(ids))[0])
        return self.head(y[:, -1]), torch.tanh(y.mean(1))


def lstm() -> nn.Module:
    """Two LSTM layers over tokens."""
    return _Recurrent(nn.LSTM, 2, both_ways=False)


def bidirectional() -> nn.Module:
    """A GRU that reads both ways."""
    return _Recurrent(nn.GRU, 1, both_ways=True)


class _Numbers(nn.Module):
    """Functions that a lowering can spoil, and limits that it can forget."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(24, 32), nn.Linear(32, 32), nn.Linear(96, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.clamp(self.a(x), -2.0, 2.5)
        small = torch.log(torch.abs(h) + 0.5) * torch.exp(-h)
        other = functional.softplus(self.b(h)) - functional.logsigmoid(h) / (1.5 + h * h)
        power = torch.pow(torch.abs(h) + 0.1, 1.7) - torch.sqrt(h * h + 1e-3)
        y = self.c(torch.cat([small, other, power], -1))
        return torch.log_softmax(y, -1), torch.logsumexp(y, -1) - y.norm(dim=-1)


def numbers() -> nn.Module:
    """See :class:`_Numbers`."""
    return _Numbers()


class _Indices(nn.Module):
    """Integers: division, remainder, gathering, a mask, a running sum, the position of the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.coarse = nn.Embedding(WORDS, 24), nn.Embedding(16, 24)
        self.score, self.head = nn.Linear(24, 1), nn.Linear(24, 7)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.table(ids) + self.coarse(torch.div(ids - 20, 4, rounding_mode="floor") + 5)
        x = x + 0.1 * torch.cumsum(x, 1)
        mask = torch.remainder(ids, 5) != 0
        weight = torch.softmax(self.score(torch.tanh(x)).squeeze(-1).masked_fill(~mask, -50.0), -1)
        logits = self.head((weight.unsqueeze(-1) * x).sum(1) + x[:, 1::2].amax(1) - x[:, :-1].amin(1))
        return logits, logits.argmax(-1)


def indices() -> nn.Module:
    """See :class:`_Indices`."""
    return _Indices()


def perceptron() -> nn.Module:
    """Square layers only, so that a transposed matrix fits; normalised in between."""
    return nn.Sequential(
        nn.Linear(24, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 24, bias=False), nn.LayerNorm(24), nn.Sigmoid(),
        nn.Linear(24, 24), nn.Hardsigmoid(), nn.Linear(24, 24), nn.CELU(0.7), nn.Linear(24, 24),
    )  # fmt: skip
