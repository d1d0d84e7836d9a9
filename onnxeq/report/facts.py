"""What every form of a report says of its layers: which of them, in which order, in which words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from onnxeq.types import Layer, PairedBy, Report, Role, Rung, Status, Verdict

__all__ = [
    "COLUMNS", "amplifying", "by", "compared", "creating", "headline", "limit_of", "nearest", "pairing", "plural",
    "remark", "row", "short", "shorten", "size", "tally", "telling",
]  # fmt: skip

_OVER = (Role.CREATES, Role.AMPLIFIES, Role.PASSES)


def short(value: float) -> str:
    """A number in at most six characters: ``2.1``, ``120``, ``1.3e4``, ``inf``; ``-`` for one that is not known."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.2g}"
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return text
    return f"{float(f'{value:.3g}'):g}" if power == "+02" else f"{mantissa}e{int(power)}"


def shorten(text: str, most: int, gap: str = "…") -> str:
    """Text of at most ``most`` characters: what is too long loses its middle, so that both ends can be read."""
    if len(text) <= most:
        return text
    kept = most - len(gap)
    if kept < 2:
        return text[: max(most, 0)]
    tail = (3 * kept + 2) // 5  # names of one graph begin alike more often than they end alike
    return text[: kept - tail] + gap + text[-tail:]


def plural(count: int, noun: str, verb: str = "") -> str:
    """``1 layer passes``, ``1,204 layers pass``; the noun and the verb are given in the form that follows a one."""
    said = f"{count:,} {noun}" + ("" if count == 1 else "s")
    return f"{said} {verb if count == 1 else verb[:-1]}" if verb else said


def limit_of(report: Report) -> float:
    """Noise units up to which rounding explains a layer: the limit of the first rung that ran, NaN without one."""
    return next((r.limit for r in report.rungs if r.limit > 0 and r.status is not Status.NOT_RUN), math.nan)


