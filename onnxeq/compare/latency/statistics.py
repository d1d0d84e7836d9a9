"""Medians, ratios and their intervals, from what each execution took in each round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onnxeq.compare.latency.values import SHARE, Execution, Interval, Ratio

__all__ = ["half_width", "interval", "median", "ratio"]

_LEVEL = 0.95
_RESAMPLES = 2000

_Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number the mean of the middle two."""
    return float(np.median(np.asarray(values, dtype=np.float64)))


def interval(values: Sequence[float], seed: int, resamples: int = _RESAMPLES) -> Interval:
    """The 95 % percentile bootstrap interval of the median over rounds.

    With ``m*_b`` the median of the b-th sample of n values drawn from the n given ones with replacement, it is
    ``[q_0.025(m*), q_0.975(m*)]`` (B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
    Rounds are drawn, not runs: runs of one round share what the machine did meanwhile.

    Args:
        values: One for each round.
        seed: Of the draws.
        resamples: How many samples are drawn.
    """
    given = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    drawn = np.median(given[rng.integers(0, len(given), (resamples, len(given)))], axis=1)
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(low), float(high))


def ratio(left: tuple[Execution, Sequence[float]], right: tuple[Execution, Sequence[float]], seed: int) -> Ratio:
    """How many times as long ``left`` takes as ``right``, from paired rounds.

    With ``a_i`` and ``b_i`` what a run took on average in the i-th round it is ``median_i(a_i / b_i)``: what slows the
    machine in a round slows both, and cancels. Rounds are drawn for the interval as in :func:`interval`, both sides
    together.

    Args:
        left: The execution with what a run of it took in each round.
        right: The same, for the same rounds.
        seed: Of the draws.
    """
    quotients = [a / b for a, b in zip(left[1], right[1], strict=True)]
    found, between = median(quotients), interval(quotients, seed)
    beyond = max(found, 1 / found) > 1 + SHARE
    return Ratio(left[0], right[0], found, between, beyond and between.excludes(1.0))


def half_width(between: Interval) -> float:
    """By which share a ratio may be off, in either direction: ``sqrt(high / low) - 1``."""
    return math.sqrt(between.high / between.low) - 1
