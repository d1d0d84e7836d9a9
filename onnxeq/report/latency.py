"""What models cost to run, as rows of text that every form of a report is made of."""

from __future__ import annotations

from collections.abc import Sequence

from onnxeq.compare.latency.turns import NARROW
from onnxeq.compare.latency.values import Execution, Interval, Latency, Ratio, Reached
from onnxeq.compare.values import Comparison

__all__ = [
    "COSTS", "RATIOS", "REACHED", "cost_rows", "latency_lines", "latency_tables", "pair_cells", "pair_columns",
    "ratio_rows", "reached_rows", "sentence",
]  # fmt: skip

COSTS = ("model", "runtime", "batch", "median ms", "95 %", "items/s", "memory", "load s")
"""Columns of :func:`cost_rows`."""

RATIOS = ("ratio", "runtime", "batch", "times", "95 %", "said")
"""Columns of :func:`ratio_rows`."""


def cost_rows(latency: Latency) -> list[tuple[str, ...]]:
    """One row for each execution, in the order of :data:`COSTS`."""
    return [
        (
            f.of.model, f.of.runtime, str(f.of.batch), _number(f.median_ms), _span(f.interval_ms),
            _number(f.items_per_s), f"{f.peak_mib:.0f} MiB", _number(f.load_s),
        )
        for f in latency.figures
    ]  # fmt: skip


def ratio_rows(latency: Latency) -> list[tuple[str, ...]]:
    """One row for each ratio of two models, then of a model's runtimes, in the order of :data:`RATIOS`."""
    pairs = [(f"{r.left.model} / {r.right.model}", r.left.runtime, r) for r in latency.pairs]
    runtimes = [(r.left.model, f"{r.left.runtime} / {r.right.runtime}", r) for r in latency.runtimes]
    return [
        (
            what, runtime, str(r.left.batch), f"{r.ratio:.3g}", _span(r.interval),
            "discrepancy" if r.discrepancy else "alike",
        )
        for what, runtime, r in (*pairs, *runtimes)
    ]  # fmt: skip


REACHED = ("accuracy", "model", "runtime", "batch", "ms per item", "Pareto front", "reached first by")
"""Columns of :func:`reached_rows`."""


def reached_rows(found: Sequence[Reached]) -> list[tuple[str, ...]]:
    """Each model by its accuracy, in the order of :data:`REACHED`."""
    return [
        (
            f"{r.accuracy:.2%}", r.of.model, r.of.runtime, str(r.of.batch), _number(r.ms_per_item),
            "yes" if r.front else "no", r.fastest,
        )
        for r in found
    ]  # fmt: skip


def latency_tables(comparison: Comparison) -> list[tuple[Sequence[str], list[tuple[str, ...]]]]:
    """All tables of a file that have rows."""
    if comparison.latency is None:
        return []
    tables: list[tuple[Sequence[str], list[tuple[str, ...]]]] = [
        (COSTS, cost_rows(comparison.latency)), (RATIOS, ratio_rows(comparison.latency)),
        (REACHED, reached_rows(comparison.reached)),
    ]  # fmt: skip
    return [(header, rows) for header, rows in tables if rows]


def sentence(ratio: Ratio) -> str:
    """``B takes 2.31 times as long as A (2.28 to 2.33) in ort/cpu, batch of 1``: the slower one first."""
    slow, fast, times, low, high = ratio.left, ratio.right, ratio.ratio, ratio.interval.low, ratio.interval.high
    if times < 1:
        slow, fast, times, low, high = fast, slow, 1 / times, 1 / high, 1 / low
    alike = slow.runtime == fast.runtime
    names = (slow.model, fast.model) if alike else (_called(slow), _called(fast))
    where = f" in {slow.runtime}" if alike else ""
    said = f"{names[0]} takes {times:.3g} times as long as {names[1]} ({low:.3g} to {high:.3g})"
    return f"{said}{where}, batch of {slow.batch}"


def _called(of: Execution) -> str:
    return f"{of.model} in {of.runtime}"


def latency_lines(latency: Latency) -> list[str]:
    """What a reader must know besides the figures."""
    lines = [f"could not be run: {f'{n.model}, ' if n.model else ''}{n.runtime}: {n.reason}" for n in latency.not_run]
    lines += [f"note: {note}" for note in latency.notes]
    restless = [_called(f.of) for f in latency.figures if not f.steady]
    lines += [f"note: did not come to rest while it was warmed up: {name}" for name in restless]
    busy = [f"{_called(f.of)} ({f.rounds - f.quiet} of {f.rounds})" for f in latency.figures if 2 * f.quiet < f.rounds]
    lines += [f"note: rounds in which other programs took cores away: {', '.join(busy)}"] if busy else []
    counts = {f.of.batch: f.rounds for f in latency.figures}
    for batch, why in latency.stopped:
        if batch in counts:
            lines.append(f"batch of {batch}: {counts[batch]} rounds, until {why.value}")
    if latency.pairs or latency.runtimes:
        wide = "; more --seconds, or less beside it, will make them closer" if latency.width > NARROW else ""
        lines.append(f"after {latency.seconds:.0f} s each ratio may be off by {latency.width:.1%} at most{wide}")
    return lines


def pair_columns(latency: Latency | None) -> list[str]:
    """The columns of a table of pairs that hold ratios: value and interval, for each runtime and batch size."""
    kinds = _kinds(latency)
    return [f"latency ratio {r} batch {b}{end}" for r, b in kinds for end in ("", " low", " high")]


def pair_cells(latency: Latency | None, left: str, right: str) -> list[str]:
    """One pair's cells of :func:`pair_columns`, left by right; empty where it was not run."""
    cells: list[str] = []
    for runtime, batch in _kinds(latency):
        found = _between(latency.pairs if latency else (), left, right, runtime, batch)
        cells += [f"{n:.6g}" for n in found] if found else ["", "", ""]
    return cells


def _kinds(latency: Latency | None) -> list[tuple[str, int]]:
    return list(dict.fromkeys((r.left.runtime, r.left.batch) for r in latency.pairs)) if latency else []


def _between(
    pairs: Sequence[Ratio], left: str, right: str, runtime: str, batch: int
) -> tuple[float, float, float] | None:
    for r in pairs:
        if (r.left.runtime, r.left.batch) != (runtime, batch):
            continue
        if (r.left.model, r.right.model) == (left, right):
            return r.ratio, r.interval.low, r.interval.high
        if (r.left.model, r.right.model) == (right, left):
            return 1 / r.ratio, 1 / r.interval.high, 1 / r.interval.low
    return None


def _span(interval: Interval) -> str:
    return f"{_number(interval.low)} to {_number(interval.high)}"


def _number(value: float) -> str:
    """Three digits, and all of a number that has more before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
