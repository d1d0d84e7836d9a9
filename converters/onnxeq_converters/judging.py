"""How an operator's float32 result compares with float64 arithmetic on the same inputs, in units of rounding.

The unit is measured: the float inputs are moved by half a float32 unit in the last place, at random, and what that does
to the float64 result is one rounding's worth; a sum of many terms has as many roundings as there are additions in a
row. No element's unit is less than the rounding of the result itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxeq.types import Array

__all__ = ["UNIT", "additions", "judge"]

UNIT = 2.0**-24
"""Float32's unit roundoff."""

_BLOCK = 128
"""Terms that kernels sum in one accumulator before they start another."""

_SMALLEST = 2.0**-126


def additions(terms: float) -> float:
    """Roundings in a row where ``terms`` numbers are added up in blocks."""
    return 1.0 + min(terms, _BLOCK) + terms / _BLOCK


def judge(
    exact: Sequence[Array], held: Sequence[Array], moved: Sequence[Sequence[Array]], chain: float
) -> tuple[float, float]:
    """The largest error of ``held`` in units, and in its own unit.

    Args:
        exact: The results in float64.
        held: The results of the kernel.
        moved: For each draw, the float64 results of inputs that were moved.
        chain: Roundings in a row, see :func:`additions`.
    """
    ratio = largest = 0.0
    for place, value in enumerate(exact):
        theirs = np.asarray(held[place])
        if value.shape != theirs.shape or not value.size:
            continue
        with np.errstate(all="ignore"):
            error = np.abs(theirs.astype(np.float64) - value)
            error[~np.isfinite(error)] = 0.0
            squares = sum(np.nan_to_num(np.square(m[place] - value), posinf=0.0) for m in moved) / max(1, len(moved))
            own = UNIT * np.nan_to_num(np.abs(value), posinf=0.0)
            unit = np.sqrt((squares + np.mean(squares)) / 2 * chain + np.square(own)) + _SMALLEST
        largest = max(largest, float(error.max()))
        # What the largest of as many normal deviates may reach, doubled for the tails of small units.
        ratio = max(ratio, float((error / unit).max()) / (2 * math.sqrt(2 * math.log(2 * value.size))))
    return ratio, largest
