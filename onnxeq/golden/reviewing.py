"""``onnxeq golden review``: what waits, beside what is accepted, and a person's decision.

Asking and telling are the caller's, so that a terminal, a test and another tool can each do it their way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxeq.errors import OnnxeqError, UsageError
from onnxeq.golden import store
from onnxeq.golden.building import distance
from onnxeq.golden.deciding import accept, reject
from onnxeq.golden.judging import golden_trace
from onnxeq.golden.store import Stored
from onnxeq.golden.values import OutputRecord, Pending, Role

__all__ = ["Difference", "OutputDifference", "Reviewed", "compared", "review"]


@dataclass(frozen=True)
class OutputDifference:
    """One output of one execution, before and after.

    Attributes:
        execution: As it was called at birth.
        feed: Index of the feed.
        name: The output.
        max_abs: Largest absolute difference, in the output's unit.
        ratio: In rounding noise of the accepted golden.
        limit: How many are allowed.
        problem: In words, when the two cannot be compared as numbers.
        before: The accepted record of the output.
        now: The waiting one; ``None`` when it is gone.
    """

    execution: str
    feed: int
    name: str
    max_abs: float
    ratio: float
    limit: float
    problem: str
    before: OutputRecord
    now: OutputRecord | None


@dataclass(frozen=True)
class Difference:
    """What a decision is made on.

    Attributes:
        name: The golden.
        waiting: What the check found: verdict, causes, provenance lines that changed.
        outputs: The numeric difference, the largest first.
        note: What a reader must know besides (the accepted golden cannot be read).
    """

    name: str
    waiting: Pending
    outputs: tuple[OutputDifference, ...]
    note: str = ""


@dataclass(frozen=True)
class Reviewed:
    """Names by decision."""

    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    skipped: tuple[str, ...]


def compared(folder: str | os.PathLike[str], name: str) -> Difference:
    """The record that waits beside the accepted one.

    Raises:
        onnxeq.errors.UsageError: Nothing waits.
        onnxeq.errors.UnusableGolden: What waits is damaged.
    """
    root = Path(folder)
    waiting = store.read(root, name, pending=True)
    said = waiting.golden.pending[0] if waiting.golden.pending else None
    if said is None:
        raise UsageError(f"the record that waits for '{name}' says nothing of why", hint=f"onnxeq golden check {name}")
    if not store.exists(root, name):
        return Difference(name, said, (), "nothing of that name is accepted yet")
    try:
        accepted = store.read(root, name)
    except OnnxeqError as error:
        return Difference(name, said, (), f"the accepted golden cannot be read: {error.line()}")
    rows = sorted(_outputs(accepted, waiting), key=lambda row: -row.ratio)
    return Difference(name, said, tuple(rows))


def _outputs(accepted: Stored, waiting: Stored) -> list[OutputDifference]:
    before, now = accepted.golden, waiting.golden
    units = [] if before.bar.missing else golden_trace(before, accepted.arrays, "unit")
    records = {(o.feed, o.name): o for o in now.outputs}
    rows = []
    for born in before.executions:
        there = next((b for b in now.executions if b.role is born.role), None)
        if born.role is Role.IMPORTED:
            there = next(iter(now.executions), None)
        if there is None:
            continue
        ours = golden_trace(before, accepted.arrays, born.role.value)
        theirs = golden_trace(now, waiting.arrays, there.role.value)
        for output in before.outputs:
            key = output.feed, output.name
            record = records.get(key)
            problem, max_abs, ratio = "", 0.0, 0.0
            if record is None or output.feed >= len(theirs) or output.name not in theirs[output.feed]:
                problem, ratio = f"output '{output.name}' is gone", float("inf")
            else:
                pair = [{output.name: trace[output.feed][output.name]} for trace in (ours, theirs)]
                unit = [{output.name: units[output.feed][output.name]}] if units and units[output.feed] else []
                apart = distance([pair[0]], [pair[1]], unit)
                problem, max_abs, ratio = apart.problem or apart.undecided, apart.max_abs, apart.ratio
            rows.append(OutputDifference(born.name, *key, max_abs, ratio, before.bar.limit, problem, output, record))
    return rows


def review(
    ask: Callable[[str], str],
    tell: Callable[[Difference], None],
    say: Callable[[str], None],
    *,
    folder: str | os.PathLike[str] = store.DEFAULT_FOLDER,
    names: Sequence[str] = (),
) -> Reviewed:
    """Goes through what waits: accept, reject, skip, or accept all that is left.

    Args:
        ask: Puts a question and gives the answer.
        tell: Shows one difference.
        say: Says one line.
        folder: Where goldens lie.
        names: Which; all that wait when empty.

    Raises:
        onnxeq.errors.UsageError: One of the names has nothing that waits.
    """
    root = Path(folder)
    chosen = list(names) or store.pending_names(root)
    decided: dict[str, list[str]] = {"accepted": [], "rejected": [], "skipped": []}
    for_all = ""
    for number, name in enumerate(chosen):
        tell(compared(root, name))
        answer = "all" if for_all else _answer(ask, f"{name} ({number + 1} of {len(chosen)})")
        try:
            if answer in ("accept", "all"):
                because = for_all or _reason(ask)
                for_all = because if answer == "all" else ""
                accept(name, because=because, folder=root)
                decided["accepted"].append(name)
            elif answer == "reject":
                reject(name, folder=root)
                decided["rejected"].append(name)
            else:
                decided["skipped"].append(name)
        except UsageError as error:
            say(error.line())
            decided["skipped"].append(name)
    return Reviewed(*(tuple(decided[key]) for key in ("accepted", "rejected", "skipped")))


_ANSWERS = {"a": "accept", "r": "reject", "s": "skip", "all": "all"}


def _answer(ask: Callable[[str], str], about: str) -> str:
    """One of the four; whatever else is typed is asked again."""
    while True:
        given = ask(f"{about}: (a)ccept, (r)eject, (s)kip, all").strip().lower()
        if given in _ANSWERS or given in _ANSWERS.values():
            return _ANSWERS.get(given, given)


def _reason(ask: Callable[[str], str]) -> str:
    while True:
        if because := ask("because").strip():
            return because
