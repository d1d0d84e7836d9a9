"""Stored tensors and results in their layer's own order, whatever order a file keeps them in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxeq.compare.values import Weight
from onnxeq.types import Array

__all__ = ["from_file", "into_file", "own_order", "with_own_order"]


def own_order(weight: Weight, stored: Array) -> Array:
    """The numbers of a weight, one after another, in its layer's own order.

    Args:
        weight: Where they are in the stored tensor.
        stored: The whole stored tensor.
    """
    turned = _turned(weight, stored)
    rows = turned if weight.part is None else turned[slice(*weight.part)]
    return np.asarray(rows).reshape(-1)


def with_own_order(weight: Weight, stored: Array, numbers: Array) -> Array:
    """The stored tensor with other numbers in the place of a weight: the inverse of :func:`own_order`."""
    turned = _turned(weight, stored).copy()
    target = turned if weight.part is None else turned[slice(*weight.part)]
    target[...] = numbers.reshape(target.shape)
    back = np.argsort(_order(weight, stored.shape))
    return np.ascontiguousarray(turned.transpose(back)).reshape(stored.shape)


def _turned(weight: Weight, stored: Array) -> Array:
    sizes = _sizes(weight, stored.shape)
    return stored.reshape(sizes).transpose(_order(weight, stored.shape))


def _sizes(weight: Weight, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that it is seen in, axes of size 1 left out."""
    return tuple(n for n in (weight.viewed or shape) if n != 1)


def _order(weight: Weight, shape: Sequence[int]) -> tuple[int, ...]:
    seen = weight.viewed or tuple(shape)
    if not weight.axes:
        return tuple(range(len(_sizes(weight, shape))))
    places = [place for n, place in zip(seen, weight.axes, strict=True) if n != 1]
    return tuple(int(i) for i in np.argsort(places, kind="stable"))


def from_file(value: Array, axes: Sequence[int], shape: Sequence[int]) -> Array:
    """A result as its layer has it, of a tensor as its file has it.

    Args:
        value: The tensor.
        axes: Of each of its axes, which of the result's it is; -1 for a further one of size 1.
        shape: Of the result.
    """
    kept = [a for a in axes if a >= 0]
    seen = value.reshape([shape[a] for a in kept])
    return seen.transpose(np.argsort(kept)).reshape(tuple(shape))


def into_file(result: Array, axes: Sequence[int]) -> Array:
    """The inverse of :func:`from_file`."""
    kept = [a for a in axes if a >= 0]
    rest = [a for a in range(result.ndim) if a not in kept]
    if math.prod(result.shape[a] for a in rest) != 1:
        raise ValueError(f"axes {rest} of a result of shape {result.shape} are not in its tensor")
    sizes = [result.shape[a] if a >= 0 else 1 for a in axes]
    return np.ascontiguousarray(result.transpose([*kept, *rest])).reshape(sizes)
