"""Recurrent operators: the three constants of an LSTM, GRU or RNN node, made from the native tensors of its cells.

A cell's native tensors are known by their names; which cell a direction of a node runs is told by all three constants
together, so that one that is damaged beyond recognition is still known by the other two. ONNX wants the gates in its
own order: ``i, o, f, c`` where torch and Keras have ``i, f, g, o``, and ``z, r, h`` where torch has ``r, z, n``.

Another framework's cell may stand in a loop, or be written out, with its gates in that framework's order. The same
order in all constants of the cell is no fault of theirs; whether the graph reads them so is the graph's matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxeq.types import Array
from onnxeq.weights.book import Book
from onnxeq.weights.digest import ulps
from onnxeq.weights.exact import rounded
from onnxeq.weights.facts import leaf, prefix
from onnxeq.weights.inventory import Stored
from onnxeq.weights.types import EntryStatus, Relation

__all__ = ["Cell", "cells", "match_recurrent", "match_reordered"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_NEAR = 0.5
"""Share of the elements of a node's constants by which a cell is known."""

_TORCH = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class Cell:
    """The native tensors of one recurrent cell.

    Attributes:
        name: What their names have in common.
        natives: Their names: input weight, recurrent weight, and the biases that there are.
        keras: Whether gates are columns, and a GRU's come in ONNX's order.
    """

    name: str
    natives: tuple[str, ...]
    keras: bool


def cells(native: Mapping[str, Array]) -> tuple[Cell, ...]:
    """Every recurrent cell among the native tensors, in their order."""
    found: dict[str, Cell] = {}
    for name, array in native.items():
        module, own = prefix(name), leaf(name)
        if own.startswith("weight_ih") and array.ndim == 2:
            rest = own.removeprefix("weight_ih")
            dot = f"{module}." if module else ""
            names = [f"{dot}{part}{rest}" for part in _TORCH]
            if names[1] in native:
                found[f"{dot}*{rest}"] = Cell(f"{dot}*{rest}", tuple(n for n in names if n in native), False)
        elif own == "recurrent_kernel" and f"{module}/kernel" in native:
            names = [f"{module}/{part}" for part in ("kernel", "recurrent_kernel", "bias")]
            found[module] = Cell(module, tuple(n for n in names if n in native), True)
    return tuple(found.values())


def _order(op: str, cell: Cell) -> tuple[int, ...]:
    """ONNX's gates by their number in the native order."""
    if op == "LSTM":
        return (0, 3, 1, 2)
    if op == "GRU":
        return (0, 1, 2) if cell.keras else (1, 0, 2)
    return (0,)


