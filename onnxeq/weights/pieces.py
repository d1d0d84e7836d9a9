"""Constants put together from slices of native tensors, or cut out of one: packed projections.

Every slice of every open native tensor is known by a key that does not depend on the order of its elements; each slice
of a constant is looked up, so that the parts, their order and the slices that differ come out together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxeq.types import Array
from onnxeq.weights.book import Book
from onnxeq.weights.digest import slice_keys, ulps
from onnxeq.weights.exact import rounded
from onnxeq.weights.facts import reparametrised
from onnxeq.weights.inventory import Stored
from onnxeq.weights.layouts import layouts
from onnxeq.weights.types import Relation

__all__ = ["Run", "match_pieces"]

_MOST_ELEMENTS = 1 << 26
"""Elements of open native tensors up to which slices are looked up along every axis."""

_KNOWN = 0.5
"""Share of a constant's slices that must be found."""


@dataclass(frozen=True)
class Run:
    """Consecutive slices ``start..stop`` along an axis of a native tensor."""

    native: str
    axis: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of slices."""
        return self.stop - self.start


@dataclass(frozen=True)
class _Slice:
    native: str
    axis: int
    index: int


def match_pieces(book: Book) -> None:
    """Settles constants that consist of slices of native tensors."""
    kinds = {s.array.dtype for s in book.open() if s.array.ndim >= 2}
    for kind in kinds:
        table = _table(book, kind)
        for stored in book.open():
            if stored.array.dtype == kind and stored.array.ndim >= 2 and table:
                _match(book, stored, table)


def _table(book: Book, kind: np.dtype[np.generic]) -> dict[int, list[_Slice]]:
    """Key of a slice -> the slices that have it."""
    table: dict[int, list[_Slice]] = {}
    names = [n for n in book.loose() if book.native[n].ndim >= 2 and not reparametrised(n)]
    if sum(book.native[n].size for n in names) > _MOST_ELEMENTS:
        return table
    for name in names:
        held = rounded(book.native[name], kind)
        for axis in range(held.ndim):
            if 1 < held.shape[axis] < held.size:
                for index, key in enumerate(slice_keys(held, axis).tolist()):
                    table.setdefault(key, []).append(_Slice(name, axis, index))
    return table


def _views(array: Array) -> Iterator[Array]:
    """The constant with its slices in rows, in each way that it may have been put together."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            yield np.moveaxis(array, axis, 0)
    if array.ndim > 2 and array.shape[0] > 1:
        yield array.reshape(-1, *array.shape[2:])


