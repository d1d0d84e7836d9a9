"""The accuracy part of a comparison: tables and sentences, for the terminal and for files."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxeq.compare.accuracy.values import LEVEL, Accuracy, Contest, Measured, Share, Swap

__all__ = [
    "COLUMNS", "CSV", "PAIR_COLUMNS", "accuracy_row", "csv_cells", "headline", "notes", "pair_row", "render",
    "swap_line", "title",
]  # fmt: skip

COLUMNS = ("model", "correct", "top-1", "95 % interval", "top-5", "published")
"""Columns of the models' figures."""

PAIR_COLUMNS = ("pair", "agree", "both", "left", "right", "neither", "p", "difference")
"""Columns of the pairs' figures: the items that both get right, only the left one, only the right one, neither."""

CSV = ("left top-1", "right top-1", "accuracy p", "accuracy discrepancy")
"""What the accuracy adds to a pair's line."""


def headline(accuracy: Accuracy) -> str:
    """What was found, in a few words."""
    found = len(accuracy.discrepancies)
    if not accuracy.pairs:
        return "accuracy not compared"
    said = f"accuracy differs in {found} of {len(accuracy.pairs)} pairs" if found else "no difference in accuracy"
    if found and len(accuracy.pairs) == 1:
        said = "accuracy differs"
    return f"{said}, {len(accuracy.missing)} not measured" if accuracy.missing else said


def accuracy_row(model: Measured) -> tuple[str, ...]:
    """One model's figures, in the order of :data:`COLUMNS`."""
    low, high = (f"{100 * side:.2f}" for side in (model.top1.low, model.top1.high))
    top5 = "-" if model.top5 is None else _percent(model.top5)
    published = "-"
    if model.published.top1 is not None:
        published = f"{model.published.top1:.2f} % {'within' if model.within else 'outside'}"
    return model.model, str(model.top1.right), _percent(model.top1), f"{low} to {high}", top5, published


def _percent(share: Share) -> str:
    return f"{100 * share.value:.2f} %"


def pair_row(pair: Contest) -> tuple[str, ...]:
    """One pair's figures, in the order of :data:`PAIR_COLUMNS`; ``p`` is the corrected one."""
    verdict = "yes" if pair.discrepancy else "not shown"
    return (
        f"{pair.left} | {pair.right}", f"{100 * pair.agree / pair.items:.2f} %", str(pair.both), str(pair.only_left),
        str(pair.only_right), str(pair.neither), f"{pair.corrected:.2g}", verdict,
    )  # fmt: skip


def swap_line(swap: Swap) -> str:
    """What another model's recipe does, in a sentence."""
    apart = "; ".join(swap.differences)
    head = f"{swap.model} as {swap.recipe} prepares pictures"
    if swap.not_taken:
        return f"{head}: not taken: {swap.not_taken} ({apart})"
    verdict = "" if swap.matters else ", no more than chance"
    p = f"p = {swap.corrected:.2g}" if swap.corrected is not None else ""
    if not swap.lost and not swap.gained:
        return f"{head}: the same {swap.own} right ({apart})"
    moved = f"{swap.lost} lost and {swap.gained} gained"
    return f"{head}: {swap.other} right in place of {swap.own} ({moved}; {p}{verdict}): {apart}"


def title(accuracy: Accuracy) -> str:
    """What was run, on what, and by what."""
    number = f"{accuracy.items:,}" if accuracy.items == accuracy.total else f"{accuracy.items:,} of {accuracy.total:,}"
    files = " and ".join(dict.fromkeys(model.file for model in accuracy.measured))
    run = f", each model as onnxruntime on the CPU runs {files}" if files else ""
    return f"accuracy on {accuracy.dataset}, {number} items{run}"


def notes(accuracy: Accuracy) -> list[str]:
    """What could not be measured, where published figures stand, and what a reader must know."""
    lines = [f"accuracy not measured: {row.model}: {row.reason}" for row in accuracy.missing]
    lines += [f"note: {text}" for text in accuracy.notes]
    for model in accuracy.measured:
        lines += [f"note: {model.model}: {text}" for text in model.notes]
    lines += _published(accuracy)
    if accuracy.pairs:
        many = f", corrected for {len(accuracy.pairs)} pairs (Holm)" if len(accuracy.pairs) > 1 else ""
        lines.append(
            "agree: both say one class; both, left, right, neither: who gets an item right;"
            f" p: McNemar's exact test, two-sided{many}: a discrepancy below {LEVEL:g}"
        )
    if tested := sum(swap.p is not None for swap in accuracy.swaps):
        many = f", corrected for {tested} of them (Holm)" if tested > 1 else ""
        lines.append(f"pictures as another prepares them: p by the same test{many}")
    return lines


def _published(accuracy: Accuracy) -> list[str]:
    """Where the published figures stand, or why there are none: once for all models of which it is true."""
    said: dict[str, list[str]] = {}
    for model in accuracy.measured:
        published = model.published
        where = f"{published.label}, {published.source}" if published.label else f"none ({published.source})"
        said.setdefault(where, []).append(model.model)
    lines = [
        f"published: {where}" + (f": {', '.join(names)}" if len(said) > 1 else "") for where, names in said.items()
    ]
    if any(model.within is not None for model in accuracy.measured):
        lines.append("within, outside: whether the published figure, of its zoo's own items, lies in the interval")
    return lines


def csv_cells(accuracy: Accuracy, left: str, right: str) -> list[str]:
    """The cells of :data:`CSV` for a pair; empty where it was not measured."""
    shares = {model.model: f"{model.top1.value:.6f}" for model in accuracy.measured}
    pair = next((p for p in accuracy.pairs if {p.left, p.right} == {left, right}), None)
    judged = ["", ""] if pair is None else [f"{pair.corrected:.6g}", "yes" if pair.discrepancy else "no"]
    return [shares.get(left, ""), shares.get(right, ""), *judged]


def render(accuracy: Accuracy) -> list[RenderableType]:
    """The part of the screen."""
    parts: list[RenderableType] = [Text(), Text(title(accuracy), style="bold")]
    if accuracy.measured:
        parts.append(_table(COLUMNS, [accuracy_row(model) for model in accuracy.measured]))
    if accuracy.pairs:
        table = _table(PAIR_COLUMNS, [])
        for pair in accuracy.pairs:
            row = pair_row(pair)
            table.add_row(*row[:-1], Text(row[-1], style="bold red" if pair.discrepancy else ""))
        parts += [Text(), table]
    for swap in accuracy.swaps:
        parts.append(Padding(Text(swap_line(swap)), (0, 0, 0, 2)))
    for line in notes(accuracy):
        style = "bold red" if line.startswith("accuracy not") else "yellow" if line.startswith("note") else "dim"
        parts.append(Padding(Text(line, style=style), (0, 0, 0, 2)))
    return parts


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(columns[0], overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
