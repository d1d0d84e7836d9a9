"""Runs cases of the corpus against a host process of their own, and watches what lies around them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus.case import Case

__all__ = ["Outcome", "Siege", "lay"]

TIME_LIMIT_S = 300


@dataclass(frozen=True)
class Outcome:
    """What one attack came to.

    Attributes:
        status: The exit status.
        said: Standard error, without the progress of jobs, and what a report says after it.
        lines: The lines of standard error that are no progress.
        seconds: How long it took.
    """

    status: int
    said: str
    lines: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Siege:
    """Several attacks on one host.

    Attributes:
        outcomes: By the case's name.
        peak_bytes: The most memory that the host had.
        written: Files that came into being outside of the host's cache and output folder.
    """

    outcomes: dict[str, Outcome]
    peak_bytes: int
    written: tuple[str, ...]


def lay(folder: Path, cases: Sequence[Case], command: Callable[[list[str], Path], list[str]] | None = None) -> Siege:
    """Builds the cases below ``folder`` and has one host run the command for each of them.

    Args:
        folder: Where to work.
        cases: The attacks.
        command: Makes a case's arguments and an output folder into a command line; ``check`` by default.
    """
    out, asked = folder / "out", []
    out.mkdir()
    for case in cases:
        place = folder / case.name / "in"
        place.mkdir(parents=True)
        arguments = case.build(place)
        asked.append(["check", *arguments] if command is None else command(arguments, out))
    (folder / "attacks.json").write_text(json.dumps(asked))
    before = set(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("host.py")), str(folder / "attacks.json")],
        cwd=out, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"the host died with status {done.returncode}: {done.stderr[-2000:]}"
    told = json.loads(done.stdout)
    outcomes = {case.name: _outcome(row) for case, row in zip(cases, told["attacks"], strict=True)}
    written = sorted(str(path.relative_to(folder)) for path in set(folder.rglob("*")) - before)
    return Siege(outcomes, told["peak_bytes"], tuple(written))


def _outcome(row: dict[str, object]) -> Outcome:
    errors = str(row["errors"])
    lines = [line for line in errors.splitlines() if line and ": done (" not in line and ": failed (" not in line]
    return Outcome(int(str(row["status"])), errors + str(row["out"]), tuple(lines), float(str(row["seconds"])))
