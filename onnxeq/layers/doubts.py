"""Pairs that may be wrong: an exporter may give a framework's name to another value, or the surroundings mislead.

A wrong pair shows as a gross error, and so does a fault. They are told apart by leaving the pair out: behind a fault
the error is still there, at the next values that both sides know; behind a wrong pair it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from onnxeq.layers.judged import Found
from onnxeq.layers.matching import Matched
from onnxeq.layers.roles import LOCAL
from onnxeq.referee.plan import node_label
from onnxeq.types import PairedBy

__all__ = ["GROSS", "Swept", "without_wrong_pairs"]

Swept: TypeAlias = Callable[[Mapping[str, Matched]], list[Found]]
"""The pass with these pairs."""

GROSS = 1e5
"""Local error from which on a pair may be wrong. Unrelated values are about 2^24 units apart; a fault that small
would perhaps not be seen behind a region's larger noise."""


def without_wrong_pairs(
    swept: Swept, matched: Mapping[str, Matched], kept: Collection[str], *, named: bool
) -> tuple[list[Found], dict[str, Matched]]:
    """What the pass sees, without pairs that turn out to be wrong; and the pairs that are left.

    Args:
        swept: Runs the pass.
        matched: The pairs.
        kept: Values whose pairs are given (the outputs).
        named: Whether even pairs by structure rest on names that an exporter may have moved.
    """
    found = swept(matched)
    doubted = [f for f in found if _doubtful(f, matched, kept, named=named)]
    if not doubted:
        return found, dict(matched)
    left = {name: row for name, row in matched.items() if name not in {f.value for f in doubted}}
    again = swept(left)
    wrong = {f.value for f in doubted if not _still_there(f, again)}
    if len(wrong) == len(doubted):
        return again, left
    if not wrong:
        return found, dict(matched)
    left = {name: row for name, row in matched.items() if name not in wrong}
    return swept(left), left


def _doubtful(found: Found, matched: Mapping[str, Matched], kept: Collection[str], *, named: bool) -> bool:
    row = matched.get(found.value)
    if row is None or found.value in kept or (row.by is PairedBy.STRUCTURE and not named):
        return False
    return found.source.ratio > GROSS


def _still_there(doubted: Found, again: Sequence[Found]) -> bool:
    """Whether some value behind the doubted one has an error in which its node may have a part."""
    label = node_label(doubted.node)
    return any(label in (r for side in f.regions for r in side) and f.local.ratio > LOCAL for f in again)
