"""The error function in float64, vectorised.

W. J. Cody, "Rational Chebyshev Approximation for the Error Function", Math. Comp. 23 (1969): with
``y = |x|``, ``erf = x * A(x^2) / B(x^2)`` for ``y <= 0.46875`` and ``1 - exp(-y^2) * C(y) / D(y)`` above.
Beyond ``y = 4``, where Cody changes the approximation to keep erfc's relative error small, erfc is below
1.6e-8: its relative error no longer reaches the last bit of erf.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.blocks import BLOCK, in_blocks

__all__ = ["erf", "erf_into"]

_SMALL = 0.46875
_LARGE = 6.0  # erf(6) rounds to 1

_A = (1.85777706184603153e-1, 3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02,
      3.20937758913846947e03)  # fmt: skip
_B = (1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
_C = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01,
      2.98635138197400131e02, 8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03,
      1.23033935479799725e03)  # fmt: skip
_D = (1.0, 1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
      3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03,
      1.23033935480374942e03)  # fmt: skip


def _horner(coefficients: tuple[float, ...], x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """``out`` becomes the polynomial with these coefficients, highest power first."""
    np.multiply(x, coefficients[0], out=out)
    for coefficient in coefficients[1:-1]:
        out += coefficient
        out *= x
    out += coefficients[-1]


def erf_into(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Writes ``erf(x)`` to ``out`` (both 1-d, one block; they may not overlap)."""
    y = np.abs(x)
    np.minimum(y, _LARGE, out=y)  # NaN stays NaN
    denominator = np.empty_like(y)
    _horner(_C, y, out)
    _horner(_D, y, denominator)
    out /= denominator
    np.multiply(y, y, out=denominator)
    np.negative(denominator, out=denominator)
    np.exp(denominator, out=denominator)
    out *= denominator
    np.subtract(1.0, out, out=out)
    np.copysign(out, x, out=out)
    small = np.flatnonzero(y <= _SMALL)
    if small.size:
        near = x[small]
        square = near * near
        top, bottom = np.empty_like(near), np.empty_like(near)
        _horner(_A, square, top)
        _horner(_B, square, bottom)
        top /= bottom
        top *= near
        out[small] = top


def erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The error function of every element, relative error below 1e-15."""
    source = np.ascontiguousarray(x, dtype=np.float64)
    result = np.empty_like(source)
    flat, target = source.reshape(-1), result.reshape(-1)

    def work(start: int, stop: int) -> None:
        erf_into(flat[start:stop], target[start:stop])

    in_blocks(flat.size, BLOCK, work)
    return result.reshape(x.shape)  # a contiguous copy of a scalar has one axis
