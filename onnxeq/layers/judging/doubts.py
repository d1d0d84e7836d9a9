"""Pairs that may be wrong: an exporter may give a framework's name to another value, an optimiser may turn one.

A wrong pair shows as a gross error, and so does a fault. They are told apart by leaving the pair out: behind a fault
the error is still there, at the next values that both sides know; behind a wrong pair it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnxeq.layers.judging.judged import Found
from onnxeq.layers.judging.roles import LOCAL, PROPAGATED
from onnxeq.layers.matching import Matched
from onnxeq.referee.plan import node_label
from onnxeq.types import PairedBy

__all__ = ["GROSS", "Pairs", "Swept", "undone", "without_wrong_pairs"]

Swept: TypeAlias = Callable[["Pairs"], list[Found]]
"""The pass with these pairs."""

GROSS = 1e5
"""Local error from which on a pair may be wrong. Unrelated values are about 2^24 units apart; a fault that small
would perhaps not be seen behind a region's larger noise."""


_PLAIN = 1e3
"""Local error from which on a layer plainly computes something else."""


@dataclass(frozen=True)
class Pairs:
    """What each side's values are in the judged graph, and which of that may be doubted.

    Attributes:
        source: Of the source.
        target: Of the target.
        named: Whether even the source's pairs by structure rest on names that an exporter may have moved.
        moved: Whether the target's values come from another graph than the judged one.
        certain: Whether the source's pairs are what the user says they are.
    """

    source: Mapping[str, Matched]
    target: Mapping[str, Matched]
    named: bool = False
    moved: bool = False
    certain: bool = False

    def without(self, source: Collection[str], target: Collection[str]) -> Pairs:
        """The same without some."""
        return Pairs(
            {n: row for n, row in self.source.items() if n not in source},
            {n: row for n, row in self.target.items() if n not in target},
            self.named,
            self.moved,
            self.certain,
        )


def without_wrong_pairs(swept: Swept, pairs: Pairs, kept: Collection[str]) -> tuple[list[Found], Pairs]:
    """What the pass sees without pairs that turn out to be wrong, and the pairs that are left.

    Args:
        swept: Runs the pass.
        pairs: The pairs.
        kept: Values whose pairs are given (the outputs).
    """
    found = swept(pairs)
    ours = [f for f in found if f.value not in kept and _source_doubtful(f, pairs)]
    theirs = [f for f in found if f.value not in kept and _target_doubtful(f, pairs)]
    if not ours and not theirs:
        return found, pairs
    left = pairs.without({f.value for f in ours}, {f.value for f in theirs})
    again = swept(left)
    wrong = tuple({f.value for f in some if not _still_there(f, again)} for some in (ours, theirs))
    if not any(wrong):
        return found, pairs
    # What is made from a wrong value is off as well, and right as soon as that is gone.
    first = tuple({f.value for f in (*ours, *theirs) if f.value in w and not w & set(f.node.input)} for w in wrong)
    if first != wrong:
        fewer = pairs.without(*first)
        found = swept(fewer)
        if not any(f.local.ratio > LOCAL for f in found if f.value in wrong[0] | wrong[1]):
            return found, fewer
    left = pairs.without(*wrong)
    return (again if len(wrong[0]) + len(wrong[1]) == len(ours) + len(theirs) else swept(left)), left


def _source_doubtful(found: Found, pairs: Pairs) -> bool:
    row = pairs.source.get(found.value)
    if row is None or pairs.certain or (row.by is PairedBy.STRUCTURE and not pairs.named):
        return False
    return found.source.ratio > GROSS


def _target_doubtful(found: Found, pairs: Pairs) -> bool:
    return pairs.moved and found.value in pairs.target and found.target.ratio > GROSS


def _still_there(doubted: Found, again: Sequence[Found]) -> bool:
    """Whether some value behind the doubted one has an error in which its node may have a part."""
    label = node_label(doubted.node)
    return any(label in (r for side in f.regions for r in side) and f.local.ratio > LOCAL for f in again)


def undone(found: Sequence[Found], outputs: Collection[str]) -> frozenset[str]:
    """Values at which the graph computes something else, grossly, that layers behind them undo: all outputs agree.

    A scale that is moved from one weight into the next is such a thing. What undoes it gives the right result of
    wrong inputs, so that it stands out itself: an error that only goes by these inputs' way (a Relu that closes) is not
    undone.
    A gross fault does not drown in rounding.
    """
    ends = [f for f in found if f.value in outputs]
    makers = [f for f in found if f.local.ratio > LOCAL]
    quiet = bool(ends) and all(all(f.known) and f.propagated.ratio <= PROPAGATED for f in ends)
    plain = all(f.source.ratio > _PLAIN and not f.source.problem for f in makers)
    if len(makers) < 2 or not quiet or not plain or not any(_agrees_behind(f, found) for f in makers):
        return frozenset()
    return frozenset(f.value for f in makers)


def _agrees_behind(maker: Found, found: Sequence[Found]) -> bool:
    """Whether both sides agree right behind a layer, at its own value or at the next that the target has."""
    label = node_label(maker.node)
    here = maker if all(maker.known) else next((f for f in found if all(f.known) and label in f.regions[1]), None)
    return here is not None and here.propagated.ratio <= PROPAGATED
