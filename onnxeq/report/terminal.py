"""The report on one terminal screen: equivalent? if not: what, where, how much above noise, what next."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxeq.report.advice import next_steps
from onnxeq.report.pictures import recipes
from onnxeq.types import OutputSummary, Report, Rung, Status, Verdict

__all__ = ["render", "show"]

_STYLE = {
    Verdict.EQUIVALENT: "bold green",
    Verdict.DIVERGENT: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
}
_MARK = {
    Status.PASS: ("pass", "green"),
    Status.FAIL: ("FAIL", "bold red"),
    Status.NOT_RUN: ("not run", "yellow"),
}

_MOST_CAUSES = 4
_LONGEST = 300
_MOST_OUTPUTS = 4


def show(report: Report, console: Console) -> None:
    """Prints :func:`render`'s screen."""
    console.print(render(report))


def render(report: Report) -> RenderableType:
    """The whole screen: headline, causes, rungs, outputs, what to do next."""
    parts: list[RenderableType] = [_headline(report), _subject(report)]
    for cause in report.causes[:_MOST_CAUSES]:
        parts.append(Text.assemble((f"  {cause.cause.value}", "bold red"), f" at rung {cause.rung}: {cause.evidence}"))
    if len(report.causes) > _MOST_CAUSES:
        parts.append(Text(f"  and {len(report.causes) - _MOST_CAUSES} more (--json lists them)"))
    for note in report.notes[:3]:
        parts.append(Text(f"  note: {note}", style="yellow"))
    parts += [Text(f"  {line}", style="dim") for line in recipes(report)]
    parts += [Text(), _rungs(report.rungs), Text(), _outputs(report)]
    for step in next_steps(report):
        parts.append(Text.assemble(("next: ", "bold"), step))
    return Group(*parts)


def _headline(report: Report) -> Text:
    worst = report.causes[0] if report.causes else None
    text = Text.assemble((report.verdict.value, _STYLE[report.verdict]))
    if worst is not None:
        text.append(f"  {worst.cause.value} ({worst.rung} rung")
        text.append(f", {worst.ratio:.3g}x its unit)" if math.isfinite(worst.ratio) else ")")
    elif report.verdict is Verdict.EQUIVALENT:
        ran = [r for r in report.rungs if r.status is Status.PASS and r.limit]
        nearest = max((r.ratio / r.limit for r in ran), default=0.0)
        text.append(f"  every rung that runs here passes, the closest at {nearest:.0%} of its limit")
    return text


def _subject(report: Report) -> Text:
    target, coverage = report.target, report.coverage
    millions = int(target.get("parameters") or 0) / 1e6
    size = f"{target.get('nodes')} nodes, {millions:.3g} M parameters, opset {target.get('opset')}"
    outputs = f"{coverage.outputs_compared} of {coverage.outputs_total} outputs compared"
    against = f"and {target['ref']}" if target.get("ref") else "on its own"
    skipped = sorted({r.reason for r in report.rungs if r.name == "provider" and r.status is Status.NOT_RUN})
    covers = f"; CPU only: {skipped[0]}" if skipped else ""
    return Text(f"  {report.source.get('ref')} {against} ({size})\n  {coverage.inputs_tried} inputs, {outputs}{covers}")


def _rungs(rungs: Sequence[Rung]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("rung", no_wrap=True)
    table.add_column("compares", no_wrap=True)
    for column in ("max abs", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    shown = _worst_repeats(rungs)
    for rung in shown:
        mark, style = _MARK[rung.status]
        table.add_row(
            rung.name, f"{rung.source} > {rung.target}", _number(rung.max_abs), _against_limit(rung),
            Text(mark, style=style),
        )  # fmt: skip
    reasons: dict[str, list[str]] = {}
    for rung in shown:
        if rung.status is Status.NOT_RUN and rung.name != "provider":
            reasons.setdefault(rung.reason, []).append(rung.name)
    lines = [
        f"not run ({', '.join(dict.fromkeys(names))}): {textwrap.shorten(reason, _LONGEST)}"
        for reason, names in reasons.items()
    ]
    return Group(table, *(Text(line, style="yellow") for line in lines))


def _against_limit(rung: Rung) -> str:
    if not rung.limit or rung.status is Status.NOT_RUN:
        return "-"
    return f"{_number(rung.ratio)}/{rung.limit:.3g}"


def _worst_repeats(rungs: Sequence[Rung]) -> list[Rung]:
    """One line for what is not run for one reason, and for repeats that all pass."""
    shown: list[Rung] = []
    for rung in rungs:
        same = [
            i
            for i, r in enumerate(shown)
            if r.name == rung.name and r.status is rung.status and r.status is not Status.FAIL
        ]
        repeats = rung.name in ("provider", "stability") and same
        if not repeats:
            shown.append(rung)
        elif rung.ratio > shown[same[0]].ratio:
            shown[same[0]] = rung
    return shown


def _top1(output: OutputSummary) -> str:
    """How often both sides choose the same class; nothing where the last axis is no choice."""
    return "" if math.isnan(output.top1_agreement) else f", top-1 {output.top1_agreement:.0%}"


def _outputs(report: Report) -> RenderableType:
    lines = []
    for output in sorted(report.outputs, key=lambda o: -o.max_rel)[:_MOST_OUTPUTS]:
        shape = "x".join(str(d) for d in output.shape) or "scalar"
        lines.append(
            Text(
                f"  {output.name} {output.dtype}[{shape}]: max abs {_number(output.max_abs)}, "
                f"SQNR {output.sqnr_db:.0f} dB{_top1(output)}",
                style="dim",
            )
        )
    if len(report.outputs) > _MOST_OUTPUTS:
        lines.append(Text(f"  and {len(report.outputs) - _MOST_OUTPUTS} more outputs (--json lists them)", style="dim"))
    return Group(*lines)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.2g}"
