"""Constants that hold a native tensor's values exactly: as they are, transposed, reshaped, cast, several at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from onnxeq.types import Array
from onnxeq.weights.book import Book, is_float, loose_name
from onnxeq.weights.digest import Signature, same, signature
from onnxeq.weights.facts import prefix
from onnxeq.weights.inventory import Stored
from onnxeq.weights.layouts import Layout, layouts
from onnxeq.weights.types import Relation

__all__ = ["match_exact", "rounded"]

_FEW = 4
"""Integers up to which a constant is taken for a shape or an axis, not for a buffer, unless it bears its name."""


def rounded(native: Array, kind: np.dtype[Any]) -> Array:
    """A native tensor in the type that it is stored in."""
    with np.errstate(over="ignore"):
        return native.astype(kind, copy=False)


def match_exact(book: Book) -> None:
    """Settles every constant whose elements are a native tensor's, in the stored type."""
    index: dict[Signature, list[str]] = {}
    sizes: dict[int, list[str]] = {}
    for name, array in book.native.items():
        sizes.setdefault(array.size, []).append(name)
    indexed: set[tuple[str, str]] = set()
    for stored in book.artifact.stored.values():
        if stored.size not in sizes or stored.size == 0 or stored.name in book.entries:
            continue
        kind = stored.array.dtype
        for name in sizes[stored.size]:
            # Each native tensor is rounded to those types only in which a constant of its size is stored.
            if (name, kind.name) not in indexed and _convertible(book.native[name], stored.array):
                indexed.add((name, kind.name))
                index.setdefault(signature(rounded(book.native[name], kind)), []).append(name)
        found = _candidates(stored, index.get(signature(stored.array), ()), book.native)
        if found and not _accidental(stored, found, book):
            _choose(book, stored, found)


def _convertible(native: Array, stored: Array) -> bool:
    return is_float(native) == is_float(stored) and native.dtype.kind not in "OUSTb"


def _candidates(stored: Stored, names: Iterable[str], native: Mapping[str, Array]) -> dict[str, Layout]:
    """Native tensors that a layout turns into the constant, each with the first such layout."""
    found = {}
    for name in names:
        held = rounded(native[name], stored.array.dtype)
        for layout in layouts(tuple(held.shape), stored.shape):
            if same(np.ascontiguousarray(layout.apply(held)).reshape(stored.shape), stored.array):
                found[name] = layout
                break
    return found


def _accidental(stored: Stored, found: Mapping[str, Layout], book: Book) -> bool:
    """Whether a small constant only happens to have a native tensor's value."""
    if any(loose_name(n) == loose_name(stored.name) for n in found) or stored.name in book.places:
        return False
    if not is_float(stored.array):
        return stored.size <= _FEW
    return stored.size == 1 and float(stored.array.reshape(-1)[0]).is_integer()


def _choose(book: Book, stored: Stored, found: Mapping[str, Layout]) -> None:
    """Settles a constant on one of the native tensors that have its values, or on all that cannot be told apart."""
    book.choices[stored.name] = tuple(found)
    best = preferred(book, stored, found)
    names = [best] if best else list(found)
    layout = found[names[0]]
    cast = book.native[names[0]].dtype != stored.array.dtype
    kind = f"{book.native[names[0]].dtype.name} to {stored.array.dtype.name}"
    text = ", ".join(t for t in (layout.text, kind if cast else "") if t)
    book.settle(stored, names, Relation.CAST if cast else layout.relation, text)
    book.held.update(found)  # one constant serves all that are equal


def preferred(book: Book, stored: Stored, names: Iterable[str]) -> str:
    """The one that place, name or a sibling at the same node speaks for; empty when nothing does."""
    names = list(names)
    if (place := book.places.get(stored.name)) in names:
        return place
    for name in names:
        if loose_name(name) == loose_name(stored.name):
            return name
    if len(names) == 1:
        return names[0]
    beside = _modules_beside(book, stored)
    near = [n for n in names if prefix(n) in beside and prefix(n)]
    return near[0] if len(near) == 1 else ""


def _modules_beside(book: Book, stored: Stored) -> set[str]:
    """Modules of the native tensors that the constant's readers read, too."""
    found = set()
    for reader in stored.readers:
        for name in book.artifact.nodes[reader.index].input:
            entry = book.entries.get(name)
            if name != stored.name and entry is not None and len(entry.natives) == 1:
                found.add(prefix(entry.natives[0]))
    return found
