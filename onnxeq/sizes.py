"""Feeds of other sizes: for an artifact that leaves axes free besides the batch, a shape baked in shows only there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxeq.errors import UsageError
from onnxeq.inputs import generate
from onnxeq.types import Array, Dim, Feed, TensorSpec, ValueRange

__all__ = ["free_axes", "other_sizes", "parse_bytes"]

_IMAGE = 56
"""Sizes from which on a free axis of a float tensor of rank 4 is taken for the height or width of an image."""


def free_axes(spec: TensorSpec, batch: frozenset[Dim] = frozenset()) -> tuple[int, ...]:
    """The axes that a specification leaves free, the first one and those named like it aside."""
    shape = spec.shape or ()
    return tuple(axis for axis, dim in enumerate(shape) if axis and isinstance(dim, str) and dim not in batch)


def other_sizes(feeds: Sequence[Feed], inputs: Sequence[tuple[TensorSpec, TensorSpec]], *, seed: int) -> list[Feed]:
    """Feeds like the first one, larger and smaller on every axis that both sides leave free.

    Axes of equal size stay equal, so that a mask fits what it masks; images become another, not square, one that
    can still be halved five times. Values stay within those that the given feeds have.

    Args:
        feeds: The feeds of the check, under the source's names.
        inputs: Paired inputs: what the source takes (a fixed size there is kept), what the artifact declares.
        seed: Seed of the values.

    Returns:
        Nothing when no such axis is free.
    """
    batch = frozenset(s.shape[0] for _, s in inputs if s.shape and isinstance(s.shape[0], str) and s.shape[0] != "?")
    free = {ours.name: free_axes(theirs, batch) for ours, theirs in inputs}
    if not any(free.values()):
        return []
    made: list[Feed] = []
    for index, change in enumerate((_larger, _smaller)):
        specs = []
        for ours, _ in inputs:
            value = feeds[0][ours.name]
            shape = tuple(
                change(size, axis, _is_image(value)) if axis in free[ours.name] else size
                for axis, size in enumerate(value.shape)
            )
            specs.append(replace(ours, shape=shape, range=_range(ours, feeds)))
        feed = generate(specs, seed=seed + 1 + index, dynamic_batch=False)[0]
        if all(feed[k].shape != other[k].shape for other in (*made, feeds[0]) for k, axes in free.items() if axes):
            made.append(feed)
    return made


def _is_image(value: Array) -> bool:
    """Channels may come first or last."""
    if value.ndim != 4 or value.dtype.kind != "f":
        return False
    return bool(max(min(value.shape[2:]), min(value.shape[1:3])) >= _IMAGE)


def _larger(size: int, axis: int, image: bool) -> int:
    return _image_size(size, axis) if image else size + max(1, size // 2)


def _smaller(size: int, axis: int, image: bool) -> int:
    return _image_size(size, axis) if image else max(1, size // 2)


def _image_size(size: int, axis: int) -> int:
    """224 becomes 160 and 192: smaller, since images cost most."""
    return max(32, size * (5 + axis % 2) // 7 // 32 * 32)


def _range(spec: TensorSpec, feeds: Sequence[Feed]) -> ValueRange | None:
    values = [f[spec.name] for f in feeds if f[spec.name].size]
    if spec.range is not None or not values or values[0].dtype.kind not in "iu":
        return spec.range
    return ValueRange(float(min(np.min(v) for v in values)), float(max(np.max(v) for v in values)) + 1)


_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_bytes(text: int | str) -> int:
    """A number of bytes: ``1GiB``, ``512MiB``, ``500MB``, ``1073741824``.

    Raises:
        UsageError: It is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) * unit < 1:
        raise UsageError(f"'{text}' is no amount of memory", hint="write --memory 1GiB, say")
    return int(float(found[1]) * unit)
