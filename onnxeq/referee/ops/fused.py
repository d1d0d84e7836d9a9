"""onnxruntime's fused operators (``com.microsoft``): the same computations under one name.

They have no specification but onnxruntime's own operator list, so onnxruntime is their only witness.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee.ops.activation import gelu, gelu_tanh, sigmoid
from onnxeq.referee.ops.conv import convolve
from onnxeq.referee.ops.linear import gemm
from onnxeq.referee.ops.norm import normalized_rows
from onnxeq.referee.ops.pool import max_pool
from onnxeq.referee.registry import Call, Value, op
from onnxeq.referee.windows import windows_of

__all__: list[str] = []

_DOMAIN = "com.microsoft"
_ONLY = ("onnxruntime",)
_SKIP_EPSILON = float(np.float32(1e-12))
_SIMPLE_EPSILON = float(np.float32(1e-5))


def _activated(x: NDArray[Any], name: str, parameters: list[float]) -> NDArray[Any]:
    """The activation that a fused node carries, with its parameters in order."""
    if name == "Relu":
        return np.asarray(np.maximum(x, 0))
    if name == "Tanh":
        return np.asarray(np.tanh(x))
    if name == "Sigmoid":
        return sigmoid(x)
    if name == "LeakyRelu":
        return np.where(x >= 0, x, parameters[0] * x)
    if name == "Clip":
        return np.asarray(np.clip(x, parameters[0], parameters[1]))
    if name == "HardSigmoid":
        return np.asarray(np.clip(parameters[0] * x + parameters[1], 0, 1))
    raise UnsupportedOperator(f"no validated float64 semantics for a fused activation {name!r}")


@op("FusedConv", domain=_DOMAIN, witnesses=_ONLY)
def fused_conv(call: Call, X: Value, W: Value, B: Value = None, Z: Value = None) -> Value:
    """``activation(Conv(X, W, B) + Z)``."""
    windows = windows_of(call, X.shape[2:], W.shape[2:])
    Y = convolve(X, W, B, windows, call.get("group", 1))
    if Z is not None:
        Y = Y + Z
    name = call.get("activation", "")
    return _activated(Y, name, call.get("activation_params") or []) if name else Y


@op("FusedGemm", domain=_DOMAIN, witnesses=_ONLY)
def fused_gemm(call: Call, A: Value, B: Value, C: Value = None) -> Value:
    """``activation(Gemm(A, B, C))``; the parameters are attributes of their own."""
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    parameters = [call.get(name) for name in names if call.get(name) is not None]
    Y = gemm(call, A, B, C)
    name = call.get("activation", "")
    return _activated(Y, name, parameters) if name else Y


def _swapped(x: NDArray[Any], batch: bool, inner: bool) -> NDArray[Any]:
    """FusedMatMul's transpositions: first axis moved to the last but one, then the last two swapped."""
    if batch and x.ndim > 2:
        x = np.moveaxis(x, 0, -2)
    return np.swapaxes(x, -1, -2) if inner and x.ndim > 1 else x


@op("FusedMatMul", "TransposeMatMul", domain=_DOMAIN, witnesses=_ONLY)
def fused_matmul(call: Call, A: Value, B: Value) -> Value:
    """``alpha * A' @ B'``."""
    a = _swapped(A, bool(call.get("transBatchA", 0)), bool(call.get("transA", 0)))
    b = _swapped(B, bool(call.get("transBatchB", 0)), bool(call.get("transB", 0)))
    return call.get("alpha", 1.0) * np.matmul(a, b)


@op("Gelu", domain=_DOMAIN, witnesses=_ONLY)
def gelu_exact(call: Call, X: Value) -> Value:
    """``x / 2 * (1 + erf(x / sqrt(2)))``."""
    return gelu(X, call.scratch(0, X))


@op("BiasGelu", domain=_DOMAIN, witnesses=_ONLY)
def bias_gelu(call: Call, A: Value, B: Value) -> Value:
    """Gelu of ``A + B``."""
    return gelu(np.asarray(A + B))


