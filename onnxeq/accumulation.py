"""How far a float32 kernel's sum is from the true one, told from the terms themselves.

With unit roundoff ``u`` (2^-24 for float32), one correctly rounded operation has a relative error of at most ``u`` and
of ``u/sqrt(3)`` in the root mean square. A sum of ``n`` terms kept in one accumulator rounds every partial sum ``s_k``,
so its error has the variance ``u^2/3 * sum_k s_k^2``. Terms of random sign with squares that add up to ``q`` give
``sum_k s_k^2 = q*n/2``; terms of one sign give ``y^2*n/3``. ``L`` accumulators that are added in the end have an error
``L`` times smaller. Source of the model: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
chapters 3 and 4.

Where the terms are nearly equal, roundings are not random: while the sum stays between two powers of two, each addition
loses or gains the same part of an ulp, and the error grows with ``n`` and not with its root. A sum of 65,536 times 0.1
is 880 u off in onnxruntime's ReduceSum, where random roundings would give 8. That part depends on the values alone, so
it is computed: the terms are summed in float32 (:func:`accumulate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK", "LANES", "ONE", "RANDOM", "Error", "Shared", "Size", "accumulate", "terms", "total"]

Real: TypeAlias = "NDArray[np.float64]"
Shared: TypeAlias = "tuple[Real, tuple[int, ...]]"
"""A perturbation whose elements move together: how far each moves, and the shape of the signs that decide. The first
has as many elements as the result, in any shape of the same order, or is broadcast to it."""


class Size(NamedTuple):
    """A perturbation's root mean square in units of ``u``.

    Attributes:
        relative: Of each element to its value, independently of the others.
        absolute: Of each element, independently of the others.
        shared: What moves many elements alike. Every element of a group is divided by one deviation: its rounding does
            not average out when they are added up, as independent ones do.
    """

    relative: Real | float
    absolute: Real | float
    shared: tuple[Shared, ...] = ()


BLOCK = 128
"""Terms that a kernel sums in one accumulator before it starts another."""

LANES = 4
"""Accumulators of a vector unit that share a long reduction along memory. Told from bits, on onnxruntime 1.31: its
ReduceSum, ReduceMean, InstanceNormalization, RMSNormalization and the variance of its LayerNormalization err exactly as
a sum in 8 accumulators does, GlobalAveragePool as one in 4; ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSumExp,
AveragePool and any reduction along a strided axis as one in a single accumulator."""

ONE = (1 / 3) ** 0.5
"""One correctly rounded operation, in the root mean square."""

_PIECES = 64
"""Places at which partial sums are taken."""

RANDOM = 3.0
"""Sizes of random rounding that a float32 sum's error must exceed to be no random one: 3 of 1000 normal deviates do."""


_LONG = 4096
"""Terms from which on even squares of normal deviates, many of which are lost beside their sum, err alike."""


@dataclass(frozen=True)
class Error:
    """The rounding of many sums, in units of ``u``.

    Attributes:
        random: Root mean square for each sum, independent of the others'.
        alike: For each sum the error that its terms' own values make, signed; zero where roundings are random.
    """

    random: Real
    alike: Real

    def scaled(self, factor: Real | float) -> Error:
        """The error of the sums times a factor each."""
        return Error(self.random * np.abs(factor), self.alike * factor)

    def shared(self, shape: tuple[int, ...], pattern: Real | float = 1.0) -> tuple[Shared, ...]:
        """One perturbation by the sums of that shape, of whatever a pattern scales with them."""
        found: list[Shared] = [(self.random.reshape(shape) * pattern, shape)]
        return (*found, *self.alone(shape, pattern))

    def alone(self, shape: tuple[int, ...], pattern: Real | float = 1.0) -> tuple[Shared, ...]:
        """The part that values make: equal sums err alike, so all of them have one sign."""
        return ((self.alike.reshape(shape) * pattern, ()),) if self.alike.any() else ()


