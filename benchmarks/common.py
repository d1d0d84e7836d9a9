"""What the benchmarks share: cases and their outcomes, tables, progress.

A *case* is one check of a model that is known to be good: an architecture, its exporter, an opset, batch sizes. One
case exercises several *combinations*: onnxruntime runs the artifact as it is and optimised, at each batch size.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxeq
from onnxeq.errors import OnnxeqError
from onnxeq.types import Report, Status, Verdict

RUNGS = ("native-rounding", "graph", "weights", "normalize", "kernels", "optimizer", "stability", "lowering")
"""The ladder on a machine without a device, from the source to what is deployed."""

RUNTIMES = 2
"""How many ways onnxruntime runs each artifact at each batch size: as it is, and optimised."""


@dataclass(frozen=True)
class Case:
    """One check.

    Attributes:
        ref: The model reference.
        shapes: As in :func:`onnxeq.check`.
        batches: Batch sizes, where the model's batch may vary.
        opset: For the export; ``None`` leaves it to the exporter.
        seed: Seed of the inputs.
    """

    ref: str
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    batches: tuple[int, ...] = (1, 3)
    opset: int | None = None
    seed: int = 0

    @property
    def label(self) -> str:
        """What tells it from other cases, without the folders of a path."""
        head, colon, name = self.ref.rpartition(":")
        short = f"{Path(head).name}{colon}{name}" if head.endswith(".py") else Path(self.ref).name
        sizes = ["x".join(map(str, s)) for s in self.shapes.values()]
        opset = "" if self.opset is None else f"opset {self.opset}"
        seed = f"seed {self.seed}" if self.seed else ""
        return " ".join(filter(None, [short, *sizes, opset, f"batch {','.join(map(str, self.batches))}", seed]))

    @property
    def combinations(self) -> int:
        """Runtime, optimisation level and batch size, multiplied out."""
        return RUNTIMES * len(self.batches)


@dataclass(frozen=True)
class Sample:
    """One rung of one case."""

    rung: str
    ratio: float
    limit: float
    status: str
    target: str


@dataclass(frozen=True)
class Outcome:
    """What a check of a case gave; ``verdict`` is ``error`` when it raised, and ``said`` tells why."""

    case: str
    combinations: int
    verdict: str
    seconds: float
    samples: tuple[Sample, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing was raised about it."""
        return self.verdict == Verdict.EQUIVALENT.value

    @property
    def failing(self) -> tuple[str, ...]:
        """The rungs that broke."""
        return tuple(s.rung for s in self.samples if s.status == Status.FAIL.value)


def largest(report: Report, name: str) -> float:
    """The largest ratio on a rung; NaN when it did not run."""
    ratios = [r.ratio for r in report.rungs if r.name == name and r.status is not Status.NOT_RUN]
    return max(ratios, default=math.nan)


def run_case(case: Case) -> Outcome:
    """Checks one case with every rung, on the CPU."""
    began = time.perf_counter()
    try:
        report = onnxeq.check(
            case.ref,
            shapes=case.shapes,
            batches=case.batches,
            opset=case.opset,
            seed=case.seed,
            providers=["cpu"],
        )
    except OnnxeqError as error:
        return Outcome(case.label, case.combinations, "error", time.perf_counter() - began, (), (error.line(),))
    samples = tuple(
        Sample(r.name, r.ratio, r.limit, r.status.value, r.target)
        for r in report.rungs
        if r.name in RUNGS and r.status is not Status.NOT_RUN
    )
    said = [c.evidence for c in report.causes]
    if report.verdict is Verdict.INCONCLUSIVE:
        said += [f"{r.name}: {r.reason}" for r in report.rungs if r.status is Status.NOT_RUN and r.name != "provider"]
        said += report.notes
    seconds = time.perf_counter() - began
    return Outcome(case.label, case.combinations, report.verdict.value, seconds, samples, tuple(said))


def run_cases(cases: Sequence[Case]) -> list[Outcome]:
    """Checks one case after another, and says on stderr how far it has come."""
    outcomes = []
    for index, case in enumerate(cases, 1):
        outcome = run_case(case)
        outcomes.append(outcome)
        worst = max((s.ratio / s.limit for s in outcome.samples), default=math.nan)
        progress(
            f"{index:3}/{len(cases)} {outcome.verdict:12} {outcome.seconds:5.1f} s "
            f"{worst:5.2f} of a limit  {outcome.case}"
        )
        for line in outcome.said:
            progress(f"        {line}")
    return outcomes


def save(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Stores outcomes as JSON, as Python writes it: an infinite ratio is ``Infinity``."""
    path.write_text(json.dumps([dataclasses.asdict(o) for o in outcomes], indent=1))


def stored(path: Path) -> list[Outcome]:
    """What :func:`save` wrote."""
    rows = json.loads(path.read_text())
    return [
        Outcome(**{**row, "samples": tuple(Sample(**s) for s in row["samples"]), "said": tuple(row["said"])})
        for row in rows
    ]


def by_rung(outcomes: Iterable[Outcome]) -> dict[str, list[Sample]]:
    """The samples of each rung, smallest ratio first."""
    found: dict[str, list[Sample]] = {name: [] for name in RUNGS}
    for outcome in outcomes:
        for sample in outcome.samples:
            found[sample.rung].append(sample)
    return {name: sorted(samples, key=lambda s: s.ratio) for name, samples in found.items() if samples}


def worst_case(outcomes: Iterable[Outcome], samples: Sequence[Sample]) -> str:
    """The case that the last of ordered ``samples`` belongs to."""
    return next(o.case for o in outcomes if any(s is samples[-1] for s in o.samples))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of ``ordered`` values that at least ``share`` of them do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, ["-" * w for w in widths], *rows):
        left, *right = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        cells = [row[0].ljust(len(left)), *right]
        print("  ".join(cells).rstrip(), flush=True)


def progress(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)