@op("FastGelu", domain=_DOMAIN, witnesses=_ONLY)
def fast_gelu(call: Call, X: Value, bias: Value = None) -> Value:
    """The tanh form of Gelu, of ``X + bias``."""
    return gelu_tanh(X if bias is None else X + bias)


@op("QuickGelu", domain=_DOMAIN, witnesses=_ONLY)
def quick_gelu(call: Call, X: Value) -> Value:
    """``x * sigmoid(alpha * x)``."""
    return X * sigmoid(np.asarray(call.get("alpha", float(np.float32(1.702))) * X))


@op("SimplifiedLayerNormalization", witnesses=_ONLY)
@op("SimplifiedLayerNormalization", domain=_DOMAIN, witnesses=_ONLY)
def simplified_layer_normalization(call: Call, X: Value, scale: Value) -> Value:
    """``x / sqrt(mean(x^2) + epsilon) * scale`` from ``axis`` on; then the inverse root."""
    axis = call.get("axis", -1) % X.ndim
    width = math.prod(X.shape[axis:])
    Y, _, inverse = normalized_rows(
        X, width, call.get("epsilon", _SIMPLE_EPSILON), scale.reshape(-1), None, center=False
    )
    return Y, inverse.reshape(*X.shape[:axis], *(1,) * (X.ndim - axis))


@op("SkipLayerNormalization", domain=_DOMAIN, witnesses=_ONLY)
def skip_layer_normalization(
    call: Call, X: Value, skip: Value, gamma: Value, beta: Value = None, bias: Value = None
) -> Value:
    """LayerNormalization of ``X + skip + bias``; fourth output: that sum."""
    total = np.asarray(X + skip if bias is None else X + skip + bias)
    Y, mean, inverse = normalized_rows(total, total.shape[-1], call.get("epsilon", _SKIP_EPSILON), gamma, beta)
    reduced = (*total.shape[:-1], 1)
    return Y, mean.reshape(reduced), inverse.reshape(reduced), total


@op("SkipSimplifiedLayerNormalization", domain=_DOMAIN, witnesses=_ONLY)
def skip_simplified_layer_normalization(call: Call, X: Value, skip: Value, gamma: Value, bias: Value = None) -> Value:
    """The same without centring."""
    total = np.asarray(X + skip if bias is None else X + skip + bias)
    Y, mean, inverse = normalized_rows(
        total, total.shape[-1], call.get("epsilon", _SKIP_EPSILON), gamma, None, center=False
    )
    reduced = (*total.shape[:-1], 1)
    return Y, mean.reshape(reduced), inverse.reshape(reduced), total


@op("EmbedLayerNormalization", domain=_DOMAIN, witnesses=_ONLY)
def embed_layer_normalization(
    call: Call,
    input_ids: Value,
    segment_ids: Value,
    words: Value,
    positions: Value,
    segments: Value,
    gamma: Value,
    beta: Value,
    mask: Value = None,
    position_ids: Value = None,
) -> Value:
    """LayerNormalization of word + position + segment embeddings; second output: unmasked lengths."""
    batch, length = input_ids.shape
    places = np.arange(length)[None] if position_ids is None else position_ids
    total = words[input_ids] + positions[places]
    if segment_ids is not None and segments is not None:
        total = total + segments[segment_ids]
    Y, _, _ = normalized_rows(total, total.shape[-1], call.get("epsilon", _SKIP_EPSILON), gamma, beta)
    lengths = np.zeros(batch, dtype=np.int32) if mask is None else mask.sum(axis=1).astype(np.int32)
    return Y, lengths, total


@op("NhwcMaxPool", domain=_DOMAIN, witnesses=_ONLY)
def nhwc_max_pool(call: Call, X: Value) -> Value:
    """MaxPool with the channels last."""
    Y: NDArray[Any] = np.asarray(max_pool(call, np.moveaxis(X, -1, 1)))
    return np.ascontiguousarray(np.moveaxis(Y, 1, -1))
