"""What is right by its values and wrong where it stands: exchanged, transposed, read by the wrong node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from onnxeq.weights.book import Book, loose_name
from onnxeq.weights.channels import channels_of, moved_before
from onnxeq.weights.digest import same
from onnxeq.weights.exact import rounded
from onnxeq.weights.facts import leaf, prefix
from onnxeq.weights.inventory import LINEAR, Stored
from onnxeq.weights.layouts import Layout, layouts
from onnxeq.weights.near import expected_of
from onnxeq.weights.shifts import biases
from onnxeq.weights.types import Basis, Entry, EntryStatus, Relation

__all__ = ["check_consistency", "turns_of"]

_PLAIN = (Relation.IDENTICAL, Relation.TRANSPOSED, Relation.RESHAPED, Relation.CAST)
_WHOLE = (*_PLAIN, Relation.FOLDED, Relation.SCALED)

_ROLES = {
    "BatchNormalization": (("weight", "gamma", "scale"), ("bias", "beta", "offset"),
                           ("running_mean", "moving_mean", "mean"),
                           ("running_var", "moving_variance", "moving_var", "variance", "var")),
    "LayerNormalization": (("weight", "gamma", "scale"), ("bias", "beta", "offset")),
    "InstanceNormalization": (("weight", "gamma", "scale"), ("bias", "beta", "offset")),
    "GroupNormalization": (("weight", "gamma", "scale"), ("bias", "beta", "offset")),
}  # fmt: skip
"""Operator -> what the native tensors of inputs 1, 2, ... are called."""


def check_consistency(book: Book) -> None:
    """Turns entries that are right by their values alone into near misses."""
    book.before = dict(book.entries)
    for stored in book.artifact.stored.values():
        entry = book.entries.get(stored.name)
        if entry is None or entry.status is not EntryStatus.OK or entry.relation not in _WHOLE or not entry.natives:
            continue
        if entry.relation is not Relation.FOLDED or stored.name in book.folded:  # a shift has several owners
            _at_its_place(book, stored, entry)
    _beside_each_other(book)
    _norms(book)
    _orientation(book)


def _equal(book: Book, first: str, second: str) -> bool:
    return first == second or same(book.native[first], book.native[second])


def _at_its_place(book: Book, stored: Stored, entry: Entry) -> None:
    """The native tensor that belongs here by place, or by name, is another one."""
    owner, basis = book.places.get(stored.name, ""), Basis.PLACE
    if not owner:
        owner, basis = _namesake(book, stored), Basis.NAME
    if not owner or owner in entry.natives or owner in book.choices.get(stored.name, ()):
        return
    if _equal(book, owner, entry.natives[0]):
        return
    fitting = layouts(tuple(book.native[owner].shape), stored.shape)
    if fitting:
        _exchanged(book, stored, entry, owner, basis)


def _namesake(book: Book, stored: Stored) -> str:
    return book.namesakes.get(loose_name(stored.name), "")


def _exchanged(book: Book, stored: Stored, entry: Entry, owner: str, basis: Basis) -> None:
    """Notes that a constant holds another native tensor than the one that belongs there."""
    layout = _usual_layout(book, stored, owner)
    expected, _ = expected_of(book, stored, owner, layout)
    other = next((e.initializer for e in book.before.values() if owner in e.natives[:1] and e.initializer), "")
    mutual = bool(other) and other != stored.name
    said = f"holds {entry.natives[0]}" + (f" (exchanged with initializer '{other}')" if mutual else "")
    book.miss(stored, (owner,), entry.relation, layout.text, expected, said=said, basis=basis,
              sure=basis is not Basis.NAME)  # fmt: skip


def _usual_layout(book: Book, stored: Stored, owner: str) -> Layout:
    """The layout in which other constants of such operators hold tensors of such names."""
    fitting = layouts(tuple(book.native[owner].shape), stored.shape)
    votes = _votes(book)[_class(book, stored, owner)]
    return max(fitting, key=lambda layout: votes[_turn(book, stored, layout)])


def _beside_each_other(book: Book) -> None:
    """A node's bias belongs to its weight."""
    known = set(book.facts.bias_of.values())
    for stored in list(book.artifact.stored.values()):
        entry = book.entries.get(stored.name)
        if entry is None or entry.relation not in _PLAIN or entry.status is not EntryStatus.OK or not entry.natives:
            continue
        if stored.user is None or stored.user.op_type not in LINEAR or len(stored.shape) < 2:
            continue
        owners = set(book.choices.get(stored.name, entry.natives)) | set(entry.natives)
        wanted = {book.facts.bias_of[n] for n in owners if n in book.facts.bias_of}
        for bias in biases(book, stored) if wanted else ():
            held = book.entries.get(bias.name)
            if held is None or held.status is not EntryStatus.OK or held.relation not in _PLAIN or not held.natives:
                continue
            mine = held.natives[0]
            if mine not in known or any(_equal(book, mine, w) for w in wanted):
                continue
            right = sorted(wanted)[0]
            if book.native[right].size == bias.size:
                _exchanged(book, bias, held, right, Basis.VALUE)


def _norms(book: Book) -> None:
    """The parameters of one normalisation come from one native module, each in its role."""
    for node in book.artifact.nodes:
        roles = _ROLES.get(node.op_type)
        if roles is None:
            continue
        rows = [
            (slot, book.artifact.stored.get(name)) for slot, name in enumerate(node.input) if 0 < slot <= len(roles)
        ]
        held = [(slot, s, book.entries[s.name]) for slot, s in rows if s is not None and s.name in book.entries]
        held = [(slot, s, e) for slot, s, e in held if e.relation in _PLAIN and e.natives]
        modules = Counter(prefix(e.natives[0]) for _, _, e in held)
        if not modules or not prefix(held[0][2].natives[0]):
            continue
        module, votes = modules.most_common(1)[0]
        if votes * 2 <= len(held):
            continue
        for slot, stored, entry in held:
            if entry.status is EntryStatus.OK:
                _role(book, stored, entry, module, roles[slot - 1])