def _parts(book: Book, op: str, cell: Cell, order: Sequence[int]) -> tuple[Array, Array, Array]:
    """A direction's ``W``, ``R`` and ``B`` with the gates in ``order``."""
    gates = _GATES[op]

    def turned(matrix: Array) -> Array:
        rows = matrix.T if cell.keras else matrix
        return rows.reshape(gates, rows.shape[0] // gates, *rows.shape[1:])[list(order)].reshape(rows.shape)

    first, second = turned(book.native[cell.natives[0]]), turned(book.native[cell.natives[1]])
    biases = [row for n in cell.natives[2:] for row in np.atleast_2d(book.native[n])]
    zero = np.zeros(first.shape[0], first.dtype)
    halves = [b.reshape(gates, -1)[list(order)].reshape(-1) for b in biases[:2]]
    return first, second, np.concatenate([*halves, zero, zero][:2])


def match_recurrent(book: Book) -> None:
    """Settles the constants of LSTM, GRU and RNN nodes."""
    known = cells(book.native)
    for node in book.artifact.nodes if known else ():
        if node.op_type in _GATES:
            held = [book.artifact.stored.get(name) for name in [*node.input, "", "", ""][1:4]]
            _match(book, node, held, known)


def match_reordered(book: Book) -> None:
    """Settles the constants outside of such nodes that hold a cell with its gates in another order, one for all."""
    for cell in cells(book.native):
        first, second = (book.native[n].T if cell.keras else book.native[n] for n in cell.natives[:2])
        units = second.shape[1]
        gates = second.shape[0] // units
        if gates not in (3, 4) or not second.shape[0] == first.shape[0] == gates * units:
            continue
        biases = [book.native[n].reshape(-1, gates, units, 1) for n in cell.natives[2:]]
        blocks = [m.reshape(1, gates, units, -1) for m in (first, second)] + biases
        parts: list[tuple[tuple[str, ...], Array]] = [((n,), b) for n, b in zip(cell.natives, blocks, strict=True)]
        if len(biases) > 1:
            parts.append((cell.natives[2:], np.concatenate(biases)))
        for order in itertools.permutations(range(gates)):
            if order != tuple(range(gates)):
                _settle_reordered(book, cell, parts, order)


def _settle_reordered(
    book: Book, cell: Cell, parts: Sequence[tuple[tuple[str, ...], Array]], order: tuple[int, ...]
) -> None:
    """Settles a cell whose tensors are all there in that order.

    Args:
        book: The ledger.
        cell: The cell.
        parts: Native names, and what they hold as ``[copies, gates, units, inputs]``.
        order: Of the gates.
    """
    found: list[tuple[Stored, tuple[str, ...]]] = []
    unmoved: set[str] = set()
    for natives, block in parts:
        turned = block[:, list(order)]
        if np.array_equal(turned, block):  # a bias of zeros
            unmoved.update(natives)
        rows = turned.reshape(-1, turned.shape[-1])
        for stored in book.open():
            if stored.size == rows.size and any(
                np.array_equal(rounded(form, stored.array.dtype).reshape(-1), stored.array.reshape(-1))
                for form in (rows, rows.T)
            ):
                found.append((stored, natives))
    there = {n for _, natives in found for n in natives}
    # torch's exporter packs part of what a node takes and leaves the rest to the graph, in torch's order.
    right = {n for e in book.entries.values() if e.status is EntryStatus.OK for n in e.natives} if cell.keras else set()
    if set(cell.natives[:2]) <= there | right and set(cell.natives) <= there | right | unmoved:
        for stored, natives in found:
            book.settle(stored, natives, Relation.CONCATENATED, f"gates {order}")


def _match(book: Book, node: onnx.NodeProto, held: Sequence[Stored | None], known: Sequence[Cell]) -> None:
    directions = next((s.shape[0] for s in held if s is not None), 0)
    chosen = [_cell(book, node.op_type, held, d, known) for d in range(directions)]
    if not chosen or any(c is None for c in chosen):
        return
    found = [c for c in chosen if c is not None]
    for slot, stored in enumerate(held):
        if stored is None or stored.array.ndim != (2 if slot == 2 else 3):
            continue
        parts = [_parts(book, node.op_type, c, _order(node.op_type, c))[slot] for c in found]
        expected = np.stack([rounded(p, stored.array.dtype) for p in parts])
        if expected.shape == stored.shape:
            _settle(book, node.op_type, stored, found, slot, expected)


def _cell(book: Book, op: str, held: Sequence[Stored | None], direction: int, known: Sequence[Cell]) -> Cell | None:
    """The cell that most of one direction's constants were made from."""
    best: tuple[float, Cell] | None = None
    for cell in known:
        if book.native[cell.natives[0]].size % _GATES[op] or not _fits(book, held, cell):
            continue
        share = max(
            _agreement(_parts(book, op, cell, order), held, direction)
            for order in dict.fromkeys((_order(op, cell), *itertools.permutations(range(_GATES[op]))))
        )
        if best is None or share > best[0]:
            best = (share, cell)
    return best[1] if best is not None and best[0] >= _NEAR else None


def _fits(book: Book, held: Sequence[Stored | None], cell: Cell) -> bool:
    sizes = [s.size // s.shape[0] for s in held[:2] if s is not None and s.shape]
    return all(book.native[n].size == size for n, size in zip(cell.natives, sizes, strict=False))


def _agreement(parts: Sequence[Array], held: Sequence[Stored | None], direction: int) -> float:
    """The best share of a constant that agrees, with a little for how many do."""
    shares = []
    for part, stored in zip(parts, held, strict=True):
        if stored is not None and stored.array[direction].shape == part.shape and part.any():
            shares.append(_alike(stored.array[direction], rounded(part, stored.array.dtype)))
    return max(shares, default=0.0) + sum(shares) / 100


def _alike(actual: Array, expected: Array) -> float:
    """The share of equal elements, or the correlation where that says more."""
    equal = float((ulps(actual, expected) == 0).mean())
    a, b = actual.astype(np.float64).reshape(-1), expected.astype(np.float64).reshape(-1)
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return max(equal, abs(float((a * b).sum()) / size) - 0.25 if size > 0 and a.size >= 16 else 0.0)


def _settle(book: Book, op: str, stored: Stored, found: Sequence[Cell], slot: int, expected: Array) -> None:
    def own(cell: Cell) -> tuple[str, ...]:
        return cell.natives[2:] if slot == 2 else cell.natives[slot : slot + 1]

    natives = tuple(dict.fromkeys(n for c in found for n in own(c)))
    text = " + ".join(" and ".join(own(c)) or "zeros" for c in found)
    if (ulps(expected, stored.array) == 0).all():
        book.settle(stored, natives, Relation.CONCATENATED if natives else Relation.GENERATED, text)
        return
    if slot == 2 and _summed(stored, expected):
        book.settle(stored, natives, Relation.SUMMED, text)
        return
    said = _gates(book, op, stored, found, slot)
    axis = 0 if stored.shape[0] > 1 and said == "" and _swapped(stored.array, expected) else 1
    book.miss(stored, natives, Relation.CONCATENATED, text, expected, said=said, axis=axis)


def _swapped(actual: Array, expected: Array) -> bool:
    return bool(np.array_equal(actual, expected[::-1]))


def _summed(stored: Stored, expected: Array) -> bool:
    """Whether both biases were added up in one half, which ONNX allows but for a GRU's last gate."""
    halves = expected.reshape(len(expected), 2, -1)
    actual = stored.array.reshape(halves.shape)
    total = halves.sum(axis=1)
    return any(bool(np.array_equal(actual[:, k], total)) and not actual[:, 1 - k].any() for k in (0, 1))


def _gates(book: Book, op: str, stored: Stored, found: Sequence[Cell], slot: int) -> str:
    """What to say when only the order of the gates is wrong; else empty."""
    wrong = []
    for direction, cell in enumerate(found):
        wanted = _order(op, cell)
        for order in itertools.permutations(range(len(wanted))):
            part = rounded(_parts(book, op, cell, order)[slot], stored.array.dtype)
            if (ulps(part, stored.array[direction]) == 0).all():
                if order != wanted:
                    wrong.append(f"{cell.natives[min(slot, len(cell.natives) - 1)]} as {order}, {op} takes {wanted}")
                break
        else:
            return ""
    return f"has gates in the wrong order: {'; '.join(wrong)}" if wrong else ""
