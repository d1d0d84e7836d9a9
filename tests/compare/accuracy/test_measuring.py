"""From pictures and models whose right answers are known to figures, screens, files and the exit status."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import onnxeq
from onnxeq.cli.main import run
from onnxeq.compare.accuracy.values import Accuracy
from onnxeq.compare.document import to_document
from onnxeq.compare.values import Comparison
from onnxeq.errors import BadInputs, UsageError
from onnxeq.report.comparison import show
from onnxeq.report.comparison_files import write

from .conftest import BLUE, GREEN, RED, colour_model, draw, recipe, save

FIT = {"step": "resize", "height": 8, "width": 8}


def _found(comparison: Comparison) -> Accuracy:
    assert comparison.accuracy is not None
    return comparison.accuracy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Path:
    return tmp_path_factory.mktemp("accuracy")


@pytest.fixture(scope="module")
def swapped(folder: Path) -> Comparison:
    """Four pictures of each colour; one model is fed RGB, one BGR, one pictures of 16x16."""
    with pytest.MonkeyPatch.context() as at:
        at.chdir(folder)
        for name, colour in (("0", RED), ("1", GREEN), ("2", BLUE)):
            draw(Path("colours") / name, [colour] * 4)
        models = [save("rgb.onnx", colour_model()), save("bgr.onnx", colour_model())]
        models.append(save("large.onnx", colour_model(size=16)))
        recipe("rgb.json", FIT)
        recipe("bgr.json", FIT, {"step": "channels", "order": "BGR"})
        recipe("large.json", {**FIT, "height": 16, "width": 16})
        named = [f"{model}={Path(model).stem}.json" for model in models]
        return onnxeq.compare(*models, dataset="imagefolder:colours", recipes=named, parts=["function", "accuracy"])


def test_each_model_is_fed_by_its_own_recipe(swapped: Comparison) -> None:
    """By RGB all twelve are right; by BGR red and blue are exchanged, so that the four green ones are."""
    found = _found(swapped)
    assert [(m.model, m.top1.right, m.top1.items) for m in found.measured] == [
        ("rgb.onnx", 12, 12), ("bgr.onnx", 4, 12), ("large.onnx", 12, 12),
    ]  # fmt: skip
    assert [m.top5 for m in found.measured] == [None] * 3  # three classes
    assert [m.recipe for m in found.measured] == ["rgb.json", "bgr.json", "large.json"]
    assert {m.file for m in found.measured} == {"the file"}
    assert all(m.published.top1 is None and m.within is None for m in found.measured)


def test_each_two_are_held_against_each_other(swapped: Comparison) -> None:
    """Eight items that one of two gets right: p = 2/2^8, three times that after Holm; without any, p = 1."""
    rows = [
        (p.left, p.right, p.both, p.only_left, p.only_right, p.neither, p.agree, p.p, p.corrected, p.discrepancy)
        for p in _found(swapped).pairs
    ]
    assert rows == [
        ("rgb.onnx", "bgr.onnx", 4, 8, 0, 0, 4, 2 / 256, 6 / 256, True),
        ("rgb.onnx", "large.onnx", 12, 0, 0, 0, 12, 1.0, 1.0, False),
        ("bgr.onnx", "large.onnx", 4, 0, 8, 0, 4, 2 / 256, 6 / 256, True),
    ]
    assert not swapped.alike
    assert swapped.whole


def test_the_other_recipe_is_tried(swapped: Comparison) -> None:
    """Each gets what the other had; what has another size is not taken, with both sizes, and is not counted in p."""
    swaps = {(s.model, s.recipe): s for s in _found(swapped).swaps}
    assert len(swaps) == 6
    worse, better = swaps["rgb.onnx", "bgr.json"], swaps["bgr.onnx", "rgb.json"]
    assert (worse.own, worse.other, worse.lost, worse.gained, worse.p) == (12, 4, 8, 0, 2 / 256)
    assert (better.own, better.other, better.lost, better.gained, better.p) == (4, 12, 0, 8, 2 / 256)
    assert (worse.corrected, better.corrected) == (4 / 256, 4 / 256)
    assert worse.matters
    assert worse.differences == ("channel order: RGB against BGR",)
    for other in (swaps["rgb.onnx", "large.json"], swaps["large.onnx", "bgr.json"]):
        assert (other.p, other.matters) == (None, False)
    said = "it takes float32[N,3,8,8], and an item is float32[3,16,16]"
    assert swaps["rgb.onnx", "large.json"].not_taken == said


def test_the_screen_says_it_and_fits(swapped: Comparison) -> None:
    """Figures, verdicts and swaps, no line longer than a hundred columns."""
    text = io.StringIO()
    show(swapped, Console(file=text, width=100, highlight=False))
    lines = text.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    said = " ".join(text.getvalue().split())
    assert "accuracy differs in 2 of 3 pairs 3 models" in said
    assert "accuracy on imagefolder:colours, 12 items, each model as onnxruntime on the CPU runs the file" in said
    assert "rgb.onnx 12 100.00 % 75.75 to 100.00 - -" in said
    assert "rgb.onnx | bgr.onnx 33.33 % 4 8 0 0 0.023 yes" in said
    assert "rgb.onnx as bgr.json prepares pictures: 4 right in place of 12 (8 lost and 0 gained; p = 0.016)" in said
    assert "rgb.onnx as large.json prepares pictures: not taken: it takes float32[N,3,8,8]" in said


def test_the_files_say_it(swapped: Comparison, tmp_path: Path) -> None:
    """JSON has every figure, CSV a line for each pair, Markdown and HTML both tables."""
    for suffix in (".json", ".csv", ".md", ".html"):
        write(swapped, tmp_path / f"r{suffix}")
    record = json.loads((tmp_path / "r.json").read_text())["accuracy"]
    assert record == json.loads(json.dumps(to_document(swapped)["accuracy"]))
    assert record["measured"][1]["top1"]["value"] == 4 / 12
    assert record["pairs"][0]["agreement"] == 4 / 12
    assert [p["discrepancy"] for p in record["pairs"]] == [True, False, True]
    assert sum(s["matters"] for s in record["swaps"]) == 2
    rows = {(r["left"], r["right"]): r for r in csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text()))}
    row = rows["rgb.onnx", "bgr.onnx"]
    assert (row["left top-1"], row["right top-1"], row["accuracy discrepancy"]) == ("1.000000", "0.333333", "yes")
    assert float(row["accuracy p"]) == pytest.approx(6 / 256)
    assert rows["rgb.onnx", "large.onnx"]["accuracy discrepancy"] == "no"
    for suffix in (".md", ".html"):
        text = (tmp_path / f"r{suffix}").read_text()
        assert "75.75 to 100.00" in text
        assert "not taken: it takes float32[N,3,8,8]" in text


def test_the_background_class_of_tensorflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1001 classes are counted from one; ten are not the labels'; a picture in the wrong folder is wrong for both.

    Scores of all classes but three are equal, so that the first five hold classes 0, 1 and 2, shifted or not.
    """
    monkeypatch.chdir(folder)
    draw(Path("wordnet/n01440764"), [RED] * 4)
    draw(Path("wordnet/n01443537"), [GREEN] * 3 + [RED])
    draw(Path("wordnet/n01484850"), [BLUE] * 4)
    models = [
        save("thousand.onnx", colour_model(1000)),
        save("one-more.onnx", colour_model(1001, (1, 2, 3), layout="NHWC", batch=1)),
        save("ten.onnx", colour_model(10)),
    ]
    recipe("rgb.json", FIT)
    compared = onnxeq.compare(
        *models, dataset="imagefolder:wordnet", recipes=["rgb.json"], parts=["function", "accuracy"]
    )
    found = _found(compared)
    assert [(m.model, m.top1.right, m.top5 and m.top5.right) for m in found.measured] == [
        ("thousand.onnx", 11, 12), ("one-more.onnx", 11, 12),
    ]  # fmt: skip
    assert [(m.background, m.classes) for m in found.measured] == [(False, 1000), (True, 1000)]
    notes = found.measured[1].notes
    assert any("the first is taken as TensorFlow's background class" in note for note in notes)
    assert "items are fed with channels last" in notes
    (pair,) = found.pairs
    assert (pair.agree, pair.both, pair.neither, pair.p) == (12, 11, 1, 1.0)
    (missing,) = found.missing
    assert missing.model == "ten.onnx"
    assert missing.reason.startswith("it tells 10 classes apart, and the labels are of 1000. say which")
    assert not compared.whole
    assert not found.swaps  # one recipe for all


