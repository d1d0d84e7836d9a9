"""Random signs and how they move an array, in blocks that stay in the processor's cache.

This runs after every node of a draw, on every element of a model's activations: memory traffic is all that it costs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Signs"]

Real: TypeAlias = "NDArray[np.float64]"

_POOL = 2**20 + 7
_BLOCK = 2**14
"""Elements per block: 128 KiB in float64, so that source, result and signs fit a second-level cache."""


@functools.lru_cache(maxsize=6)
def _drawn(seed: int) -> tuple[Real, Mapping[str, Any]]:
    """The signs of a seed and the generator's state behind them; every feed of a draw asks for the same ones."""
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1.0, 1.0]), _POOL)
    signs.flags.writeable = False
    return signs, rng.bit_generator.state


class Signs:
    """Random signs, drawn once and read from random offsets: cheaper than a draw per element."""

    def __init__(self, seed: int) -> None:
        self._signs, state = _drawn(seed)
        self._rng = np.random.default_rng(seed)
        self._rng.bit_generator.state = state

    def __call__(self, shape: tuple[int, ...]) -> Real:
        """Signs of that shape, read-only or fresh."""
        count = int(np.prod(shape))
        if count <= _BLOCK:
            return self._block(count).reshape(shape)
        signs = np.empty(count)
        for start in range(0, count, _BLOCK):
            part = signs[start : start + _BLOCK]
            part[:] = self._block(part.size)
        return signs.reshape(shape)

    def _block(self, count: int) -> Real:
        start = int(self._rng.integers(_POOL - count))
        return self._signs[start : start + count]

    def move(self, value: Real, relative: float, absolute: Real, *, in_place: bool = False) -> Real:
        """``value * (1 + s1 * relative) + s2 * absolute`` with independent signs ``s1``, ``s2`` for each element.

        Args:
            value: Any shape.
            relative: Of the value.
            absolute: Of a shape that broadcasts to the value's.
            in_place: Whether ``value`` may be overwritten; it is then, if its layout allows.
        """
        moved = value if in_place and value.flags.c_contiguous and value.flags.writeable else value.copy(order="C")
        flat = moved.reshape(-1)
        sizes, repeat = _rows(absolute, value.shape)
        # Whole rows to a block, so that one factor serves a row; a long row is taken in parts.
        span = max(1, _BLOCK // repeat) * repeat
        scratch = np.empty(min(_BLOCK, flat.size))
        for start in range(0, flat.size, span):
            stop = min(start + span, flat.size)
            for low in range(start, stop, _BLOCK):
                part = flat[low : min(low + _BLOCK, stop)]
                factor = scratch[: part.size]
                np.multiply(self._block(part.size), relative, out=factor)
                factor += 1.0
                part *= factor
                if sizes is None:
                    continue
                if part.size >= repeat:
                    mine = sizes[low // repeat : (low + part.size) // repeat, None]
                    np.multiply(self._block(part.size).reshape(-1, repeat), mine, out=factor.reshape(-1, repeat))
                else:
                    np.multiply(self._block(part.size), sizes[low // repeat], out=factor)
                part += factor
        return moved


def _rows(absolute: Real, shape: tuple[int, ...]) -> tuple[Real | None, int]:
    """Absolute sizes and how many neighbouring elements share one; ``None`` when all are zero."""
    if not absolute.any():
        return None, _BLOCK
    if absolute.size == 1:
        return np.full(max(1, int(np.prod(shape))) // _BLOCK + 1, float(absolute.reshape(-1)[0])), _BLOCK
    aligned = absolute.reshape((1,) * (len(shape) - absolute.ndim) + absolute.shape)
    kept = max(axis + 1 for axis, n in enumerate(aligned.shape) if n > 1)
    return np.broadcast_to(aligned.reshape(aligned.shape[:kept]), shape[:kept]).reshape(-1), int(np.prod(shape[kept:]))
