"""Ways in which a tensor of one shape is stored in another: axes in another order, split, merged or squeezed."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

from onnxeq.types import Array
from onnxeq.weights.types import Relation

__all__ = ["Layout", "fitting", "layouts"]

_MOST_AXES = 5
"""Axes of more than one element up to which every order is tried."""


@dataclass(frozen=True)
class Layout:
    """``native.transpose(perm).reshape(shape)``."""

    perm: tuple[int, ...]
    shape: tuple[int, ...]
    source: tuple[int, ...]

    def apply(self, native: Array) -> Array:
        """The native tensor in the stored layout."""
        moved = native if self.plain else native.transpose(self.perm)
        return moved.reshape(self.shape)

    @property
    def plain(self) -> bool:
        """Whether the elements keep their order."""
        return self.perm == tuple(range(len(self.perm)))

    @property
    def relation(self) -> Relation:
        """What it does, in one word."""
        if not self.plain:
            return Relation.TRANSPOSED
        return Relation.IDENTICAL if self.shape == self.source else Relation.RESHAPED

    @property
    def text(self) -> str:
        """What it does, in words; empty when nothing."""
        axes = "" if self.plain else f"axes {self.perm}"
        moved = tuple(self.source[i] for i in self.perm)
        shape = "" if moved == self.shape else f"shape {list(self.shape)}"
        return ", ".join(t for t in (axes, shape) if t)


@functools.lru_cache(maxsize=4096)
def layouts(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[Layout, ...]:
    """Every layout that takes ``source`` to ``target`` without tearing an axis apart, the plain one first.

    Axes of one element do not count. An axis may be split, or neighbours merged, but not both at one place.
    """
    if math.prod(source) != math.prod(target):
        return ()
    real = [axis for axis, size in enumerate(source) if size != 1]
    ones = [axis for axis, size in enumerate(source) if size == 1]
    if len(real) > _MOST_AXES:
        orders: list[tuple[int, ...]] = [tuple(real), tuple(reversed(real))]
    else:
        orders = list(itertools.permutations(real))
    found = []
    bounds = _bounds(target)
    for order in orders:
        mine = _bounds(tuple(source[axis] for axis in order))
        if mine >= bounds or mine <= bounds:
            plain = list(order) == real
            perm = tuple(range(len(source))) if plain else (*order, *ones)
            found.append(Layout(perm, target, source))
    return tuple(found)


def _bounds(shape: tuple[int, ...]) -> frozenset[int]:
    """Where axes begin, counted in elements from the end."""
    return frozenset(itertools.accumulate((size for size in reversed(shape) if size != 1), lambda a, b: a * b))


def fitting(native: Array, target: tuple[int, ...]) -> tuple[Layout, ...]:
    """The layouts that take a native tensor to a stored shape."""
    return layouts(tuple(native.shape), target)
