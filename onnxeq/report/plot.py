"""Error along depth as a picture, SVG or PNG; needs the extra ``plot``."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxeq.errors import FrameworkMissing
from onnxeq.report.facts import creating, headline, limit_of, short, shorten
from onnxeq.report.output import check_path, replace
from onnxeq.types import Layer, Report, Role, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_name", "write_plot"]

FORMATS = (".svg", ".png")

_PROPAGATED, _LOCAL, _CREATES = "#4477aa", "#888888", "#bb3322"
_MOST_LABELS = 10
_MOST_NAMES = 24  # layers up to which each has its name on the axis
_FEW = 60  # layers up to which each has a marker that can be told from the next
_LONGEST = 36
_LONGEST_OPERATOR = 12
_AXES_INCHES = (8.6, 3.6)
_LEFT, _RIGHT = 0.8, 2.5
_LINE = 0.19  # inches from one label to the next
_CHARACTER = 0.068  # inches of a mean character at eight points
_TURNED = math.radians(35)
_DOTS = 144  # an inch


def check_name(path: Path) -> None:
    """Checks before the work begins that the picture can be drawn and written.

    Raises:
        UsageError: An unknown suffix, or no such folder.
        FrameworkMissing: matplotlib is not installed.
    """
    check_path(path, FORMATS, "--plot")
    if util.find_spec("matplotlib") is None:
        raise FrameworkMissing(
            f"--plot {path} needs the package 'matplotlib', which is not installed here",
            hint="pip install 'onnxeq[plot]'",
        )


def write_plot(report: Report, path: Path) -> None:
    """Draws propagated and local error of each layer over depth, in noise units, and writes the picture.

    Both axes of error are logarithmic; a zero lies on a line of its own at the bottom, an infinite ratio on one at the
    top, and a layer without a number leaves a gap. Two pictures of one report are the same bytes.

    Args:
        report: One with layers.
        path: A file ``.svg`` or ``.png``; an old one is replaced.

    Raises:
        UsageError: An unknown suffix, or no such folder.
        FrameworkMissing: matplotlib is not installed.
    """
    check_name(path)
    from matplotlib import style

    # Looks do not depend on the user's own settings, which are as they were afterwards.
    with style.context(["default", {"svg.hashsalt": "onnxeq", "font.size": 9}]):
        replace(path, _printed(_figure(report), path.suffix))


def _printed(figure: Figure, suffix: str) -> bytes:
    data = io.BytesIO()
    metadata = {"Date": None, "Creator": "onnxeq"} if suffix == ".svg" else {"Software": "onnxeq"}
    figure.savefig(data, format=suffix[1:], dpi=_DOTS, metadata=metadata)
    return data.getvalue()


@dataclass(frozen=True)
class _Scale:
    """Decades that hold every ratio, and the heights at which zero and infinity are drawn."""

    low: float
    high: float
    zero: float
    endless: float

    def height(self, ratio: float) -> float:
        """Where a ratio is drawn; NaN is left out."""
        if math.isinf(ratio):
            return self.endless
        return self.zero if ratio <= 0 else ratio


def _scale(report: Report) -> _Scale:
    ratios = [ratio for x in report.layers for ratio in (x.propagated.ratio, x.local.ratio)]
    known = [r for r in [*ratios, limit_of(report)] if math.isfinite(r) and r > 0] or [1.0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 2)
    band = 10 ** ((high - low) * 0.07)
    return _Scale(10.0**low, 10.0**high, 10.0**low / band, 10.0**high * band)


def _figure(report: Report) -> Figure:
    from matplotlib.figure import Figure

    layers = report.layers
    place = {id(layer): at for at, layer in enumerate(layers)}  # two values of one node share its index
    labelled = sorted(creating(layers)[:_MOST_LABELS], key=lambda x: place[id(x)])
    lines = _label_lines([place[id(x)] / max(len(layers) - 1, 1) for x in labelled], [_label(x) for x in labelled])
    names = _axis_names(layers)
    top = 0.75 + _LINE * (max(lines, default=-1) + 1)
    bottom = 0.35 + max([len(name) * _CHARACTER * math.sin(_TURNED) for name in names], default=0.25)
    width, height = _LEFT + _AXES_INCHES[0] + _RIGHT, bottom + _AXES_INCHES[1] + top
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes(
        (_LEFT / width, bottom / height, _AXES_INCHES[0] / width, _AXES_INCHES[1] / height)
    )  # fmt: skip
    scale = _scale(report)
    _frame(axes, report, scale, names)
    _curves(axes, layers, scale)
    for layer, line in zip(labelled, lines, strict=True):
        _name(axes, place[id(layer)], scale.height(layer.local.ratio), _label(layer), line)
    _title(figure, report, width, height)
    _legend(axes, limit_of(report), scale)
    return figure


def _frame(axes: Axes, report: Report, scale: _Scale, names: Sequence[str]) -> None:
    """Axes, their ticks, the limit."""
    layers, limit = report.layers, limit_of(report)
    axes.set_yscale("log")
    edge = (scale.endless / scale.high) ** 0.5
    axes.set_ylim(scale.zero / edge, scale.endless * edge)
    axes.set_xlim(-0.5 - 0.01 * len(layers), len(layers) - 0.5 + 0.01 * len(layers))
    ratios = [r for x in layers for r in (x.propagated.ratio, x.local.ratio)]
    low, high = round(math.log10(scale.low)), round(math.log10(scale.high))
    ticks = {10.0**k: short(10.0**k) for k in range(low, high + 1, -(-(high - low) // 8))}
    for seen, at, text in ((0.0 in ratios, scale.zero, "0"), (math.inf in ratios, scale.endless, "inf")):
        if seen:
            ticks[at] = text
            axes.axhline(at, color="#cccccc", linewidth=0.8, zorder=0)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_yticks([], minor=True)
    axes.set_ylabel("error in noise units")
    axes.spines[["top", "right"]].set_visible(False)
    if names:
        axes.set_xticks(
            range(len(names)), names, rotation=math.degrees(_TURNED), ha="right", rotation_mode="anchor", fontsize=8,
            parse_math=False,
        )  # fmt: skip
    else:
        axes.set_xlabel("layer, in the order of the graph")
    if not math.isnan(limit):
        axes.axhline(limit, color="black", linewidth=1, linestyle=(0, (5, 3)), zorder=1)
        axes.text(
            1.01, limit, f"limit {limit:g}", transform=axes.get_yaxis_transform(), va="center", fontsize=8
        )  # fmt: skip


def _curves(axes: Axes, layers: Sequence[Layer], scale: _Scale) -> None:
    """The two errors of each layer; those that create it; what a logarithmic axis has no place for."""
    few = len(layers) <= _FEW
    propagated = [layer.propagated.ratio for layer in layers]
    local = [layer.local.ratio for layer in layers]
    axes.plot(
        range(len(layers)), [r if math.isfinite(r) and r > 0 else math.nan for r in propagated], color=_PROPAGATED,
        linewidth=1.4 if few else 0.9, marker="o", markersize=4 if few else 1,
        label="propagated: as both sides ran", zorder=2,
    )  # fmt: skip

    def points(chosen: Sequence[tuple[int, float]], **looks: Any) -> None:
        if chosen:
            axes.scatter([i for i, _ in chosen], [scale.height(r) for _, r in chosen], **looks)

    origin = {i for i, layer in enumerate(layers) if layer.role is Role.CREATES}
    points(
        [(i, r) for i, r in enumerate(propagated) if r == 0], s=30 if few else 14, facecolors="none", marker="o",
        edgecolors=_PROPAGATED, linewidths=1, label="propagated: no difference", zorder=2,
    )  # fmt: skip
    points(
        [(i, r) for i, r in enumerate(local) if i not in origin], s=18 if few else 5, color=_LOCAL, marker="s",
        linewidths=0, label="local: alone, on equal inputs", zorder=3,
    )  # fmt: skip
    points(
        [(i, local[i]) for i in sorted(origin)], s=34, color=_CREATES, marker="D", linewidths=0,
        label="local: creates error", zorder=5,
    )  # fmt: skip
    endless = [(i, r) for i, pair in enumerate(zip(propagated, local, strict=True)) for r in pair if r == math.inf]
    points(
        sorted(set(endless)), s=130, facecolors="none", edgecolors="black", marker="^", linewidths=1,
        label="infinite: no rounding does it", zorder=6,
    )  # fmt: skip


def _legend(axes: Axes, limit: float, scale: _Scale) -> None:
    """Beside the axes, at the end where the limit's own label is not."""
    low = not math.isnan(limit) and math.log10(limit / scale.zero) < math.log10(scale.endless / scale.zero) / 2
    axes.legend(
        loc="upper left" if low else "lower left", bbox_to_anchor=(1.01, 1 if low else 0), frameon=False, fontsize=8,
        borderaxespad=0, handletextpad=0.4,
    )  # fmt: skip


