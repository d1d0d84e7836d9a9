"""From labelled items and models to figures.

1. Each model says its largest classes for every item, prepared by its own zoo's recipe.
2. Shares with their intervals; for each two models McNemar's exact test, corrected for the number of pairs.
3. Where two recipes differ, each of the two models also on pictures prepared by the other's.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxeq.compare.accuracy.asked import Asked
from onnxeq.compare.accuracy.classes import IMAGENET
from onnxeq.compare.accuracy.datasets import Items
from onnxeq.compare.accuracy.entrants import Entrant, Way, enrol
from onnxeq.compare.accuracy.predicting import Predictions, predict
from onnxeq.compare.accuracy.statistics import holm, mcnemar, share
from onnxeq.compare.accuracy.values import Accuracy, Contest, Measured, Missing, Swap
from onnxeq.compare.sources import Source
from onnxeq.errors import OnnxeqError
from onnxeq.jobs import Jobs
from onnxeq.preprocessing.parts import differences
from onnxeq.types import Array

__all__ = ["measure"]


@dataclass(frozen=True)
class _Counted:
    """One model's predictions in the numbers of the labels.

    Attributes:
        top: ``int32[N,5]``.
        right: ``bool[N]``, whether the largest class is the label.
        right5: The same for the five largest.
        classes: How many the model tells apart.
        background: Whether its first class is none of the labels'.
        notes: What a reader must know.
    """

    top: Array
    right: Array
    right5: Array
    classes: int
    background: bool
    notes: tuple[str, ...]


def measure(jobs: Jobs, sources: Sequence[Source], items: Items, asked: Asked) -> Accuracy:
    """The accuracy of each model, of each two, and under each other's recipes.

    Raises:
        onnxeq.errors.UsageError: A picture cannot be read, or the recipe that the user names is none.
    """
    entrants, missing = enrol(jobs, sources, asked, pictures=bool(items.pictures))
    told: dict[tuple[str, str], _Counted | str] = {}
    for name, way in {_way(e): e.way for e in entrants}.items():  # what several models share is prepared once
        takers = [e for e in entrants if _way(e) == name or _apart(e, way)]
        for model, said in predict(jobs, items, way, takers, trust=asked.trust).items():
            told[model, name] = said if isinstance(said, str) else _counted(said, items)
    own: dict[str, _Counted] = {}
    for entrant in entrants:
        counted = told[entrant.name, _way(entrant)]
        if isinstance(counted, str):
            missing.append(Missing(entrant.name, counted))
        else:
            own[entrant.name] = counted
    kept = [e for e in entrants if e.name in own]
    measured = tuple(_measured(e, own[e.name]) for e in kept)
    return Accuracy(
        items.text, len(items.labels), items.total, measured, _contests(own), _swaps(kept, own, told), tuple(missing),
        items.notes,
    )  # fmt: skip


def _way(entrant: Entrant) -> str:
    """The name of its own way to prepare pictures; empty for arrays."""
    return entrant.way.name if entrant.way is not None else ""


def _counted(told: Predictions, items: Items) -> _Counted | str:
    """Predictions against the labels, or why they cannot be held against them."""
    highest, classes = int(items.labels.max()), told.classes
    size = items.classes
    background = classes == IMAGENET + 1 and (size == IMAGENET or (size is None and highest < IMAGENET))
    if size is not None and classes != size and not background:
        hint = 'say which of its own classes each folder is: --class-map FILE.json with {"folder": index}'
        return f"it tells {classes} classes apart, and the labels are of {size}" + (
            f". {hint}" if items.pictures else ""
        )
    if highest >= classes:
        at = int(items.labels.argmax())
        where = f" ({items.pictures[at]})" if items.pictures else ""
        return f"the label {highest} of item {at}{where} is beyond its {classes} classes"
    notes = told.notes
    if background:
        notes = (
            f"it tells {classes} classes apart, of which the first is taken as TensorFlow's background class: its"
            " others are counted from one",
            *notes,
        )
    top = told.top.astype(np.int64) - int(background)
    hits = top == items.labels[:, np.newaxis]
    return _Counted(top, hits[:, 0], hits.any(axis=1), classes - background, background, notes)


def _measured(entrant: Entrant, counted: _Counted) -> Measured:
    items = len(counted.right)
    top1 = share(int(counted.right.sum()), items)
    top5 = share(int(counted.right5.sum()), items) if counted.classes > 5 else None
    published, way = entrant.published, entrant.way
    within = None if published.top1 is None else top1.holds(published.top1)
    notes = counted.notes
    if way is not None and way.recipe.note:
        notes = (*notes, f"recipe: {way.recipe.note}")
    file = "the file" if entrant.source.native is None else "its unfolded export"
    return Measured(
        entrant.name, top1, top5, counted.classes, counted.background, way.name if way else "", file, published, within,
        notes,
    )  # fmt: skip


def _contests(own: Mapping[str, _Counted]) -> tuple[Contest, ...]:
    found = []
    for left, right in itertools.combinations(own, 2):
        a, b = own[left], own[right]
        counts = [int((x & y).sum()) for x in (a.right, ~a.right) for y in (b.right, ~b.right)]
        agree = int(((a.top[:, 0] == b.top[:, 0]) & (a.top[:, 0] >= -1)).sum())
        p = mcnemar(counts[1], counts[2])
        found.append(Contest(left, right, counts[0], counts[1], counts[2], counts[3], agree, p, p))
    corrected = holm([contest.p for contest in found])
    return tuple(replace(contest, corrected=p) for contest, p in zip(found, corrected, strict=True))


def _swaps(
    entrants: Sequence[Entrant], own: Mapping[str, _Counted], told: Mapping[tuple[str, str], _Counted | str]
) -> tuple[Swap, ...]:
    """Each model by the recipes of the others that differ from its own."""
    ways = {_way(e): e.way for e in entrants}
    found = [
        _swap(e.name, name, apart, own[e.name], told[e.name, name])
        for e in entrants
        for name, way in ways.items()
        if name != _way(e) and (apart := _apart(e, way))
    ]
    corrected = iter(holm([swap.p for swap in found if swap.p is not None]))
    return tuple(swap if swap.p is None else replace(swap, corrected=next(corrected)) for swap in found)


def _apart(entrant: Entrant, way: Way | None) -> tuple[str, ...]:
    """In what a recipe differs from the model's own, in words; empty where they say the same, and for arrays."""
    if entrant.way is None or way is None or entrant.way.recipe.steps == way.recipe.steps:
        return ()
    try:
        return tuple(difference.text() for difference in differences(entrant.way.recipe, way.recipe))
    except OnnxeqError as error:  # a step that has no name
        return (f"in what is not told: {error.message}",)


def _swap(model: str, recipe: str, apart: tuple[str, ...], own: _Counted, counted: _Counted | str) -> Swap:
    right = int(own.right.sum())
    if isinstance(counted, str):
        return Swap(model, recipe, apart, right, not_taken=counted)
    lost, gained = int((own.right & ~counted.right).sum()), int((~own.right & counted.right).sum())
    return Swap(model, recipe, apart, right, int(counted.right.sum()), lost, gained, mcnemar(lost, gained))
