"""What a comparison of accuracy returns: frozen, typed, no heavy import.

Shares are between 0 and 1; published figures are in per cent, as their zoos write them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEVEL", "Accuracy", "Contest", "Measured", "Missing", "Published", "Share", "Swap"]

LEVEL = 0.05
"""A difference is called one where its corrected p-value is below this."""


@dataclass(frozen=True)
class Share:
    """``right`` of ``items``, with Wilson's 95 % interval."""

    right: int
    items: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """``right / items``."""
        return self.right / self.items

    def holds(self, percent: float) -> bool:
        """Whether a figure in per cent lies within the interval."""
        return self.low <= percent / 100 <= self.high


@dataclass(frozen=True)
class Published:
    """The accuracy that a zoo states.

    Attributes:
        top1: Per cent; ``None`` where nothing is stated.
        top5: Per cent; ``None`` where nothing is stated.
        label: What the zoo calls the figure, ``ImageNet-1K acc@1``.
        source: Where it stands, or why there is none.
    """

    top1: float | None = None
    top5: float | None = None
    label: str = ""
    source: str = ""


@dataclass(frozen=True)
class Measured:
    """One model on all items.

    Attributes:
        model: Its name in the comparison.
        top1: How often the largest class is the label.
        top5: How often the label is among the five largest; ``None`` for five classes or fewer.
        classes: How many it tells apart.
        background: Whether its first class is no class of the labels, so that all others are counted from one.
        recipe: By whose recipe its pictures are prepared; empty where arrays are fed.
        file: What was run: its unfolded export, or the file itself.
        published: What its zoo states.
        within: Whether the published top-1 lies within the interval; ``None`` where none is published.
        notes: What a reader must know of this model's figures.
    """

    model: str
    top1: Share
    top5: Share | None
    classes: int
    background: bool
    recipe: str
    file: str
    published: Published
    within: bool | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contest:
    """Two models on the same items.

    Attributes:
        left: One's name.
        right: The other's.
        both: Items that both get right.
        only_left: Items that only the left one gets right.
        only_right: Items that only the right one gets right.
        neither: Items that both get wrong.
        agree: Items for which both say the same class, right or wrong.
        p: Of McNemar's exact test, two-sided.
        corrected: The same after Holm's correction for all pairs.
    """

    left: str
    right: str
    both: int
    only_left: int
    only_right: int
    neither: int
    agree: int
    p: float
    corrected: float

    @property
    def items(self) -> int:
        """All of them."""
        return self.both + self.only_left + self.only_right + self.neither

    @property
    def discrepancy(self) -> bool:
        """Whether one is more often right than chance explains."""
        return self.corrected < LEVEL


@dataclass(frozen=True)
class Swap:
    """One model on the same pictures, prepared by another model's recipe.

    Attributes:
        model: The model.
        recipe: Whose recipe.
        differences: In what the two recipes differ, in words.
        own: Items that it gets right by its own recipe.
        other: Items that it gets right by the other recipe.
        lost: Items that only its own recipe gets right.
        gained: Items that only the other recipe gets right.
        p: Of McNemar's exact test, two-sided; ``None`` where it was not taken.
        corrected: The same after Holm's correction for all swaps.
        not_taken: Why the model does not take such pictures; empty where it does.
    """

    model: str
    recipe: str
    differences: tuple[str, ...]
    own: int = 0
    other: int = 0
    lost: int = 0
    gained: int = 0
    p: float | None = None
    corrected: float | None = None
    not_taken: str = ""

    @property
    def matters(self) -> bool:
        """Whether the recipe changes accuracy by more than chance explains."""
        return self.corrected is not None and self.corrected < LEVEL


@dataclass(frozen=True)
class Missing:
    """A model whose accuracy was not measured, and why."""

    model: str
    reason: str


@dataclass(frozen=True)
class Accuracy:
    """The accuracy part of a comparison.

    Attributes:
        dataset: As the user wrote it.
        items: How many were run.
        total: How many the data set holds.
        measured: Each model's figures.
        pairs: Each two of them.
        swaps: What another model's recipe does; empty for arrays, and where all recipes say the same.
        missing: Models without figures.
        notes: What a reader must know of the data set.
    """

    dataset: str
    items: int
    total: int
    measured: tuple[Measured, ...]
    pairs: tuple[Contest, ...]
    swaps: tuple[Swap, ...] = ()
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def discrepancies(self) -> tuple[Contest, ...]:
        """Pairs that differ by more than chance explains."""
        return tuple(pair for pair in self.pairs if pair.discrepancy)
