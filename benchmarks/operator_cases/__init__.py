"""Operator cases as data: one expression, the tensors that it is tried on, and what it is about.

A case is a line of Python that anyone can paste. ``label`` names what it is about, operator and argument; findings that
share a label, a component and a kind of fault are one discrepancy.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Case", "cases"]


@dataclass(frozen=True)
class Case:
    """One operator with its arguments, on several feeds.

    Attributes:
        label: Operator and argument, ``avg_pool2d divisor_override``.
        expression: What is computed from the feed's names.
        feeds: Each a call's arguments, ``x=n(2, 3, 9, 9), k=i(0, 5, 4)``, see :mod:`operator_trials.feeds`. Feeds that
            share shapes and types share one export.
        setup: Statements before it, run once: modules and constants.
    """

    label: str
    expression: str
    feeds: tuple[str, ...]
    setup: str = ""


def cases(table: str, category: str = "") -> tuple[Case, ...]:
    """Reads a table of cases, one a line: ``label | expression | feed ; feed | setup``.

    Args:
        table: Lines; empty ones and those that begin with ``#`` are left out.
        category: Put before each label.

    Raises:
        ValueError: A line has too few fields.
    """
    found = []
    for line in table.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = [field.strip() for field in line.split(" | ")]
        if len(fields) < 3:
            raise ValueError(f"a case needs a label, an expression and feeds: {line.strip()}")
        feeds = tuple(feed.strip() for feed in fields[2].split(" ; "))
        label = f"{category} {fields[0]}".strip()
        found.append(Case(label, fields[1], feeds, fields[3] if len(fields) > 3 else ""))
    return tuple(found)
