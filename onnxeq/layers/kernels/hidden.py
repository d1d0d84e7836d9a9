"""A fault that does not show while inner values are asked for: which values hide it.

A runtime fuses nodes into one kernel where nobody reads what lies between them. Asking for that value undoes the fusion
and with it the fault, which tells where it is. The values are found by halving: a group that hides the fault holds one
that does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["hiding"]

MOST_RUNS = 160
"""Runs after which the search ends: a runtime that every question disturbs tells nothing."""


def hiding(values: Sequence[str], hides: Callable[[Sequence[str]], bool]) -> list[str]:
    """The values that hide the fault when they are asked for alone, in their order.

    Args:
        values: All that may be asked for.
        hides: Whether the outputs are right when these values are asked for.

    Returns:
        Empty where there are none, or too many to tell.
    """
    found: list[str] = []
    pending = [list(values)]
    runs = 0
    while pending:
        group = pending.pop()
        if not group:
            continue
        runs += 1
        if runs > MOST_RUNS:
            return []
        if not hides(group):
            continue
        if len(group) == 1:
            found.append(group[0])
            continue
        half = len(group) // 2
        pending += [group[half:], group[:half]]
    return found
