"""A comparison on a terminal: the models side by side, the verdict on each pair, and its differences in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxeq.compare.latency.values import Latency, Reached
from onnxeq.compare.values import Architecture, Comparison, Difference, Pair, Place, Same, Side
from onnxeq.report import comparison_accuracy
from onnxeq.report.comparison_function import function_lines
from onnxeq.report.comparison_verdicts import verdict_rows
from onnxeq.report.latency import COSTS, REACHED, cost_rows, latency_lines, reached_rows, sentence

__all__ = ["FIGURES", "figure_row", "headline", "place_text", "render", "show"]

_STYLE = {Same.IDENTICAL: "bold green", Same.EQUIVALENT: "bold green", Same.DIFFERENT: "bold red"}

FIGURES = ("model", "parameters", "MACs", "activ.", "depth", "layers", "sees", "input")
"""Columns of the figures: what :class:`onnxeq.compare.values.Architecture` says of one item."""

_MOST_PLACES = 2
_MOST_DIFFERENCES = 12


def show(comparison: Comparison, console: Console, *, every: bool = False) -> None:
    """Prints :func:`render`'s screen."""
    console.print(render(comparison, every=every))


def render(comparison: Comparison, *, every: bool = False) -> RenderableType:
    """The whole screen; ``every`` also names all places of a difference and counts all layers."""
    parts: list[RenderableType] = [_headline(comparison), Text(), _figures(comparison.sides)]
    for failure in comparison.failures:
        parts.append(Text.assemble(("could not be had: ", "bold red"), f"{failure.ref}: {failure.reason}"))
    for side in comparison.sides:
        parts += [Text(f"note: {side.name}: {note}", style="yellow") for note in side.notes]
    if every:
        parts += [Text(), _kinds(comparison.sides)]
    if len(comparison.pairs) > 1 or comparison.accuracy or comparison.latency:
        parts += [Text(), _verdicts(comparison)]
    for pair in comparison.pairs:
        parts += [Text(), _pair(pair, every)]
    if comparison.accuracy is not None:
        parts += comparison_accuracy.render(comparison.accuracy)
    if comparison.latency is not None:
        parts += _latency(comparison.latency, comparison.reached)
    return Group(*parts)


def headline(comparison: Comparison) -> str:
    """What was found, in a few words."""
    counts = {same: sum(pair.same is same for pair in comparison.pairs) for same in Same}
    said = [f"{number} {same.value}" for same, number in counts.items() if number]
    if len(comparison.pairs) == 1:
        said = [comparison.pairs[0].same.value]
    if comparison.failures:
        said.append(f"{len(comparison.failures)} could not be had")
    if comparison.accuracy is not None:
        said.append(comparison_accuracy.headline(comparison.accuracy))
    return ", ".join(said) or "nothing to compare"


def _headline(comparison: Comparison) -> Text:
    style = "bold green" if comparison.alike else "bold red"
    number = len(comparison.sides)
    about = ["architecture"] + ["outputs"] * any(p.function or p.not_split for p in comparison.pairs)
    about += ["accuracy"] * (comparison.accuracy is not None) + ["latency"] * (comparison.latency is not None)
    listed = ", ".join(about[:-1]) + " and " * (len(about) > 1) + about[-1]
    return Text.assemble((headline(comparison), style), f"  {number} {'models' if number != 1 else 'model'}, {listed}")


