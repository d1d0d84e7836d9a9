"""Goldens on a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from onnxeq.errors import UnusableGolden, shown
from onnxeq.golden.codec import table_of
from onnxeq.golden.findings import Checked, Outcome
from onnxeq.golden.reviewing import Difference, OutputDifference
from onnxeq.golden.values import Golden, OutputRecord, Verdict
from onnxeq.records import plain

__all__ = ["check_document", "check_lines", "difference_lines", "golden_document", "list_lines"]

_MOST_ROWS = 6


def check_document(checked: Checked) -> dict[str, Any]:
    """``onnxeq.golden-check/1``: numbers that JSON cannot hold become ``null`` or ``"inf"``."""
    outcomes = [{**dataclasses.asdict(o), "failed": o.failed} for o in checked.outcomes]
    found: dict[str, Any] = plain(
        {
            "schema": "onnxeq.golden-check/1",
            "folder": checked.folder,
            "exit_status": checked.exit_status,
            "goldens": outcomes,
            "complaints": list(checked.complaints),
        }
    )
    return found


def golden_document(golden: Golden) -> dict[str, Any]:
    """One record as JSON values."""
    found: dict[str, Any] = plain(table_of(golden))
    return found


def check_lines(checked: Checked) -> Iterator[str]:
    """What was found, one golden after another, and a count."""
    for outcome in checked.outcomes:
        if outcome.verdict is not Verdict.UNCHANGED or outcome.changes:
            yield from _outcome(outcome)
    yield from checked.complaints
    counts = Counter(str(o.verdict) for o in checked.outcomes)
    told = ", ".join(f"{counts[v]} {v}" for v in Verdict if counts[v])
    yield f"{len(checked.outcomes)} goldens in {checked.folder}: {told}"
    if any(o.pending for o in checked.outcomes):
        yield "next: onnxeq golden review; or accept NAME --because '...', or reject NAME"


def _outcome(outcome: Outcome) -> Iterator[str]:
    judged = outcome.verdict in (Verdict.WITHIN, Verdict.CHANGED, Verdict.SUSPECT)
    ratio = f"  {_ratio(outcome.ratio)} ({outcome.limit:g}x allowed)" if judged else ""
    expected = f"  expected: {outcome.known}" if outcome.known else ""
    yield shown(f"{outcome.verdict}: {outcome.name}{ratio}{expected}")
    for distance in outcome.distances:
        if distance.problem:
            yield shown(f"  {distance.name}: {distance.problem}")
    for cause in outcome.causes:
        place = f"; {cause.where}" if cause.where else ""
        yield shown(f"  {cause.kind}{'' if cause.proven else ' (by the provenance)'}: {cause.evidence}{place}")
    if outcome.layer:
        yield shown(f"  {outcome.layer}")
    if outcome.verdict is Verdict.UNCHANGED:
        yield shown(f"  though {', '.join(c.text() for c in outcome.changes)}")
    for note in outcome.notes:
        yield shown(f"  {note}")


def _ratio(value: float) -> str:
    return "beyond any noise" if math.isinf(value) else f"{value:.3g}x rounding noise"


def difference_lines(difference: Difference) -> Iterator[str]:
    """One record that waits: cause, provenance, the numeric difference in noise units, the largest elements."""
    waiting = difference.waiting
    yield shown(f"{difference.name}: {waiting.verdict}, {_ratio(waiting.ratio)}")
    yield from (shown(f"  cause: {text}") for text in waiting.causes)
    yield from (shown(f"  changed: {text}") for text in waiting.changes)
    if difference.note:
        yield shown(f"  {difference.note}")
    rows = difference.outputs
    for row in rows[:_MOST_ROWS]:
        yield shown(f"  {_row(row)}")
    if len(rows) > _MOST_ROWS:
        yield f"  and {len(rows) - _MOST_ROWS} more, no further away"
    if rows and rows[0].now is not None and rows[0].before.top:
        yield shown(f"  largest of '{rows[0].name}' before: {_top(rows[0].before)}")
        yield shown(f"  largest of '{rows[0].name}' now:    {_top(rows[0].now)}")


def _row(row: OutputDifference) -> str:
    far = row.problem or f"max abs {row.max_abs:.3g}, {_ratio(row.ratio)} ({row.limit:g}x allowed)"
    return f"{row.execution}, input {row.feed}, '{row.name}': {far}"


def _top(output: OutputRecord) -> str:
    return ", ".join(f"[{i}] {v:.6g}" for i, v in zip(output.top, output.top_values, strict=False))


def list_lines(rows: Sequence[tuple[str, Golden | UnusableGolden]], waiting: Sequence[str]) -> Iterator[str]:
    """One line for each golden of a folder."""
    for name, held in rows:
        mark = "  (a change waits)" if name in waiting else ""
        if isinstance(held, Golden):
            ran = ", ".join(e.name for e in held.executions)
            yield shown(f"{name:<24} {held.origin} {held.on}  {held.model}  {ran}{mark}")
        else:
            yield shown(f"{name:<24} unusable: {held.line()}{mark}")
