"""Reductions, normalisations, softmax, cumulative sums and what selects by order."""

from __future__ import annotations

from typing import Any

import numpy as np

from .builder import Builder

__all__ = ["arg", "cumulative", "normalization", "reduction", "softmax", "top_k"]

_REDUCTIONS = ("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "Prod", "LogSum")


def _axes(b: Builder, rank: int, least: int = 0) -> list[int]:
    """A set of axes, some counted from the end (from opset 11 on)."""
    found = sorted(b.some(range(rank), least))
    return [a - rank if b.opset >= 13 and b.flag() else a for a in found]


def reduction(b: Builder) -> Any:
    """``Reduce*``: axes as an attribute, from 13 (Sum) or 18 on as an input."""
    x = b.pick(1, 5)
    kind = b.choice(_REDUCTIONS)
    if kind == "LogSum":
        inner = b.node("Abs", [x])
        inner = inner and b.node("Add", [inner[0], b.constant(np.float32(0.5))])
        if not inner:
            return None
        x = inner[0]
    op = f"Reduce{kind}"
    axes = _axes(b, x.rank)
    keep = b.choice((None, 0, 1))
    if b.opset >= (13 if kind == "Sum" else 18):
        noop = b.choice((None, 1)) if not axes else None
        return b.node(op, [x, b.integers(*axes) if axes else None], keepdims=keep, noop_with_empty_axes=noop)
    return b.node(op, [x], axes=axes or None, keepdims=keep)


def softmax(b: Builder) -> Any:
    """``Softmax``, ``LogSoftmax``, ``Hardmax``: over a flattened tail before opset 13, along an axis after."""
    x = b.pick(1, 5)
    axis: int | None = b.integer(-x.rank if b.opset >= 11 else 0, x.rank - 1)
    if b.integer(0, 3) == 3 and (x.rank > 1 or b.opset >= 13):
        axis = None
    return b.node(b.choice(("Softmax", "LogSoftmax", "Softmax", "Hardmax")), [x], axis=axis)


def cumulative(b: Builder) -> Any:
    """``CumSum`` in all four forms."""
    if b.opset < 11:
        return None
    x = b.pick(1, 4)
    axis = b.constant(np.array(b.integer(-x.rank, x.rank - 1), np.int64))
    return b.node("CumSum", [x, axis], exclusive=b.choice((None, 1)), reverse=b.choice((None, 1)))


def arg(b: Builder) -> Any:
    """``ArgMax`` and ``ArgMin``; ties are wanted."""
    x = b.pick(1, 4)
    axis = b.integer(-x.rank if b.opset >= 11 else 0, x.rank - 1)
    last = b.choice((None, 1)) if b.opset >= 12 else None
    return b.node(b.choice(("ArgMax", "ArgMin")), [x], axis=axis, keepdims=b.choice((None, 0)), select_last_index=last)


def top_k(b: Builder) -> Any:
    """``TopK`` in its three versions."""
    x = b.pick(1, 4)
    axis = b.integer(-x.rank if b.opset >= 11 else 0, x.rank - 1)
    k = b.integer(1, x.shape[axis])
    if b.opset < 10:
        return b.node("TopK", [x], 2, axis=axis, k=k)
    largest = b.choice((None, 0)) if b.opset >= 11 else None
    return b.node("TopK", [x, b.integers(k)], 2, axis=axis, largest=largest)


def normalization(b: Builder) -> Any:
    """One of the normalisations that the opset has."""
    options = ["BatchNormalization", "InstanceNormalization", "LRN", "LpNormalization"]
    options += ["MeanVarianceNormalization"] * (b.opset >= 9) + ["LayerNormalization"] * (b.opset >= 17)
    options += ["GroupNormalization"] * (b.opset >= 21) + ["RMSNormalization"] * (b.opset >= 23)
    op = b.choice(options)
    if op in ("LayerNormalization", "RMSNormalization"):
        return _layer(b, op)
    if op == "LpNormalization":
        x = b.pick(1, 4)
        return b.node(op, [x], axis=b.integer(-x.rank, x.rank - 1), p=b.choice((None, 1, 2)))
    if op == "MeanVarianceNormalization":
        x = b.pick(4, 4)  # axes always given: onnx's own inference fails on the function body without them
        return b.node(op, [x], axes=b.choice(([0, 2, 3], [1, 2, 3], [2, 3])))
    x = b.pick(2 if op == "BatchNormalization" else 3, 5)
    if op == "LRN":
        x = b.pick(4, 4)
        return b.node(
            op, [x], size=b.choice((1, 3, 5, 2)), alpha=b.choice((None, 0.5)), beta=b.choice((None, 0.5)),
            bias=b.choice((None, 2.0)),
        )  # fmt: skip
    channels = x.shape[1]
    groups = b.choice([g for g in range(1, channels + 1) if channels % g == 0])
    scale, bias = (b.constant(b.healthy((channels,))) for _ in range(2))
    epsilon = b.choice((None, 1e-3, 0.1))
    if op == "InstanceNormalization":
        return b.node(op, [x, scale, bias], epsilon=epsilon)
    if op == "GroupNormalization":
        return b.node(op, [x, scale, bias], epsilon=epsilon, num_groups=groups)
    mean, variance = b.constant(b.healthy((channels,))), b.constant(np.abs(b.healthy((channels,))) + 0.1, np.float32)
    return b.node(op, [x, scale, bias, mean, variance], epsilon=epsilon)


def _layer(b: Builder, op: str) -> Any:
    x = b.pick(1, 4)
    axis = b.integer(-x.rank, x.rank - 1)
    tail = x.shape[axis:]
    inputs = [x, b.supply(b.healthy(tail))]
    if op == "LayerNormalization" and b.flag():
        inputs.append(b.supply(b.healthy(tail)))
    return b.node(op, inputs, axis=axis, epsilon=b.choice((None, 1e-3)))
