"""Which element of a layer's result an element of a moved tensor is.

Reshape, Transpose and Slice move elements and change none. What they give, one behind another, is told by *digits*: an
axis of size ``n`` that is ``s`` apart on some axis of the source. An axis of the moved tensor is a row of digits, the
most significant first, so that element ``(i, j, ...)`` of them lies at ``offset + sum(i * s)`` on each source axis. A
Reshape regroups the digits and may split one, a Transpose permutes the rows, a Slice shortens one and moves the offset.

A multiplication by a number on the way may be looked through: it is told as a factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxeq.compare.reading.sketch import Draft, squeezed

__all__ = ["Digit", "Trace", "identity", "joined", "mixed", "regrouped", "trace"]

_MOST_MOVES = 64
"""Looked through behind one another: no network has more, and a file may."""


@dataclass(frozen=True)
class Digit:
    """Part of an axis.

    Attributes:
        axis: Of the source.
        size: How many places it has; more than 1.
        stride: How far they are apart on that axis.
    """

    axis: int
    size: int
    stride: int


Row = tuple[Digit, ...]


@dataclass(frozen=True)
class Trace:
    """A tensor as elements of a layer's result.

    Attributes:
        source: The layer.
        axes: The digits of each axis of the tensor; none for one of size 1.
        offsets: Of its first element, for each axis of the source.
        factor: By which it is multiplied.
        moves: The drafts in between, the last first.
    """

    source: Draft
    axes: tuple[Row, ...]
    offsets: tuple[int, ...]
    factor: float = 1.0
    moves: tuple[Draft, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the tensor is the source itself but for its shape: all elements in their order."""
        return joined([d for row in self.axes for d in row]) == joined(
            [d for row in identity(self.source.shape) for d in row]
        )


def identity(shape: Sequence[int]) -> tuple[Row, ...]:
    """The digits of a tensor that is its own source."""
    return tuple((Digit(axis, size, 1),) if size > 1 else () for axis, size in enumerate(shape))


def joined(row: Sequence[Digit]) -> Row:
    """The same digits with neighbours made one where one continues the other."""
    found: list[Digit] = []
    for digit in row:
        last = found[-1] if found else None
        if last is not None and last.axis == digit.axis and last.stride == digit.stride * digit.size:
            found[-1] = Digit(digit.axis, last.size * digit.size, digit.stride)
        else:
            found.append(digit)
    return tuple(found)


def regrouped(digits: Sequence[Digit], sizes: Sequence[int]) -> tuple[Row, ...] | None:
    """Digits in rows of these sizes; ``None`` where one would have to be split unevenly."""
    left = list(digits)
    rows = []
    for size in sizes:
        row, wanted = list[Digit](), size
        while wanted > 1:
            if not left:
                return None
            first = left.pop(0)
            if wanted % first.size == 0:
                row.append(first)
                wanted //= first.size
            elif first.size % wanted == 0:
                rest = first.size // wanted
                row.append(Digit(first.axis, wanted, first.stride * rest))
                left.insert(0, Digit(first.axis, rest, first.stride))
                wanted = 1
            else:
                return None
        rows.append(joined(row))
    return None if left else tuple(rows)


