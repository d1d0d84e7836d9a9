"""Near misses: constants that clearly correspond to one native tensor and do not hold it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxeq.types import Array
from onnxeq.weights.book import Book, Folded, is_float, loose_name
from onnxeq.weights.channels import Channels, channels_of
from onnxeq.weights.digest import bits
from onnxeq.weights.exact import rounded
from onnxeq.weights.facts import reparametrised
from onnxeq.weights.inventory import LINEAR, Stored
from onnxeq.weights.layouts import Layout, layouts
from onnxeq.weights.shifts import biases
from onnxeq.weights.types import Basis, Relation
from onnxeq.weights.verdicts import trembles
from onnxeq.weights.words import describe

__all__ = ["expected_of", "match_near"]

_SAMPLE = 4096
_EQUAL = 0.5
"""Share of elements with the same bits from which on a constant corresponds to a native tensor."""

_MATRIX = 64
"""Elements from which on a matrix that is like a native one is not so by chance."""

_ALIKE = 0.97
"""Correlation, from which on it does, if nothing else holds that native tensor."""


@dataclass(frozen=True)
class _Found:
    native: str
    layout: Layout
    equal: float
    alike: float
    basis: Basis

    @property
    def rank(self) -> tuple[bool, float, float, bool]:
        """The better the larger; a likeness that chance may give does not decide about the layout."""
        equal = self.equal if self.equal > 0.05 else 0.0
        named = 0.25 if self.basis is Basis.NAME else 0.0
        alike = abs(self.alike) if abs(self.alike) > 0.5 else 0.0
        return self.basis is Basis.PLACE, equal + named, alike, self.layout.plain


def match_near(book: Book) -> None:
    """Notes a near miss for every open constant that has a counterpart."""
    for stored in sorted((*book.open(), *_scalars(book)), key=lambda s: -s.size):
        best = max(_options(book, stored), key=lambda f: f.rank, default=None) or _left_over(book, stored)
        if best is not None:
            _note(book, stored, best)


def _scalars(book: Book) -> Iterator[Stored]:
    """Open numbers whose name or place a number of the source has."""
    for stored in book.artifact.stored.values():
        if stored.size != 1 or stored.name in book.entries or not is_float(stored.array):
            continue
        own = book.places.get(stored.name) or book.namesakes.get(loose_name(stored.name), "")
        if own and book.native[own].size == 1:
            yield stored


def _left_over(book: Book, stored: Stored) -> _Found | None:
    """The only native weight that nothing holds, for the only weight of an operator that nothing explains."""
    if stored.user is None or stored.user.op_type not in LINEAR or len(stored.shape) < 2:
        return None
    names = [n for n in book.loose() if layouts(tuple(book.native[n].shape), stored.shape) and not reparametrised(n)]
    others = [s for s in book.open() if s.size == stored.size]
    if len(names) != 1 or len(others) != 1:
        return None
    fitting = layouts(tuple(book.native[names[0]].shape), stored.shape)
    found = [_Found(names[0], f, *_compare(stored.array, expected_of(book, stored, names[0], f)[0]), Basis.NONE)
             for f in fitting]  # fmt: skip
    telling = [f for f in found if _telling(describe(stored.array, expected_of(book, stored, names[0], f.layout)[0]))]
    return max(telling or found, key=lambda f: f.rank)


def _options(book: Book, stored: Stored) -> Iterator[_Found]:
    place = book.places.get(stored.name, "") or _by_its_weight(book, stored)
    for name, native in book.native.items():
        if native.size != stored.size or not is_float(native):
            continue
        named = loose_name(name) == loose_name(stored.name)
        hinted = book.hints.get(stored.name) == name
        for layout in layouts(tuple(native.shape), stored.shape):
            expected, _ = expected_of(book, stored, name, layout)
            equal, alike = _compare(stored.array, expected)
            if name == place:
                yield _Found(name, layout, equal, alike, Basis.PLACE)
            elif named:
                yield _Found(name, layout, equal, alike, Basis.NAME)
            elif _tells(book, stored, name, expected, equal, alike) or (hinted and abs(alike) > _ALIKE):
                yield _Found(name, layout, equal, alike, Basis.VALUE)


def _by_its_weight(book: Book, stored: Stored) -> str:
    """The bias of the native weight at the same node; empty where there is none, or where it is held elsewhere."""
    for reader in stored.readers:
        node = book.artifact.nodes[reader.index]
        for name in node.input:
            maker = book.artifact.makers.get(name)
            around = [name] if maker is None else [name, *book.artifact.nodes[maker].input]
            for other in around:
                entry = book.entries.get(other)
                if entry is None or entry.relation is Relation.FOLDED or not entry.natives or other == stored.name:
                    continue
                own = book.facts.bias_of.get(entry.natives[0], "")
                if own and own not in book.held:
                    return own
    return ""


def _telling(said: str) -> bool:
    """Whether a difference looks like a fault and like nothing else."""
    return said.startswith(("is rounded", "has its sign", "is transposed", "is reversed")) or "permuted" in said


def _tells(book: Book, stored: Stored, name: str, expected: Array, equal: float, alike: float) -> bool:
    """Whether the values alone say that the constant is this native tensor, damaged."""
    if stored.size < 4 or reparametrised(name):
        return False
    if equal >= _EQUAL:
        return bool(np.ptp(book.native[name].astype(np.float64)) > 0)
    if name in book.held or abs(alike) < _ALIKE:
        return False
    # A vector that is merely like another one may be its sum with something small.
    return (stored.size >= _MATRIX and max(stored.shape) < stored.size) or (
        stored.size >= 8 and _telling(describe(stored.array, expected))
    )


def _compare(actual: Array, expected: Array) -> tuple[float, float]:
    """The share of equal elements and the correlation, over a sample of a large tensor."""
    if actual.size > _SAMPLE:
        chosen = np.unique(np.linspace(0, actual.size - 1, _SAMPLE).astype(np.int64))
        place = np.unravel_index(chosen, actual.shape)
        actual, expected = actual[place], expected[place]
    a, b = actual.astype(np.float64).reshape(-1), expected.astype(np.float64).reshape(-1)
    equal = float((bits(np.ascontiguousarray(actual)) == bits(np.ascontiguousarray(expected))).mean())
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return equal, float((a * b).sum() / size) if size > 0 and np.isfinite(size) else 0.0


def expected_of(book: Book, stored: Stored, name: str, layout: Layout) -> tuple[Array, Folded | None]:
    """What a native tensor gives in a constant's place: itself, or with the BatchNormalization that its bias shows."""
    native = layout.apply(rounded(book.native[name], stored.array.dtype))
    channels = channels_of(book.artifact, stored.user, stored.name, stored.shape)
    folded = None if channels is None else _norm_beside(book, stored, name)
    if channels is None or folded is None or folded.norm.gamma.size != channels.count:
        return native, None
    return _scaled(layout.apply(book.native[name]), channels, folded).astype(stored.array.dtype), folded


