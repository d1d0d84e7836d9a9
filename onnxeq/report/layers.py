"""Layers on one terminal screen: which create error, how it goes on, and what stands beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from onnxeq.report import facts
from onnxeq.report.advice import next_steps
from onnxeq.report.sparkline import ASCII, UNICODE, Glyphs, chart
from onnxeq.types import Layer, Report, Role, Verdict

__all__ = ["LINES", "render", "show"]

LINES = 40
"""What the screen fits into, at 100 columns, unless every layer is asked for."""

_MOST_CREATING = 12
_MOST_AMPLIFYING = 4
_MOST_CAUSES = 2
_MOST_NOTES = 2
_MOST_RUNGS = 2
_LONGEST_OPERATOR = 12

_VERDICT = {
    Verdict.EQUIVALENT: "bold green",
    Verdict.DIVERGENT: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
}
_ROLE = {Role.CREATES: "bold red", Role.AMPLIFIES: "yellow", Role.UNKNOWN: "dim"}

_NUMBERS = ("#", "propagated", "local")
_NAMES = ("node", "native layer", "note")
"""The columns that are shortened where the line is too short for them."""


def show(report: Report, console: Console, *, every: bool = False) -> None:
    """Prints :func:`render`'s screen."""
    console.print(render(report, every=every))


def render(report: Report, *, every: bool = False, width: int | None = None) -> RenderableType:
    """The screen of a layer-by-layer comparison, at most :data:`LINES` lines.

    Args:
        report: One with layers.
        every: List every layer in the order of the graph, however many lines that takes.
        width: Characters in a line; by default the console's.
    """
    return _Screen(report, every, width)


@dataclass(frozen=True)
class _Screen:
    """Made when the console is known: its width, and whether it shows more than ASCII."""

    report: Report
    every: bool
    width: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = self.width or options.max_width
        glyphs = ASCII if options.ascii_only or console.is_dumb_terminal else UNICODE
        before = _above(self.report, width, glyphs)
        after = _below(self.report, width, glyphs)
        yield from before
        if self.report.layers:
            # One line is the table's header, one says what it leaves out.
            rows = _rows(self.report.layers, LINES - len(before) - len(after) - 2, self.every)
            yield _table(rows, facts.limit_of(self.report), width, glyphs, fold=self.every)
            left = facts.tally(self.report.layers, [layer for layer, _ in rows])
            if left:
                yield _one(f"  the others (--all): {left}", width, glyphs, "dim")
        yield from after


def _above(report: Report, width: int, glyphs: Glyphs) -> list[Text]:
    """Headline, what was compared, why, and the curve."""
    verdict = report.verdict.value
    said = facts.headline(report)
    spare = width - len(verdict) - 2 - len(said)
    if spare < 0 and (found := facts.creating(report.layers)):
        said = facts.headline(report, len(found[0].node) + len(found[0].op_type) + 3 + spare, glyphs.gap)
    lines = [Text.assemble((verdict, _VERDICT[report.verdict]), f"  {glyphs.safe(said)}", no_wrap=True)]
    source, target = report.source.get("ref", ""), report.target.get("ref", "")
    coverage = report.coverage
    seen = f"{coverage.nodes_compared:,} of {facts.plural(coverage.nodes_total, 'node')}"
    inputs = facts.plural(coverage.inputs_tried, "input")
    against = f"and {target}" if target else "on its own"
    lines.append(_one(f"  {source} {against} ({seen}, {inputs})", width, glyphs))
    if any(layer.paired_by is not None for layer in report.layers):
        lines.append(_one(f"  {facts.pairing(report.layers)}", width, glyphs))
    lines += [_one(f"  {facts.compared(rung)}", width, glyphs) for rung in report.rungs[:_MOST_RUNGS]]
    for cause in report.causes[:_MOST_CAUSES]:
        told = _some(f"{cause.cause.value}: {cause.evidence}", width, glyphs, 2 if len(report.causes) > 1 else 4)
        told[0].stylize("bold red", 2, 2 + len(cause.cause.value))
        lines += told
    lines += [_one(f"  note: {note}", width, glyphs, "yellow") for note in report.notes[:_MOST_NOTES]]
    more = {
        "cause": len(report.causes) - _MOST_CAUSES, "note": len(report.notes) - _MOST_NOTES,
        "rung": len(report.rungs) - _MOST_RUNGS,
    }  # fmt: skip
    if left := ", ".join(facts.plural(count, f"more {noun}") for noun, count in more.items() if count > 0):
        lines.append(_one(f"  and {left} (--json lists them)", width, glyphs))
    if report.layers:
        lines += [Text(), *chart(report, width, glyphs), Text()]
    return [_cropped(line, width) for line in lines]


def _below(report: Report, width: int, glyphs: Glyphs) -> list[Text]:
    """The worst output, and what to do next."""
    lines = []
    for output in sorted(report.outputs, key=lambda o: -o.max_rel)[:1]:
        shape = "x".join(str(d) for d in output.shape) or "scalar"
        more = f", and {len(report.outputs) - 1} more" if len(report.outputs) > 1 else ""
        said = f"  output {output.name} {output.dtype}[{shape}]: max abs {facts.short(output.max_abs)}"
        lines.append(_one(f"{said}, SQNR {output.sqnr_db:.0f} dB{more}", width, glyphs, "dim"))
    for step in next_steps(report):
        lines += _some(f"next: {step}", width, glyphs, 2, indent="")
    return lines


