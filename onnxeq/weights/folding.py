"""Weights with a BatchNormalization, another factor per channel, or one factor in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array
from onnxeq.weights.book import Book, Folded, loose_name
from onnxeq.weights.channels import Channels, channels_of
from onnxeq.weights.facts import reparametrised
from onnxeq.weights.inventory import Stored
from onnxeq.weights.layouts import Layout, layouts
from onnxeq.weights.recipes import Norm, factors, folded_weights
from onnxeq.weights.types import Relation
from onnxeq.weights.verdicts import ROOT, consensus, judge, unit_of
from onnxeq.weights.words import describe

__all__ = ["EPSILONS", "fit_norm", "match_folded", "plausible_factor"]

EPSILONS = (1e-5, 1e-3, 1.001e-3, 1e-6, 1e-4, 1e-2, 1e-7, 1e-8, 1e-12, 2e-5, 1e-1, 9.999999747378752e-06)
"""What models use; another one is solved for."""

_FLOAT32 = np.dtype(np.float32)

_ROWS, _COLUMNS = 8, 64
"""Channels and elements of each that a candidate is tried on first."""

_CLOSE = 2e-6
"""Relative deviation up to which a channel is called proportional: 16 half units of float32."""


_FEW = 8.0
"""The same for types in half precision, in half units of theirs: factor and product are rounded to the type."""

_SETTLED = 2.0**-23
"""Median deviation of the factors below which there is nothing to improve."""

_NEAR = (ROOT + 2) * 2.0**-24
"""Deviation of a factor that its rounding explains. An epsilon shows where the variance is small, so that it may be
told by a single channel: 1.001e-5 from 1e-5 by one of 256, which was 10 * 2^-24 off (Keras DenseNet121)."""


@dataclass(frozen=True)
class _Pair:
    """A stored weight beside the native one that it is proportional to, a row for each output channel."""

    native: str
    layout: Layout
    stored: Array
    rows: Array
    factor: NDArray[np.float64]


def match_folded(book: Book) -> None:
    """Settles weights of linear operators that are a native weight times a factor per output channel."""
    state = _State({}, "", 0)
    for stored in book.open():
        channels = channels_of(book.artifact, stored.user, stored.name, stored.shape)
        if channels is None or not stored.array.any():
            continue
        if (pair := _proportional(book, stored, channels, state)) is not None:
            _explain(book, stored, channels, pair, state)


@dataclass
class _State:
    """What one weight tells about the next: laid-out copies, the recipe, and where in the native order we are."""

    laid: dict[tuple[str, Layout, Channels], Array]
    recipe: str
    cursor: int


def _proportional(book: Book, stored: Stored, channels: Channels, state: _State) -> _Pair | None:
    """The native weight whose channels have the directions of this one's."""
    rows = channels.rows(stored.array)
    if rows.shape[1] < 2:
        return None
    tries = _sample(rows)
    for name in _candidates(book, stored, state):
        native = book.native[name]
        for layout in layouts(tuple(native.shape), stored.shape):
            key = (name, layout, channels)
            if key not in state.laid:
                state.laid[key] = channels.rows(layout.apply(native))
            laid = state.laid[key]
            if _directions_agree(rows[tries], laid[tries]):
                state.cursor = list(book.native).index(name) + 1
                return _Pair(name, layout, rows, laid, _factors(rows, laid))
    return None


def _candidates(book: Book, stored: Stored, state: _State) -> list[str]:
    """Open native tensors of this size, likeliest first; then those that a constant holds already (a second copy)."""
    fitting = [n for n, a in book.native.items() if a.size == stored.size and a.ndim >= 2]
    order = {n: i for i, n in enumerate(book.native)}
    place = book.places.get(stored.name, "")

    def key(name: str) -> tuple[bool, bool, bool, int]:
        named = name == place or loose_name(name) == loose_name(stored.name)
        return (not named, name in book.held, order[name] < state.cursor, order[name])

    return sorted(fitting, key=key)


def _sample(rows: Array) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, len(rows) - 1, _ROWS).astype(np.int64))


def _directions_agree(a: Array, b: Array) -> bool:
    """Whether most of the sampled channels are proportional."""
    columns = np.unique(np.linspace(0, a.shape[1] - 1, _COLUMNS).astype(np.int64))
    tolerance = _tolerance(a)
    a, b = a[:, columns].astype(np.float64), b[:, columns].astype(np.float64)
    square = (b * b).sum(1)
    usable = (square > 0) & (np.abs(a).max(1) > 0)
    if usable.sum() == 0:
        return False
    a, b = a[usable], b[usable]
    # The median ratio, since the sum of products would be off by one damaged element.
    with np.errstate(all="ignore"):
        factor = np.nanmedian(np.where(b != 0, a / b, np.nan), axis=1)
        good = (np.abs(a - factor[:, None] * b) <= tolerance * np.abs(factor[:, None] * b)).mean(1) > 0.75
    return bool(good.mean() > 0.5)


