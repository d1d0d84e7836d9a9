"""Operators that move values: shapes, slices, pads, gathers and scatters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .builder import Builder, Value

__all__ = [
    "concat",
    "depth_space",
    "expand_tile",
    "gather",
    "misc",
    "pad",
    "reshape",
    "scatter",
    "slices",
    "split",
    "squeeze",
    "transpose",
]

_ANY = "fib"


def reshape(b: Builder) -> Any:
    """``Reshape`` with 0 and -1, or ``Flatten``."""
    x = b.pick(0, 6, _ANY)
    if x.rank and b.integer(0, 2) == 2:
        return b.node("Flatten", [x], axis=b.integer(-x.rank if b.opset >= 11 else 0, x.rank))
    total = math.prod(x.shape)
    target: list[int] = []
    for _ in range(b.integer(1, 4) - 1):
        target.append(b.choice([d for d in range(1, min(total, 8) + 1) if total % d == 0]))
        total //= target[-1]
    target.append(total)
    if b.flag():
        target[b.integer(0, len(target) - 1)] = -1
    if x.rank and x.shape[0] == target[0] and b.flag():
        target[0] = 0
    return b.node("Reshape", [x, b.integers(*target)])


def transpose(b: Builder) -> Any:
    """``Transpose``, with a permutation or without."""
    x = b.pick(1, 5, _ANY)
    perm = [int(i) for i in b.rng().permutation(x.rank)]
    return b.node("Transpose", [x], perm=perm if b.integer(0, 3) else None)


def slices(b: Builder) -> Any:
    """``Slice``: attributes before opset 10; steps of either sign and ends beyond the size after."""
    x = b.pick(1, 5, _ANY)
    axes = b.some(range(x.rank))
    starts, ends, steps = [], [], []
    for axis in axes:
        n = x.shape[axis]
        step = b.choice((1, 1, 2, -1, -2)) if b.opset >= 10 else 1
        low = b.integer(0, n - 1)
        high = b.integer(low + 1, n)
        start, end = (low, high) if step > 0 else (high - 1, low - 1 if low else -n - 1)
        if b.flag() and start > 0:
            start -= n
        if b.flag() and end == n:
            end = b.choice((2**31 - 1, 2**62))
        starts.append(start)
        ends.append(end)
        steps.append(step)
    if b.opset < 10:
        return b.node("Slice", [x], starts=starts, ends=ends, axes=axes)
    given = [a - x.rank if b.opset >= 11 and b.flag() else a for a in axes]
    return b.node("Slice", [x, b.integers(*starts), b.integers(*ends), b.integers(*given), b.integers(*steps)])


def pad(b: Builder) -> Any:
    """``Pad`` in every mode; negative pads crop."""
    x = b.pick(1, 5)
    modes = ("constant", "reflect", "edge") + (("wrap",) if b.opset >= 19 else ())
    mode = b.choice(modes)
    most = [min(2, n - 1) if mode in ("reflect", "wrap") else 2 for n in x.shape]
    pads = [b.integer(0, m) if b.flag() else 0 for m in most * 2]
    if mode == "constant" and b.integer(0, 2) == 2 and x.shape[0] > 1:
        pads[0] = -1
    value = b.choice((None, 1.5))
    if b.opset < 11:
        return b.node("Pad", [x], mode=mode, pads=pads, value=value)
    inputs: list[Value | None] = [x, b.integers(*pads), None if value is None else b.constant(np.float32(value))]
    if b.opset >= 18 and b.flag():
        axes = b.some(range(x.rank))
        inputs[1] = b.integers(*(pads[a] for a in axes), *(pads[x.rank + a] for a in axes))
        inputs.append(b.integers(*axes))
    return b.node("Pad", inputs, mode=mode)


def concat(b: Builder) -> Any:
    """``Concat`` of two or three values, one perhaps twice."""
    x = b.pick(1, 5, _ANY)
    axis = b.integer(0, x.rank - 1)

    def fits(v: Value) -> bool:
        same = v.rank == x.rank and v.array.dtype == x.array.dtype
        return same and all(i == axis or a == c for i, (a, c) in enumerate(zip(v.shape, x.shape, strict=True)))

    others = [v for v in b.values if fits(v)]
    parts = [x] + [b.choice(others[::-1]) for _ in range(b.integer(1, 2))]
    return b.node("Concat", parts, axis=axis - x.rank if b.opset >= 11 and b.flag() else axis)


def split(b: Builder) -> Any:
    """``Split`` in its three versions."""
    x = b.pick(1, 5, fits=lambda v: max(v.shape) > 1)
    axes = [a for a, n in enumerate(x.shape) if n > 1]
    if not axes:
        return None
    axis = b.choice(axes)
    n = x.shape[axis]
    first = b.integer(1, n - 1)
    if b.opset < 13:
        return b.node("Split", [x], 2, axis=axis, split=[first, n - first])
    if b.opset >= 18 and b.flag():
        return b.node("Split", [x], 2, axis=axis, num_outputs=2)
    return b.node("Split", [x, b.integers(first, n - first)], 2, axis=axis)


def squeeze(b: Builder) -> Any:
    """``Unsqueeze``, or ``Squeeze`` of axes of length one."""
    x = b.pick(0, 4, _ANY)
    ones = [a for a, n in enumerate(x.shape) if n == 1]
    if ones and b.flag():
        axes, op = b.some(ones), "Squeeze"
    else:
        count = b.integer(1, 2)
        axes, op = [int(a) for a in b.rng().permutation(x.rank + count)[:count]], "Unsqueeze"
    if b.opset >= 13:
        return b.node(op, [x, b.integers(*axes)])
    return b.node(op, [x], axes=sorted(axes))


def expand_tile(b: Builder) -> Any:
    """``Expand`` (from opset 8) or ``Tile``."""
    x = b.pick(1, 4, "fi")
    if b.opset >= 8 and b.flag():
        target = [n if n > 1 or b.flag() else 3 for n in x.shape]
        lead = [2] if b.flag() else []
        return b.node("Expand", [x, b.integers(*lead, *(1 if b.integer(0, 3) == 3 else n for n in target))])
    return b.node("Tile", [x, b.integers(*(b.integer(1, 2) for _ in x.shape))])


def _indices(b: Builder, shape: tuple[int, ...], size: int) -> Value:
    low = -size if b.opset >= 11 and b.flag() else 0
    return b.supply(b.rng().integers(low, size, shape).astype(b.choice((np.int64, np.int32))))


def gather(b: Builder) -> Any:
    """``Gather``, ``GatherElements``, ``GatherND``."""
    x = b.pick(1, 4, "fi")
    op = b.choice(("Gather", "GatherElements", "GatherND")) if b.opset >= 11 else "Gather"
    if op == "GatherND":
        depth = b.integer(1, x.rank)
        rows = [b.rng().integers(0, n, (3,)) for n in x.shape[:depth]]
        return b.node(op, [x, b.constant(np.stack(rows, -1), np.int64)])
    axis = b.integer(0, x.rank - 1)
    if op == "Gather":
        shape = b.choice(((), (2,), (2, 3), (1,)))
        return b.node(op, [x, _indices(b, shape, x.shape[axis])], axis=axis)
    shape = tuple(b.integer(1, n) for n in x.shape)
    return b.node(op, [x, _indices(b, shape, x.shape[axis])], axis=axis)


def scatter(b: Builder) -> Any:
    """``Scatter``/``ScatterElements``/``ScatterND`` with each reduction; without one, no place twice."""
    if b.opset < 9:
        return None
    x = b.pick(1, 4)
    axis = b.integer(0, x.rank - 1)
    kinds = (None,) + (("add", "mul") if b.opset >= 16 else ()) + (("max", "min") if b.opset >= 18 else ())
    how = b.choice(kinds)
    if b.opset >= 11 and b.flag():
        depth = b.integer(1, x.rank)
        count = b.integer(1, min(4, math.prod(x.shape[:depth])))
        flat = b.rng().choice(math.prod(x.shape[:depth]), count, replace=how is not None)
        rows = np.stack(np.unravel_index(flat, x.shape[:depth]), -1)
        updates = b.supply(b.floats((count, *x.shape[depth:])))
        return b.node("ScatterND", [x, b.constant(rows, np.int64), updates], reduction=how)
    shape = list(x.shape)
    shape[axis] = b.integer(1, x.shape[axis])
    indices = np.argsort(b.rng().random(x.shape), axis=axis)
    indices = np.take(indices, range(shape[axis]), axis=axis) // (2 if how else 1)
    updates = b.supply(b.floats(shape))
    op = "ScatterElements" if b.opset >= 11 else "Scatter"
    return b.node(op, [x, b.constant(indices, np.int64), updates], axis=axis, reduction=how)


def depth_space(b: Builder) -> Any:
    """``DepthToSpace`` in both modes, ``SpaceToDepth``."""
    if b.flag():
        x = b.pick(4, 4, fits=lambda v: v.shape[1] % 4 == 0)
        if x.shape[1] % 4:
            x = b.fresh((1, 4 * b.integer(1, 2), b.integer(1, 3), b.integer(1, 3)))
        return b.node("DepthToSpace", [x], blocksize=2, mode=b.choice((None, "CRD")) if b.opset >= 11 else None)
    x = b.pick(4, 4, fits=lambda v: v.shape[2] % 2 == 0 and v.shape[3] % 2 == 0)
    if x.shape[2] % 2 or x.shape[3] % 2:
        x = b.fresh((b.integer(1, 2), b.integer(1, 3), 2 * b.integer(1, 2), 2 * b.integer(1, 2)))
    return b.node("SpaceToDepth", [x], blocksize=2)


def misc(b: Builder) -> Any:
    """``OneHot``, ``Trilu``, ``EyeLike``, ``ConstantOfShape``, ``Range``, ``ReverseSequence``, ``Dropout``."""
    op = b.choice(("Dropout", "EyeLike", "OneHot", "ConstantOfShape", "ReverseSequence", "Trilu", "Range"))
    if op == "Dropout":
        return b.node(op, [b.pick()])
    if op == "Trilu" and b.opset >= 14:
        return b.node(op, [b.pick(2, 4), b.constant(np.array(b.integer(-2, 2), np.int64))], upper=b.choice((None, 0)))
    if op == "EyeLike" and b.opset >= 9:
        return b.node(op, [b.pick(2, 2)], k=b.choice((None, 1, -1)))
    if op == "OneHot" and b.opset >= 9:
        indices = b.supply(b.rng().integers(-3 if b.opset >= 11 else 0, 4, (b.integer(1, 4),)).astype(np.int64))
        values = b.constant(b.healthy((2,)))
        return b.node(op, [indices, b.constant(np.array(4, np.int64)), values], axis=b.choice((None, 0)))
    if op == "ConstantOfShape" and b.opset >= 9:
        return b.node(op, [b.integers(*b.shape(1, 3))])
    if op == "ReverseSequence" and b.opset >= 10:
        x = b.pick(2, 4)
        lengths = b.supply(b.rng().integers(1, x.shape[0] + 1, (x.shape[1],)).astype(np.int64))
        return b.node(op, [x, lengths])
    if op == "Range" and b.opset >= 11:
        return b.node(op, [b.constant(np.float32(v)) for v in (b.choice((0.0, -1.5)), 3.25, 0.5)])
    return b.node("Identity", [b.pick(0, 6, _ANY)])