def _scaled(native: Array, channels: Channels, folded: Folded) -> Array:
    rows = channels.rows(native).astype(np.float64) * folded.norm.scale(folded.eps)[:, None]
    return channels.back(rows)


def _norm_beside(book: Book, stored: Stored, name: str) -> Folded | None:
    """The BatchNormalization that was folded into the weight: its shift is the bias of the same node."""
    for bias in biases(book, stored):
        if (found := book.norm_at.get(bias.name)) is not None:
            return Folded(name, found.norm, found.eps)
    wanted = book.facts.norm_of.get(name)
    for norm in book.facts.norms if wanted else ():
        if norm.name == wanted and norm.natives[-1] not in book.held and norm.eps is not None:
            return Folded(name, norm, norm.eps)
    return None


def _note(book: Book, stored: Stored, found: _Found) -> None:
    expected, folded = expected_of(book, stored, found.native, found.layout)
    axis = 0
    channels = channels_of(book.artifact, stored.user, stored.name, stored.shape)
    if channels is not None:
        axis = channels.axis
    relation, text = found.layout.relation, found.layout.text
    natives: tuple[str, ...] = (found.native,)
    if folded is not None:
        relation = Relation.FOLDED
        natives = (found.native, folded.norm.natives[0], folded.norm.natives[-1])
        text = ", ".join(t for t in (text, f"scaled by {folded.norm.name}, eps {folded.eps:.6g}") if t)
    elif book.native[found.native].dtype != stored.array.dtype:
        relation = Relation.CAST
    sure = found.equal >= _EQUAL or _telling(describe(stored.array, expected, axis))
    sure = sure or (trembles(stored.array, expected) and not reparametrised(found.native))
    # What was merged with an addend has lost its name on the way: tools name what they compute anew.
    named = loose_name(found.native) == loose_name(stored.name)
    sure = sure or (named and describe(stored.array, expected, axis).startswith("is shifted by"))
    book.miss(stored, natives, relation, text, expected, axis=axis, basis=found.basis, sure=sure)
