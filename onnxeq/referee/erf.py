"""The error function and GELU in float64, vectorised.

With ``y = |x|``, ``exp(y^2) * erfc(y)`` is smooth and falls slowly: ``P(y) / Q(y)``, of degrees 8 and 9, has it on
[0, 6] with an error that moves erf by 2.4e-18 and erfc by 4.8e-17 of themselves; from 10 on, where erfc is below
1e-44, the ratio is off by up to 2e-9. It was fitted in 50 digits: least squares of ``P - Q * f``, weighted anew until
the largest error was even, with ``P(0) = Q(0) = 1``. All coefficients of P, Q and Q - P are positive, so no sum
cancels:

    erfc(y) = exp(-y^2) * P / Q
    erf(y) = ((Q - P) + (1 - exp(-y^2)) * P) / Q

The second form keeps its relative error down to zero. The powers of a block are rows of one matrix, and the polynomials
one product with it: a third of the passes over memory that Horner's scheme takes.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.blocks import BLOCK, in_blocks

__all__ = ["erf", "erf_into", "gelu_into"]

_P = (1.0, 1.840668801265076404, 1.693571784794274126, 0.9780420416735189421, 0.3823116201634911100,
      0.1029083535179330514, 0.01860081250948298156, 0.002069231629380303764, 0.0001092016996782502491,
      0.0)  # fmt: skip
_Q = (1.0, 2.969047968360588981, 4.043783658399618530, 3.324168087756051163, 1.822924562314284393,
      0.6940149830372914024, 0.1842343145126354778, 0.03306584787781264376, 0.003667617986399229417,
      0.0001935549658225837648)  # fmt: skip
_LARGE = 6.0  # erf(6) rounds to 1

_GELU_LARGE = 40.0  # exp(-40^2 / 2) is zero

_POWERS = np.arange(10)
_ERF = np.array([_P, _Q, np.subtract(_Q, _P)])
_GELU = np.array([np.multiply(_P, 0.5), _Q]) * 0.5 ** (_POWERS / 2)
"""For ``erfc(y / sqrt(2)) / 2``, by powers of ``y``."""


class _Scratch(threading.local):
    """What a thread works in: the powers of a block, from the zeroth on, and the polynomials' values."""

    def __init__(self) -> None:
        # Rows a power of two apart would compete for the same lines of the cache.
        self.powers = np.empty((len(_POWERS), BLOCK + 72))
        self.powers[0] = 1.0
        self.values = np.empty((3, BLOCK + 72))


_SCRATCH = _Scratch()


def _polynomials(x: NDArray[np.float64], coefficients: NDArray[np.float64], large: float) -> NDArray[np.float64]:
    """The powers of ``min(|x|, large)``, rows 1 to 9, made from ``x``; then the polynomials' values, in the scratch."""
    powers = _SCRATCH.powers[:, : x.size]
    y = powers[1]
    np.abs(x, out=y)
    if not y.max() < large:
        np.minimum(y, large, out=y)  # NaN stays NaN
    np.multiply(y, y, out=powers[2])
    np.multiply(powers[1:3], powers[2], out=powers[3:5])
    np.multiply(powers[1:5], powers[4], out=powers[5:9])
    np.multiply(y, powers[8], out=powers[9])
    np.matmul(coefficients, powers, out=_SCRATCH.values[: len(coefficients), : x.size])
    return powers


def erf_into(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Writes ``erf(x)`` to ``out``: both 1-d, one block of at most ``BLOCK``; they may be the same."""
    powers = _polynomials(x, _ERF, _LARGE)
    top, bottom, difference = _SCRATCH.values[:, : x.size]
    negative = np.negative(powers[2], out=powers[2])
    top *= np.expm1(negative, out=negative)
    np.subtract(difference, top, out=top)
    top /= bottom
    np.copysign(top, x, out=out)


def gelu_into(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Writes ``x / 2 * erfc(-x / sqrt(2))``, as ``max(x, 0) - |x| / 2 * erfc(|x| / sqrt(2))``; as :func:`erf_into`.

    Nothing cancels, so that the relative error stays small where the function falls to zero.
    """
    powers = _polynomials(x, _GELU, _GELU_LARGE)
    half, bottom = _SCRATCH.values[:2, : x.size]
    exponent = np.multiply(powers[2], -0.5, out=powers[2])
    half /= bottom
    half *= np.exp(exponent, out=exponent)
    half *= powers[1]
    endless = None if powers[1].max() < _GELU_LARGE else x == -np.inf
    np.maximum(x, 0.0, out=out)
    out -= half
    if endless is not None:
        out[endless] = np.nan  # -inf * 0, as in the definition


def erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The error function of every element, relative error below 1e-15."""
    source = np.ascontiguousarray(x, dtype=np.float64)
    result = np.empty_like(source)
    flat, target = source.reshape(-1), result.reshape(-1)

    def work(start: int, stop: int) -> None:
        erf_into(flat[start:stop], target[start:stop])

    in_blocks(flat.size, BLOCK, work)
    return result.reshape(x.shape)  # a contiguous copy of a scalar has one axis
