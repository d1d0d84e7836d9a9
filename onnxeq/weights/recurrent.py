"""Biases of recurrent operators: both halves of ``B``, each gate by gate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxeq.types import Array
from onnxeq.weights.book import Book
from onnxeq.weights.digest import ulps
from onnxeq.weights.exact import rounded
from onnxeq.weights.facts import leaf
from onnxeq.weights.inventory import Stored
from onnxeq.weights.types import Relation

__all__ = ["match_recurrent"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_NEAR = 0.5


@dataclass(frozen=True)
class _Half:
    """What one half of a direction's bias was made from."""

    natives: tuple[str, ...]
    order: tuple[int, ...]
    value: Array
    share: float
    said: str = ""


def match_recurrent(book: Book) -> None:
    """Settles the biases of LSTM, GRU and RNN nodes."""
    for stored in book.open():
        user = stored.user
        if user is None or user.op_type not in _GATES or user.slot != 3 or stored.array.ndim != 2:
            continue
        gates = _GATES[user.op_type]
        if stored.shape[1] % (2 * gates) == 0:
            _match(book, stored, gates)


def _match(book: Book, stored: Stored, gates: int) -> None:
    halves = stored.array.reshape(stored.shape[0] * 2, gates, -1)
    found = [_half(book, half, gates) for half in halves]
    if any(h is None for h in found):
        return
    known = [h for h in found if h is not None]
    natives = tuple(dict.fromkeys(n for h in known for n in h.natives))
    if not natives:
        return
    expected = np.stack([h.value for h in known]).reshape(stored.shape)
    text = " + ".join(" and ".join(h.natives) or "zeros" for h in known)
    said = "; ".join(h.said for h in known if h.said)
    if said:
        book.miss(stored, natives, Relation.CONCATENATED, text, expected, said=f"has gates in the wrong order: {said}")
    elif (ulps(expected, stored.array) == 0).all():
        book.settle(stored, natives, Relation.CONCATENATED, text)
    else:
        book.miss(stored, natives, Relation.CONCATENATED, text, expected, axis=1)


def _vectors(book: Book, size: int, like: Array) -> Iterator[tuple[tuple[str, ...], Array]]:
    """Native biases of one half's size: vectors, rows of a table, sums of two of one cell."""
    vectors = []
    for name, array in book.native.items():
        if array.ndim == 1 and array.size == size and array.dtype.kind == "f":
            vectors.append((name, rounded(array, like.dtype)))
        elif array.ndim == 2 and array.shape[1] == size and array.shape[0] == 2 and "bias" in leaf(name):
            yield from (((name,), rounded(row, like.dtype)) for row in array)
    yield from (((name,), value) for name, value in vectors)
    for (first, a), (second, b) in itertools.combinations(vectors, 2):
        if second == first.replace("_ih", "_hh"):
            yield (first, second), a + b


def _half(book: Book, half: Array, gates: int) -> _Half | None:
    """The native bias that most of one half is; ``None`` when there is none."""
    if not half.any():
        return _Half((), (), half, 1.0)
    best: _Half | None = None
    for names, value in _vectors(book, half.size, half):
        wanted = _wanted(names[0], gates)
        parts = value.reshape(gates, -1)
        for order in (wanted, *itertools.permutations(range(gates))):
            share = float((ulps(parts[list(order)], half) == 0).mean())
            if best is None or share > best.share:
                said = "" if order == wanted else f"{names[0]} in the order {order} of its gates, not {wanted}"
                best = _Half(names, order, parts[list(wanted)], share, said)
            if share == 1.0:
                return best
    return best if best is not None and best.share >= _NEAR else None


def _wanted(name: str, gates: int) -> tuple[int, ...]:
    """ONNX's gates by their number in the native order."""
    if gates == 4:
        return (0, 3, 1, 2)
    if gates == 3 and "bias_ih" in name or gates == 3 and "bias_hh" in name:
        return (1, 0, 2)
    return tuple(range(gates))