def mixed(row: Sequence[Digit], size: int, offset: int) -> tuple[tuple[int, ...], tuple[int, ...], int] | None:
    """An axis of that size as a shape of which each digit of one row is an axis, and what the row leaves out is at most
    one.

    Returns:
        The shape; for each of its axes its place, what is left out first and then the digits in their order; and which
        place of the axis that is left out is meant (0 where there is none). ``None`` where there is no such shape.
    """
    shape: list[int] = []
    places: list[int] = []
    unit, gap = 1, None
    ordered = sorted(range(len(row)), key=lambda i: row[i].stride)
    for index in [*ordered, None]:
        stride, extent = (size, 1) if index is None else (row[index].stride, row[index].size)
        if stride % unit or (stride > unit and gap is not None):
            return None
        if stride > unit:
            gap = (stride // unit, unit)
            shape.append(gap[0])
            places.append(-1)
        if index is not None:
            shape.append(extent)
            places.append(index)
        unit = stride * extent
    if unit != size:
        return None
    chosen = 0 if gap is None else offset // gap[1]
    if offset != (0 if gap is None else chosen * gap[1]):
        return None
    shift = 0 if gap is None else 1
    return tuple(reversed(shape)), tuple(place + shift for place in reversed(places)), chosen


def _moved(at: Trace, move: Draft) -> Trace | None:
    """The trace of what a move gives, from that of what it reads."""
    if move.kind == "transpose":
        return _transposed(at, move)
    if move.kind in ("reshape", "flatten"):
        return _reshaped(at, move)
    if move.kind == "slice":
        return _sliced(at, move)
    number = move.number
    return replace(at, factor=at.factor * number) if move.kind == "scale" and number is not None else None


def _transposed(at: Trace, move: Draft) -> Trace | None:
    order = move.attributes["axes"]
    if not isinstance(order, tuple) or len(order) != len(squeezed(move.shape)):
        return None
    rows = iter(order)
    axes = tuple(at.axes[next(rows)] if size != 1 else () for size in move.shape)
    return replace(at, axes=axes)


def _reshaped(at: Trace, move: Draft) -> Trace | None:
    order = move.attributes.get("order", tuple(range(len(at.axes))))
    if not isinstance(order, tuple) or any(not 0 <= a < len(at.axes) for a in order):
        return None
    rows = regrouped([d for a in order for d in at.axes[a]], move.shape)
    return None if rows is None else replace(at, axes=rows)


def _sliced(at: Trace, move: Draft) -> Trace | None:
    axis, begin, end = (move.attributes[name] for name in ("axis", "begin", "end"))
    step = move.attributes.get("step", 1)
    whole = all(isinstance(n, int) for n in (axis, begin, end, step))
    if not whole or len(move.shape) != len(at.axes) or not isinstance(axis, int) or not at.axes[axis]:
        return None
    first, *rest = at.axes[axis]
    below = math.prod(d.size for d in rest)
    numbers = [int(n) for n in (begin, end, step) if isinstance(n, int)]
    if below > 1 and (numbers[2] != 1 or numbers[0] % below or numbers[1] % below):
        return None
    kept = range(numbers[0] // below, numbers[1] // below, numbers[2])
    row = ((Digit(first.axis, len(kept), first.stride * numbers[2]),) if len(kept) > 1 else ()) + tuple(rest)
    offsets = list(at.offsets)
    offsets[first.axis] += kept.start * first.stride
    return replace(at, axes=(*at.axes[:axis], joined(row), *at.axes[axis + 1 :]), offsets=tuple(offsets))


def trace(draft: Draft, *, scaled: bool = False, sliced: bool = True) -> Trace:
    """What a draft is, as far back as only elements were moved.

    Args:
        draft: What is looked at.
        scaled: Whether multiplications by a number are looked through.
        sliced: Whether slices are.
    """
    kinds = {"transpose", "reshape", "flatten"} | ({"scale"} if scaled else set()) | ({"slice"} if sliced else set())
    chain = [draft]
    while chain[-1].kind in kinds and len(chain) < _MOST_MOVES and min(chain[-1].inputs[0].shape, default=1) >= 0:
        chain.append(chain[-1].inputs[0])
    if min(draft.shape, default=1) < 0:
        return Trace(draft, ((),) * len(draft.shape), (0,) * len(draft.shape))
    at = _start(chain.pop())
    while chain:
        move = chain.pop()
        after = _moved(at, move)
        at = _start(move) if after is None else replace(after, moves=(move, *at.moves))
    return at


def _start(source: Draft) -> Trace:
    return Trace(source, identity(source.shape), (0,) * len(source.shape))
