"""Latency as rows and sentences."""

from __future__ import annotations

from onnxeq.compare.accuracy.values import Accuracy, Measured, Published, Share
from onnxeq.compare.latency.values import Execution, Figure, Interval, Latency, NotRun, Ratio, Stopped
from onnxeq.compare.values import Comparison
from onnxeq.report.latency import (
    COSTS,
    RATIOS,
    REACHED,
    cost_rows,
    latency_lines,
    latency_tables,
    pair_cells,
    pair_columns,
    ratio_rows,
    sentence,
)

A, B = Execution("a", "ort/cpu", 4), Execution("b", "ort/cpu", 4)
NATIVE = Execution("a", "native", 4)
PAIR = Ratio(A, B, 0.5, Interval(0.4, 0.625), True)
RUNTIMES = Ratio(NATIVE, A, 1.04, Interval(1.02, 1.06), False)


def _figure(of: Execution, ms: float, *, quiet: int = 9, steady: bool = True) -> Figure:
    return Figure(of, ms, Interval(ms * 0.9, ms * 1.1), 4000 / ms, 512.4, 0.25, 9, quiet, 99, steady)


FOUND = Latency(
    (_figure(NATIVE, 20.8, steady=False), _figure(A, 20.0), _figure(B, 40.0, quiet=4)), (PAIR,), (RUNTIMES,),
    (NotRun("b", "native", "it is broken"), NotRun("", "ort/cuda", "no CUDA device")), ("b takes batches of 4 only",),
    12.3, ((4, Stopped.TIME),), 0.25,
)  # fmt: skip


def test_the_slower_one_is_told_first() -> None:
    """A ratio of 0.5 from 0.4 to 0.625 is 2 from 1.6 to 2.5 turned over; runtimes are named where they differ."""
    assert sentence(PAIR) == "b takes 2 times as long as a (1.6 to 2.5) in ort/cpu, batch of 4"
    assert sentence(RUNTIMES) == "a in native takes 1.04 times as long as a in ort/cpu (1.02 to 1.06), batch of 4"


def test_rows_have_their_columns() -> None:
    """A row for each execution, then one for each ratio, with what it is."""
    assert cost_rows(FOUND)[1] == ("a", "ort/cpu", "4", "20", "18 to 22", "200", "512 MiB", "0.25")
    assert all(len(row) == len(COSTS) for row in cost_rows(FOUND))
    assert ratio_rows(FOUND) == [
        ("a / b", "ort/cpu", "4", "0.5", "0.4 to 0.625", "discrepancy"),
        ("a", "native / ort/cpu", "4", "1.04", "1.02 to 1.06", "alike"),
    ]
    assert all(len(row) == len(RATIOS) for row in ratio_rows(FOUND))


def test_what_was_not_run_or_not_steady_is_told() -> None:
    """Each with its reason; how many rounds, why no more of them, and how far ratios may be off."""
    assert latency_lines(FOUND) == [
        "could not be run: b, native: it is broken",
        "could not be run: ort/cuda: no CUDA device",
        "note: b takes batches of 4 only",
        "note: did not come to rest while it was warmed up: a in native",
        "note: rounds in which other programs took cores away: b in ort/cpu (5 of 9)",
        "batch of 4: 9 rounds, until the time was spent",
        "after 12 s each ratio may be off by 25.0% at most; more --seconds, or less beside it, will make them closer",
    ]


def test_a_pair_in_the_table_is_the_one_asked_for() -> None:
    """Value and interval, turned over where the pair was measured the other way round; empty where there is none."""
    assert pair_columns(FOUND) == [f"latency ratio ort/cpu batch 4{end}" for end in ("", " low", " high")]
    assert pair_cells(FOUND, "a", "b") == ["0.5", "0.4", "0.625"]
    assert pair_cells(FOUND, "b", "a") == ["2", "1.6", "2.5"]
    assert pair_cells(FOUND, "a", "c") == ["", "", ""]
    assert (pair_columns(None), pair_cells(None, "a", "b")) == ([], [])


def test_accuracy_stands_against_time_where_both_are_known() -> None:
    """With accuracies a third table: the one of two that is better and faster is alone on the front."""
    shares = [
        Measured(name, Share(right, 100, 0.0, 1.0), None, 10, False, "", "file", Published(), None)
        for name, right in (("a", 80), ("b", 70))
    ]
    accuracy = Accuracy("npz:items.npz", 100, 100, tuple(shares), ())
    both = Comparison((), (), accuracy=accuracy, latency=FOUND)
    assert [header for header, _ in latency_tables(both)] == [COSTS, RATIOS, REACHED]
    assert latency_tables(both)[2][1] == [
        ("80.00%", "a", "native", "4", "5.2", "yes", "a"),
        ("80.00%", "a", "ort/cpu", "4", "5", "yes", "a"),
        ("70.00%", "b", "ort/cpu", "4", "10", "no", "a"),
    ]
    assert [header for header, _ in latency_tables(Comparison((), (), latency=FOUND))] == [COSTS, RATIOS]
    assert latency_tables(Comparison((), (), accuracy=accuracy)) == []
