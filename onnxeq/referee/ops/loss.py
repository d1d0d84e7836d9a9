"""Losses, and the optimiser steps of the training preview."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxeq.referee.registry import Call, op

__all__: list[str] = []


def _negative_log_likelihood(call: Call, log_prob: Any, target: Any, weight: Any) -> Any:
    """``-weight[t] * log_prob[t]`` per position, reduced as asked; ``ignore_index`` counts for nothing."""
    ignored = call.get("ignore_index")
    target = target.astype(np.int64)
    live = np.ones(target.shape, bool) if ignored is None else target != ignored
    safe = np.where(live, target, 0)
    picked = np.take_along_axis(log_prob, safe[:, None], axis=1)[:, 0]
    weights = (np.ones(target.shape, log_prob.dtype) if weight is None else weight[safe]) * live
    loss = np.where(live, -picked * weights, 0)
    reduction = call.get("reduction", "mean")
    if reduction == "none":
        return loss
    if reduction == "sum":
        return np.asarray(loss.sum())
    return np.asarray(loss.sum() / weights.sum())


@op("NegativeLogLikelihoodLoss", since=12, witnesses=("suite", "onnxruntime"))
def negative_log_likelihood(call: Call, X: Any, target: Any, weight: Any = None) -> Any:
    """The mean (or sum, or each) of ``-weight[t] * X[t]``; the mean is over the weights."""
    return _negative_log_likelihood(call, X, target, weight)


@op("SoftmaxCrossEntropyLoss", since=12, witnesses=("suite", "onnxruntime"))
def softmax_cross_entropy(call: Call, scores: Any, labels: Any, weights: Any = None) -> tuple[Any, Any]:
    """The same of the stable log-softmax over axis 1, which is the second output."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_prob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return _negative_log_likelihood(call, log_prob, labels, weights), log_prob


def _groups(tensors: tuple[Any, ...], kinds: int) -> list[tuple[Any, ...]]:
    """One tuple per optimised tensor, from inputs that come kind by kind."""
    count = len(tensors) // kinds
    return [tuple(tensors[k * count + i] for k in range(kinds)) for i in range(count)]


def _kind_by_kind(results: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(value for column in zip(*results, strict=True) for value in column)


@op("Adagrad", domain="ai.onnx.preview.training", witnesses=("suite",))
def adagrad(call: Call, R: Any, T: Any, *tensors: Any) -> tuple[Any, ...]:
    """``H += G^2``; ``X -= r G / (sqrt(H) + epsilon)`` with ``r = R / (1 + T decay)``."""
    rate = R / (1 + T * call.get("decay_factor", 0.0))
    norm, epsilon = call.get("norm_coefficient", 0.0), call.get("epsilon", 0.0)
    results = []
    for X, G, H in _groups(tensors, 3):
        gradient = norm * X + G
        squares = H + gradient**2
        results.append((X - rate * gradient / (np.sqrt(squares) + epsilon), squares))
    return _kind_by_kind(results)


@op("Adam", domain="ai.onnx.preview.training", witnesses=("suite",))
def adam(call: Call, R: Any, T: Any, *tensors: Any) -> tuple[Any, ...]:
    """One step of Adam with bias correction for ``T > 0``."""
    alpha, beta = call.get("alpha", float(np.float32(0.9))), call.get("beta", float(np.float32(0.999)))
    norm, epsilon = call.get("norm_coefficient", 0.0), call.get("epsilon", 0.0)
    after = call.get("norm_coefficient_post", 0.0)
    rate = R * np.sqrt(1 - beta**T) / (1 - alpha**T) if T > 0 else R
    results = []
    for X, G, V, H in _groups(tensors, 4):
        gradient = norm * X + G
        first = alpha * V + (1 - alpha) * gradient
        second = beta * H + (1 - beta) * gradient**2
        moved = X - rate * first / (np.sqrt(second) + epsilon)
        results.append(((1 - after) * moved, first, second))
    return _kind_by_kind(results)


@op("Momentum", domain="ai.onnx.preview.training", witnesses=("suite",))
def momentum(call: Call, R: Any, T: Any, *tensors: Any) -> tuple[Any, ...]:
    """One step of momentum, standard or Nesterov; the first step takes the gradient whole."""
    alpha, norm = call.get("alpha"), call.get("norm_coefficient")
    beta = call.get("beta") if T > 0 else 1.0
    results = []
    for X, G, V in _groups(tensors, 3):
        gradient = norm * X + G
        velocity = alpha * V + beta * gradient
        step = gradient + alpha * velocity if call.get("mode") == "nesterov" else velocity
        results.append((X - R * step, velocity))
    return _kind_by_kind(results)
