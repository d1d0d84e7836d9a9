"""Accuracy against cost."""

from __future__ import annotations

from onnxeq.compare.latency.reaching import reached
from onnxeq.compare.latency.values import Execution, Figure, Interval, Latency


def _figure(model: str, ms: float, runtime: str = "ort/cpu", batch: int = 1) -> Figure:
    return Figure(Execution(model, runtime, batch), ms, Interval(ms, ms), 1000 / ms, 100.0, 0.1, 8, 8, 80, True)


def _latency(*figures: Figure) -> Latency:
    return Latency(figures, (), ())


def test_the_front_and_the_fastest_to_reach_each_accuracy() -> None:
    """Of four models the one that is slower and worse than another is not on the front; each accuracy is reached
    fastest by the quickest that is at least as accurate.
    """
    right = {"small": 0.70, "middle": 0.75, "waste": 0.72, "large": 0.80}
    found = reached(right, _latency(*(_figure(m, ms) for m, ms in zip(right, (1, 2, 5, 8), strict=True))))
    assert [(r.of.model, r.accuracy, r.ms_per_item, r.front, r.fastest) for r in found] == [
        ("large", 0.80, 8, True, "large"),
        ("middle", 0.75, 2, True, "middle"),
        ("waste", 0.72, 5, False, "middle"),
        ("small", 0.70, 1, True, "small"),
    ]


def test_equals_are_both_on_the_front() -> None:
    """Neither is better in any respect; of two equally accurate ones the slower is off it."""
    found = reached({"a": 0.7, "b": 0.7, "c": 0.7}, _latency(_figure("a", 2), _figure("b", 2), _figure("c", 3)))
    assert {r.of.model: r.front for r in found} == {"a": True, "b": True, "c": False}


def test_runtimes_and_batches_are_apart_and_cost_is_per_item() -> None:
    """A batch of 8 in 16 ms is 2 ms each; a model without an accuracy is left out."""
    figures = _figure("a", 4), _figure("a", 16, batch=8), _figure("a", 9, "native"), _figure("unknown", 1)
    found = reached({"a": 0.5}, _latency(*figures))
    assert [(r.of.runtime, r.of.batch, r.ms_per_item) for r in found] == [
        ("ort/cpu", 1, 4.0), ("ort/cpu", 8, 2.0), ("native", 1, 9.0),
    ]  # fmt: skip
