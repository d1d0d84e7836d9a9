"""Vectors that a BatchNormalization gives: folded biases, and its factors and shifts where they stand on their own.

A bias is judged where it is read: what it must be follows from the weight at the same node. So a bias that two nodes
share by mistake is found although its values are right somewhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array
from onnxeq.weights.book import Book, Folded
from onnxeq.weights.folding import EPSILONS, fit_norm
from onnxeq.weights.inventory import LINEAR, Stored
from onnxeq.weights.recipes import Norm, factors, folded_shifts, shift_magnitude
from onnxeq.weights.types import Relation
from onnxeq.weights.verdicts import Fold, judge, trembles

__all__ = ["biases", "match_shifts"]

_NEAR = 0.5
"""Share of its channels that a bias must have right to be told by its values alone."""


@dataclass(frozen=True)
class _Owner:
    """What a bias may have come from."""

    norm: Norm
    eps: float
    bias: str
    fold: Fold

    @property
    def natives(self) -> tuple[str, ...]:
        """Its native tensors, the one that bears the blame first."""
        return (*((self.bias,) if self.bias else ()), *self.norm.natives)

    @property
    def text(self) -> str:
        """In words."""
        own = f"{self.bias} - mean" if self.bias else "-mean"
        return f"({own})*s + beta of {self.norm.name or self.norm.natives[-1]}, eps {self.eps:.6g}"


def biases(book: Book, weight: Stored) -> Iterator[Stored]:
    """The constants that the nodes which use a weight add to what they multiply."""
    if weight.user is None:
        return
    node = book.artifact.nodes[weight.user.index]
    slot = 8 if node.op_type == "QLinearConv" else 2
    if node.op_type in LINEAR and len(node.input) > slot and node.input[slot] and "MatMul" not in node.op_type:
        if (held := book.artifact.stored.get(node.input[slot])) is not None:
            yield held
        return
    behind = book.artifact.behind(weight.user.index)
    if len(behind) == 1 and book.artifact.nodes[behind[0]].op_type == "Add":
        for name in book.artifact.nodes[behind[0]].input:
            if (held := book.artifact.stored.get(name)) is not None and held.size > 1:
                yield held


def match_shifts(book: Book) -> None:
    """Settles the biases beside folded weights, then the factors and shifts of the other BatchNormalizations."""
    beside = [(s, f) for name, f in book.folded.items() for s in biases(book, book.artifact.stored[name])]
    recipe = _usual(book, beside)
    for stored, folded in beside:
        _beside(book, stored, folded, recipe)
    resolved = {f.norm.natives: f.eps for f in book.folded.values()}
    vectors = [s for s in book.open() if max(s.shape) == s.size]  # one axis of more than one element
    for stored in vectors:
        _alone(book, stored, resolved, recipe)
    for stored in vectors:
        if stored.name not in book.entries:
            _beside_its_partner(book, stored, recipe)


def _usual(book: Book, beside: Sequence[tuple[Stored, Folded]]) -> str:
    """The recipe by which most of the biases were made, bit for bit; empty when there is none."""
    seen: Counter[str] = Counter()
    for stored, folded in beside:
        if stored.array.size == folded.norm.gamma.size:
            best = _by_its_weight(book, stored, folded, seen.most_common(1)[0][0] if seen else "")
            if best.fold.reproduced == 1.0:
                seen[best.fold.recipe] += 1
    return seen.most_common(1)[0][0] if seen else ""


def _by_its_weight(book: Book, stored: Stored, folded: Folded, recipe: str) -> _Owner:
    """What a bias must be by the weight beside it, with the native bias or without."""
    own = book.facts.bias_of.get(folded.weight, "")
    owners = [_owner(book, stored, folded, bias, recipe) for bias in dict.fromkeys((own, ""))]
    return max(owners, key=lambda o: (o.fold.honest, o.fold.reproduced, -o.fold.wrong.mean()))


def _beside(book: Book, stored: Stored, folded: Folded, recipe: str) -> None:
    """Judges the bias of a folded weight."""
    if stored.array.size != folded.norm.gamma.size:
        return
    best = _by_its_weight(book, stored, folded, recipe)
    if best.fold.honest:
        if stored.name not in book.norm_at and stored.name not in book.entries:
            book.settle(stored, best.natives, Relation.FOLDED, best.text)
        book.norm_at.setdefault(stored.name, folded)
        return
    other = _somebody_elses(book, stored, folded, recipe)
    if other is None and not _belongs(stored, best):
        return
    node = book.artifact.stored[_weight_of(book, folded)].user
    where = f" at {node.op_type} {node.node}" if node is not None else ""
    said = ""
    if other is not None:
        shared = " too" if len(stored.readers) > 1 else ""
        said = f"holds what belongs to {other}{where}{shared}, not what {best.natives[0]} gives"
        book.held.update(n for n in (other,) if n in book.native)
    book.miss(stored, best.natives, Relation.FOLDED, best.text, best.fold.expected, wrong=best.fold.wrong, said=said,
              sure=other is not None or best.fold.wrong.mean() <= _NEAR or _trembles(stored, best))  # fmt: skip


def _belongs(stored: Stored, owner: _Owner) -> bool:
    """Whether a bias that its weight does not explain is wrong, and not the sum of more than the weight knows of."""
    if owner.fold.wrong.mean() <= _NEAR or not stored.array.any():
        return True
    actual, expected = (x.reshape(-1).astype(np.float64) for x in (stored.array, owner.fold.expected))
    more = actual - expected
    return bool(np.ptp(more) > 1e-5 * np.abs(more).max())  # x + 3 behind it, say, was folded as well


def _trembles(stored: Stored, owner: _Owner) -> bool:
    return trembles(stored.array.reshape(-1), owner.fold.expected)


def _weight_of(book: Book, folded: Folded) -> str:
    return next(name for name, f in book.folded.items() if f is folded)


def _somebody_elses(book: Book, stored: Stored, folded: Folded, recipe: str) -> str | None:
    """Whose values a bias holds that is wrong where it is read."""
    if (choices := book.choices.get(stored.name)) and np.ptp(stored.array.astype(np.float64)) > 0:
        return choices[0]
    for other in book.folded.values():
        if other.norm.natives == folded.norm.natives or other.norm.gamma.size != stored.size:
            continue
        own = book.facts.bias_of.get(other.weight, "")
        for bias in dict.fromkeys((own, "")):
            if _owner(book, stored, other, bias, recipe).fold.honest:
                return bias or other.norm.natives[0]
    return None


def _owner(book: Book, stored: Stored, folded: Folded, bias: str, recipe: str) -> _Owner:
    norm, eps = folded.norm, folded.eps
    held = book.native[bias].reshape(-1) if bias else None
    scale = norm.scale(eps)
    b = 0.0 if held is None else held.astype(np.float64)
    hanging = (b - norm.mean.astype(np.float64)) * scale
    exact = hanging + norm.beta.astype(np.float64)
    magnitude = shift_magnitude(held, norm, scale)
    recipes = folded_shifts(held, norm, eps, folded.factor, stored.array.dtype)
    fold = judge(stored.array.reshape(-1), exact, magnitude, recipes, recipe, strict=not folded.damaged, root=hanging)
    if fold.reproduced < _NEAR:  # no recipe is near: the float64 fold, rounded once
        fold = Fold(fold.recipe, fold.reproduced, exact.astype(stored.array.dtype), fold.wrong)
    return _Owner(norm, eps, bias, fold)


def _alone(book: Book, stored: Stored, resolved: dict[tuple[str, ...], float], recipe: str) -> None:
    """A vector by itself: the factor of a BatchNormalization that was not folded into a weight, or a shift."""
    value = stored.array.reshape(-1).astype(np.float64)
    norms = [n for n in book.facts.norms if n.gamma.size == value.size]
    if not norms:
        return
    fitted = fit_norm(value, norms, stored=stored.array.dtype)
    if fitted is not None:
        norm, eps = fitted
        resolved.setdefault(norm.natives, eps)
        exact = norm.scale(eps)
        fold = judge(stored.array.reshape(-1), exact, np.abs(exact), factors(norm, eps, stored.array.dtype), root=exact)
        natives = tuple(n for n in norm.natives if n in (norm.natives[0], norm.natives[-1]))
        text = f"gamma / sqrt(var + eps) of {norm.name or norm.natives[-1]}, eps {eps:.6g}"
        book.norm_at[stored.name] = Folded("", norm, eps)
        if fold.honest:
            book.settle(stored, natives, Relation.FOLDED, text)
        else:
            book.miss(stored, natives, Relation.FOLDED, text, fold.expected, wrong=fold.wrong)
        return
    owner = _best_shift(book, stored, value, norms, resolved, recipe)
    if owner is None:
        return
    if owner.fold.honest:
        book.settle(stored, owner.natives, Relation.FOLDED, owner.text)
        book.norm_at[stored.name] = Folded("", owner.norm, owner.eps)
    elif owner.fold.wrong.mean() <= _NEAR and stored.size >= 4:
        book.miss(stored, owner.natives, Relation.FOLDED, owner.text, owner.fold.expected, wrong=owner.fold.wrong)


def _beside_its_partner(book: Book, stored: Stored, recipe: str) -> None:
    """A vector of a ``Mul`` and ``Add`` in a row whose other vector tells which BatchNormalization they are."""
    user = stored.user
    found = next((book.norm_at[n] for n in _partners(book, stored) if n in book.norm_at), None)
    if user is None or found is None or found.norm.gamma.size != stored.size:
        return
    norm, eps = found.norm, found.eps
    if user.op_type == "Add":
        owner = _owner(book, stored, found, "", recipe)
        if _belongs(stored, owner) and not set(norm.natives[1:3]) & book.held:
            book.miss(stored, owner.natives, Relation.FOLDED, owner.text, owner.fold.expected, sure=False)
        return
    natives = tuple(n for n in norm.natives if n in (norm.natives[0], norm.natives[-1]))
    text = f"gamma / sqrt(var + eps) of {norm.name or norm.natives[-1]}, eps {eps:.6g}"
    book.miss(stored, natives, Relation.FOLDED, text, norm.scale(eps), sure=False)


def _partners(book: Book, stored: Stored) -> Sequence[str]:
    """What the other one of a ``Mul`` and ``Add`` in a row reads, for a vector of one of them."""
    user = stored.user
    if user is None or user.op_type not in ("Mul", "Add"):
        return ()
    if user.op_type == "Mul":
        behind = book.artifact.behind(user.index)
        return book.artifact.nodes[behind[0]].input if len(behind) == 1 else ()
    makers = [book.artifact.makers.get(name) for name in book.artifact.nodes[user.index].input]
    found = [book.artifact.nodes[m] for m in makers if m is not None]
    return [name for node in found if node.op_type == "Mul" for name in node.input]


def _factor_beside(book: Book, stored: Stored, scale: NDArray[np.float64]) -> Array | None:
    """The factors of the ``Mul`` in front of a shift: the very numbers that it was made with, root and all."""
    for name in _partners(book, stored):
        held = book.artifact.stored.get(name)
        if held is not None and held.size == scale.size and held.array.dtype == np.float32:
            near = np.isclose(held.array.reshape(-1), scale, rtol=1e-5, atol=0.0)  # what is damaged there is its fault
            if near.mean() > _NEAR:
                return np.where(near, held.array.reshape(-1), scale.astype(np.float32))
    return None


def _best_shift(
    book: Book, stored: Stored, value: NDArray[np.float64], norms: Sequence[Norm],
    resolved: dict[tuple[str, ...], float], recipe: str,
) -> _Owner | None:  # fmt: skip
    """The BatchNormalization and the bias whose shift most of the vector is."""
    own = {n for norm in book.facts.norms for n in norm.natives}
    names = [n for n, a in book.native.items() if a.size == value.size and a.ndim == 1 and n not in own]
    table = np.array([book.native[n].astype(np.float64) for n in names]).reshape(len(names), value.size)
    best: tuple[float, float, Norm, float, str] | None = None
    for norm in norms:
        known = resolved.get(norm.natives, norm.eps)
        for eps in EPSILONS[:4] if known is None else (known,):
            scale = norm.scale(eps)
            rest = value - (norm.beta.astype(np.float64) - norm.mean.astype(np.float64) * scale)
            size = np.abs(norm.beta) + np.abs(norm.mean * scale) + np.abs(value) + np.finfo(np.float32).tiny
            off = np.abs(np.vstack([np.zeros((1, value.size)), table * scale]) - rest) / size
            shares, middles = (off <= 1e-6).mean(axis=1), np.median(off, axis=1)
            top = int(np.lexsort((middles, -shares))[0])
            if best is None or (shares[top], -middles[top]) > (best[0], -best[1]):
                best = (float(shares[top]), float(middles[top]), norm, eps, ("", *names)[top])
    if best is None or best[0] < _NEAR:
        return None
    _, _, norm, eps, bias = best
    factor = _factor_beside(book, stored, norm.scale(eps))
    return _owner(book, stored, Folded("", norm, eps, factor), bias, recipe)