def creating(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that create error: those of which it is known what is different first, then the worst."""
    return tuple(sorted((x for x in layers if x.role is Role.CREATES), key=lambda x: (not x.reason, *_worst(x))))


def amplifying(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that make a passed-on error larger, by how much."""
    return tuple(sorted((x for x in layers if x.role is Role.AMPLIFIES), key=lambda x: (-_known(x.condition), x.index)))


def telling(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that a reader wants to see first: those that create or amplify error, else the nearest to it."""
    return (creating(layers) or nearest(layers)) + amplifying(layers)


def nearest(layers: Sequence[Layer], count: int = 5) -> tuple[Layer, ...]:
    """The layers that neither create nor amplify error whose own error comes closest to the limit."""
    others = [x for x in layers if x.role not in (Role.CREATES, Role.AMPLIFIES) and not math.isnan(x.local.ratio)]
    return tuple(sorted(others, key=_worst))[:count]


def by(layer: Layer, limit: float) -> str:
    """By whom error is created, or by how much it is amplified (``x120``); empty where neither is known.

    Of two sides of which one is over the limit that one creates it; of two below it the larger, or both when they are
    alike.
    """
    if layer.role is Role.AMPLIFIES:
        return "" if math.isnan(layer.condition) else f"x{short(layer.condition)}"
    sides = {"source": _known(layer.source_ratio), "target": _known(layer.target_ratio)}
    most = max(sides.values())
    if layer.role is not Role.CREATES or most <= 0:
        return ""
    enough = limit if most > limit else most / 2
    told = [name for name, ratio in sides.items() if ratio == most or ratio > enough]
    return "both" if len(told) > 1 else told[0]


def remark(layer: Layer, most: int = 3) -> str:
    """What was judged together with a layer (``+ Relu, Add``), and its note."""
    more = f" and {len(layer.region) - most} more" if len(layer.region) > most else ""
    members = f"+ {', '.join(layer.region[:most])}{more}" if layer.region else ""
    return "; ".join(part for part in (members, layer.note) if part)


COLUMNS = ("#", "node", "native layer", "propagated", "local", "role", "by", "note")
"""The header of a table of :func:`row`."""


def row(layer: Layer, limit: float) -> tuple[str, str, str, str, str, str, str, str]:
    """A table's cells: index, node, native layer, propagated and local error, role, by whom, remark."""
    return (
        str(layer.index),
        f"{layer.node} ({layer.op_type})" if layer.op_type else layer.node,
        layer.native,
        short(layer.propagated.ratio),
        short(layer.local.ratio),
        layer.role.value,
        by(layer, limit),
        remark(layer),
    )


def size(layer: Layer, limit: float) -> str:
    """A layer's own error, measured against allowed."""
    if math.isinf(layer.local.ratio):
        return "beyond any rounding"
    return f"{short(layer.local.ratio)}x noise" + ("" if math.isnan(limit) else f", {limit:g}x allowed")


def headline(report: Report, most: int = 1000, gap: str = "…") -> str:
    """How many layers create error and the worst of them, named in at most ``most`` characters; or why none does."""
    layers, limit = report.layers, limit_of(report)
    found = creating(layers)
    if found:
        worst = found[0]
        name = f"{shorten(worst.node, max(most - len(worst.op_type) - 3, 8), gap)} ({worst.op_type})"
        which = ", the worst" if len(found) > 1 else ":"
        return f"{plural(len(found), 'layer', 'creates')} error{which} {name}, {size(worst, limit)}"
    counts = Counter(layer.role for layer in layers)
    unknown = counts[Role.UNKNOWN]
    if unknown == len(layers):
        return "no layer could be compared"
    missing = f"; {plural(unknown, 'layer')} could not be compared" if unknown else ""
    if over := sum(counts[r] for r in _OVER):
        return f"no layer creates error, yet {plural(over, 'layer')} differ{'s' * (over == 1)} by more{missing}"
    if report.verdict is Verdict.DIVERGENT:
        return f"the outputs differ, but no layer that was compared creates the error{missing}"
    top = nearest(layers, 1)[0].local.ratio if nearest(layers, 1) else math.nan
    closest = "" if math.isnan(limit) or math.isnan(top) else f", the largest at {top / limit:.0%} of the limit"
    return f"no layer creates error{closest}{missing}"


def pairing(layers: Sequence[Layer]) -> str:
    """``118 of 122 layers paired: 100 by structure, 18 by name``."""
    counts = Counter(layer.paired_by for layer in layers)
    ways = [f"{counts[way]:,} by {way.value}" for way in PairedBy if counts[way]]
    paired = len(layers) - counts[None]
    return f"{paired:,} of {plural(len(layers), 'layer')} paired" + (f": {', '.join(ways)}" if ways else "")


def compared(rung: Rung) -> str:
    """A rung in one line: ``kernels: native/f32 > ort/cpu, 41/6 FAIL``."""
    said = f"{rung.name}: {rung.source} > {rung.target}"
    if rung.status is Status.NOT_RUN:
        return f"{said}, not run" + (f" ({rung.reason})" if rung.reason else "")
    measured = f", {short(rung.ratio)}/{rung.limit:g}" if rung.limit else ""
    return f"{said}{measured} {'FAIL' if rung.status is Status.FAIL else rung.status.value}"


def tally(layers: Sequence[Layer], shown: Sequence[Layer]) -> str:
    """What is not shown, by role: ``4 create error, 880 pass it on``; empty when everything is."""
    seen = {id(layer) for layer in shown}
    counts = Counter(layer.role for layer in layers if id(layer) not in seen)
    return ", ".join(f"{counts[r]:,} {_ROLES[r][counts[r] > 1]}" for r in Role if counts[r])


_ROLES = {
    Role.CREATES: ("creates error", "create error"),
    Role.AMPLIFIES: ("amplifies it", "amplify it"),
    Role.PASSES: ("passes it on", "pass it on"),
    Role.QUIET: ("is quiet", "are quiet"),
    Role.UNDONE: ("is undone behind it", "are undone behind them"),
    Role.UNKNOWN: ("is unknown", "are unknown"),
}
"""Role -> what one layer does, and what several do."""


def _worst(layer: Layer) -> tuple[float, int]:
    return -_known(layer.local.ratio), layer.index


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
