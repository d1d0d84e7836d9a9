from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxeq.errors import CannotRun
from onnxeq.preprocessing.neutral import prepare
from onnxeq.preprocessing.parts import Part, differences, exchanged, form_of, told_only
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
)

from .conftest import MEAN, STD, recipe

PIXEL = Normalize((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""255 times mean and deviation."""
BGR = Channels("BGR")
SHORT = Resize(19, 19, "shortest")


def test_the_map_of_a_pixel_does_not_depend_on_its_spelling() -> None:
    """``(x/255 - m)/s`` and ``(x - 255m)/(255s)`` are one map, and so are ``x/127.5 - 1`` and ``(x/255 - 0.5)/0.5``."""
    assert differences(recipe(), recipe(PIXEL)) == ()
    halves = recipe(Scale(255.0), Normalize((0.5,), (0.5,)))
    assert differences(recipe(Scale(127.5), Normalize((1.0,), (1.0,))), halves) == ()
    late = recipe(Scale(255.0), Normalize(MEAN[::-1], STD[::-1]))
    assert differences(recipe(BGR, Scale(255.0), Normalize(MEAN, STD)), recipe(*late.steps[3:5], BGR)) == ()


def test_the_form_is_what_was_derived_by_hand() -> None:
    """Gain = 1/(255*std), zero = 255*mean, in the order of the channels that the model gets."""
    form = form_of(recipe())
    assert form.gain == pytest.approx([1 / (255 * s) for s in STD])
    assert form.zero == pytest.approx([255 * m for m in MEAN])
    swapped = form_of(recipe(Scale(255.0), Normalize(MEAN, STD), BGR))
    assert (swapped.order, swapped.zero) == ("BGR", pytest.approx([255 * m for m in MEAN[::-1]]))


ONE_APART = {
    Part.SIZE: recipe(resize=Resize(18, 18, "shortest")),
    Part.CROP: recipe(crop=Crop(16, 16, "floor")),
    Part.INTERPOLATION: recipe(resize=Resize(19, 19, "shortest", "bicubic")),
    Part.ANTIALIAS: recipe(resize=Resize(19, 19, "shortest", antialias=False)),
    Part.LIBRARY: recipe(resize=Resize(19, 19, "shortest", library="tensorflow")),
    Part.GEOMETRY: Recipe((Decode(), CropShare(0.9), Resize(16, 16), *recipe().steps[3:]), "another"),
    Part.ORDER: recipe(BGR, Scale(255.0), Normalize(MEAN, STD)),
    Part.MEAN: recipe(Scale(255.0), Normalize((0.5, 0.456, 0.406), STD)),
    Part.SCALE: recipe(Scale(255.0), Normalize(MEAN, (0.225, 0.224, 0.225))),
}


@pytest.mark.parametrize("part", ONE_APART)
def test_one_part_that_differs_is_told_alone_and_by_what_each_says(part: Part) -> None:
    """The list has that part only, its words are of the two recipes, and the other way round they change sides."""
    (found,) = differences(recipe(), ONE_APART[part])
    assert found.part is part
    assert found.text() == f"{part.value}: {found.ours} against {found.theirs}"
    assert found.ours != found.theirs
    assert [d.part for d in differences(ONE_APART[part], recipe())] == [part]


def test_the_nearest_pixel_is_never_averaged() -> None:
    """So antialiasing is no difference of its own beside it, and comes along with the interpolation, both ways."""
    smooth, nearest = recipe(), recipe(resize=Resize(19, 19, "shortest", "nearest", antialias=False))
    for ours, theirs in ((smooth, nearest), (nearest, smooth)):
        assert [d.part for d in differences(ours, theirs)] == [Part.INTERPOLATION]
        assert exchanged(ours, theirs, [Part.INTERPOLATION]).steps == theirs.steps


def test_numbers_go_with_their_colour_or_stay_at_their_place() -> None:
    """Both are a channel order and nothing else: numbers swapped with the colours, and numbers left where they were."""
    by_place = recipe(BGR, Scale(255.0), Normalize(MEAN, STD))
    by_colour = recipe(Scale(255.0), Normalize(MEAN, STD), BGR)
    for other in (by_place, by_colour):
        assert [d.part for d in differences(recipe(), other)] == [Part.ORDER]
    caffe = recipe(BGR, Normalize((103.939, 116.779, 123.68), (1.0,)))
    assert [d.part for d in differences(recipe(), caffe)] == [Part.ORDER, Part.MEAN, Part.SCALE]
    mean = next(d for d in differences(recipe(), caffe) if d.part is Part.MEAN)
    assert mean.theirs.startswith("123.68, 116.779, 103.939")  # told in the order of the first


@pytest.mark.parametrize("pair", list(itertools.permutations([*ONE_APART, "caffe", "nearest"], 2)), ids=str)
def test_with_every_part_exchanged_it_is_the_other_recipe(pair: tuple[str, str], pictures: list[Path]) -> None:
    """All differences of two recipes exchanged give the other's picture, to float32's rounding."""
    known = {
        **ONE_APART,
        "caffe": recipe(BGR, Normalize((103.939, 116.779, 123.68), (1.0,))),
        "nearest": recipe(resize=Resize(16, 16, "exact", "nearest", antialias=False)),
    }
    ours, theirs = (known[name] for name in pair)
    mixed = exchanged(ours, theirs, [d.part for d in differences(ours, theirs)])
    got, wanted = (prepare(r, pictures[0]) for r in (mixed, theirs))
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 2.0**-20 * np.abs(wanted).max()


def test_with_no_part_exchanged_it_is_the_same_recipe() -> None:
    """Nothing is spelled anew, so that the arithmetic is the same bits."""
    for other in ONE_APART.values():
        assert exchanged(recipe(), other, []).steps == recipe().steps


def test_layout_and_type_follow_the_model() -> None:
    """They are told, and are no difference."""
    other = replace(recipe(), steps=(*recipe().steps[:-2], Layout("NHWC"), Cast("float16")))
    assert differences(recipe(), other) == ()
    assert told_only(recipe(), other) == ("NCHW against NHWC", "float32 against float16")
    assert exchanged(recipe(), other, list(Part)).steps[-2:] == recipe().steps[-2:]


def test_how_a_free_side_is_rounded_counts_only_where_one_is_free() -> None:
    """An exact size leaves nothing to round."""
    exact = [recipe(resize=Resize(16, 16, other_side=side)) for side in ("floor", "round")]
    assert differences(*exact) == ()
    free = [recipe(resize=Resize(19, 19, "shortest", other_side=side)) for side in ("floor", "round")]
    assert [d.part for d in differences(*free)] == [Part.SIZE]


def test_a_step_without_a_name_cannot_be_compared() -> None:
    """It is said which step, and of whose recipe."""
    with pytest.raises(CannotRun, match="'a turn' \\(a zoo\\)"):
        differences(recipe(), Recipe((Decode(), Other("a turn")), "a zoo"))
