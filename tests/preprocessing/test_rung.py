"""The rung on an ONNX source: which step is named, and what is said where nothing differs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnxeq
from onnxeq import ladder
from onnxeq.evidence import Evidence, onnx_file
from onnxeq.evidence.common import Setting
from onnxeq.jobs import Jobs
from onnxeq.judge import conclude
from onnxeq.preprocessing.pictures import Asked, Prepared, prepared
from onnxeq.preprocessing.recipe import (
    Cast,
    Channels,
    Crop,
    CropShare,
    Decode,
    Layout,
    Normalize,
    Other,
    Recipe,
    Resize,
    Scale,
    recipe_to_record,
)
from onnxeq.preprocessing.rung import extended
from onnxeq.providers import choose_providers
from onnxeq.runtimes import choose_runner
from onnxeq.sides import Request
from onnxeq.types import CauseKind, ModelRef, Report, Status, Verdict

from .conftest import MEAN, STD, recipe


@dataclass(frozen=True)
class Checked:
    """A check of a small net on the pictures, to be extended by one recipe after the other."""

    jobs: Jobs
    found: Evidence
    report: Report
    ours: Prepared
    asked: Asked
    folder: Path

    def against(self, other: Recipe, rules: ladder.Rules = ladder.Rules()) -> Report:  # noqa: B008 - frozen
        """The report with the rung."""
        path = self.folder / "other.json"
        path.write_text(json.dumps(recipe_to_record(other)))
        theirs = prepared(self.jobs, str(path), self.asked.pictures)
        return extended(self.report, self.found, self.jobs, self.asked, self.ours, theirs, rules)


@pytest.fixture(scope="module")
def checked(
    conv_net: Callable[..., onnx.ModelProto], pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checked]:
    folder = tmp_path_factory.mktemp("rung")
    onnx.save(conv_net(), folder / "net.onnx")
    (folder / "ours.json").write_text(json.dumps(recipe_to_record(recipe())))
    asked = Asked(tuple(pictures))
    with Jobs() as jobs:
        ours = prepared(jobs, str(folder / "ours.json"), pictures)
        ref = ModelRef("net.onnx", "file", str(folder / "net.onnx"))
        request = Request.of((), None)
        request = Request(tuple(ours.feeds()), request.shapes)
        setting = Setting(choose_runner(None), choose_providers(["cpu"]), ())
        found = onnx_file.gather(jobs, ref, None, request, setting)
        report = conclude(jobs, found, ladder.Rules())
        assert report.verdict is Verdict.EQUIVALENT
        yield Checked(jobs, found, report, ours, asked, folder)


def rung_of(report: Report) -> Any:
    return next(r for r in report.rungs if r.name == "preprocessing")


ONE_APART = {
    "resize": recipe(resize=Resize(18, 18, "shortest")),
    "crop": recipe(crop=Crop(16, 16, "floor")),
    "interpolation": recipe(resize=Resize(19, 19, "shortest", "bicubic")),
    "antialias": recipe(resize=Resize(19, 19, "shortest", antialias=False)),
    "resize and crop": Recipe((Decode(), CropShare(0.9), Resize(16, 16), *recipe().steps[3:]), "another"),
    "channel order": recipe(Channels("BGR"), Scale(255.0), Normalize(MEAN, STD)),
    "mean": recipe(Scale(255.0), Normalize((0.5, 0.456, 0.406), STD)),
    "scale": recipe(Scale(255.0), Normalize(MEAN, (0.25, 0.224, 0.225))),
}


@pytest.mark.parametrize("step", ONE_APART)
def test_the_step_that_differs_is_named(checked: Checked, step: str) -> None:
    """The rung breaks, the one cause names the step and what each side says, and undone nothing remains."""
    report = checked.against(ONE_APART[step])
    assert report.verdict is Verdict.DIVERGENT
    (cause,) = report.causes
    assert (cause.cause, cause.rung, cause.where.step) == (CauseKind.PREPROCESSING, "preprocessing", step)
    assert cause.ratio == pytest.approx(rung_of(report).ratio, rel=1e-3)  # spelled anew
    assert cause.ratio > rung_of(report).limit
    assert cause.evidence.startswith(f"{step}: ")
    assert cause.evidence.endswith("undone, 0 remains")
    (told,) = report.preprocessing["steps"]
    assert told["step"] == step
    assert told["alone"] == told["cumulative"]
    assert told["undone"]["max_abs"] == 0


def test_several_steps_are_told_by_what_each_does_alone(checked: Checked) -> None:
    """A large and a small one: the large one comes first, and with it undone what remains is the small one's effect."""
    other = recipe(Scale(255.0), Normalize((0.486, 0.456, 0.406), (0.25, 0.1, 0.225)))
    report = checked.against(other)
    assert [c.where.step for c in report.causes] == ["scale", "mean"]
    mean, scale = report.preprocessing["steps"]
    assert scale["alone"]["max_abs"] > 20 * mean["alone"]["max_abs"]
    assert scale["undone"] == mean["alone"]
    assert mean["undone"] == scale["alone"]
    assert mean["cumulative"] == mean["alone"]
    assert scale["cumulative"]["max_abs"] == pytest.approx(rung_of(report).max_abs, rel=1e-3)