def test_arrays_are_fed_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """NHWC floats into a model of each layout; one that takes other sizes is told by itself, and the status is 3."""
    monkeypatch.chdir(folder)
    colours = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 1]]
    np.savez("colours.npz", x=np.broadcast_to(colours[:, None, None], (6, 8, 8, 3)), y=[0, 1, 2, 0, 1, 2])
    models = [
        save("first.onnx", colour_model()), save("last.onnx", colour_model(layout="NHWC")),
        save("small.onnx", colour_model(size=4)),
    ]  # fmt: skip
    status = run(
        ["compare", *models, "--dataset", "npz:colours.npz", "--only", "function,accuracy", "--json", "--quiet"]
    )
    record = json.loads(capfd.readouterr().out)["accuracy"]
    assert [(m["model"], m["top1"]["right"]) for m in record["measured"]] == [("first.onnx", 5), ("last.onnx", 5)]
    assert record["measured"][0]["notes"] == ["items are fed with channels first"]
    assert record["measured"][1]["notes"] == []
    assert record["missing"] == [
        {"model": "small.onnx", "reason": "it takes float32[N,3,4,4], and an item is float32[8,8,3]"}
    ]
    assert status == 3


def test_a_discrepancy_alone_makes_the_status_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two models of one architecture, of which one exchanges classes: six items, p = 2/64; else they are alike."""
    monkeypatch.chdir(folder)
    colours = np.eye(3, dtype=np.float32)[[0, 2, 0, 2, 0, 2, 1]]
    np.savez("two.npz", x=np.broadcast_to(colours[:, :, None, None], (7, 3, 8, 8)), y=[0, 2, 0, 2, 0, 2, 1])
    models = [save("right.onnx", colour_model()), save("wrong.onnx", colour_model(places=(2, 1, 0)))]
    assert run(["compare", *models, "--only", "architecture", "--quiet"]) == 0
    capfd.readouterr()
    assert run(["compare", *models, "--only", "accuracy", "--dataset", "npz:two.npz", "--quiet"]) == 1
    shown = capfd.readouterr().out
    assert shown.startswith("identical, accuracy differs  2 models")
    assert "14.29 %     1     6      0        0  0.031         yes" in shown


def test_what_one_model_lacks_is_told_of_it_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No recipe; labels beyond its classes; two inputs; an output that is no row of classes."""
    from onnx import helper

    monkeypatch.chdir(folder)
    draw(Path("five/4"), [RED])
    none, few = save("none.onnx", colour_model(5)), save("few.onnx", colour_model(3))
    two = colour_model(5)
    two.graph.input.append(helper.make_tensor_value_info("more", 1, [1]))
    flat = colour_model(5, batch=1)
    flat.graph.node.append(helper.make_node("ReduceMax", ["scores"], ["best"], axes=[1], keepdims=1))
    flat.graph.output[0].name = "best"
    flat.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    models = [none, few, save("two.onnx", two), save("flat.onnx", flat)]
    recipe("rgb.json", FIT)
    named = [f"{m}=rgb.json" for m in models[1:]]
    found = _found(onnxeq.compare(*models, dataset="imagefolder:five", recipes=named, parts=["function", "accuracy"]))
    reasons = {row.model: row.reason for row in found.missing}
    assert reasons["none.onnx"].startswith("none.onnx has no recipe of its own for pictures. say which: --recipe")
    assert reasons["few.onnx"] == "the label 4 of item 0 (five/4/0.png) is beyond its 3 classes"
    assert reasons["two.onnx"] == "it has 2 inputs (x, more), and a data set feeds one"
    assert reasons["flat.onnx"].startswith("no output is a row of classes for each of 1 items: best float32[1,1]")
    assert not found.measured
    assert not found.pairs


def test_a_picture_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One broken file stops the measurement with its name; so does a recipe with a step that only a zoo knows."""
    monkeypatch.chdir(folder)
    draw(Path("broken/0"), [RED])
    Path("broken/0/1.png").write_bytes(b"no picture")
    models = [save("rgb.onnx", colour_model()), save("bgr.onnx", colour_model())]
    recipe("rgb.json", FIT)
    with pytest.raises(BadInputs, match=r"broken/0/1\.png cannot be read as a picture"):
        onnxeq.compare(*models, dataset="imagefolder:broken", recipes=["rgb.json"], parts=["function", "accuracy"])
    recipe("other.json", {"step": "other", "text": "sharpen"})
    with pytest.raises(onnxeq.errors.OnnxeqError, match="only the zoo's own code knows its step 'sharpen'"):
        onnxeq.compare(*models, dataset="imagefolder:broken", recipes=["other.json"], parts=["function", "accuracy"])
    with pytest.raises(UsageError, match="'photos' is no data set"):
        onnxeq.compare(*models, dataset="photos", parts=["function", "accuracy"])
