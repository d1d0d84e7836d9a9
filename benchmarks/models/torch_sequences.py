"""Small torch architectures over sequences: recurrent layers and attention; see ``torch_models`` for the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

WORDS, LENGTH = 211, 19

_SHAPES = {"transformer_encoder": (23, 32), "einsum_attention": (21, 48), "rnn_signal": (50, 5)}


def example_inputs(name: str) -> Tensor:
    """One batch of two for the factory ``name``: features where :data:`_SHAPES` says so, else tokens."""
    generator = torch.Generator().manual_seed(1)
    if name in _SHAPES:
        return torch.randn(2, *_SHAPES[name], generator=generator)
    return torch.randint(0, WORDS, (2, LENGTH), generator=generator)


class _Recurrent(nn.Module):
    """Embedding, a recurrent layer, the last state into logits."""

    def __init__(self, kind: Callable[..., nn.Module], layers: int = 1, *, both_ways: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 24)
        self.layer = kind(24, 32, num_layers=layers, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(64 if both_ways else 32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        y, _ = self.layer(self.table(ids))
        return self.head(y[:, -1])


def lstm_text() -> nn.Module:
    """A text classifier with two LSTM layers."""
    return _Recurrent(nn.LSTM, 2)


def gru_text() -> nn.Module:
    """A text classifier with one GRU layer."""
    return _Recurrent(nn.GRU)


def bidirectional_lstm() -> nn.Module:
    """A text classifier that reads both ways."""
    return _Recurrent(nn.LSTM, both_ways=True)


class _Signal(nn.Module):
    """A plain tanh RNN over a signal, every step put out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.RNN(5, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, signal: Tensor) -> Tensor:
        return self.head(self.layer(signal)[0])


def rnn_signal() -> nn.Module:
    """See :class:`_Signal`."""
    return _Signal()


class _Attention(nn.Module):
    """Multi-head attention with its products written out, causal or not."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class _Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = _Attention(width, heads, causal=causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class _Decoder(nn.Module):
    """Tokens and positions through causal blocks into next-token logits, the table shared with the head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(WORDS, 32), nn.Embedding(LENGTH, 32)
        self.blocks = nn.Sequential(*(_Block(32, 4, causal=True) for _ in range(2)))
        self.norm = nn.LayerNorm(32)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(LENGTH))
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def transformer_encoder() -> nn.Module:
    """Two encoder blocks."""
    return nn.Sequential(_Block(32, 4), _Block(32, 4), nn.LayerNorm(32))


def transformer_decoder() -> nn.Module:
    """See :class:`_Decoder`."""
    return _Decoder()


class _AttentionPool(nn.Module):
    """Embeddings weighted by a softmax over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.score, self.head = nn.Embedding(WORDS, 40), nn.Linear(40, 1), nn.Linear(40, 7)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        weights = torch.softmax(self.score(torch.tanh(x)), dim=1)
        return self.head((weights * x).sum(1))


def attention_pool() -> nn.Module:
    """See :class:`_AttentionPool`."""
    return _AttentionPool()


class _Einsum(nn.Module):
    """Attention by einsum, with relative positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(48, 48) for _ in range(3))
        self.bias_table = nn.Parameter(torch.zeros(21, 21))

    def forward(self, x: Tensor) -> Tensor:
        score = torch.einsum("bic,bjc->bij", self.q(x), self.k(x)) / 48**0.5 + self.bias_table
        return torch.einsum("bij,bjc->bic", score.softmax(-1), self.v(x))


def einsum_attention() -> nn.Module:
    """See :class:`_Einsum`."""
    return _Einsum()
