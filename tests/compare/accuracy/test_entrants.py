"""What a zoo publishes, and by which recipe a model's pictures are prepared."""

from __future__ import annotations

from typing import Any

import pytest

from onnxeq.compare.accuracy.entrants import Way, _named, _published
from onnxeq.errors import NoRecipe
from onnxeq.jobs import Jobs
from onnxeq.preprocessing.recipe import Decode, Layout, Other, Recipe
from onnxeq.types import ModelRef


def _card(value: Any) -> dict[str, Any]:
    return {"facts": {"accuracy": {"value": value, "source": "its page"}}}


def test_the_published_top_1_and_top_5_are_found() -> None:
    """By torchvision's names, with the data set that they are of."""
    told = _card({"ImageNet-1K acc@1": 80.858, "ImageNet-1K acc@5": 95.434})
    found = _published(ModelRef("torchvision:resnet50", "torchvision", "resnet50"), told)
    assert (found.top1, found.top5, found.label, found.source) == (80.858, 95.434, "ImageNet-1K acc@1", "its page")


@pytest.mark.parametrize(("weights", "top1"), [("", 98.89), ("pretrained", 98.89), ("retrained", 98.05)])
def test_a_figure_belongs_to_its_weights(weights: str, top1: float) -> None:
    """Where a zoo states several kinds, the one that runs; the default kind is the pretrained one."""
    told = _card({"@pretrained top-1": 98.89, "@retrained top-1": 98.05})
    found = _published(ModelRef("digits:cnn", "digits", "cnn", weights), told)
    assert (found.top1, found.top5, found.label) == (top1, None, "top-1")


def test_what_is_not_published_says_why() -> None:
    """Weights that are not the zoo's, a zoo that states nothing, one that states other figures, and no zoo."""
    seeded = ModelRef("torchvision:resnet50@seeded", "torchvision", "resnet50", "seeded")
    plain = ModelRef("timm:x", "timm", "x")
    found = [
        _published(seeded, _card({"acc@1": 80.0})), _published(plain, _card(None)),
        _published(plain, _card({"COCO box_map": 37.0})), _published(plain, None),
    ]  # fmt: skip
    assert [f.top1 for f in found] == [None] * 4
    sources = ["its weights are not the zoo's own", "its page", "its page", "no zoo states any"]
    assert [f.source for f in found] == sources


def test_a_way_says_its_layout() -> None:
    """That of its recipe; a step without a name is a zoo's of torch, which has channels first."""
    assert Way("r", Recipe((Decode(), Layout("NHWC")), ""), None).layout == "NHWC"
    assert Way("r", Recipe((Decode(), Other("sharpen")), ""), None).layout == "NCHW"


@pytest.mark.usefixtures("_own_cache")
def test_a_recipe_of_the_onnx_model_zoo_is_known_by_its_page() -> None:
    """ResNet's page says it; AlexNet's is empty, and a file has none."""
    with Jobs() as jobs:
        way = _named(jobs, "onnx-zoo:resnet50-v1-7", trust=False)
        assert (way.name, way.ref, way.layout) == ("onnx-zoo:resnet50-v1-7", None, "NCHW")
        with pytest.raises(NoRecipe, match="has a section on preprocessing, and nothing in it"):
            _named(jobs, "onnx-zoo:light_bvlc_alexnet", trust=False)