def _rows(layers: Sequence[Layer], room: int, every: bool) -> list[tuple[Layer, bool]]:
    """The layers to list, and whether each is listed for its own sake."""
    if every:
        return [(layer, True) for layer in layers]
    amplifying = facts.amplifying(layers)
    found = facts.creating(layers)[: max(min(_MOST_CREATING, room - min(len(amplifying), 2)), 1)]
    amplifying = amplifying[: max(min(_MOST_AMPLIFYING, room - len(found)), 0)]
    if not found:
        return [(layer, True) for layer in [*facts.nearest(layers), *amplifying]]
    # By identity: two values of one node share its index.
    place = {id(layer): i for i, layer in enumerate(layers)}
    listed = {id(layer) for layer in [*found, *amplifying]}
    spare = room - len(listed)
    rows: list[tuple[Layer, bool]] = []
    for layer in found:
        at = place[id(layer)]
        before, after = ([x for x in layers[max(i, 0) : i + 1] if id(x) not in listed] for i in (at - 1, at + 1))
        if len(before) + len(after) > spare:
            before, after, spare = [], [], 0
        spare -= len(before) + len(after)
        listed |= {id(x) for x in [*before, *after]}
        rows += [*((x, False) for x in before), (layer, True), *((x, False) for x in after)]
    return rows + [(layer, True) for layer in amplifying]


def _table(rows: Sequence[tuple[Layer, bool]], limit: float, width: int, glyphs: Glyphs, *, fold: bool) -> Table:
    cells = [[glyphs.safe(cell) for cell in facts.row(layer, limit)] for layer, _ in rows]
    needs = {name: max([len(row[i]) for row in cells], default=0) for i, name in enumerate(facts.COLUMNS)}
    shown = [name for name in facts.COLUMNS if needs[name]]
    needs = {name: max(needs[name], len(name)) for name in shown}
    names = {name: needs[name] for name in shown if name in _NAMES}
    fixed = sum(needs[name] for name in shown if name not in names) + len(shown) - 1
    widths = needs | _share(names, max(width - fixed, 4 * len(names)))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in shown:
        keep = fold and name == "note"
        table.add_column(
            name, width=widths[name], justify="right" if name in _NUMBERS else "left", no_wrap=not keep,
            overflow="fold" if keep else "crop",
        )  # fmt: skip
    for (layer, own), row in zip(rows, cells, strict=True):
        texts = dict(zip(facts.COLUMNS, row, strict=True))
        texts["node"] = _node(layer, widths["node"], glyphs)
        for name in ("native layer", *(() if fold else ("note",))):
            texts[name] = facts.shorten(texts[name], widths.get(name, 0), glyphs.gap)
        style = _ROLE.get(layer.role, "") if own else "dim"
        table.add_row(*(Text(texts[name], style=style if name in ("node", "role") else "") for name in shown),
                      style=None if own else "dim")  # fmt: skip
    return table


def _node(layer: Layer, width: int, glyphs: Glyphs) -> str:
    """The node's name and its operator, both shortened where there is no room for them."""
    operator = glyphs.safe(f" ({layer.op_type})") if layer.op_type else ""
    name = glyphs.safe(layer.node)
    if len(name + operator) > width and operator:
        operator = f" ({facts.shorten(operator[2:-1], _LONGEST_OPERATOR, glyphs.gap)})"
    if width - len(operator) < min(len(name), 8):
        return facts.shorten(name + operator, width, glyphs.gap)
    return facts.shorten(name, width - len(operator), glyphs.gap) + operator


def _share(needs: dict[str, int], room: int) -> dict[str, int]:
    """Room for each of several texts: who needs less than an equal part leaves the rest to the others."""
    given: dict[str, int] = {}
    for name in sorted(needs, key=lambda n: needs[n]):
        given[name] = min(needs[name], room // (len(needs) - len(given)))
        room -= given[name]
    return given


def _one(text: str, width: int, glyphs: Glyphs, style: str = "") -> Text:
    """A line, shortened at its end."""
    return _some(text, width, glyphs, 1, style, indent="")[0]


def _some(text: str, width: int, glyphs: Glyphs, most: int, style: str = "", indent: str = "  ") -> list[Text]:
    """A text in at most so many lines."""
    lines = textwrap.wrap(
        glyphs.safe(text), width, max_lines=most, placeholder=f" {glyphs.gap}", initial_indent=indent,
        subsequent_indent=indent, break_on_hyphens=False,
    )  # fmt: skip
    return [_cropped(Text(line, style=style), width) for line in lines or [""]]


def _cropped(text: Text, width: int) -> Text:
    """No more than one line, also where a character takes two columns."""
    text.no_wrap, text.overflow = True, "crop"
    text.truncate(width)
    return text
