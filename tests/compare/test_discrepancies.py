"""The verdict table ranks pairs by what a user meets first, and names what makes each discrepancy."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxeq.compare.accuracy.statistics import share
from onnxeq.compare.accuracy.values import Accuracy, Contest, Measured, Published, Swap
from onnxeq.compare.discrepancies import discrepancies
from onnxeq.compare.document import to_document
from onnxeq.compare.figures import figures
from onnxeq.compare.function.values import Effect, Origin, Split
from onnxeq.compare.latency.values import Execution, Figure, Interval, Latency, Ratio
from onnxeq.compare.values import Comparison, Difference, Graph, Layer, Pair, Same, Side, Topic
from onnxeq.report.comparison_files import write
from onnxeq.report.comparison_verdicts import verdict_rows


def _side(name: str, macs: int) -> Side:
    graph = Graph((Layer("linear", (), {}, (1, 4), "l", macs=macs),), (0,))
    return Side(name, name, graph, figures(graph))


def _pair(left: str, right: str, same: Same = Same.EQUIVALENT, *origins: Origin) -> Pair:
    effects = tuple(Effect(o, left, 0.25, 1.0, 1e6, counts=True) for o in origins)
    total = Effect(Origin.GRAPH, left, 0.5, 1.0, 1e6, counts=bool(origins))
    split = Split(True, "l", "l", (1, 1), 1.0, 4, total, effects, 0, 2)
    told = (Difference(Topic.STRIDE, "the stride moved", 1, 2),) if same is Same.DIFFERENT else ()
    return Pair(left, right, same, told, (), (), 1, (1, 1), split)


def _ratio(left: str, right: str, ratio: float, batch: int = 1) -> Ratio:
    found = abs(ratio - 1) > 0.05
    sides = [Execution(name, "ort/cpu", batch) for name in (left, right)]
    return Ratio(sides[0], sides[1], ratio, Interval(ratio * 0.99, ratio * 1.01), found)


def _measured(model: str, right: int) -> Measured:
    return Measured(model, share(right, 1000), None, 4, False, "", "f", Published(), None)


def _comparison(**more: Any) -> Comparison:
    """A is more accurate than C; B and C differ in latency; A and B in nothing but their stride."""
    sides = (_side("A", 100), _side("B", 100), _side("C", 250))
    pairs = (
        _pair("A", "B", Same.DIFFERENT),
        _pair("A", "C", Same.EQUIVALENT, Origin.WEIGHTS),
        _pair("B", "C", Same.EQUIVALENT),
    )
    contests = (
        Contest("A", "B", 880, 20, 17, 83, 950, 0.74, 0.74),
        Contest("C", "A", 850, 10, 50, 90, 900, 1e-7, 3e-7),
        Contest("B", "C", 850, 40, 27, 83, 900, 0.14, 0.28),
    )
    measured = tuple(_measured(name, right) for name, right in (("A", 900), ("B", 897), ("C", 860)))
    accuracy = Accuracy("npz:x", 1000, 1000, measured, contests)
    ratios = (_ratio("A", "B", 1.01), _ratio("A", "C", 0.98), _ratio("C", "B", 2.5), _ratio("C", "B", 3.0, 8))
    found = [
        Figure(Execution(n, "ort/cpu", 1), ms, Interval(ms, ms), 1000 / ms, 50.0, 0.1, 9, 9, 90, steady=True)
        for n, ms in (("A", 2.0), ("B", 2.0), ("C", 5.0))
    ]
    return replace(Comparison(sides, pairs, accuracy=accuracy, latency=Latency(tuple(found), ratios, ())), **more)


def test_accuracy_comes_first_then_latency_then_architecture() -> None:
    """C loses 40 items of 1,000 to A; C takes three times as long as B at a batch of 8; A and B differ in words."""
    first, second, third = discrepancies(_comparison())
    assert [(r.pair.left, r.pair.right) for r in (first, second, third)] == [("A", "C"), ("B", "C"), ("A", "B")]
    assert first.points == pytest.approx(100 * (50 - 10) / 1000)
    assert first.causes == ("accuracy: weights", "outputs: weights")
    assert second.latency is not None
    assert (second.latency.ratio, second.latency.left.batch) == (3.0, 8)
    assert second.causes == ("latency: 2.5 times the MACs",)
    assert third.causes == ()


def test_what_is_within_chance_is_called_alike() -> None:
    """0.3 points on 1,000 items and 1 % of time are told, and told to be none."""
    header, rows = verdict_rows(_comparison())
    cells = dict(zip(header, rows[2], strict=True))
    assert cells["accuracy"] == "alike: +0.30 points (p 0.74)"
    assert cells["latency"] == "alike: 1.01x in ort/cpu"
    assert cells["architecture"] == "different: stride"
    assert dict(zip(header, rows[1], strict=True))["latency"] == "0.333x in ort/cpu, batch of 8"


def test_a_recipe_that_makes_the_difference_is_its_cause() -> None:
    """Where exchanging recipes changes a model's accuracy by more than chance, that is told for the pair."""
    base = _comparison()
    assert base.accuracy is not None
    swap = Swap("C", "A", ("size: 256 against 232",), 860, 898, 5, 43, 1e-8, 1e-8)
    found = discrepancies(replace(base, accuracy=replace(base.accuracy, swaps=(swap,))))
    assert found[0].causes[0] == "accuracy: preprocessing (size: 256 against 232)"


def test_what_was_not_measured_has_no_column() -> None:
    """Without items and without timing the table has architecture and outputs alone."""
    header, _ = verdict_rows(_comparison(accuracy=None, latency=None))
    assert header == ("rank", "pair", "architecture", "outputs", "cause")


def test_every_form_holds_the_table(tmp_path: Path) -> None:
    """JSON, Markdown, HTML and CSV say the same in the same order."""
    comparison = _comparison()
    document = to_document(comparison)
    assert [(row["left"], row["right"]) for row in document["discrepancies"]] == [("A", "C"), ("B", "C"), ("A", "B")]
    assert document["discrepancies"][0]["accuracy"] == {"points": 4.0, "p": 3e-7, "discrepancy": True}
    for suffix in (".md", ".html", ".csv", ".json"):
        write(comparison, tmp_path / f"table{suffix}")
    assert "| 1 | A \\| C | equivalent | 50 % | +4.00 points (p 3e-07) |" in (tmp_path / "table.md").read_text()
    assert "<td>A | C</td>" in (tmp_path / "table.html").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [(r["rank"], r["left"], r["right"]) for r in rows] == [("1", "A", "C"), ("2", "B", "C"), ("3", "A", "B")]
    assert rows[1]["cause"] == "latency: 2.5 times the MACs"


def test_what_an_accuracy_costs_is_told_of_both() -> None:
    """A and B take 2 ms: A is more often right, so B is not on the front, nor is C."""
    front = [(r.of.model, r.front, r.fastest) for r in _comparison().reached]
    assert front == [("A", True, "A"), ("B", False, "A"), ("C", False, "A")]
