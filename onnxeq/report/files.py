"""The report as a file: JSON, Markdown, HTML, or JUnit XML for a build server."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as Xml

from onnxeq.report.advice import next_steps
from onnxeq.report.document import to_json
from onnxeq.report.output import check_path, replace
from onnxeq.types import Report, Status, Verdict

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
    lines += ["", f"| {' | '.join(_HEADER)} |", f"|{'---|' * len(_HEADER)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in _rows(report)]
    return "\n".join(lines) + "\n"


def _html(report: Report) -> str:
    title = html.escape(f"{report.verdict.value}: {report.source.get('ref', '')}")
    items = "".join(f"<li>{html.escape(line)}</li>" for line in _lines(report))
    head = "".join(f"<th>{name}</th>" for name in _HEADER)
    body = "".join(
        f'<tr class="{row[6]}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in _rows(report)
    )
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"
        ".fail td{background:#fde8e8}.not-run td{color:#777}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style></head>"
        f"<body><h1>{title}</h1><ul>{items}</ul><table><tr>{head}</tr>{body}</table></body></html>\n"
    )


def _junit(report: Report) -> str:
    failed = sum(r.status is Status.FAIL for r in report.rungs)
    skipped = sum(r.status is Status.NOT_RUN for r in report.rungs)
    suite = Xml.Element(
        "testsuite", name=f"onnxeq {report.source.get('ref', '')}", tests=str(len(report.rungs) + 1),
        failures=str(failed + (report.verdict is not Verdict.EQUIVALENT)), skipped=str(skipped),
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
    Xml.indent(suite)
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {
    ".html": _html,
    ".json": lambda report: to_json(report) + "\n",
    ".md": _markdown,
    ".xml": _junit,
}
"""Suffix -> rendering."""