def _tolerance(array: Array) -> float:
    return {"float16": 2e-3, "bfloat16": 1.6e-2}.get(array.dtype.name, _CLOSE)


def _factors(rows: Array, native: Array) -> NDArray[np.float64]:
    """The factor of each channel, from the largest of some elements; NaN where the native channel is zero."""
    columns = np.unique(np.linspace(0, rows.shape[1] - 1, _COLUMNS).astype(np.int64))
    a, b = rows[:, columns].astype(np.float64), native[:, columns].astype(np.float64)
    largest, each = np.abs(b).argmax(axis=1), np.arange(len(b))
    with np.errstate(all="ignore"):
        factor: NDArray[np.float64] = np.where(b[each, largest] != 0, a[each, largest] / b[each, largest], np.nan)
    return factor


def fit_norm(
    factor: NDArray[np.float64], norms: Sequence[Norm], preferred: str = "", stored: np.dtype[Any] = _FLOAT32
) -> tuple[Norm, float] | None:
    """The BatchNormalization, with its epsilon, whose ``gamma / sqrt(var + eps)`` most of the factors are.

    Args:
        factor: The factors, as a constant shows them.
        norms: Those that it may be.
        preferred: The name of the likeliest.
        stored: The constant's type, in which they were rounded.
    """
    coarse = unit_of(stored) / 2.0**-24
    close = _CLOSE if coarse == 1 else _FEW * unit_of(stored)
    best: tuple[tuple[float, float, float], float, Norm, float] | None = None
    for norm in sorted((n for n in norms if n.gamma.size == factor.size), key=lambda n: n.name != preferred):
        gamma, var = norm.gamma.astype(np.float64), norm.var.astype(np.float64)
        usable = np.isfinite(factor) & (factor != 0) & (gamma != 0)
        if usable.sum() < max(1, factor.size // 4):
            continue
        with np.errstate(all="ignore"):
            solved = float(np.median((gamma[usable] / factor[usable]) ** 2 - var[usable]))
        for eps in (norm.eps,) if norm.eps is not None else (*EPSILONS, *_round_numbers(solved), solved):
            if eps < 0:
                continue
            with np.errstate(all="ignore"):
                off = np.abs(norm.scale(eps)[usable] / factor[usable] - 1)
            share, middle = float((off <= close).mean()), float(np.median(off))
            # A usual epsilon is preferred to one that was solved for.
            rank = (share, -max(middle, coarse * _SETTLED), float((off <= coarse * _NEAR).mean()))
            if best is None or rank > best[0]:
                best = (rank, middle, norm, eps)
        if best is not None and best[0][0] == 1.0 and best[1] < coarse * _SETTLED:
            break
    return (best[2], best[3]) if best is not None and best[0][0] > 0.5 else None


def _round_numbers(solved: float) -> tuple[float, ...]:
    """The numbers of few digits beside a solved epsilon: somebody wrote one of them."""
    if not (np.isfinite(solved) and solved > 0):
        return ()
    return tuple(dict.fromkeys(float(f"{solved:.{digits}e}") for digits in range(4)))


def _explain(book: Book, stored: Stored, channels: Channels, pair: _Pair, state: _State) -> None:
    norm = book.facts.norm_of.get(pair.native, "")
    fitted = fit_norm(pair.factor, book.facts.norms, norm, stored.array.dtype)
    if fitted is not None:
        _settle_folded(book, stored, channels, pair, fitted, state)
        return
    factor = pair.factor[np.isfinite(pair.factor)]
    middle = float(np.median(factor))
    if abs(middle - 1) <= _CLOSE and reparametrised(pair.native):
        book.settle(stored, (pair.native,), Relation.SCALED, "normalised")
        return
    if abs(middle - 1) <= _CLOSE:
        return  # the native weight itself, damaged: a near miss is described elsewhere
    if (np.abs(factor / middle - 1) <= _CLOSE).mean() > 0.9:
        _settle_scaled(book, stored, channels, pair, middle)
        return
    for name, vector in book.native.items():
        if vector.size == pair.factor.size and _same_factors(pair.factor, vector):
            text = ", ".join(t for t in (pair.layout.text, f"channels scaled by {name}") if t)
            book.settle(stored, (pair.native, name), Relation.SCALED, text)
            return
    book.hints[stored.name] = pair.native


def _same_factors(factor: NDArray[np.float64], vector: Array) -> bool:
    with np.errstate(all="ignore"):
        return bool((np.abs(factor / vector.reshape(-1).astype(np.float64) - 1) <= _CLOSE).mean() > 0.9)


def plausible_factor(factor: float, size: int) -> bool:
    """Whether exporters fold this factor: ``d**-0.5`` or ``d**-0.25`` for a head of ``d`` that divides ``size``."""
    if not 0 < factor < 1:
        return False
    for power in (-2, -4):
        width = factor**power
        if 4 <= width <= size and abs(width - round(width)) <= 1e-5 * width and size % round(width) == 0:
            return True
    return False


def _is_scalar(book: Book, factor: float) -> bool:
    """Whether a factor is a number that the source stores."""
    scalars = [float(a.reshape(-1)[0]) for a in book.native.values() if a.size == 1 and a.dtype.kind == "f"]
    return any(s and abs(abs(factor / s) - 1) <= _CLOSE for s in (*scalars, *(1 / x for x in scalars if x)))


def _settle_scaled(book: Book, stored: Stored, channels: Channels, pair: _Pair, factor: float) -> None:
    """A weight with one factor in it: an attention's ``1/sqrt(d)``, or a fault."""
    text = ", ".join(t for t in (pair.layout.text, f"scaled by {factor:.6g}") if t)
    native = book.native[pair.native]
    expected = pair.layout.apply(native).astype(np.float64)
    if not plausible_factor(factor, channels.count):
        if any(n.gamma.size == channels.count for n in book.facts.norms):
            return  # the factors of a BatchNormalization may be equal, too: its shift will tell
        said = describe(stored.array, expected.astype(stored.array.dtype), channels.axis)
        if reparametrised(pair.native) or _is_scalar(book, factor):
            book.settle(stored, (pair.native,), Relation.SCALED, text)
            return
        book.miss(stored, (pair.native,), pair.layout.relation, pair.layout.text, expected, said=said, sure=False)
        return
    exact = expected * factor
    single = expected.astype(np.float32) * np.float32(factor)
    fold = judge(stored.array, exact, np.abs(exact), [("float32", single), ("float64", exact)])
    if fold.honest:
        book.settle(stored, (pair.native,), Relation.SCALED, text)
    else:
        book.miss(stored, (pair.native,), Relation.SCALED, text, fold.expected, wrong=fold.wrong, axis=channels.axis)


def _settle_folded(
    book: Book, stored: Stored, channels: Channels, pair: _Pair, fitted: tuple[Norm, float], state: _State
) -> None:
    """A weight with a BatchNormalization in it."""
    norm, eps = fitted
    text = ", ".join(t for t in (pair.layout.text, f"scaled by {norm.name or norm.natives[-1]}, eps {eps:.6g}") if t)
    natives = (
        (pair.native, *norm.natives[:1], norm.natives[-1]) if len(norm.natives) == 4 else (pair.native, *norm.natives)
    )
    kind = stored.array.dtype
    recipes = folded_weights(pair.rows, norm, eps, (-1, 1), kind)
    known, value = next(_first(recipes, state.recipe))
    if known and np.array_equal(value, pair.stored):
        single = next((f for name, f in factors(norm, eps, kind) if name == known and f.dtype != np.float64), None)
        book.folded[stored.name] = Folded(pair.native, norm, eps, single)
        book.settle(stored, natives, Relation.FOLDED, text)
        return
    exact = pair.rows.astype(np.float64) * norm.scale(eps)[:, None]
    product, factor = consensus(pair.stored, pair.rows, norm.scale(eps))
    tried = itertools.chain(
        folded_weights(pair.rows, norm, eps, (-1, 1), kind), [("a factor for each channel", product)]
    )
    fold = judge(pair.stored, exact, np.abs(exact), tried, state.recipe)
    book.folded[stored.name] = Folded(pair.native, norm, eps, factor if fold.honest else None, not fold.honest)
    if fold.reproduced == 1.0:
        state.recipe = fold.recipe
    if fold.honest:
        book.settle(stored, natives, Relation.FOLDED, text)
        return
    # The float64 fold, rounded once, unless the artifact's own recipe reproduces all but the fault.
    expected = channels.back(fold.expected if fold.reproduced > 0.5 else exact.astype(stored.array.dtype))
    book.miss(stored, natives, Relation.FOLDED, text, expected, wrong=channels.back(fold.wrong), axis=channels.axis)


def _first(recipes: Iterator[tuple[str, Array]], name: str) -> Iterator[tuple[str, Array]]:
    """The named recipe, or an empty one."""
    for known, value in recipes:
        if name and known == name:
            yield known, value
            return
    yield "", np.zeros(0)
