"""The statistics against values derived by hand."""

from __future__ import annotations

import math

import pytest

from onnxeq.compare.accuracy.statistics import holm, mcnemar, share

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("right", "low", "high"),
    [
        (10, 10 / (10 + Z * Z), 1.0),
        (0, 0.0, Z * Z / (10 + Z * Z)),
        (5, 0.5 - Z / (2 * math.sqrt(10 + Z * Z)), 0.5 + Z / (2 * math.sqrt(10 + Z * Z))),
    ],
)
def test_wilsons_interval(right: int, low: float, high: float) -> None:
    """All of 10: from n/(n+z²) to 1; none: from 0 to z²/(n+z²); half: 1/2 ± z/(2·sqrt(n+z²))."""
    found = share(right, 10)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert (found.right, found.items, found.value) == (right, 10, right / 10)


def test_the_interval_holds_a_figure_in_per_cent() -> None:
    """Half of ten reaches from 23.66 % to 76.34 %."""
    half = share(5, 10)
    assert [half.holds(p) for p in (23.6, 23.7, 76.3, 76.4)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("left", "right", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 5, 2 / 2**5),
        (6, 0, 2 / 2**6),
        (1, 9, 2 * (1 + 10) / 2**10),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (4, 5, 1.0),  # 2 * (1 + 9 + 36 + 84 + 126) / 512
        (0, 1100, 0.0),  # 2 / 2^1100 is no float64
        (0, 1000, 2.0**-999),
    ],
)
def test_mcnemars_exact_test(left: int, right: int, p: float) -> None:
    """Twice the tail of the binomial distribution, 1 at most."""
    assert mcnemar(left, right) == p


def test_mcnemar_agrees_with_scipy() -> None:
    """The two-sided binomial test with a share of one half, also for thousands of items."""
    stats = pytest.importorskip("scipy.stats")
    for left, right in ((2, 11), (40, 71), (1000, 1130), (4000, 4001)):
        assert mcnemar(left, right) == pytest.approx(stats.binomtest(left, left + right).pvalue, rel=1e-9)


def test_three_in_a_thousand_is_no_discrepancy() -> None:
    """0.3 % of 1,000 items, with 23 that exactly one of two models gets right: far from 0.05."""
    assert mcnemar(13, 10) > 0.5


def test_holms_correction() -> None:
    """0.01·3, then 0.03·2, then 0.04·1, which is not below the one before; none is above 1."""
    assert holm((0.01, 0.04, 0.03)) == pytest.approx((0.03, 0.06, 0.06))
    assert holm((0.7, 0.6)) == (1.0, 1.0)
    assert holm((0.02,)) == (0.02,)
    assert holm(()) == ()
