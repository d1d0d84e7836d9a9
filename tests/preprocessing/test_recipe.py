from __future__ import annotations

import json
from typing import Any

import pytest

from onnxeq.errors import UsageError
from onnxeq.preprocessing.recipe import (
    STEPS,
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
    recipe_from_record,
    recipe_to_record,
    words,
)

EVERY = (
    Decode("L"), CropShare(0.875), Resize(10, 12, "exact", "bicubic", False, "torch", "round"),
    Crop(8, 9, "floor", (1, 2, 3)), Channels("BGR"), Scale(127.5), Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    Layout("NHWC"), Cast("float16"), Other("a turn"),
)  # fmt: skip


def test_a_recipe_survives_json() -> None:
    """Every kind of step, with every field, comes back as it was."""
    recipe = Recipe(EVERY, "a page", True, "a note")
    assert {type(step) for step in EVERY} == set(STEPS.values())
    assert recipe_from_record(json.loads(json.dumps(recipe_to_record(recipe)))) == recipe
    assert all(words(step) for step in EVERY)


DECODE = {"step": "decode"}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([], "no list of 'steps'"),
        ({"steps": 3}, "no list of 'steps'"),
        ({"schema": "onnxeq.recipe/9", "steps": [DECODE]}, "onnxeq.recipe/9"),
        ({"steps": []}, "begin with its one step 'decode'"),
        ({"steps": [DECODE, DECODE]}, "begin with its one step 'decode'"),
        ({"steps": [DECODE, {"step": "turn"}]}, "step 2 is 'turn'"),
        ({"steps": [DECODE, {"step": ["crop"]}]}, "step 2 is"),
        ({"steps": [DECODE, "crop"]}, "step 2 is"),
        ({"steps": [DECODE, {"step": "crop", "height": 3}]}, "lacks a field"),
        ({"steps": [DECODE, {"step": "crop", "high": 3}]}, "no field 'high'"),
        ({"steps": [DECODE, {"step": "crop", "height": 3.5, "width": 3}]}, "no whole number"),
        ({"steps": [DECODE, {"step": "crop", "height": True, "width": 3}]}, "no whole number"),
        ({"steps": [DECODE, {"step": "crop", "height": 10**9, "width": 3}]}, "16384 pixels are allowed"),
        ({"steps": [DECODE, {"step": "crop", "height": -1, "width": 3}]}, "above 0"),
        ({"steps": [DECODE, {"step": "scale", "divisor": 0}]}, "above 0"),
        ({"steps": [DECODE, {"step": "scale", "divisor": float("nan")}]}, "no number"),
        ({"steps": [DECODE, {"step": "normalize", "mean": [], "std": [1]}]}, "no list of numbers"),
        ({"steps": [DECODE, {"step": "normalize", "mean": ["a"], "std": [1]}]}, "no list of numbers"),
        ({"steps": [DECODE, {"step": "normalize", "mean": [1], "std": [1, 0, 1]}]}, "above 0"),
        ({"steps": [DECODE, {"step": "resize", "height": 3, "width": 3, "antialias": "yes"}]}, "no true or false"),
        ({"steps": [DECODE, {"step": "resize", "height": 3, "width": 3, "interpolation": "cubic"}]}, "'cubic'"),
    ],
)
def test_what_is_no_recipe_is_told_with_its_step_and_field(record: Any, says: str) -> None:
    """A file that a person has edited wrongly is a usage error in one line, never a traceback."""
    with pytest.raises(UsageError) as caught:
        recipe_from_record(record, said_by="mine.json")
    assert says in caught.value.message
    assert caught.value.message.startswith("mine.json")
    assert "\n" not in caught.value.line()


def test_one_number_may_stand_for_all_channels() -> None:
    """``"mean": 127.5`` is a list of one, and whole numbers are numbers."""
    found = recipe_from_record({"steps": [DECODE, {"step": "normalize", "mean": 127, "std": [1]}]})
    assert found.steps[1] == Normalize((127.0,), (1.0,))
