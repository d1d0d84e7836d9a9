"""Pictures prepared by a zoo's own code, for models that have no recipe: no weights and no export are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnxeq

from .conftest import BLUE, RED, colour_model, recipe, save

pytestmark = pytest.mark.torch


def _strip(path: Path) -> None:
    """A strip of 30x100 whose middle square is red and all else blue."""
    from PIL import Image

    strip = Image.new("RGB", (100, 30), BLUE)
    strip.paste(RED, (35, 0, 65, 30))
    strip.save(path)


def test_torchvisions_own_code_cuts_out_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees red where a resize of the whole strip is mostly blue; each gets the other's answer by its recipe."""
    monkeypatch.chdir(tmp_path)
    Path("strips/0").mkdir(parents=True)
    for index in range(8):
        _strip(Path(f"strips/0/{index}.png"))
    models = [save("middle.onnx", colour_model(size=224)), save("whole.onnx", colour_model(size=224))]
    recipe("whole.json", {"step": "resize", "height": 224, "width": 224})
    named = ["middle.onnx=torchvision:resnet18", "whole.onnx=whole.json"]
    found = onnxeq.compare(
        *models, dataset="imagefolder:strips", recipes=named, parts=["function", "accuracy"]
    ).accuracy
    assert found is not None
    assert [(m.top1.right, m.recipe) for m in found.measured] == [(8, "torchvision:resnet18"), (0, "whole.json")]
    (pair,) = found.pairs
    assert (pair.only_left, pair.p, pair.discrepancy) == (8, 2 / 256, True)
    assert [(s.model, s.own, s.other, s.p) for s in found.swaps] == [
        ("middle.onnx", 8, 0, 2 / 256), ("whole.onnx", 0, 8, 2 / 256),
    ]  # fmt: skip
    assert any("crop" in text for text in found.swaps[0].differences)
