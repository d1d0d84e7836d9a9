"""A comparison as a file: JSON, Markdown, HTML, or CSV with one line for each pair."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from onnxeq.compare.accuracy.values import Accuracy
from onnxeq.compare.discrepancies import discrepancies
from onnxeq.compare.document import to_json
from onnxeq.compare.values import Comparison, Pair, Side
from onnxeq.report import comparison_accuracy
from onnxeq.report.comparison import FIGURES, figure_row, headline, place_text
from onnxeq.report.comparison_function import function_cell, function_lines
from onnxeq.report.comparison_verdicts import verdict_rows
from onnxeq.report.latency import latency_lines, latency_tables, pair_cells, pair_columns
from onnxeq.report.output import check_path, replace

__all__ = ["FORMATS", "check_name", "write"]


def check_name(path: Path) -> None:
    """Checks before the work begins that the comparison can be written.

    Raises:
        UsageError: An unknown suffix, or no such folder.
    """
    check_path(path, FORMATS, "--report")


def write(comparison: Comparison, path: Path) -> None:
    """Writes the comparison in the form that the suffix names."""
    replace(path, FORMATS[path.suffix](comparison).encode())


_MOST_PLACES = 6
"""Places of a difference that Markdown and HTML name; JSON names all."""


def _lines(pair: Pair) -> list[str]:
    """The sentences of a pair."""
    lines = []
    for difference in pair.differences:
        named = "; ".join(place_text(place) for place in difference.places[:_MOST_PLACES])
        left = len(difference.places) - _MOST_PLACES
        named += f"; {left} more" if left > 0 else ""
        lines.append(f"{difference.topic.value}: {difference.sentence}{f' ({named})' if named else ''}")
    lines += function_lines(pair)
    lines += [f"written otherwise, and the same: {text}" for text in pair.normalised]
    return lines + [f"note: {text}" for text in pair.notes]


def _notes(comparison: Comparison) -> list[str]:
    lines = [f"could not be had: {failure.ref}: {failure.reason}" for failure in comparison.failures]
    return lines + [f"note: {side.name}: {note}" for side in comparison.sides for note in side.notes]


def _title(comparison: Comparison) -> str:
    return f"{headline(comparison)}: {', '.join(side.name for side in comparison.sides)}"


def _markdown(comparison: Comparison) -> str:
    lines = [f"# {_title(comparison)}", "", *_markdown_table(FIGURES, map(figure_row, comparison.sides))]
    lines += ["", *_markdown_table(*verdict_rows(comparison))]
    lines += ["", *(f"- {line}" for line in _notes(comparison))]
    for pair in comparison.pairs:
        lines += ["", f"## {pair.left} and {pair.right}: {pair.same.value}", ""]
        lines += [f"- {line}" for line in _lines(pair)]
    if (found := comparison.accuracy) is not None:
        lines += ["", f"## {comparison_accuracy.title(found)}"]
        for header, rows in _accuracy_tables(found):
            lines += ["", *_markdown_table(header, rows)]
        lines += ["", *(f"- {line}" for line in _accuracy_lines(found))]
    if (latency := comparison.latency) is not None:
        lines += ["", "## Latency"]
        for header, rows in latency_tables(comparison):
            lines += ["", *_markdown_table(header, rows)]
        lines += ["", *(f"- {line}" for line in latency_lines(latency))]
    return "\n".join(lines) + "\n"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _html(comparison: Comparison) -> str:
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"
    )
    title = html.escape(_title(comparison))
    tables = _html_table(FIGURES, map(figure_row, comparison.sides))
    tables += _html_table(*verdict_rows(comparison)) + _html_list(_notes(comparison))
    for pair in comparison.pairs:
        head = html.escape(f"{pair.left} and {pair.right}: {pair.same.value}")
        tables += f"<h2>{head}</h2>{_html_list(_lines(pair))}"
    if (found := comparison.accuracy) is not None:
        tables += f"<h2>{html.escape(comparison_accuracy.title(found))}</h2>"
        tables += "".join(_html_table(header, rows) for header, rows in _accuracy_tables(found))
        tables += _html_list(_accuracy_lines(found))
    if (latency := comparison.latency) is not None:
        tables += "<h2>Latency</h2>"
        tables += "".join(_html_table(header, rows) for header, rows in latency_tables(comparison))
        tables += _html_list(latency_lines(latency))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style></head><body><h1>{title}</h1>{tables}</body></html>\n"
    )


def _html_list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def _html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _accuracy_tables(found: Accuracy) -> list[tuple[Sequence[str], list[tuple[str, ...]]]]:
    models = [comparison_accuracy.accuracy_row(model) for model in found.measured]
    pairs = [comparison_accuracy.pair_row(pair) for pair in found.pairs]
    tables = [(comparison_accuracy.COLUMNS, models), (comparison_accuracy.PAIR_COLUMNS, pairs)]
    return [(header, rows) for header, rows in tables if rows]


def _accuracy_lines(found: Accuracy) -> list[str]:
    return [*map(comparison_accuracy.swap_line, found.swaps), *comparison_accuracy.notes(found)]


_COUNTS = ("parameters", "macs", "activations", "depth", "layers")


def _csv(comparison: Comparison) -> str:
    """The verdict table: a line for each pair, with both models' figures and all sentences in one cell."""
    sides = {side.name: side for side in comparison.sides}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = [f"{which} {name}" for name in _COUNTS for which in ("left", "right")]
    found = comparison.accuracy
    added = () if found is None else comparison_accuracy.CSV
    words = ("outputs differ by", "total", "about", "differences", "cause")
    timed = pair_columns(comparison.latency)
    writer.writerow(["rank", "left", "right", "architecture", "aligned", *figures, *words, *added, *timed])
    for rank, row in enumerate(discrepancies(comparison), 1):
        pair = row.pair
        both = (sides[pair.left], sides[pair.right])
        sentences = "; ".join(d.sentence for d in pair.differences)
        more = [] if found is None else list(comparison_accuracy.csv_cells(found, pair.left, pair.right))
        numbers = [_figure(side, name) for name in _COUNTS for side in both]
        told = [rank, pair.left, pair.right, pair.same.value, pair.aligned, *numbers, function_cell(pair), _total(pair)]
        told += [", ".join(dict.fromkeys(d.topic.value for d in pair.differences)), sentences, "; ".join(row.causes)]
        writer.writerow([*told, *more, *pair_cells(comparison.latency, pair.left, pair.right)])
    return text.getvalue()


def _total(pair: Pair) -> str:
    """How far the outputs are apart, relative to their size."""
    return "" if pair.function is None else f"{pair.function.total.relative:.6g}"


def _figure(side: Side, name: str) -> int:
    return int(getattr(side.architecture, name))


FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".csv": _csv,
    ".html": _html,
    ".json": lambda comparison: to_json(comparison) + "\n",
    ".md": _markdown,
}
"""Suffix -> rendering."""
