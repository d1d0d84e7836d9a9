"""The report as a file: JSON, Markdown, HTML, or JUnit XML for a build server.

A report with layers shows those first that create error; JSON and HTML hold all of them.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from onnxeq.report import facts
from onnxeq.report.advice import next_steps
from onnxeq.report.document import to_json
from onnxeq.report.output import check_path, replace
from onnxeq.report.pictures import recipes
from onnxeq.types import Layer, Report, Status, Verdict

__all__ = ["FORMATS", "check_name", "write"]


def check_name(path: Path) -> None:
    """Checks before the work begins that the report can be written.

    Raises:
        UsageError: An unknown suffix, or no such folder.
    """
    check_path(path, FORMATS, "--report")


def write(report: Report, path: Path) -> None:
    """Writes the report in the form that the suffix names."""
    replace(path, FORMATS[path.suffix](report).encode())


def _lines(report: Report) -> list[str]:
    """The sentences that every form shows: causes, notes, what next."""
    lines = [f"{c.cause.value} at rung {c.rung}: {c.evidence}" for c in report.causes]
    lines += [f"note: {note}" for note in report.notes]
    lines += recipes(report)
    return lines + [f"next: {step}" for step in next_steps(report)]


def _rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            r.name,
            r.source,
            r.target,
            f"{r.max_abs:.3g}",
            f"{r.ratio:.3g}",
            f"{r.limit:g}",
            r.status.value,
            r.reason,
        )
        for r in report.rungs
    ]


_HEADER = ("rung", "from", "to", "max abs", "ratio", "limit", "status", "reason")


def _markdown(report: Report) -> str:
    lines = [f"# {report.verdict.value}: {report.source.get('ref', '')}", ""]
    lines += [f"- {line}" for line in _lines(report)]
    lines += ["", *_markdown_table(_HEADER, _rows(report))]
    if report.layers:
        shown = facts.telling(report.layers)
        lines += ["", "## Layers", "", f"{facts.headline(report)}; {facts.pairing(report.layers)}.", ""]
        lines += _markdown_table(facts.COLUMNS, _layer_rows(report, shown))
        if left := facts.tally(report.layers, shown):
            lines += ["", f"Of the others {left}."]
    return "\n".join(lines) + "\n"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _layer_rows(report: Report, layers: Iterable[Layer]) -> list[tuple[str, ...]]:
    limit = facts.limit_of(report)
    return [facts.row(layer, limit) for layer in layers]


def _html(report: Report) -> str:
    title = html.escape(f"{report.verdict.value}: {report.source.get('ref', '')}")
    items = "".join(f"<li>{html.escape(line)}</li>" for line in _lines(report))
    tables = _html_table(_HEADER, _rows(report), 6)
    if report.layers:
        tables += _html_layers(report)
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"
        ".fail td,.creates td{background:#fde8e8}.amplifies td{background:#fff4d6}.not-run td,.unknown td{color:#777}"
        ".layers td:nth-child(2),.layers td:nth-child(3){overflow-wrap:anywhere}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style></head>"
        f"<body><h1>{title}</h1><ul>{items}</ul>{tables}</body></html>\n"
    )


def _html_layers(report: Report) -> str:
    """Those that matter in a table, and all in one that is folded."""
    said = html.escape(f"{facts.headline(report)}; {facts.pairing(report.layers)}.")
    first = _html_table(facts.COLUMNS, _layer_rows(report, facts.telling(report.layers)), 5, "layers")
    everything = _html_table(facts.COLUMNS, _layer_rows(report, report.layers), 5, "layers")
    return (
        f"<h2>Layers</h2><p>{said}</p>{first}"
        f"<details><summary>All, in the order of the graph</summary>{everything}</details>"
    )


def _html_table(header: Sequence[str], rows: Iterable[Sequence[str]], state: int, kind: str = "rungs") -> str:
    """A table whose rows have the class that stands in the column ``state``."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(
        f'<tr class="{row[state]}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<table class="{kind}"><tr>{head}</tr>{body}</table>'


def _junit(report: Report) -> str:
    failed = sum(r.status is Status.FAIL for r in report.rungs)
    skipped = sum(r.status is Status.NOT_RUN for r in report.rungs)
    origin = facts.creating(report.layers)
    failures = failed + len(origin) + (report.verdict is not Verdict.EQUIVALENT)
    suite = Xml.Element(
        "testsuite", name=f"onnxeq {report.source.get('ref', '')}", tests=str(len(report.rungs) + len(origin) + 1),
        failures=str(failures), skipped=str(skipped),
    )  # fmt: skip
    whole = Xml.SubElement(suite, "testcase", classname="onnxeq", name="verdict")
    if report.verdict is not Verdict.EQUIVALENT:
        # Undecided is no pass: a build that asked for equivalence must stop here too.
        Xml.SubElement(whole, "failure", message="; ".join([report.verdict.value, *report.notes]))
    for rung in report.rungs:
        case = Xml.SubElement(
            suite, "testcase", classname="onnxeq", name=f"{rung.name}: {rung.source} to {rung.target}"
        )
        if rung.status is Status.FAIL:
            text = next((c.evidence for c in report.causes if c.rung == rung.name), rung.reason)
            Xml.SubElement(case, "failure", message=text)
        elif rung.status is Status.NOT_RUN:
            Xml.SubElement(case, "skipped", message=rung.reason)
    for layer in origin:
        case = Xml.SubElement(
            suite, "testcase", classname="onnxeq.layers", name=f"layer {layer.index}: {layer.node} ({layer.op_type})"
        )
        Xml.SubElement(case, "failure", message=_blame(report, layer))
    Xml.indent(suite)
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _blame(report: Report, layer: Layer) -> str:
    """Why a layer fails: measured against allowed, whose error it is, and the cause that names its node."""
    limit = facts.limit_of(report)
    side = facts.by(layer, limit)
    parts = [
        f"creates error, {facts.size(layer, limit)}",
        f"by {'both sides' if side == 'both' else f'the {side}'}" if side else "",
        facts.remark(layer),
        next((c.evidence for c in report.causes if c.where.node == layer.node), ""),
    ]
    return "; ".join(part for part in parts if part)


FORMATS: dict[str, Callable[[Report], str]] = {
    ".html": _html,
    ".json": lambda report: to_json(report) + "\n",
    ".md": _markdown,
    ".xml": _junit,
}
"""Suffix -> rendering."""
