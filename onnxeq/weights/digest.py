"""Signatures that do not depend on the order of a tensor's elements: the index of the ledger.

Two tensors with the same elements in any order have the same signature; what has the same signature is compared
element by element afterwards.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array

__all__ = ["Signature", "bits", "same", "signature", "slice_keys", "ulps"]

Signature: TypeAlias = tuple[str, int, int, int]
"""Element type, number of elements, sum and exclusive or of their bits."""

_UNSIGNED: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def bits(array: Array) -> NDArray[Any]:
    """The elements as unsigned integers of the same width."""
    kind = _UNSIGNED.get(array.dtype.itemsize)
    if kind is None or array.dtype.kind in "OUST":
        raise TypeError(f"elements of type {array.dtype} have no bits to compare")
    return array.view(kind)


def signature(array: Array) -> Signature:
    """The signature of a tensor, whatever its layout."""
    raw = bits(array)
    # An exclusive or over many axes of a view is slow; the order of elements does not matter.
    flat = raw.reshape(-1) if raw.flags.c_contiguous else raw.ravel(order="K")
    total = int(np.add.reduce(flat, dtype=np.uint64)) if flat.size else 0
    return array.dtype.name, array.size, total, int(np.bitwise_xor.reduce(flat)) if flat.size else 0


def same(first: Array, second: Array) -> bool:
    """Whether two tensors have the same type, shape and bits."""
    return (
        first.dtype == second.dtype and first.shape == second.shape and bool(np.array_equal(bits(first), bits(second)))
    )


def slice_keys(array: Array, axis: int) -> NDArray[np.uint64]:
    """A key for each slice along an axis, whatever the order of elements inside it: ``uint64[n]``."""
    raw = np.moveaxis(bits(array), axis, 0).reshape(array.shape[axis], -1).astype(np.uint64)
    mixed = raw * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    keys: NDArray[np.uint64] = np.add.reduce(mixed * np.uint64(0xBF58476D1CE4E5B9), axis=1, dtype=np.uint64)
    return keys


def ulps(first: Array, second: Array) -> NDArray[np.float64]:
    """The distance of two tensors of one type in units in the last place: how many values of that type lie between."""
    if first.dtype.kind in "iub":
        return np.abs(first.astype(np.float64) - second.astype(np.float64))
    return np.abs(_ordered(first) - _ordered(second.astype(first.dtype)))


def _ordered(array: Array) -> NDArray[np.float64]:
    """Floats as numbers whose differences count the representable values between them."""
    raw = bits(np.ascontiguousarray(array).reshape(array.shape))
    sign = 1 << (8 * array.dtype.itemsize - 1)
    magnitude = (raw & np.asarray(sign - 1, raw.dtype)).astype(np.float64)
    ordered: NDArray[np.float64] = np.where(raw & np.asarray(sign, raw.dtype), -magnitude, magnitude)
    return ordered