def _figures(sides: tuple[Side, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(FIGURES[0], overflow="fold")
    for name in FIGURES[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for side in sides:
        table.add_row(*figure_row(side))
    return table


def figure_row(side: Side) -> tuple[str, ...]:
    """One model's figures, in the order of :data:`FIGURES`."""
    a = side.architecture
    inputs = ", ".join("x".join(str(n) for n in shape[1:]) or "scalar" for shape in a.inputs)
    return (
        side.name, f"{a.parameters:,}", _short(a.macs), _short(a.activations), str(a.depth), str(a.layers), _sees(a),
        inputs,
    )  # fmt: skip


def _short(number: int) -> str:
    """Four digits and a unit."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return str(number)


def _sees(a: Architecture) -> str:
    """The receptive field in pixels; ``+`` where every element depends on the whole image besides."""
    if a.receptive is None:
        return "-"
    size = a.receptive.size
    text = str(size[0]) if len(set(size)) == 1 else "x".join(str(n) for n in size)
    return f"{text}{'+' if a.receptive.gated else ''} px"


def _kinds(sides: tuple[Side, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("layers", no_wrap=True)
    for side in sides:
        table.add_column(side.name, justify="right", overflow="fold")
    names = dict.fromkeys(name for side in sides for name in side.architecture.kinds)
    for name in names:
        table.add_row(name, *(str(side.architecture.kinds.get(name, 0)) for side in sides))
    return table


def _verdicts(comparison: Comparison) -> Table:
    header, rows = verdict_rows(comparison)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in header:
        table.add_column(name, overflow="fold", no_wrap=name == "rank")
    for row in rows:
        table.add_row(*(Text(cell, style=_cell_style(cell)) for cell in row))
    return table


def _cell_style(cell: str) -> str:
    return "red" if cell.startswith("different") else ""


def _pair(pair: Pair, every: bool) -> RenderableType:
    head = Text.assemble(f"{pair.left} and {pair.right}: ", (pair.same.value, _STYLE[pair.same]))
    head.append(f"  {pair.aligned} of {pair.layers[0]} and {pair.layers[1]} layers aligned", style="dim")
    parts: list[RenderableType] = [head]
    shown = pair.differences if every else pair.differences[:_MOST_DIFFERENCES]
    for difference in shown:
        parts += _difference(difference, every)
    if left := len(pair.differences) - len(shown):
        parts.append(Text(f"  and {left} less consequential ones (--all)"))
    parts += [Padding(Text(text), (0, 0, 0, 2)) for text in function_lines(pair)]
    if pair.normalised:
        written = f"written otherwise, and the same: {'; '.join(pair.normalised)}"
        parts.append(Padding(Text(written, style="dim"), (0, 0, 0, 2)))
    parts += [Padding(Text(f"note: {text}", style="yellow"), (0, 0, 0, 2)) for text in pair.notes]
    return Group(*parts)


def _difference(difference: Difference, every: bool) -> list[RenderableType]:
    text = Text.assemble((difference.topic.value, "bold"), f": {difference.sentence}")
    parts: list[RenderableType] = [Padding(text, (0, 0, 0, 2))]
    shown = difference.places if every else difference.places[:_MOST_PLACES]
    if shown:
        left = len(difference.places) - len(shown)
        more = f"; {left} more (--all)" if left else ""
        named = Text(f"{'; '.join(place_text(p) for p in shown)}{more}", style="dim")
        parts.append(Padding(named, (0, 0, 0, 4)))
    return parts


def place_text(place: Place) -> str:
    """Both names; one where the other side has none, or the same."""
    if not place.left or not place.right or place.left == place.right:
        return place.left or place.right
    return f"{place.left} | {place.right}"


def _latency(latency: Latency, reached: Sequence[Reached]) -> list[RenderableType]:
    """What each costs, the ratios in words, what accuracy costs, and what a reader must know of it."""
    parts: list[RenderableType] = [Text()]
    if latency.figures:
        parts.append(_plain_table(COSTS, cost_rows(latency)))
    for ratio in latency.pairs:
        what = ("discrepancy: ", "bold red") if ratio.discrepancy else "alike: "
        parts.append(Text.assemble(what, sentence(ratio)))
    parts += [Text(sentence(ratio)) for ratio in latency.runtimes]
    if reached:
        parts += [Text(), _plain_table(REACHED, reached_rows(reached))]
    return parts + [Text(line, style="yellow") for line in latency_lines(latency)]


def _plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(header[0], overflow="fold")
    for name in header[1:]:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
