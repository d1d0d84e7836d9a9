"""The error function and the normal distribution in float64, vectorised.

Both are integrals of a bell. From the nearest node ``x0`` of a table, a step ``d = x - x0`` adds ``d`` times the bell
at the step's middle ``m``, corrected by the bell's curvature there:

    erf(x) = erf(x0) + d * 2 / sqrt(pi) * exp(-m^2) * (1 + (4 m^2 - 2) d^2 / 24)        error 0.0067 d^5
    Phi(x) = Phi(x0) + d / sqrt(2 pi) * exp(-m^2 / 2) * (1 + (m^2 - 1) d^2 / 24)        error 0.0006 d^5

The correction is taken into the exponential; what the next order then lacks is the error. Steps are at most
2^-11 and 2^-9, so that they stay below 2e-17, and near zero, where erf has no other part, below 2e-16 of it. The tables
come from the C library's ``erf`` and ``erfc``.

An element's result depends on nothing but that element. A product of matrices evaluates polynomials as fast, but BLAS
adds up differently from column to column.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.blocks import BLOCK, in_blocks

__all__ = ["erf", "erf_into", "gelu_into"]


@dataclass(frozen=True)
class _Curve:
    """``table[x0] + d * height * exp((4 m^2 - offset) * (curvature * d^2 - width))`` between ``low`` and ``high``.

    Attributes:
        low: The first node, a multiple of the distance.
        high: The last; beyond both the curve is level.
        steps: Nodes per unit, a power of two.
        table: The values at the nodes.
        offset: Where the bell's curvature changes its sign, as ``4 m^2``.
        curvature: What ``d^2`` adds to the exponent.
        width: What ``4 m^2`` takes from it.
        height: Makes up for ``offset * width``, which the exponent has too much, and norms the bell.
    """

    low: float
    high: float
    steps: int
    table: NDArray[np.float64]
    offset: float
    curvature: float
    width: float
    height: float


def _nodes(function: Callable[[float], float], low: float, high: float, steps: int) -> NDArray[np.float64]:
    return np.array([function(k / steps) for k in range(int(low * steps), int(high * steps) + 1)])


@functools.cache
def _error_function() -> _Curve:
    """erf(6) rounds to 1."""
    table = _nodes(math.erf, -6, 6, 1024)
    table[6 * 1024] = -0.0  # so that the sum with a step of -0 is -0, and with any other step the step
    return _Curve(-6.0, 6.0, 1024, table, 2.0, 1 / 24, 1 / 4, 2 / math.sqrt(math.pi) * math.exp(-0.5))


@functools.cache
def _normal() -> _Curve:
    """Phi(-39) is zero and Phi(9) rounds to 1."""
    table = _nodes(lambda x: 0.5 * math.erfc(-x * math.sqrt(0.5)), -39, 9, 256)
    return _Curve(-39.0, 9.0, 256, table, 4.0, 1 / 96, 1 / 8, math.exp(-0.5) / math.sqrt(2 * math.pi))


class _Scratch(threading.local):
    """What a thread works in: one block each of floats and of indices."""

    def __init__(self) -> None:
        self.floats = np.empty((4, BLOCK))
        self.indices = np.empty(BLOCK, dtype=np.int64)


_SCRATCH = _Scratch()


def _follow(curve: _Curve, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve at ``x`` (one block), in the thread's scratch; of NaN some number."""
    node, step, exponent, value = (row[: x.size] for row in _SCRATCH.floats)
    index = _SCRATCH.indices[: x.size]
    if not (x.min() >= curve.low and x.max() <= curve.high):
        x = np.fmin(np.fmax(x, curve.low), curve.high)
    # At this size a float counts in steps of the table: adding it rounds to a node, and its bits tell which.
    anchor = 1.5 * 2.0**52 / curve.steps
    np.add(x, anchor, out=node)
    first = int(np.float64(anchor).view(np.int64)) + int(curve.low * curve.steps)
    np.subtract(node.view(np.int64), first, out=index)
    node -= anchor
    np.subtract(x, node, out=step)
    np.add(x, node, out=exponent)  # 2 m
    exponent *= exponent
    exponent -= curve.offset
    factor = np.multiply(step, step, out=node)
    factor *= curve.curvature
    factor -= curve.width
    exponent *= factor
    bell = np.exp(exponent, out=exponent)
    step *= curve.height
    step *= bell
    np.take(curve.table, index, out=value, mode="clip")
    value += step
    return value


def erf_into(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Writes ``erf(x)`` to ``out``: both 1-d, one block of at most ``BLOCK``; they may be the same."""
    value = _follow(_error_function(), x)
    if np.isnan(x.max()):
        value[np.isnan(x)] = np.nan
    out[...] = value


def gelu_into(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Writes ``x * Phi(x)``, which is ``x / 2 * (1 + erf(x / sqrt(2)))``, to ``out``; as :func:`erf_into`."""
    np.multiply(_follow(_normal(), x), x, out=out)


def erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The error function of every element, relative error below 1e-15."""
    source = np.ascontiguousarray(x, dtype=np.float64)
    result = np.empty_like(source)
    flat, target = source.reshape(-1), result.reshape(-1)

    def work(start: int, stop: int) -> None:
        erf_into(flat[start:stop], target[start:stop])

    in_blocks(flat.size, BLOCK, work)
    return result.reshape(x.shape)  # a contiguous copy of a scalar has one axis
