"""Normalisations. Statistics are taken in two passes, mean first, so that nothing cancels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee.blocks import in_blocks
from onnxeq.referee.registry import Call, Value, op

__all__ = ["normalized_rows"]

_EPSILON = float(np.float32(1e-5))
_ROWS_BLOCK = 1 << 15


def _channels(parameter: NDArray[Any], rank: int) -> NDArray[Any]:
    return parameter.reshape(-1, *(1,) * (rank - 2)) if rank >= 2 else parameter


def _batch_inference(
    call: Call, X: NDArray[Any], scale: NDArray[Any], B: NDArray[Any], mean: NDArray[Any], var: NDArray[Any]
) -> NDArray[Any]:
    """``(x - mean) * (scale / sqrt(var + epsilon)) + B``, a cache-sized block of channels at a time."""
    slope = scale / np.sqrt(var + call.get("epsilon", _EPSILON))
    if X.ndim < 3 or not X.flags.c_contiguous:
        rank = X.ndim
        return np.asarray((X - _channels(mean, rank)) * _channels(slope, rank) + _channels(B, rank))
    own = call.scratch(0, X)
    Y = np.empty_like(X) if own is None else own
    n, channels = X.shape[:2]
    plane = math.prod(X.shape[2:])
    source, target = X.reshape(n * channels, plane), Y.reshape(n * channels, plane)
    centre, factor, shift = (np.tile(p, n)[:, None] for p in (mean, slope, B))

    def work(start: int, stop: int) -> None:
        y = target[start:stop]
        np.subtract(source[start:stop], centre[start:stop], out=y)
        y *= factor[start:stop]
        y += shift[start:stop]

    in_blocks(n * channels, max(1, _ROWS_BLOCK // max(1, plane)), work, weight=plane)
    return Y


def _batch_statistics(X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    axes = (0, *range(2, X.ndim))
    return X.mean(axis=axes), X.var(axis=axes)


@op("BatchNormalization", since=14, witnesses=("suite", "onnxruntime", "torch"))
def batch_normalization(call: Call, X: Value, scale: Value, B: Value, mean: Value, var: Value) -> Value:
    """With ``training_mode`` the batch's own statistics, and the running ones moved by ``1 - momentum``."""
    if not call.get("training_mode", 0):
        return _batch_inference(call, X, scale, B, mean, var)
    momentum = call.get("momentum", float(np.float32(0.9)))
    batch_mean, batch_var = _batch_statistics(X)
    return (
        _batch_inference(call, X, scale, B, batch_mean, batch_var),
        mean * momentum + batch_mean * (1 - momentum),
        var * momentum + batch_var * (1 - momentum),
    )


@op(
    "BatchNormalization", since=9, until=13,
    witnesses=("onnxruntime", "torch", "not reference: wrong for opset 9-13"),
)  # fmt: skip
def batch_normalization_9(call: Call, X: Value, scale: Value, B: Value, mean: Value, var: Value) -> Value:
    """Inference; several outputs ask for training, whose saved statistics the text does not define."""
    _refuse_training(call)
    return _batch_inference(call, X, scale, B, mean, var)


@op("BatchNormalization", until=8, witnesses=("onnxruntime", "spec", "not reference: raises for opset 7-8"))
def batch_normalization_1(call: Call, X: Value, scale: Value, B: Value, mean: Value, var: Value) -> Value:
    """With ``spatial=0`` the parameters are per feature, ``[C,D1,...]``; before opset 7 also ``is_test``."""
    if call.opset < 7 and not call.get("is_test", 0):
        raise UnsupportedOperator(f"BatchNormalization with is_test=0 at node {_label(call)} trains")
    _refuse_training(call)
    if call.get("spatial", 1):
        return _batch_inference(call, X, scale, B, mean, var)
    shape = X.shape[1:]
    slope = scale / np.sqrt(var + call.get("epsilon", _EPSILON))
    return (X - mean.reshape(shape)) * slope.reshape(shape) + B.reshape(shape)


def _label(call: Call) -> str:
    return str(call.node.name or call.node.output[0])


def _refuse_training(call: Call) -> None:
    if sum(1 for name in call.node.output if name) > 1:
        raise UnsupportedOperator(
            f"BatchNormalization in training mode (several outputs) at node {_label(call)}",
            hint="Export the model in inference mode.",
        )


