"""What a report is worth against what was expected: detected, cause right, place right, both named.

- *Detected*: the verdict is ``divergent``. ``inconclusive``, or an error, is not.
- *Cause right*: the class of the worst cause (the first) is the fault's. For kinds that two classes describe equally
  well (a bias that is not read: ``weights`` or ``graph``) either is right; :attr:`Kind.also` lists them.
- *Place right*: some cause of a right class names the fault's node or initializer. A place of value names counts only
  where the artifact's node has no name. *Place first*: the worst cause does so.
- *Both named*: for each of two faults a cause of a right class that names its place; one cause cannot be both.
- *Beside it*: causes that name neither the right class nor the right place, per report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .corpus import Expected, Mutant

__all__ = ["Row", "Score", "judge", "names_place", "right_class", "score"]


@dataclass(frozen=True)
class Row:
    """What a check gave, as the file of results keeps it.

    Attributes:
        id: Of the mutant.
        sha256: Of the file that was judged: another file under the same name is judged anew.
        verdict: ``equivalent``, ``divergent``, ``inconclusive``, or ``error``.
        causes: As in the report's JSON.
        seconds: Wall time.
        said: The error, or the rungs that failed or did not run, for the reader of a miss.
    """

    id: str
    sha256: str
    verdict: str
    causes: tuple[Mapping[str, Any], ...]
    seconds: float
    said: str = ""


@dataclass(frozen=True)
class Judged:
    """One row against its mutant: each question answered."""

    mutant: Mutant
    row: Row
    detected: bool
    cause: bool
    place: bool
    first: bool
    named: int
    beside: int


@dataclass(frozen=True)
class Score:
    """Counts over a corpus; ``judged`` in the order of the rows."""

    judged: tuple[Judged, ...]
    confusion: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def of(self, *sorts: str) -> tuple[Judged, ...]:
        """Those of some sorts."""
        return tuple(j for j in self.judged if j.mutant.sort in sorts)


def right_class(cause: Mapping[str, Any], expected: Expected) -> bool:
    """Whether a cause's class is the fault's, or one that describes it as well."""
    return cause["cause"] == expected.cause or cause["cause"] in expected.also


def names_place(cause: Mapping[str, Any], expected: Expected) -> bool:
    """Whether a cause names one of the fault's nodes or initializers."""
    where = cause["where"]
    if where.get("node") and where["node"] in expected.nodes:
        return True
    if where.get("initializer") and where["initializer"] in expected.initializers:
        return True
    return not expected.nodes and bool(where.get("value")) and where["value"] in expected.values


def judge(mutant: Mutant, row: Row) -> Judged:
    """Answers every question about one report."""
    detected = row.verdict == "divergent"
    causes = row.causes if detected else ()
    hits = [[right_class(c, e) and names_place(c, e) for c in causes] for e in mutant.expected]
    named = _matched(hits)
    top = causes[0] if causes else None
    cause = top is not None and any(right_class(top, e) for e in mutant.expected)
    first = top is not None and any(h[0] for h in hits)
    beside = sum(not any(right_class(c, e) or names_place(c, e) for e in mutant.expected) for c in causes)
    return Judged(mutant, row, detected, cause, named > 0, first, named, beside)


def _matched(hits: Sequence[Sequence[bool]]) -> int:
    """How many faults have a cause of their own; there are two at most, so that trying is enough."""
    if len(hits) < 2:
        return int(any(h for row in hits for h in row))
    both = any(a and b and i != j for i, a in enumerate(hits[0]) for j, b in enumerate(hits[1]))
    return 2 if both else int(any(hits[0]) or any(hits[1]))


def score(mutants: Sequence[Mutant], rows: Sequence[Row]) -> Score:
    """The score of those mutants that have a row."""
    found = {row.id: row for row in rows}
    judged = tuple(judge(m, found[m.id]) for m in mutants if m.id in found)
    confusion: Counter[tuple[str, str]] = Counter()
    for one in judged:
        if len(one.mutant.expected) < 2:
            wanted = one.mutant.expected[0].cause if one.mutant.expected else "none"
            if one.row.verdict == "divergent":
                got = str(one.row.causes[0]["cause"]) if one.row.causes else "unexplained"
            else:
                got = "none" if one.row.verdict == "equivalent" else one.row.verdict
            confusion[wanted, got] += 1
    return Score(judged, confusion)
