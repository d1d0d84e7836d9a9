"""Activations, elementwise and along an axis, written so that no intermediate overflows or cancels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee.blocks import BLOCK, in_blocks
from onnxeq.referee.erf import erf, gelu_into
from onnxeq.referee.registry import Call, Value, op

__all__ = ["gelu", "gelu_tanh", "log_softmax", "sigmoid", "softmax", "softplus"]

_COMMON = ("suite", "onnxruntime", "torch")


def sigmoid(x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """``1 / (1 + exp(-x))``.

    For large negative x the exponential overflows to inf, and 1 / inf is right: the result is below 1e-308.
    """
    y: NDArray[Any] = np.empty_like(x) if out is None else out
    np.negative(x, out=y)
    np.exp(y, out=y)
    y += 1
    np.reciprocal(y, out=y)
    return y


def softplus(x: NDArray[Any]) -> NDArray[Any]:
    """``log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))``."""
    y = np.abs(x)
    y = np.log1p(np.exp(np.negative(y)))
    return np.asarray(y + np.maximum(x, 0))


def gelu(x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """``x / 2 * (1 + erf(x / sqrt(2)))``."""
    source = np.ascontiguousarray(x, dtype=np.float64)
    result = np.empty_like(source) if out is None or not out.flags.c_contiguous else out
    flat, target = source.reshape(-1), result.reshape(-1)

    def work(start: int, stop: int) -> None:
        gelu_into(flat[start:stop], target[start:stop])

    in_blocks(flat.size, BLOCK, work)
    return result.reshape(x.shape)  # a contiguous copy of a scalar has one axis


def gelu_tanh(x: NDArray[Any]) -> NDArray[Any]:
    """``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))``."""
    inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return np.asarray(0.5 * x * (1 + inner))


def softmax(x: NDArray[Any], axis: int) -> NDArray[Any]:
    """``exp(x - max) / sum(exp(x - max))``; a row of -inf only gives NaN, as 0 / 0 does."""
    if x.size == 0:
        return np.array(x)
    y = np.asarray(x - x.max(axis=axis, keepdims=True))
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)
    return y


def log_softmax(x: NDArray[Any], axis: int) -> NDArray[Any]:
    """``x - max - log(sum(exp(x - max)))``."""
    if x.size == 0:
        return np.array(x)
    y = np.asarray(x - x.max(axis=axis, keepdims=True))
    y -= np.log(np.exp(y).sum(axis=axis, keepdims=True))
    return y


def _hardmax(x: NDArray[Any], axis: int) -> NDArray[Any]:
    """One at the first largest element, zero elsewhere."""
    y = np.zeros_like(x)
    np.put_along_axis(y, np.expand_dims(x.argmax(axis=axis), axis), 1, axis=axis)
    return y


_ALONG = {"Softmax": softmax, "LogSoftmax": log_softmax, "Hardmax": _hardmax}


@op("Hardmax", since=13, witnesses=("suite", "onnxruntime"))
@op("Softmax", "LogSoftmax", since=13, witnesses=_COMMON)
def along_axis(call: Call, X: Value) -> Value:
    """From opset 13: along one axis, the last by default."""
    return _ALONG[call.node.op_type](X, call.get("axis", -1))


@op(
    "Softmax", "LogSoftmax", "Hardmax", until=12,
    witnesses=("onnxruntime", "spec", "not reference: takes one axis before opset 13 too"),
)  # fmt: skip
def along_rows(call: Call, X: Value) -> Value:
    """Before opset 13: over the matrix whose columns are all axes from ``axis`` (default 1) on."""
    axis = call.get("axis", 1)
    axis = axis + X.ndim if axis < 0 else axis
    rows = math.prod(X.shape[:axis])
    columns = math.prod(X.shape[axis:])
    return _ALONG[call.node.op_type](X.reshape(rows, columns), 1).reshape(X.shape)


@op("Relu", witnesses=_COMMON)
def relu(call: Call, X: Value) -> Value:
    """``max(x, 0)``, NaN kept."""
    return np.maximum(X, X.dtype.type(0), out=call.scratch(0, X))


@op("LeakyRelu", witnesses=_COMMON)
def leaky_relu(call: Call, X: Value) -> Value:
    """``x if x >= 0 else alpha * x``."""
    return np.where(X >= 0, X, call.get("alpha", 0.01) * X)


@op("PRelu", since=7, witnesses=_COMMON)
def prelu(call: Call, X: Value, slope: Value) -> Value:
    """``x if x >= 0 else slope * x``, slope broadcast to x in one direction."""
    return np.where(X >= 0, X, X * np.broadcast_to(slope, X.shape))


@op("PRelu", until=6, witnesses=("spec",))
def prelu_per_channel(call: Call, X: Value, slope: Value) -> Value:
    """Before opset 7: one slope, or one for each channel (axis 1)."""
    if slope.size > 1:
        slope = slope.reshape(1, -1, *(1,) * (X.ndim - 2))
    return np.where(X >= 0, X, X * slope)


@op("Elu", witnesses=_COMMON)
def elu(call: Call, X: Value) -> Value:
    """``x if x >= 0 else alpha * (exp(x) - 1)``."""
    return np.where(X >= 0, X, call.get("alpha", 1.0) * np.expm1(np.minimum(X, 0)))


@op("Selu", since=6, witnesses=_COMMON)
def selu(call: Call, X: Value) -> Value:
    """``gamma * (x if x > 0 else alpha * (exp(x) - 1))``; the defaults are the float32 constants."""
    alpha = call.get("alpha", float(np.float32(1.67326319217681884765625)))
    gamma = call.get("gamma", float(np.float32(1.05070102214813232421875)))
    return gamma * np.where(X > 0, X, alpha * np.expm1(np.minimum(X, 0)))


@op("Selu", until=5, witnesses=("spec",))
def selu_first(call: Call, X: Value) -> Value:
    """The first version had rounder defaults: 1.6732 and 1.0507."""
    alpha, gamma = call.get("alpha", float(np.float32(1.6732))), call.get("gamma", float(np.float32(1.0507)))
    return gamma * np.where(X > 0, X, alpha * np.expm1(np.minimum(X, 0)))


@op("Celu", since=12, witnesses=_COMMON)
def celu(call: Call, X: Value) -> Value:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    alpha = call.get("alpha", 1.0)
    return np.maximum(X, 0) + np.minimum(0, alpha * np.expm1(X / alpha))


@op("Gelu", since=20, witnesses=_COMMON)
def gelu_node(call: Call, X: Value) -> Value:
    """Exact, or the tanh approximation."""
    return gelu_tanh(X) if call.get("approximate", "none") == "tanh" else gelu(X, call.scratch(0, X))


@op("HardSigmoid", witnesses=_COMMON)
def hard_sigmoid(call: Call, X: Value) -> Value:
    """``max(0, min(1, alpha * x + beta))``."""
    alpha, beta = call.get("alpha", float(np.float32(0.2))), call.get("beta", 0.5)
    return np.clip(X * alpha + beta, 0, 1)


@op("HardSwish", since=14, witnesses=_COMMON)
def hard_swish(call: Call, X: Value) -> Value:
    """``x * max(0, min(1, x / 6 + 1 / 2))``."""
    y = np.asarray(X * (1 / 6))
    y += 0.5
    np.clip(y, 0, 1, out=y)
    y *= X
    return y


@op("Sigmoid", witnesses=_COMMON)
def sigmoid_node(call: Call, X: Value) -> Value:
    """``1 / (1 + exp(-x))``."""
    return sigmoid(X, call.scratch(0, X))


@op("Swish", since=24, witnesses=("suite", "torch"))
def swish(call: Call, X: Value) -> Value:
    """``x * sigmoid(alpha * x)``."""
    return X * sigmoid(np.asarray(call.get("alpha", 1.0) * X))


@op("Softplus", witnesses=_COMMON)
def softplus_node(call: Call, X: Value) -> Value:
    """``log(1 + exp(x))``."""
    return softplus(X)


@op("Softsign", witnesses=_COMMON)
def softsign(call: Call, X: Value) -> Value:
    """``x / (1 + |x|)``."""
    return X / (1 + np.abs(X))


@op("Mish", since=18, witnesses=_COMMON)
def mish(call: Call, X: Value) -> Value:
    """``x * tanh(softplus(x))``."""
    return X * np.tanh(softplus(X))


@op("ThresholdedRelu", since=10, witnesses=_COMMON)
def thresholded_relu(call: Call, X: Value) -> Value:
    """``x if x > alpha else 0``."""
    alpha = call.get("alpha", 1.0)
    return np.where(alpha < X, X, X.dtype.type(0))


@op("Tanh", witnesses=_COMMON)
def tanh(call: Call, X: Value) -> Value:
    """Hyperbolic tangent."""
    return np.tanh(X, out=call.scratch(0, X))


@op("Erf", since=9, witnesses=("suite", "torch", "not reference: computes in float32"))
def erf_node(call: Call, X: Value) -> Value:
    """The error function."""
    return erf(X).astype(X.dtype, copy=False)


@op("Dropout", since=12, witnesses=("suite", "onnxruntime"))
def dropout(call: Call, data: Value, ratio: Value = None, training_mode: Value = None) -> Value:
    """The identity, unless in training mode with a ratio above zero: that is random, hence not judged."""
    if training_mode is not None and bool(training_mode) and (ratio is None or float(ratio) != 0):
        raise UnsupportedOperator(
            f"Dropout in training mode at node {call.node.name or call.node.output[0]} is random",
            hint="Export the model in inference mode.",
        )
    return data, np.ones(data.shape, dtype=np.bool_)


@op("Dropout", until=11, witnesses=("suite", "onnxruntime"))
def dropout_inference(call: Call, data: Value) -> Value:
    """Before opset 12: the identity (before 7 only with ``is_test``); the mask is all ones."""
    if call.opset < 7 and not call.get("is_test", 0):
        raise UnsupportedOperator(f"Dropout with is_test=0 at node {call.node.name or call.node.output[0]} is random")
    return data, np.ones(data.shape, dtype=data.dtype if call.opset < 10 else np.bool_)