def normalized_rows(
    x: NDArray[Any],
    width: int,
    epsilon: float,
    scale: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    *,
    center: bool = True,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows of ``width`` elements to mean 0 and variance 1, then ``* scale + bias`` (each ``[width]``).

    ``y = (x - mean) / sqrt(mean((x - mean)^2) + epsilon)``; without ``center`` the mean is taken as zero.
    Returns ``y`` in x's shape, and mean and ``1 / sqrt(...)`` as ``[rows,1]``.
    """
    rows = np.ascontiguousarray(x, dtype=np.float64).reshape(-1, width)
    result = np.empty_like(rows)
    means, inverses = np.zeros((len(rows), 1)), np.empty((len(rows), 1))

    def work(start: int, stop: int) -> None:
        y = result[start:stop]
        if center:
            means[start:stop] = rows[start:stop].mean(axis=1, keepdims=True)
        np.subtract(rows[start:stop], means[start:stop], out=y)
        square = np.einsum("ij,ij->i", y, y)[:, None] / width
        inverses[start:stop] = 1 / np.sqrt(square + epsilon)
        y *= inverses[start:stop]
        if scale is not None:
            y *= scale
        if bias is not None:
            y += bias

    in_blocks(len(rows), max(1, _ROWS_BLOCK // max(1, width)), work, weight=width)
    return result.reshape(x.shape), means, inverses


def _row_parameter(value: Value, shape: tuple[int, ...]) -> Any:
    return None if value is None else np.broadcast_to(value, shape).reshape(-1)


@op("LayerNormalization", since=17, witnesses=("suite", "torch", "not reference: computes in float32"))
def layer_normalization(call: Call, X: Value, scale: Value, B: Value = None) -> Value:
    """Over the axes from ``axis`` on; ``stash_type`` only chooses a working precision."""
    axis = call.get("axis", -1) % X.ndim
    shape = X.shape[axis:]
    epsilon = call.get("epsilon", _EPSILON)
    plain = all(p is None or math.prod(p.shape) == 1 or p.ndim <= len(shape) for p in (scale, B))
    if not plain:  # a scale that also varies over the leading axes
        Y, mean, inverse = normalized_rows(X, math.prod(shape), epsilon, None, None)
        Y = Y * scale if B is None else Y * scale + B
    else:
        Y, mean, inverse = normalized_rows(
            X, math.prod(shape), epsilon, _row_parameter(scale, shape), _row_parameter(B, shape)
        )
    reduced = (*X.shape[:axis], *(1,) * len(shape))
    return Y, mean.reshape(reduced), inverse.reshape(reduced)


@op("RMSNormalization", since=23, witnesses=("suite", "torch"))
def rms_normalization(call: Call, X: Value, scale: Value) -> Value:
    """``x / sqrt(mean(x^2) + epsilon) * scale`` over the axes from ``axis`` on."""
    axis = call.get("axis", -1) % X.ndim
    width = math.prod(X.shape[axis:])
    Y, _, _ = normalized_rows(X, width, call.get("epsilon", _EPSILON), None, None, center=False)
    return Y * scale


@op("InstanceNormalization", witnesses=("suite", "onnxruntime", "torch"))
def instance_normalization(call: Call, X: Value, scale: Value, B: Value) -> Value:
    """Each channel of each item by its own statistics."""
    Y, _, _ = normalized_rows(X, math.prod(X.shape[2:]), call.get("epsilon", _EPSILON), None, None)
    return Y * _channels(scale, X.ndim) + _channels(B, X.ndim)


@op("GroupNormalization", since=18, until=20, witnesses=("suite", "spec"))
def group_normalization_18(call: Call, X: Value, scale: Value, bias: Value) -> Value:
    """Opset 18: scale and bias are per group."""
    groups = call.get("num_groups")
    per_group = X.shape[1] // groups
    return _group(call, X, np.repeat(scale, per_group), np.repeat(bias, per_group))


@op("GroupNormalization", since=21, witnesses=("suite", "torch"))
def group_normalization(call: Call, X: Value, scale: Value, bias: Value) -> Value:
    """From opset 21: scale and bias are per channel."""
    return _group(call, X, scale, bias)


def _group(call: Call, X: NDArray[Any], scale: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    width = math.prod(X.shape[1:]) // call.get("num_groups")
    Y, _, _ = normalized_rows(X, width, call.get("epsilon", _EPSILON), None, None)
    return np.asarray(Y * _channels(scale, X.ndim) + _channels(bias, X.ndim))


@op("MeanVarianceNormalization", since=9, witnesses=("suite", "onnxruntime"))
def mean_variance_normalization(call: Call, X: Value) -> Value:
    """``(x - mean) / (sqrt(mean(x^2) - mean^2) + 1e-9)``, the variance by its centred form."""
    axes = tuple(call.get("axes") or (0, 2, 3))
    centred = X - X.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=axes, keepdims=True))
    return centred / (deviation + float(np.float32(1e-9)))


@op("LRN", witnesses=("suite", "onnxruntime", "torch", "not reference: wrong region"))
def lrn(call: Call, X: Value) -> Value:
    """``x / (bias + alpha / size * sum of squares over size channels around)^beta``."""
    size = call.get("size")
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    padding = [(0, 0), (before, after)] + [(0, 0)] * (X.ndim - 2)
    squares = np.pad(X * X, padding)
    total = np.zeros_like(X)
    for shift in range(size):
        total += squares[:, shift : shift + X.shape[1]]
    alpha, beta = call.get("alpha", float(np.float32(1e-4))), call.get("beta", 0.75)
    return X / (call.get("bias", 1.0) + alpha / size * total) ** beta


@op("LpNormalization", witnesses=("suite", "torch", "not reference: p=1"))
def lp_normalization(call: Call, X: Value) -> Value:
    """``x / norm`` along an axis, p 1 or 2; a row of zeros stays zero."""
    axis = call.get("axis", -1)
    if call.get("p", 2) == 1:
        norm = np.abs(X).sum(axis=axis, keepdims=True)
    else:
        norm = np.sqrt((X * X).sum(axis=axis, keepdims=True))
    return np.where(norm == 0, 0.0, X / np.where(norm == 0, 1.0, norm))
