"""Figures and intervals from numbers that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxeq.compare.latency.statistics import half_width, interval, median, ratio
from onnxeq.compare.latency.values import Execution, Interval, Ratio

A, B = Execution("a", "native", 1), Execution("b", "native", 1)


def test_the_median_is_the_middle() -> None:
    """Of three the second, of four the mean of the middle two."""
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5


def test_an_interval_covers_the_median_as_often_as_it_says() -> None:
    """Of 300 samples of 25 from a normal distribution, 95 % +- 4 % of the intervals hold its median, 0."""
    rng = np.random.default_rng(0)
    hits = [not interval(list(rng.standard_normal(25)), seed, resamples=400).excludes(0.0) for seed in range(300)]
    assert 0.91 <= np.mean(hits) <= 0.99


def test_an_interval_is_the_same_for_the_same_seed() -> None:
    """And of equal values it is that value."""
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert interval(values, 3) == interval(values, 3)
    assert interval(values, 3) == Interval(1.0, 16.0)  # each alone makes 3 of 5 draws in 5.8 % of all samples
    assert interval([2.0] * 5, 0) == Interval(2.0, 2.0)


def test_what_slows_a_round_cancels() -> None:
    """The machine is up to nine times slower from round to round, both sides alike: the ratio is 3 exactly."""
    drift = [1.0, 9.0, 2.0, 5.0, 1.5, 7.0, 3.0]
    found = ratio((A, [[3 * d] for d in drift]), (B, [[d] for d in drift]), 0)
    assert (found.ratio, found.interval) == (pytest.approx(3.0), Interval(pytest.approx(3.0), pytest.approx(3.0)))
    assert found.discrepancy


@pytest.mark.parametrize(
    ("values", "discrepancy"),
    [
        ([1.04] * 9, False),  # certain, and too small to matter
        ([1.06] * 9, True),
        ([1 / 1.06] * 9, True),
        ([0.7, 1.0, 1.0, 1.0, 1.2, 1.3, 1.4, 1.5, 1.6], False),  # large, and not certain
    ],
)
def test_a_discrepancy_is_certain_and_large(values: list[float], discrepancy: bool) -> None:
    """Its interval excludes 1, and it is beyond 5 % in either direction."""
    assert ratio((A, [[v] for v in values]), (B, [[1.0]] * 9), 0).discrepancy is discrepancy


def test_bursts_of_other_work_do_not_count() -> None:
    """Two thirds of all runs are held up by up to twenty times, at random: the ratio is that of what is left."""
    rng = np.random.default_rng(3)

    def rounds(own_s: float) -> list[list[float]]:
        held = [[own_s * (1 + 19 * rng.random() * (rng.random() < 2 / 3)) for _ in range(12)] for _ in range(15)]
        return [[t * (1 + 0.005 * rng.random()) for t in each] for each in held]

    found = ratio((A, rounds(0.020)), (B, rounds(0.008)), 0)
    assert found.ratio == pytest.approx(2.5, rel=0.01)
    assert found.interval.low <= 2.5 * 1.005
    assert half_width(found.interval) < 0.01


def test_the_low_end_is_a_fifth_of_all_runs() -> None:
    """Of 27 runs in rounds of unequal length it is the mean of the five that took least and 0.4 of the sixth."""
    a = [[20.0, 1.0], [2.0, *map(float, range(4, 26))], [19.0, 40.0]]
    assert sum(map(len, a)) == 27
    found = ratio((A, a), (B, [[1.0], [1.0], [1.0]]), 0)
    assert found.ratio == pytest.approx((1 + 2 + 4 + 5 + 6 + 0.4 * 7) / 5.4)


def test_half_the_width_is_a_share() -> None:
    """From 1/1.1 to 1.1 of a value is 10 % in either direction."""
    assert half_width(Interval(2 / 1.1, 2 * 1.1)) == pytest.approx(0.1)
    assert half_width(Interval(5.0, 5.0)) == 0
    assert math.isclose(half_width(Ratio(A, B, 1.0, Interval(1.0, 4.0), False).interval), 1.0)
