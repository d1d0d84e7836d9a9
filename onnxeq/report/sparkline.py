"""A curve over depth in a few lines of characters, with the limit as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from onnxeq.report.facts import limit_of, plural, short
from onnxeq.types import Layer, Report, Role

__all__ = ["ASCII", "UNICODE", "Glyphs", "chart"]


@dataclass(frozen=True)
class Glyphs:
    """The characters to draw with.

    Attributes:
        levels: From empty to full, in eighths of a line.
        endless: On top of a column that no rounding explains.
        unknown: At the foot of a column without a number.
        gap: What stands for the middle of a long name.
        plain: Whether nothing but ASCII may be printed.
    """

    levels: str
    endless: str
    unknown: str
    gap: str
    plain: bool

    def safe(self, text: str) -> str:
        """The text in characters that can be printed."""
        return text.encode("ascii", "backslashreplace").decode("ascii") if self.plain else text


UNICODE = Glyphs(" ▁▂▃▄▅▆▇█", "∞", "·", "…", plain=False)
ASCII = Glyphs(" ...:::##", "!", "-", "..", plain=True)

_LINES = 4
_LABEL = 10
_WIDEST = 4  # columns of one layer: a model of ten is no more telling over the whole width
_FLOOR = 1e-3  # of the limit: what is smaller has the lowest block, and the rest keeps its resolution
_EIGHTHS = 8


@dataclass(frozen=True)
class _Scale:
    """A logarithmic axis: ``level(v) = 8 * (below + log10(v / middle) / decades)``, ``middle`` at a line's foot."""

    middle: float
    decades: float
    below: int

    def level(self, value: float) -> int:
        """Eighths of a line from the bottom: 0 for zero and what is no number, at least 1 for all else."""
        if math.isnan(value) or value <= 0:
            return 0
        if math.isinf(value):
            return _EIGHTHS * _LINES
        height = math.ceil(_EIGHTHS * (self.below + math.log10(value / self.middle) / self.decades) - 1e-9)
        # A rounded logarithm may not take a value across the limit.
        lowest, highest = (1, _EIGHTHS * self.below) if value <= self.middle else (_EIGHTHS * self.below + 1, math.inf)
        return int(min(max(height, lowest), highest, _EIGHTHS * _LINES))

    def edge(self, line: int) -> float:
        """The value at the foot of a line; ``_LINES`` is the top of the chart."""
        return self.middle * 10 ** (self.decades * (line - self.below))


def chart(report: Report, width: int, glyphs: Glyphs) -> list[Text]:
    """The largest propagated error of each stretch of layers, in noise units, over depth.

    Args:
        report: One with layers.
        width: Characters in a line.
        glyphs: The characters to draw with.

    Returns:
        Lines of equal meaning for any number of layers: the curve, carets below the layers that create error, and
        a line that says what is seen.
    """
    layers, limit = report.layers, limit_of(report)
    columns = _columns(layers, max(width - _LABEL - 2, 8))
    heights = [_largest([x.propagated.ratio for x in column]) for column in columns]
    scale = _scale([x.propagated.ratio for x in layers], limit)
    lines = [_line(line, heights, scale, limit, glyphs) for line in reversed(range(_LINES))]
    origin = [any(x.role is Role.CREATES for x in column) for column in columns]
    if any(origin):
        lines.append(Text(" " * (_LABEL + 2) + _carets(columns, origin), style="bold red"))
    lines.append(Text(_caption(layers, columns, heights, glyphs)[:width], style="dim"))
    return lines


def _columns(layers: Sequence[Layer], width: int) -> list[Sequence[Layer]]:
    """The layers of each column: several in one, or one over several."""
    count = len(layers)
    if count > width:
        return [layers[i * count // width : (i + 1) * count // width] for i in range(width)]
    return [[layer] for layer in layers for _ in range(min(_WIDEST, width // count))]


def _largest(values: Sequence[float]) -> float:
    return max((v for v in values if not math.isnan(v)), default=math.nan)


def _scale(values: Sequence[float], limit: float) -> _Scale:
    """The finest scale that holds the values and has the limit between two lines."""
    finite = [v for v in values if math.isfinite(v) and v > 0]
    if math.isnan(limit):
        low, high = min(finite, default=0.1), max(finite, default=10.0)
        return _Scale(low, max(math.log10(high / low), 1.0) / _LINES, 0)
    low = max(min([*finite, limit / 10]), limit * _FLOOR)
    high = max([*finite, limit * 2])
    steps = {
        below: max(math.log10(limit / low) / below, math.log10(high / limit) / (_LINES - below))
        for below in range(1, _LINES)
    }
    below = min(steps, key=lambda b: steps[b])
    return _Scale(limit, steps[below], below)


def _line(line: int, heights: Sequence[float], scale: _Scale, limit: float, glyphs: Glyphs) -> Text:
    at_limit = line == scale.below and not math.isnan(limit)
    label = f"limit {limit:g}" if at_limit else ""
    if not label and line in (0, _LINES - 1):
        label = short(scale.edge(_LINES if line else 0))
    text = Text(f"{label[:_LABEL]:>{_LABEL}} |", style="dim")
    for value in heights:
        part = min(max(scale.level(value) - _EIGHTHS * line, 0), _EIGHTHS)
        over = not math.isnan(limit) and value > limit
        if math.isinf(value) and line == _LINES - 1:
            text.append(glyphs.endless, style="not dim bold red")
        elif part:
            text.append(glyphs.levels[part], style="not dim red" if over else "not dim green")
        else:
            text.append("_" if at_limit else (glyphs.unknown if math.isnan(value) and line == 0 else " "))
    return text


def _carets(columns: Sequence[Sequence[Layer]], origin: Sequence[bool]) -> str:
    """A caret below each column, one only for a layer that has several."""
    first = [i == 0 or columns[i][0] is not columns[i - 1][0] for i in range(len(columns))]
    return "".join("^" if own and new else " " for own, new in zip(origin, first, strict=True))


def _caption(
    layers: Sequence[Layer], columns: Sequence[Sequence[Layer]], heights: Sequence[float], glyphs: Glyphs
) -> str:
    each = -(-len(layers) // len(columns))
    said = [f"propagated error in noise units over {plural(len(layers), 'layer')}" + f", {each} a column" * (each > 1)]
    if any(layer.role is Role.CREATES for layer in layers):
        said.append("^ creates error")
    if any(math.isinf(v) for v in heights):
        said.append(f"{glyphs.endless} infinite")
    if any(math.isnan(v) for v in heights):
        said.append(f"{glyphs.unknown} unknown")
    return "  " + "; ".join(said)
