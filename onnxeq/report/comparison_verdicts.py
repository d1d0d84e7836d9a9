"""The verdict table of a comparison as rows of text, for every form of report."""

from __future__ import annotations

from onnxeq.compare.discrepancies import Discrepancy, discrepancies
from onnxeq.compare.values import Comparison, Same
from onnxeq.report.comparison_function import function_cell

__all__ = ["VERDICTS", "verdict_rows"]

VERDICTS = ("rank", "pair", "architecture", "outputs", "accuracy", "latency", "cause")
"""Columns of :func:`verdict_rows`; of accuracy and latency what was not measured is left out."""


def verdict_rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header, and a row for each pair, the worst first."""
    rows = [_row(rank, found) for rank, found in enumerate(discrepancies(comparison), 1)]
    empty = {k for k, name in enumerate(VERDICTS) if name != "cause" and rows and all(row[k] == "-" for row in rows)}
    kept = [k for k in range(len(VERDICTS)) if k not in empty]
    return tuple(VERDICTS[k] for k in kept), [tuple(row[k] for k in kept) for row in rows]


def _row(rank: int, found: Discrepancy) -> tuple[str, ...]:
    pair = found.pair
    topics = dict.fromkeys(d.topic.value for d in pair.differences)
    about = f": {', '.join(topics)}" if topics else ""
    same = "equivalent" if pair.same is Same.EQUIVALENT else pair.same.value
    return (
        str(rank), f"{pair.left} | {pair.right}", f"{same}{about}", _outputs(found), _accuracy(found), _latency(found),
        "; ".join(found.causes) or "-",
    )  # fmt: skip


def _outputs(found: Discrepancy) -> str:
    split = found.pair.function
    if split is None or not found.pair.origins():
        return function_cell(found.pair)
    return f"{100 * split.total.relative:.3g} %{'' if split.whole else ' of a part'}"


def _accuracy(found: Discrepancy) -> str:
    """``+2.51 points``: the left one's lead; in brackets where chance explains it."""
    if found.accuracy is None:
        return "-"
    said = f"{found.points:+.2f} points (p {found.accuracy.corrected:.2g})"
    return said if found.accuracy.discrepancy else f"alike: {said}"


def _latency(found: Discrepancy) -> str:
    """``1.31x``: how many times as long the left one takes."""
    ratio = found.latency
    if ratio is None:
        return "-"
    times = ratio.ratio if ratio.left.model == found.pair.left else 1 / ratio.ratio
    batch = f", batch of {ratio.left.batch}" if ratio.left.batch != 1 else ""
    said = f"{times:.3g}x in {ratio.left.runtime}{batch}"
    return said if ratio.discrepancy else f"alike: {said}"
