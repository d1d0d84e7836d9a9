"""What is asked for is checked before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onnxeq.compare.accuracy.asked import Asked, asked
from onnxeq.compare.values import Part
from onnxeq.errors import UsageError


def _asked(dataset: str, parts: tuple[Part, ...] = tuple(Part), **given: Any) -> Asked | None:
    options = {"class_map": None, "max_items": None, "recipes": (), "models": ("a.onnx", "b.onnx"), "seed": 0}
    return asked(parts, dataset, **{**options, "trust": False, **given})


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("arrays.npz").touch()


def test_a_data_set_is_told_by_its_kind() -> None:
    """The three kinds, with what stands behind the colon; without a data set nothing is asked for."""
    found = [_asked(text) for text in ("imagefolder:photos", "npz:arrays.npz", "digits")]
    assert [(f.kind, f.path) for f in found if f] == [
        ("imagefolder", Path("photos")), ("npz", Path("arrays.npz")), ("digits", None),
    ]  # fmt: skip
    assert _asked("") is None


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("photos", {}, "'photos' is no data set. write --dataset imagefolder:photos"),
        ("arrays.npz", {}, "'arrays.npz' is no data set. write --dataset npz:arrays.npz"),
        ("mnist", {}, "'mnist' is no data set. write --dataset imagefolder:FOLDER, npz:FILE or digits"),
        ("digits:8", {}, "'digits:8' is no data set"),
        ("imagefolder:none", {}, "there is no folder 'none'"),
        ("npz:photos", {}, "there is no file 'photos'"),
        ("digits", {"max_items": 0}, "0 items are too few. write --max-items 1000"),
        ("digits", {"class_map": "map.json"}, "--class-map is about folders of pictures, and digits has none"),
        ("imagefolder:photos", {"class_map": "map.json"}, "there is no file 'map.json'"),
        ("digits", {"parts": (Part.LATENCY,)}, "digits is for accuracy, which --only leaves out"),
        ("", {"parts": (Part.ACCURACY,)}, "accuracy is measured on labelled items, and none are given"),
        ("digits", {"recipes": ("x", "y")}, "two recipes are given for models without one: x and y"),
        ("digits", {"recipes": ("c.onnx=r.json",)}, "'c.onnx' is none of the models, so that 'c.onnx=r.json' is no"),
    ],
)
def test_what_cannot_be_is_one_line(text: str, given: dict[str, Any], said: str) -> None:
    """Each slip is told with what to type."""
    with pytest.raises(UsageError) as caught:
        _asked(text, **given)
    assert caught.value.line().startswith(said)


def test_a_recipe_may_be_of_one_model() -> None:
    """``MODEL=RECIPE`` is of the model that is named, anything else of those that have none."""
    found = _asked("digits", recipes=("b.onnx=timm:resnet18", "own.json"))
    assert found is not None
    assert found.recipes == {"b.onnx": "timm:resnet18", "": "own.json"}