def terms(n: float) -> float:
    """The length of the longest chain of additions when ``n`` terms are summed in blocks."""
    return min(n, BLOCK) + n / BLOCK


def accumulate(rows: Real, lanes: int) -> Error:
    """The rounding of the sum of each row, and what float32 itself makes of it where that is more.

    What cancels in the end (channels of opposite mean) was there in between, so neither the result nor the squares of
    the terms tell: the partial sums ``s_k`` do, in memory order. Each of ``L`` accumulators holds ``s_k/L``, and what
    its own terms of variance ``v`` add at random, whose square grows as ``k*v*(1 - 1/L)/L``: the sum's squared error is
    ``(n*mean(s_k^2)/L^2 + n^2*v*(1 - 1/L)/(2*L)) / 3``. How nearly equal terms err is tried in ``lanes`` accumulators
    and in twice as many, because by chance one of them hits the exact value.

    Args:
        rows: The terms, ``float64[R,N]``.
        lanes: Accumulators that a long row is shared by; a row shorter than :data:`BLOCK` has one.
    """
    n = rows.shape[1]
    lanes = 1 if n < BLOCK else lanes
    with np.errstate(all="ignore"):
        pieces = min(_PIECES, max(1, n))
        parts = rows[:, : pieces * (n // pieces)].reshape(len(rows), pieces, -1).sum(-1)
        squares = np.mean(np.square(np.cumsum(parts, axis=1)), axis=1)
        sums = rows.sum(1)  # of all terms: the pieces leave out what does not divide
        spread = np.maximum(np.einsum("ij,ij->i", rows, rows) / n - np.square(sums / n), 0.0)
        apart = spread * (n**2 * (1 - 1 / lanes) / (2 * lanes))
        random = np.sqrt((squares * (n / lanes**2) + apart) / 3)
        tried = []
        if _may_err_alike(n, lanes, sums, spread):
            tried = [_error(rows.astype(np.float32), count) for count in (lanes, 2 * lanes) if n >= 4 * count]
        alike = np.zeros(len(rows))
        for error in tried:
            alike = np.where(np.abs(error) > np.abs(alike), error, alike)
    alike = np.where(np.abs(alike) > RANDOM * random, alike, 0.0)
    return Error(_numbers(random), _numbers(alike))


def _may_err_alike(n: int, lanes: int, sums: Real, spread: Real) -> bool:
    """Whether to try it, which takes ten times as long as all else: what n equal terms lose, about ``n/10/lanes`` u, is
    more than random roundings from ``BLOCK * lanes`` terms on, and up to :data:`_LONG` only terms that are equal to 64
    ulp of an accumulator do so.
    """
    close = np.square(sums * (64 * 2.0**-23 / lanes))
    return n >= _LONG or (n >= BLOCK * lanes and bool((spread <= close).any()))


def _numbers(values: Real) -> Real:
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _error(rows: NDArray[np.float32], lanes: int) -> Real:
    """What a sum of each row in that many float32 accumulators is off, in ``u``."""
    count = rows.shape[1] // lanes * lanes
    given = rows[:, :count].reshape(len(rows), -1, lanes)
    # Along one accumulator's contiguous axis numpy's own sum would go in pairs.
    last = np.add.accumulate(given, axis=1)[:, -1] if lanes == 1 else np.add.reduce(given, axis=1)
    found: Real = (last.astype(np.float64).sum(-1) - given.sum((1, 2), dtype=np.float64)) * 2.0**24
    return found


def total(size: Size, y: Real) -> Real:
    """The root mean square of a whole perturbation for each element of ``y``, in units of ``u``."""
    squares = np.square(np.multiply(size.relative, y)) + np.square(size.absolute)
    for pattern, _ in size.shared:
        squares = squares + np.square(pattern.reshape(y.shape) if pattern.size == y.size else pattern)
    return np.asarray(np.sqrt(squares))