def _role(book: Book, stored: Stored, entry: Entry, module: str, names: tuple[str, ...]) -> None:
    own = [n for n in book.modules[module] if leaf(n) in names]
    if not own or own[0] in entry.natives or own[0] in book.choices.get(stored.name, ()):
        return
    if book.native[own[0]].size == stored.size and not _equal(book, own[0], entry.natives[0]):
        _exchanged(book, stored, entry, own[0], Basis.VALUE)


def _orientation(book: Book) -> None:
    """A tensor that fits in several layouts is stored in the one in which all others of its kind are."""
    votes = _votes(book)
    for stored, entry, native in _weights(book):
        fitting = layouts(tuple(book.native[native].shape), stored.shape)
        counted = votes[_class(book, stored, native)]
        usual = book.turns.get(native) or next(iter(counted), None)
        if len(fitting) < 2 or usual is None or (native not in book.turns and len(counted) != 1):
            continue
        used = _used(book, stored, native, fitting)
        wanted = next((layout for layout in fitting if _turn(book, stored, layout) == usual), None)
        if used is None or wanted is None or _turn(book, stored, used) == usual:
            continue
        expected = wanted.apply(rounded(book.native[native], stored.array.dtype))
        if not same(np.ascontiguousarray(expected), stored.array):
            said = f"is transposed: it belongs there {_described(wanted)}"
            book.miss(stored, (native,), entry.relation, wanted.text, expected, said=said)


def _described(layout: Layout) -> str:
    return "as the native one is" if layout.plain else f"with axes {layout.perm}"


def _weights(book: Book, relations: tuple[Relation, ...] = _PLAIN) -> Iterator[tuple[Stored, Entry, str]]:
    for stored in book.artifact.stored.values():
        entry = book.entries.get(stored.name)
        if entry is None or entry.status is not EntryStatus.OK or entry.relation not in relations or not entry.natives:
            continue
        if stored.user is not None and stored.user.op_type in LINEAR and len(stored.shape) >= 2:
            yield stored, entry, entry.natives[0]


def _class(book: Book, stored: Stored, native: str) -> tuple[str, int, str]:
    """What is stored alike: operator, rank, and what the native tensor is called."""
    op = stored.user.op_type if stored.user is not None else ""
    family = "matrix" if "Gemm" in op or "MatMul" in op else op
    return family, book.native[native].ndim, leaf(native)


def _turn(book: Book, stored: Stored, layout: Layout) -> tuple[int, ...]:
    """A layout as the operator sees it: for a matrix, whether output channels come first in the native tensor."""
    channels = channels_of(book.artifact, stored.user, stored.name, stored.shape)
    op = stored.user.op_type if stored.user is not None else ""
    if channels is None or len(layout.shape) != 2 or not ("Gemm" in op or "MatMul" in op) or len(layout.perm) != 2:
        return _seen(layout, moved_before(book.artifact, stored.name, stored.user))
    return (int(layout.perm[channels.axis]),)


def _seen(layout: Layout, moved: tuple[int, ...] | None) -> tuple[int, ...]:
    """The order of the native axes behind Transpose nodes, written as :class:`Layout` writes it."""
    real = [axis for axis in layout.perm if layout.source[axis] != 1]
    places = [place for place, size in enumerate(layout.shape) if size != 1]
    if moved is None or len(moved) != len(layout.shape) or len(real) != len(places):
        return layout.perm
    held = dict(zip(places, real, strict=True))
    order = [held[place] for place in moved if place in held]
    plain = tuple(range(len(layout.source)))
    return plain if order == sorted(order) else (*order, *(a for a in plain if layout.source[a] == 1))


def _votes(book: Book) -> dict[tuple[str, int, str], Counter[tuple[int, ...]]]:
    """For each class the layouts of those constants that fit in one way only."""
    votes: dict[tuple[str, int, str], Counter[tuple[int, ...]]] = {}

    class _Empty(dict[tuple[str, int, str], Counter[tuple[int, ...]]]):
        def __missing__(self, key: tuple[str, int, str]) -> Counter[tuple[int, ...]]:
            return Counter()

    for stored, _, native in _weights(book, (*_PLAIN, Relation.FOLDED)):
        fitting = layouts(tuple(book.native[native].shape), stored.shape)
        if len(fitting) == 1:
            key = _class(book, stored, native)
            votes.setdefault(key, Counter())[_turn(book, stored, fitting[0])] += 1
    return _Empty(votes)


def _used(book: Book, stored: Stored, native: str, fitting: tuple[Layout, ...]) -> Layout | None:
    held = rounded(book.native[native], stored.array.dtype)
    return next(
        (f for f in fitting if same(np.ascontiguousarray(f.apply(held)).reshape(stored.shape), stored.array)), None
    )


def turns_of(book: Book, owner: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Native weight -> the order of its axes as the operators of a reference see them.

    Args:
        book: The native tensors and the reference.
        owner: The reference's constants -> native names.
    """
    turns: dict[str, tuple[int, ...]] = {}
    for name, native in owner.items():
        stored = book.artifact.stored[name]
        if stored.user is None or stored.user.op_type not in LINEAR or len(stored.shape) < 2:
            continue
        used = _used(book, stored, native, layouts(tuple(book.native[native].shape), stored.shape))
        if used is not None:
            turns[native] = _turn(book, stored, used)
    return turns