def _match(book: Book, stored: Stored, table: Mapping[int, Sequence[_Slice]]) -> None:
    for view in _views(stored.array):
        keys = slice_keys(view, 0).tolist()
        found = _resolve([table.get(key, ()) for key in keys])
        known = sum(f is not None for f in found)
        if known < max(2, _KNOWN * len(found)):
            continue
        runs = _runs(_filled(found))
        if runs is None or len(runs) > max(16, len(found) // 2):
            continue
        expected = _assemble(book, runs, view)
        if expected is not None:
            _settle(book, stored, runs, view, expected)
            return


def _resolve(found: Sequence[Sequence[_Slice]]) -> list[_Slice | None]:
    """One slice for each row: the one that follows its neighbour, where several are equal."""
    chosen: list[_Slice | None] = []
    for options in found:
        last = chosen[-1] if chosen else None
        follows = [o for o in options if last is not None and o == _Slice(last.native, last.axis, last.index + 1)]
        same = [o for o in options if last is not None and (o.native, o.axis) == (last.native, last.axis)]
        chosen.append(next(iter((*follows, *same, *options)), None))
    return chosen


def _filled(found: list[_Slice | None]) -> list[_Slice | None]:
    """Unknown slices between, before or behind known ones continue them."""
    for index, one in enumerate(found):
        if one is None and index and (last := found[index - 1]) is not None:
            found[index] = _Slice(last.native, last.axis, last.index + 1)
    for index in range(len(found) - 2, -1, -1):
        after = found[index + 1]
        if found[index] is None and after is not None:
            found[index] = _Slice(after.native, after.axis, after.index - 1)
    return found


def _runs(found: Sequence[_Slice | None]) -> tuple[Run, ...] | None:
    runs: list[Run] = []
    for one in found:
        if one is None or one.index < 0:
            return None
        last = runs[-1] if runs else None
        if last is not None and (last.native, last.axis, last.stop) == (one.native, one.axis, one.index):
            runs[-1] = Run(last.native, last.axis, last.start, one.index + 1)
        else:
            runs.append(Run(one.native, one.axis, one.index, one.index + 1))
    return tuple(runs)


def _assemble(book: Book, runs: Sequence[Run], view: Array) -> Array | None:
    """The rows that the runs give, in the inner layout that agrees best with what is stored."""
    parts = []
    for run in runs:
        held = np.moveaxis(rounded(book.native[run.native], view.dtype), run.axis, 0)
        if run.stop > len(held):
            return None
        parts.append(held[run.start : run.stop])
    inner = {p.shape[1:] for p in parts}
    if len(inner) != 1:
        return None
    best: tuple[float, Array] | None = None
    for layout in layouts(inner.pop(), tuple(view.shape[1:])):
        made = [layout.apply(row) for part in parts for row in part]
        candidate = np.stack(made)
        right = float((ulps(candidate, np.ascontiguousarray(view)) == 0).mean())
        if best is None or right > best[0]:
            best = (right, candidate)
    return None if best is None or best[0] < _KNOWN else best[1]


def _settle(book: Book, stored: Stored, runs: Sequence[Run], view: Array, expected: Array) -> None:
    natives = tuple(dict.fromkeys(r.native for r in runs))
    relation = _relation(book, runs)
    text = _text(book, runs)
    made = _back(stored, view, expected)
    order = _in_order(book, stored, runs, expected, view)
    if order is not None:
        book.miss(stored, natives, Relation.IDENTICAL, "", _back(stored, view, order), axis=_axis(stored, view))
    elif (ulps(made, stored.array) == 0).all():
        book.settle(stored, natives, relation, text)
    else:
        book.miss(stored, natives, relation, text, made, axis=_axis(stored, view))


def _axis(stored: Stored, view: Array) -> int:
    if view.ndim != stored.array.ndim:
        return 1
    sizes = [a for a in range(stored.array.ndim) if np.moveaxis(stored.array, a, 0).strides == view.strides]
    return sizes[0] if sizes else 0


def _back(stored: Stored, view: Array, rows: Array) -> Array:
    """Rows in the constant's own shape."""
    if view.ndim != stored.array.ndim:
        return np.ascontiguousarray(rows).reshape(stored.shape)
    return np.ascontiguousarray(np.moveaxis(rows, 0, _axis(stored, view)))


def _relation(book: Book, runs: Sequence[Run]) -> Relation:
    natives = {r.native for r in runs}
    if len(natives) > 1:
        return Relation.CONCATENATED
    run = runs[0]
    whole = sum(r.length for r in runs) == book.native[run.native].shape[run.axis]
    if not whole:
        return Relation.SPLIT
    return Relation.CONCATENATED if len(runs) > 1 else Relation.TRANSPOSED


def _text(book: Book, runs: Sequence[Run]) -> str:
    shown = [f"{r.native}[{r.start}:{r.stop}]" if r.length < book.native[r.native].shape[r.axis] else r.native
             for r in runs[:8]]  # fmt: skip
    more = f" and {len(runs) - 8} more" if len(runs) > 8 else ""
    axes = {r.axis for r in runs}
    along = "" if axes == {0} else f" along axis {next(iter(axes))}"
    return f"{' + '.join(shown)}{more}{along}"


def _in_order(book: Book, stored: Stored, runs: Sequence[Run], expected: Array, view: Array) -> Array | None:
    """The rows as they should be, when the parts are right and their order is not."""
    if stored.user is not None and stored.user.op_type in ("LSTM", "GRU", "RNN"):
        return None  # gates have an order of their own
    natives = {r.native for r in runs}
    if len(natives) != 1 or len(runs) < 2:
        return None
    run, indices = runs[0], [i for r in runs for i in range(r.start, r.stop)]
    if sorted(indices) != list(range(book.native[run.native].shape[run.axis])) or len(indices) != len(view):
        return None
    rows = np.empty_like(expected)
    rows[indices] = expected
    return rows