def test_a_tolerance_stands_in_the_place_of_the_noise(checked: Checked) -> None:
    """``--atol``: the ratio is the difference in it, of the rung and of the step; one that is large enough passes."""
    other = ONE_APART["mean"]
    tight, loose = (checked.against(other, ladder.Rules(tolerance=ladder.Tolerance(0.0, a))) for a in (1e-6, 1e6))
    assert loose.verdict is Verdict.EQUIVALENT
    (cause,) = tight.causes
    assert cause.ratio == pytest.approx(rung_of(tight).max_abs / 1e-6, rel=1e-3)
    assert "x the tolerance, 1x allowed" in cause.evidence


def test_no_reduced_precision_excuses_other_pictures(checked: Checked) -> None:
    """``--accept int8`` is about arithmetic: a difference of that size in the pictures stays one."""
    report = checked.against(ONE_APART["crop"], ladder.Rules(accept=("int8", "bfloat16")))
    assert [c.where.step for c in report.causes] == ["crop"]
    assert not any("preprocessing" in rungs for rungs in ladder.ACCEPTED.values())


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (recipe(), "the recipes are the same"),
        (recipe(Normalize((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))), "one recipe, spelled in two ways"),
        (
            Recipe((*recipe().steps[:-2], Layout("NHWC"), Cast("float32")), "channels last"),
            "the recipes are the same but for what the model decides: NCHW against NHWC",
        ),
        (
            recipe(crop=Crop(16, 16, fill=(9,))),
            "the recipes differ, which does not show on these pictures: crop: the central 16x16 against the central"
            " 16x16, filled with 9",
        ),
    ],
    ids=["same", "spelled", "layout", "unseen"],
)
def test_what_is_equal_passes_and_says_why(checked: Checked, other: Recipe, says: str) -> None:
    """The rung is within rounding, the verdict stays, and the reason is in words."""
    report = checked.against(other)
    assert report.verdict is Verdict.EQUIVALENT
    assert (rung_of(report).status, rung_of(report).reason) == (Status.PASS, says)
    assert report.causes == ()


def test_pictures_of_a_size_that_the_model_does_not_take_are_a_finding(checked: Checked) -> None:
    """Nothing is run: the shapes are told, and the step that makes them."""
    report = checked.against(recipe(resize=Resize(24, 24, "shortest"), crop=Crop(20, 20)))
    (cause,) = report.causes
    assert (report.verdict, cause.where.step, rung_of(report).status) == (Verdict.DIVERGENT, "crop", Status.FAIL)
    assert "they are [1, 3, 20, 20], the artifact takes float32[N,3,16,16]" in cause.evidence


def test_a_step_that_only_a_zoo_knows_leaves_the_place_open(checked: Checked) -> None:
    """The outputs are compared all the same; which step it is, is said not to be known, and why."""
    hidden = Recipe((Decode(), Other("a turn"), Layout("NCHW"), Cast("float32")), "a zoo", exact=True)
    arrays = tuple(array * 1.5 for array in checked.ours.arrays)
    theirs = Prepared("zoo:net", hidden, arrays)
    report = extended(checked.report, checked.found, checked.jobs, checked.asked, checked.ours, theirs, ladder.Rules())
    (cause,) = report.causes
    assert (cause.where.step, report.verdict) == ("", Verdict.DIVERGENT)
    assert "'a turn'" in report.notes[-1]


def test_a_zoo_that_does_not_do_what_its_recipe_says_is_told(checked: Checked) -> None:
    """Two recipes that say the same, and pictures that are not: no step can be named, and the sentence says why."""
    arrays = tuple(array * 1.5 for array in checked.ours.arrays)
    theirs = Prepared("zoo:net", Recipe(recipe().steps, "a zoo", exact=True), arrays)
    report = extended(checked.report, checked.found, checked.jobs, checked.asked, checked.ours, theirs, ladder.Rules())
    assert "both recipes say the same, and zoo:net prepares pictures otherwise" in report.causes[0].evidence


def test_check_takes_pictures_and_recipes(
    conv_net: Callable[..., onnx.ModelProto], pictures: list[Path], tmp_path: Path
) -> None:
    """From the folder to the report: both recipes are in it, the rung, and the step."""
    onnx.save(conv_net(), tmp_path / "net.onnx")
    for name, what in (("ours.json", recipe()), ("theirs.json", ONE_APART["channel order"])):
        (tmp_path / name).write_text(json.dumps(recipe_to_record(what)))
    report = onnxeq.check(
        tmp_path / "net.onnx", inputs=[pictures[0].parent], providers=["cpu"],
        recipe=str(tmp_path / "ours.json"), preprocess_as=str(tmp_path / "theirs.json"),
    )  # fmt: skip
    assert report.coverage.inputs_tried == 2
    assert [c.where.step for c in report.causes] == ["channel order"]
    told = report.preprocessing
    assert [told[side]["recipe"]["steps"][0] for side in ("source", "target")] == [
        {"step": "decode", "colours": "RGB"}
    ] * 2
    assert told["pictures"] == [str(p) for p in pictures]
