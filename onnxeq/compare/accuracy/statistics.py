"""The statistics of counts: an interval for a share, a test for two models on the same items, a correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxeq.compare.accuracy.values import Share

__all__ = ["holm", "mcnemar", "share"]

_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def share(right: int, items: int) -> Share:
    """``right`` of ``items`` with Wilson's 95 % score interval.

    With ``p = right / items``, ``n = items`` and ``z = 1.96``::

        (p + z^2/2n ± z * sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927), 209-212. Unlike ``p ± z * sqrt(p(1-p)/n)`` it stays within 0 and 1, and does not
    shrink to a point where all items are right.
    """
    p, n, z2 = right / items, items, _Z * _Z
    middle = p + z2 / (2 * n)
    half = _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    low = 0.0 if right == 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if right == items else min(1.0, (middle + half) / scale)
    return Share(right, items, low, high)


def mcnemar(only_left: int, only_right: int) -> float:
    """The p-value of McNemar's exact test, two-sided.

    Of the ``n`` items that exactly one of two models gets right, each model has half if they are equally good:
    ``p = min(1, 2 * sum(C(n, i) for i <= min(only_left, only_right)) / 2^n)``; 1 where there are none. The sum is in
    whole numbers, so that nothing is rounded before the division.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157; exact by the binomial distribution.
    """
    n, fewer = only_left + only_right, min(only_left, only_right)
    if only_left == only_right:
        return 1.0
    total = term = 1
    for i in range(fewer):
        term = term * (n - i) // (i + 1)
        total += term
    return min(1.0, 2 * total / (1 << n))


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """p-values corrected for how many there are, so that one wrong alarm among them all is rarer than the level.

    The smallest of ``m`` is multiplied by ``m``, the next by ``m - 1`` and so on, none above 1 and none below one that
    was smaller before.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979),
    65-70.
    """
    corrected = [1.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return tuple(corrected)
