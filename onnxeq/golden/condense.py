"""What is kept of an output: all of it, or of a large one a seeded sample and signed sums of its blocks.

Both are linear in the output, so that two condensed outputs are compared as the outputs are, in units that were
condensed alike. A sum of ``n`` elements with random signs has the variance ``sum s_i^2`` for errors of size ``s_i``,
whatever the errors have in common: the signs are independent of them. So an error of one block shows in the unit of
that block, and no element can change unseen by much more than its block's noise.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxeq.arrays import dtype_name, feeds_digest
from onnxeq.types import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGE", "Statistics", "condensed", "condensed_unit", "digest", "is_large", "statistics"]

LARGE = 2**18
"""Elements above which an output is condensed: 1 MiB of float32."""

_SAMPLE = 4096
_BLOCKS = 1024
_TOP = 5


@dataclass(frozen=True)
class Statistics:
    """Figures of an output that a person looks at; see :class:`onnxeq.golden.values.OutputRecord`."""

    min: float
    max: float
    mean: float
    l2: float
    top: tuple[int, ...]
    top_values: tuple[float, ...]


def digest(array: Array) -> str:
    """SHA-256 over type, shape and bytes, whatever the output is called."""
    return feeds_digest([{"": array}])


def is_large(array: Array) -> bool:
    """Whether an output is condensed."""
    return array.size > LARGE and array.dtype.kind not in "OUST"


def condensed(array: Array) -> Array:
    """The output as it is, or ``float64[5120]`` (``int64`` for whole numbers) when it is large."""
    if not is_large(array):
        return array
    whole = array.dtype.kind in "iub"
    flat: NDArray[Any] = array.reshape(-1).astype(np.int64 if whole else np.float64)
    positions, signs, starts = _plan(flat.size)
    with np.errstate(all="ignore"):
        return np.concatenate([flat[positions], np.add.reduceat(flat * signs, starts)])


def condensed_unit(unit: Array, value: Array) -> Array:
    """The unit of :func:`condensed`: a block's is the root of the sum of its squares.

    Args:
        unit: Per element, of the output's shape.
        value: The output, whose own last rounding is part of a block's unit.
    """
    if not is_large(value) or unit.shape != value.shape:
        return unit
    flat = unit.reshape(-1).astype(np.float64)
    positions, _, starts = _plan(flat.size)
    own = np.zeros(flat.size) if value.dtype.kind in "iub" else np.abs(value.reshape(-1).astype(np.float64)) * 2.0**-26
    squares = np.square(flat) + np.square(np.where(np.isfinite(own), own, 0.0))
    return np.concatenate([flat[positions], np.sqrt(np.add.reduceat(squares, starts))])


def _plan(size: int) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]:
    """Positions of the sample, a sign for each element, and where blocks begin; the same for every array of a size."""
    rng = np.random.Generator(np.random.PCG64(int(hashlib.sha256(str(size).encode()).hexdigest()[:8], 16)))
    positions = np.sort(rng.integers(0, size, _SAMPLE))
    signs = (2 * rng.integers(0, 2, size, dtype=np.int8) - 1).astype(np.int8)
    return positions, signs, np.arange(_BLOCKS, dtype=np.int64) * size // _BLOCKS


def statistics(array: Array) -> Statistics:
    """The figures of one output; NaN where it holds no number."""
    if array.dtype.kind not in "fViub" or array.size == 0:
        return Statistics(math.nan, math.nan, math.nan, math.nan, (), ())
    flat = array.astype(np.float64).reshape(-1)
    finite = flat[np.isfinite(flat)]
    if finite.size == 0:
        return Statistics(math.nan, math.nan, math.nan, math.nan, (), ())
    l2 = float(np.sqrt(np.square(finite).sum()))
    return Statistics(float(finite.min()), float(finite.max()), float(finite.mean()), l2, *_top(array))


def _top(array: Array) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Positions and values of the largest elements in the first row of the last axis."""
    if array.ndim == 0 or array.shape[-1] < 2 or dtype_name(array) == "bool":
        return (), ()
    row = array.reshape(-1, array.shape[-1])[0].astype(np.float64)
    order = np.argsort(-np.nan_to_num(row, nan=-np.inf), kind="stable")[:_TOP]
    return tuple(int(i) for i in order), tuple(float(row[i]) for i in order)
