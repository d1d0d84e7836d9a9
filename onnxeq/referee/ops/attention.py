"""onnxruntime's attention operators (``com.microsoft``).

The standard's own Attention and RotaryEmbedding run through the function bodies in their schemas, of the
version that the model imports.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee.blocks import matmul
from onnxeq.referee.ops.activation import softmax
from onnxeq.referee.registry import Call, Value, op

__all__ = ["attend"]

_DOMAIN = "com.microsoft"
_FILTER = -10000.0


def attend(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], scale: float, bias: NDArray[Any] | None) -> NDArray[Any]:
    """``softmax(scale * q @ k^T + bias) @ v`` for ``[B,N,S,H]``, ``[B,N,T,H]``, ``[B,N,T,V]``."""
    scores = matmul(q * scale, np.swapaxes(k, -1, -2))
    if bias is not None:
        scores += bias
    return matmul(softmax(scores, -1), v)


def _heads(x: NDArray[Any], count: int) -> NDArray[Any]:
    """``[B,S,N*H]`` as ``[B,N,S,H]``."""
    batch, length, width = x.shape
    return x.reshape(batch, length, count, width // count).transpose(0, 2, 1, 3)


def _joined(x: NDArray[Any]) -> NDArray[Any]:
    """``[B,N,S,H]`` as ``[B,S,N*H]``."""
    batch, count, length, width = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, count * width)


def _mask_bias(mask: NDArray[Any], batch: int, length: int, total: int, fill: float) -> NDArray[Any]:
    """What a mask of any of its forms adds to the scores, ``[B,1,S or 1,T]``."""
    if mask.ndim == 1 and mask.shape[0] in (batch, 2 * batch):
        keys = np.arange(total)[None]
        keep = keys < mask[:batch, None]
        if mask.shape[0] == 2 * batch:
            keep &= keys >= mask[batch:, None]
        keep = keep[:, None, None]
    elif mask.ndim == 2:
        keep = (mask != 0)[:, None, None]
    elif mask.ndim == 3:
        keep = (mask != 0)[:, None]
    elif mask.ndim == 4:
        keep = (mask[:, :, total - length : total, :total] != 0) & np.ones((length, 1), dtype=np.bool_)
    else:
        raise UnsupportedOperator(f"no validated float64 semantics for an attention mask {list(mask.shape)}")
    return np.where(keep, 0.0, fill)


def _causal(length: int, total: int) -> NDArray[Any]:
    later = np.arange(total)[None] > np.arange(length)[:, None] + (total - length)
    return np.where(later, -np.inf, 0.0)


def _total_bias(call: Call, mask: Value, added: Value, batch: int, length: int, total: int) -> NDArray[Any] | None:
    bias = None if added is None else added
    if mask is not None:
        fill = call.get("mask_filter_value", _FILTER)
        extra = _mask_bias(mask, batch, length, total, fill)
        bias = extra if bias is None else bias + extra
    if call.get("unidirectional", 0):
        bias = _causal(length, total) if bias is None else bias + _causal(length, total)
    return bias


def _scale(call: Call, width: int) -> float:
    return float(call.get("scale", 0.0)) or 1 / math.sqrt(width)


@op("Attention", domain=_DOMAIN, witnesses=("onnxruntime",))
def attention(
    call: Call,
    X: Value,
    weights: Value,
    bias: Value = None,
    mask: Value = None,
    past: Value = None,
    attention_bias: Value = None,
    past_length: Value = None,
) -> Value:
    """Projects ``X[B,S,D]`` to q, k, v and attends; ``past`` and ``present`` are ``[2,B,N,T,H]``."""
    if call.get("do_rotary", 0) or call.get("past_present_share_buffer", 0) or past_length is not None:
        raise UnsupportedOperator("no validated float64 semantics for Attention with rotary or shared buffers")
    count = call.get("num_heads")
    projected = np.matmul(X, weights)
    if bias is not None:
        projected = projected + bias
    sizes = call.get("qkv_hidden_sizes") or [weights.shape[1] // 3] * 3
    parts = np.split(projected, [sizes[0], sizes[0] + sizes[1]], axis=-1)
    q, k, v = (_heads(part, count) for part in parts)
    if past is not None:
        k = np.concatenate([past[0], k], axis=2)
        v = np.concatenate([past[1], v], axis=2)
    scores_bias = _total_bias(call, mask, attention_bias, X.shape[0], X.shape[1], k.shape[2])
    Y = _joined(attend(q, k, v, _scale(call, q.shape[-1]), scores_bias))
    return (Y, np.stack([k, v])) if call.n_outputs > 1 else Y


@op("MultiHeadAttention", domain=_DOMAIN, witnesses=("onnxruntime",))
def multi_head_attention(
    call: Call,
    query: Value,
    key: Value = None,
    value: Value = None,
    bias: Value = None,
    mask: Value = None,
    attention_bias: Value = None,
    past_key: Value = None,
    past_value: Value = None,
    *rest: Value,
) -> Value:
    """Attends with projected ``query[B,S,D]``, ``key`` and ``value`` (``[B,L,D]``, or ``[B,N,L,H]``)."""
    if key is None or value is None or query.ndim != 3 or any(r is not None for r in rest):
        raise UnsupportedOperator("no validated float64 semantics for MultiHeadAttention with packed inputs")
    count = call.get("num_heads")
    if bias is not None:
        width = query.shape[-1]
        query = query + bias[:width]
        if key.ndim == 3:
            key, value = key + bias[width : 2 * width], value + bias[2 * width :]
    q = _heads(query, count)
    k, v = (x if x.ndim == 4 else _heads(x, count) for x in (key, value))
    if past_key is not None:
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    scores_bias = _total_bias(call, mask, attention_bias, q.shape[0], q.shape[2], k.shape[2])
    return _joined(attend(q, k, v, _scale(call, q.shape[-1]), scores_bias)), k, v
