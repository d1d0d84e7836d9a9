"""The ledger, the straight line: what is a native tensor, what was made from some, what nearly is, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from onnxeq.types import Array
from onnxeq.weights.book import Book, is_float
from onnxeq.weights.consistency import check_consistency, turns_of
from onnxeq.weights.digest import same
from onnxeq.weights.exact import match_exact
from onnxeq.weights.facts import Facts, from_graph, from_names, joined, needless
from onnxeq.weights.folding import match_folded
from onnxeq.weights.inventory import Inventory, Stored, inventory
from onnxeq.weights.near import match_near
from onnxeq.weights.pieces import match_pieces
from onnxeq.weights.place import places
from onnxeq.weights.quantized import match_quantized
from onnxeq.weights.recurrent import match_recurrent, match_reordered
from onnxeq.weights.shifts import match_shifts
from onnxeq.weights.types import Basis, Entry, EntryStatus, Ledger, Relation

__all__ = ["match", "native_of"]

_WEIGHT_SIZE = 16
"""Elements from which on a float constant that nothing explains is said to be unexplained, unless it is a pattern."""


def native_of(model: onnx.ModelProto, base_dir: Path | None = None) -> dict[str, Array]:
    """The constants of an ONNX file, as the native tensors of a source.

    Raises:
        onnxeq.errors.UnusableModel: External data is missing or outside ``base_dir``.
    """
    return {name: s.array for name, s in inventory(model, base_dir).stored.items()}


def match(
    native: Mapping[str, Array],
    artifact: onnx.ModelProto,
    base_dir: Path | None = None,
    *,
    reference: onnx.ModelProto | None = None,
) -> Ledger:
    """Accounts for every native tensor and every constant of an ONNX model.

    Args:
        native: The source's parameters and buffers by name.
        artifact: The ONNX model.
        base_dir: Where its external data lies.
        reference: A model with the same structure whose constants are the native tensors: the same exporter's
            unfolded export, or the source itself where that is an ONNX file. It tells what belongs in which place,
            so that exchanged tensors and badly damaged ones are found.

    Raises:
        onnxeq.errors.UnusableModel: External data is missing or outside ``base_dir``.
    """
    constants = inventory(artifact, base_dir)
    facts = from_names(native)
    placed: Mapping[str, str] = {}
    turns: dict[str, tuple[int, ...]] = {}
    if reference is not None:
        beside = inventory(reference, base_dir)
        owner = _owners(native, beside)
        facts = joined(facts, from_graph(beside, owner, native))
        placed = places(constants, beside, owner)
        turns = turns_of(Book(native, beside, facts), owner)
    book = Book(native, constants, facts, placed, turns=turns)
    match_recurrent(book)  # first: by its values alone a reshaped weight would pass with its gates in any order
    match_reordered(book)
    match_exact(book)
    match_folded(book)
    match_shifts(book)
    match_pieces(book)
    match_quantized(book)
    match_near(book)
    check_consistency(book)
    for stored in constants.stored.values():
        if stored.name not in book.entries:
            _rest(book, stored)
    _reading(book)
    return _ledger(book)


def _owners(native: Mapping[str, Array], beside: Inventory) -> dict[str, str]:
    """The native tensor of each of the reference's constants."""
    owner = {n: n for n, s in beside.stored.items() if n in native and _is_one(native[n], s)}
    rest = {n: s for n, s in beside.stored.items() if n not in owner}
    book = Book(native, replace(beside, stored=rest), Facts())
    match_exact(book)
    return owner | {e.initializer: e.natives[0] for e in book.entries.values() if e.natives}


def _is_one(native: Array, stored: Stored) -> bool:
    return native.size == stored.size and native.shape == stored.shape and same(native, stored.array)


def _rest(book: Book, stored: Stored) -> None:
    """What comes from no native tensor: the exporter's own constants, and what could not be derived."""
    array = stored.array
    if not is_float(array) or array.size < _WEIGHT_SIZE or _pattern(array):
        book.settle(stored, (), Relation.GENERATED, "constant of the exporter")
        return
    said = f"'{stored.name}' ({array.dtype.name}{list(array.shape)}) could not be derived from native tensors"
    if hint := book.hints.get(stored.name):
        said = f"each channel of '{stored.name}' is {hint} times a factor that no native tensor gives"
    book.note(stored, (hint,) if hint else (), Relation.UNKNOWN, EntryStatus.UNEXPLAINED, said)


def _pattern(array: Array) -> bool:
    """Whether a few values, or equal steps, make up a constant: masks, tables of positions."""
    flat = array.reshape(-1).astype(np.float64)
    if len(np.unique(flat[:4096])) <= 4 and len(np.unique(flat)) <= 4:
        return True
    steps = np.diff(flat)
    return bool(np.isfinite(steps).all() and np.ptp(steps) <= 1e-6 * np.abs(flat).max())


def _reading(book: Book) -> None:
    """Branches that reach no output: their weights are the only thing that tells of them."""
    for stored in book.artifact.stored.values():
        entry = book.entries[stored.name]
        if stored.live or not stored.readers or not entry.natives or entry.status is not EntryStatus.OK:
            continue
        if not is_float(stored.array) or stored.size < 2 or all(_dead_there(book, n) for n in entry.natives):
            continue
        if any(_lives_elsewhere(book, stored, n) for n in entry.natives):
            continue
        if all(r.op_type in ("Shape", "Size") for r in stored.readers):
            continue  # no branch that computes with it: its size is asked for, and not even that is used
        reader = stored.readers[0]
        said = (
            f"initializer '{stored.name}' of {entry.natives[0]} is read by {reader.op_type} {reader.node} only, which"
        )
        book.entries[stored.name] = replace(
            entry, status=EntryStatus.UNREAD, evidence=f"{said} reaches no output", native=entry.natives[0]
        )


def _dead_there(book: Book, native: str) -> bool:
    return book.facts.live is not None and native not in book.facts.live


def _lives_elsewhere(book: Book, stored: Stored, native: str) -> bool:
    return any(
        native in e.natives and name != stored.name and book.artifact.stored[name].live
        for name, e in book.entries.items()
    )


def _ledger(book: Book) -> Ledger:
    entries = [book.entries[name] for name in book.artifact.stored]
    accounted = sum(e.status is EntryStatus.OK for e in entries)
    orphans = []
    for name, array in book.native.items():
        if name in book.held:
            continue
        wanted = book.facts.live is not None and name in book.facts.live and array.size > 1
        needed = is_float(array) and array.size > 1 and not needless(name) and bool(np.ptp(array.astype(np.float64)))
        if not needed or (book.facts.live is not None and not wanted):
            orphans.append(Entry("", (name,), Relation.UNUSED, "the graph needs none", basis=Basis.NONE))
            continue
        said = f"no constant of the artifact holds {name} ({array.dtype.name}{list(array.shape)}) or was made from it"
        orphans.append(Entry("", (name,), Relation.UNUSED, "", EntryStatus.ORPHAN, evidence=said, basis=Basis.NONE,
                             native=name))  # fmt: skip
    order = {EntryStatus.NEAR_MISS: 0, EntryStatus.UNREAD: 1, EntryStatus.UNEXPLAINED: 2}
    entries.sort(key=lambda e: order.get(e.status, 3))
    missing = sum(e.status is EntryStatus.ORPHAN for e in orphans)
    return Ledger(
        (*entries, *orphans), len(book.native) - missing, len(book.native), accounted, len(book.artifact.stored)
    )
