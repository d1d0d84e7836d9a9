"""Medians, ratios and their intervals, from what each execution took in each round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxeq.compare.latency.values import SHARE, Execution, Interval, Ratio

__all__ = ["LOW", "RESAMPLES", "half_width", "interval", "median", "ratio"]

_LEVEL = 0.95
RESAMPLES = 2000

LOW = 0.2
"""Which share of the runs is taken to be undisturbed. Of shares from 0.01 to 0.5, and of the median, the least, and
medians of rounds, tried on recorded runs of three networks beside one busy core and beside two, it gave ratios among
the steadiest in both: less is steadier beside the one, and far less so beside the two.
"""


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number the mean of the middle two."""
    return float(np.median(np.asarray(values, dtype=np.float64)))


def interval(values: Sequence[float], seed: int, resamples: int = RESAMPLES) -> Interval:
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


def ratio(
    left: tuple[Execution, Sequence[Sequence[float]]],
    right: tuple[Execution, Sequence[Sequence[float]]],
    seed: int,
    resamples: int = RESAMPLES,
) -> Ratio:
    """How many times as long ``left`` takes as ``right`` when nothing disturbs them.

    It is ``m(a) / m(b)`` with ``m`` the mean of that :data:`LOW` share of all runs of all rounds that took least. Other
    programs only ever add to what a run takes, in bursts, so that the low end of its distribution is what the model
    takes by itself, and is steadier than means and medians of all (J. Chen and J. Revels, Robust benchmarking in noisy
    environments, 2016, who take the least; of a short model there are more runs, and the least of more is less). Rounds
    are drawn for the interval as in :func:`interval`, both sides together.

    Args:
        left: The execution with what its runs took in each round.
        right: The same, for the same rounds.
        seed: Of the draws.
        resamples: How many samples are drawn.
    """
    count = len(left[1])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, [1 / count] * count, resamples)
    weights = np.concatenate([np.ones((1, count), dtype=drawn.dtype), drawn])
    found, *others = _low_ends(left[1], weights) / _low_ends(right[1], weights)
    low, high = np.quantile(others, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    between = Interval(float(low), float(high))
    beyond = max(found, 1 / found) > 1 + SHARE
    return Ratio(left[0], right[0], float(found), between, bool(beyond and between.excludes(1.0)))


def _low_ends(rounds: Sequence[Sequence[float]], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each row of weights, one for each round, the mean of the :data:`LOW` share of the weighted runs that took
    least; of a run at the border as much as belongs to the share.
    """
    times = np.concatenate([np.asarray(each, dtype=np.float64) for each in rounds])
    of = np.repeat(np.arange(len(rounds)), [len(each) for each in rounds])
    order = np.argsort(times)
    reached = np.cumsum(weights[:, of[order]], axis=1)
    share = LOW * reached[:, -1:]
    taken = np.diff(np.minimum(reached, share), axis=1, prepend=0.0)
    found: NDArray[np.float64] = taken @ times[order] / share[:, 0]
    return found


def half_width(between: Interval) -> float:
    """By which share a ratio may be off, in either direction: ``sqrt(high / low) - 1``."""
    return math.sqrt(between.high / between.low) - 1
