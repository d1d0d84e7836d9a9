"""What was found, said once: discrepancies by component, operator and argument, with what is known of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from operator_cases.known import ALLOWED, TRUE

from onnxeq.ladder import LIMITS
from operator_trials.judge import RATIOS, Finding
from operator_trials.results import Result

__all__ = ["Discrepancy", "gather", "markdown", "ratios", "text"]


@dataclass(frozen=True)
class Discrepancy:
    """One fault of one component.

    Attributes:
        key: ``component: label``.
        sides: Through which exporters it shows.
        finding: Its first finding.
        repro: A line that shows it.
        count: Groups of feeds and exporters that show it.
        status: ``true`` (checked against what is documented), ``allowed`` (documented, undefined, or of our own
            making) or ``open`` (not looked at yet).
        why: What it was checked against.
    """

    key: str
    sides: tuple[str, ...]
    finding: Finding
    repro: str
    count: int
    status: str
    why: str


def gather(results: Iterable[Result]) -> list[Discrepancy]:
    """Findings of one component and label are one discrepancy."""
    groups: dict[str, list[tuple[Result, Finding]]] = {}
    for result in results:
        for finding in result.findings:
            groups.setdefault(f"{finding.component}: {result.label}", []).append((result, finding))
    made = []
    for key, pairs in groups.items():
        result, finding = pairs[0]
        status, why = _known(key, [f for _, f in pairs])
        sides = tuple(dict.fromkeys(r.side for r, _ in pairs))
        made.append(Discrepancy(key, sides, finding, result.repro, len(pairs), status, why))
    return made


def _known(key: str, findings: Sequence[Finding]) -> tuple[str, str]:
    if key in TRUE:
        return "true", TRUE[key]
    for part, why in ALLOWED.items():
        component, _, label = part.partition(": ")
        if key == part or (label.endswith("*") and key.startswith(f"{component}: {label[:-1]}")):
            return "allowed", why
    return "open", findings[0].what


def text(results: Sequence[Result], seconds: float) -> str:
    """The discrepancies, a line and a repro each, then the counts."""
    found = gather(results)
    lines = []
    for d in found:
        if d.status == "allowed":
            continue
        mark = "" if d.status == "true" else "UNREVIEWED "
        of = (
            f"{d.finding.component} ({', '.join(d.sides)})"
            if d.finding.component == "exporter"
            else d.finding.component
        )
        nodes = d.finding.nodes or "-"
        lines.append(f"{mark}{d.finding.cause}: {of}: {d.key.partition(': ')[2]}: at {nodes}: {d.finding.what}")
        if d.why and d.status == "true":
            lines.append(f"    {d.why}")
        lines.append(f"    repro: {d.repro}")
    return "\n".join([*lines, "", *_counts(results, found, seconds)])


def _counts(results: Sequence[Result], found: Sequence[Discrepancy], seconds: float) -> list[str]:
    sides = Counter(r.side for r in results)
    tried = {side: len({r.label for r in results if r.side == side}) for side in sides}
    lines = [f"{side}: {tried[side]} cases, {count} groups of feeds" for side, count in sides.items()]
    refused = Counter(r.side for r in results if r.export_error)
    lines.append("refused by the exporter: " + (", ".join(f"{s} {n}" for s, n in refused.items()) or "none"))
    states = Counter(d.status for d in found)
    per = Counter(d.finding.component for d in found if d.status == "true")
    lines.append(
        f"distinct discrepancies: {states['true']} true ({', '.join(f'{c} {n}' for c, n in per.items()) or 'none'}), "
        f"{states['open']} unreviewed, {states['allowed']} allowed"
    )
    broken = [r for r in results if r.native_error or r.harness_error]
    lines += [f"no case: {r.label} ({r.side}): {r.native_error or r.harness_error}" for r in broken]
    lines.append(f"{seconds:.0f} s")
    return lines


def markdown(results: Sequence[Result]) -> str:
    """The true discrepancies as a table."""
    rows = ["| component | operator, argument | through | at | what | repro |", "|---|---|---|---|---|---|"]
    for d in sorted((d for d in gather(results) if d.status == "true"), key=lambda d: d.key):
        component, _, label = d.key.partition(": ")
        cells = (component, label, ", ".join(d.sides), d.finding.nodes, f"{d.why} ({d.finding.what})", f"`{d.repro}`")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


FAINT = 0.05
"""Of the noise, below which healthy executions that all stay there say that the unit is not theirs."""


def ratios(results: Sequence[Result]) -> str:
    """Every case's errors in rounding noise, and which of them say that the noise is wrong.

    ``ALARM``: a healthy execution is above the limit. ``BLIND``: an error of a thousandth of the result is within the
    limit, although all executions are far more accurate; without being far more accurate it is ``coarse``, and true.
    """
    limit = LIMITS["kernels"].factor
    lines = [" ".join([f"{'case':44}{'through':12}", *(f"{name:>10}" for name in RATIOS)])]
    for r in results:
        if not r.ratios:
            continue
        healthy = [r.ratios[name] for name in RATIOS[:-1] if name in r.ratios]
        mark = "ALARM" if max(healthy, default=0.0) > limit else ""
        if not mark and r.ratios["thousandth"] <= limit:
            mark = "BLIND" if 0 < max(healthy, default=0.0) < FAINT else "coarse"
        figures = [f"{r.ratios[name]:10.3g}" if name in r.ratios else f"{'-':>10}" for name in RATIOS]
        lines.append(" ".join([f"{r.label:44}{r.side:12}", *figures, mark]).rstrip())
    return "\n".join(lines)
