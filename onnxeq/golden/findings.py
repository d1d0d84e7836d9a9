"""What checking a golden finds: frozen values; rendering is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from onnxeq.compat import StrEnum
from onnxeq.golden.values import Role, Verdict

__all__ = ["Cause", "CauseKind", "Change", "Checked", "Distance", "Outcome"]


class CauseKind(StrEnum):
    """What made a model's outputs other ones."""

    WEIGHTS = "weights"
    GRAPH = "graph"
    EXPORTER = "exporter"
    FRAMEWORK = "framework"
    RUNTIME = "runtime"
    PROVIDER = "provider"
    MACHINE = "machine"
    NONDETERMINISM = "nondeterminism"
    GOLDEN = "golden"


@dataclass(frozen=True)
class Change:
    """A provenance line that is another one now; empty text where there was, or is, none."""

    key: str
    before: str
    now: str

    def text(self) -> str:
        """``onnxruntime 1.22.0 -> 1.23.1``."""
        return f"{self.key} {self.before or '(none)'} -> {self.now or '(none)'}"


@dataclass(frozen=True)
class Distance:
    """How far today's execution is from the golden's.

    Attributes:
        role: Which execution.
        name: As it is called today.
        same: Whether it has the same bits.
        ratio: In units: rounding noise, for the referee the constant floor.
        limit: How many are allowed.
        max_abs: Largest absolute difference, in the output's unit.
        output: Where the ratio is largest.
        problem: In words, when the two cannot be compared as numbers.
    """

    role: Role
    name: str
    same: bool
    ratio: float
    limit: float
    max_abs: float
    output: str
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error bar explains it."""
        return self.same or (self.ratio <= self.limit and not self.problem)


@dataclass(frozen=True)
class Cause:
    """Why the outputs changed.

    Attributes:
        kind: What changed.
        evidence: One sentence that a person can act on.
        proven: Whether executions show it; otherwise it is what the provenance suggests.
        where: The initializer, node or layer, where it is known.
    """

    kind: CauseKind
    evidence: str
    proven: bool
    where: str = ""


@dataclass(frozen=True)
class Outcome:
    """What checking one golden has found.

    Attributes:
        name: The golden.
        verdict: The conclusion.
        ratio: Largest distance in noise units.
        limit: How many are allowed.
        distances: For each execution.
        changes: Provenance lines that are other ones now.
        causes: The surest first; empty unless something changed.
        layer: The first layer that departs, in words; empty when unknown.
        pending: Whether a pending record was written.
        known: The reason, where ``known_discrepancies.toml`` expects it to fail.
        notes: What a reader must know; for what could not be judged, the error.
    """

    name: str
    verdict: Verdict
    ratio: float = 0.0
    limit: float = 0.0
    distances: tuple[Distance, ...] = ()
    changes: tuple[Change, ...] = ()
    causes: tuple[Cause, ...] = ()
    layer: str = ""
    pending: bool = False
    known: str = ""
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the golden does not hold, whatever was expected."""
        return self.verdict not in (Verdict.UNCHANGED, Verdict.WITHIN, Verdict.ELSEWHERE)


@dataclass(frozen=True)
class Checked:
    """What a check of a folder has found.

    Attributes:
        folder: The folder.
        outcomes: In the order of names.
        complaints: What fails besides: an expected failure that passes, an entry about no golden, no goldens at all.
    """

    folder: str
    outcomes: tuple[Outcome, ...]
    complaints: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 when all hold, 1 when one does not, 2 when one is unusable, 3 when one could not be run."""
        open_ = [o for o in self.outcomes if o.failed and not o.known]
        if any(o.verdict is Verdict.UNUSABLE for o in self.outcomes):
            return 2
        if self.complaints or any(o.verdict is not Verdict.NOT_RUN for o in open_):
            return 1
        return 3 if open_ else 0