def _label(layer: Layer) -> str:
    operator = shorten(layer.op_type, _LONGEST_OPERATOR)
    return f"{shorten(layer.node, _LONGEST - len(operator) - 3)} ({operator})"


def _axis_names(layers: Sequence[Layer]) -> list[str]:
    """A name for each layer below the axis, short enough not to leave the picture at its left; none for many."""
    if len(layers) > _MOST_NAMES:
        return []
    return [shorten(layer.node, 20 if len(layers) <= _MOST_NAMES / 2 else 16) for layer in layers]


def _label_lines(places: Sequence[float], texts: Sequence[str]) -> list[int]:
    """The line above the axes on which each label stands, from 0 upwards; ``places`` ascend from 0 to 1.

    A label begins above its layer, and everything to the right of it stands on a lower line where it would be met: so
    no leader crosses a label.
    """
    lines: list[int] = []
    begins: list[tuple[float, int]] = []
    for place, text in zip(reversed(places), reversed(texts), strict=True):
        end = place * _AXES_INCHES[0] + len(text) * _CHARACTER + 0.1
        line = max((other + 1 for begin, other in begins if begin < end), default=0)
        lines.append(line)
        begins.append((place * _AXES_INCHES[0], line))
    return lines[::-1]


def _name(axes: Axes, place: int, height: float, text: str, line: int) -> None:
    """A label above the axes with a thin leader down to its point."""
    above = 1.03 + (line * _LINE) / _AXES_INCHES[1]
    axes.annotate(
        "", xy=(place, height), xytext=(place, above), textcoords=axes.get_xaxis_transform(),
        arrowprops={"arrowstyle": "-", "color": _CREATES, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        annotation_clip=False, zorder=4,
    )  # fmt: skip
    axes.text(
        place, above, f" {text}", transform=axes.get_xaxis_transform(), fontsize=8, color=_CREATES, va="center",
        parse_math=False,
    )  # fmt: skip


def _title(figure: Figure, report: Report, width: float, height: float) -> None:
    source, target = report.source.get("ref", ""), report.target.get("ref", "")
    rung = next((r for r in report.rungs if r.limit > 0 and r.status is not Status.NOT_RUN), None)
    between = f": {rung.source} > {rung.target}" if rung else ""
    more = len(creating(report.layers)) - _MOST_LABELS
    named = f"; the worst {_MOST_LABELS} are named" if more > 0 else ""
    at = 0.25 / width
    figure.text(
        at,
        1 - 0.24 / height,
        f"{report.verdict.value}: {headline(report, 60)}",
        weight="bold",
        va="center",
        parse_math=False,
    )
    subject = f"{source} {f'and {target}' if target else 'on its own'}{between}{named}"
    figure.text(at, 1 - 0.46 / height, subject, fontsize=8, color="#555555", va="center", parse_math=False)
