from __future__ import annotations

import pytest

from onnxeq.errors import NoRecipe
from onnxeq.preprocessing.onnx_zoo import page_of, recipe_of
from onnxeq.preprocessing.parts import differences
from onnxeq.runners.onnx_zoo import light_models

KNOWN = {"light_resnet50", "light_shufflenet", "light_squeezenet", "light_vgg19"}
"""Of the nine light models, those whose pages say how pictures are prepared."""


def test_of_each_light_model_it_is_known_or_said_that_the_page_is_empty() -> None:
    """Each has a page; four pages say something, the others have an empty section, and nothing is made up."""
    assert len(light_models()) == 9
    for name in light_models():
        assert page_of(name) is not None
        if name in KNOWN:
            recipe = recipe_of(name)
            assert recipe.source.startswith("onnx/models: vision/classification/")
            assert not recipe.exact
        else:
            with pytest.raises(NoRecipe, match="nothing in it"):
                recipe_of(name)


def test_the_pages_agree_but_for_how_sizes_are_rounded() -> None:
    """Mean and deviation are spelled in ones and in pixel values, and are the same map."""
    resnet, vgg = recipe_of("resnet50-v1-7"), recipe_of("vgg16-7")
    assert differences(resnet, vgg) == ()
    parts = [d.part.value for d in differences(resnet, recipe_of("shufflenet-v2-10"))]
    assert parts == ["resize", "crop"]


def test_a_model_that_is_not_listed_has_no_page() -> None:
    """Segmentation and detection models that only have a backbone of that name are not classifiers."""
    for name in ("fcn-resnet50-11", "ssd_mobilenet_v1_10", "retinanet-9", "bertsquad-8"):
        with pytest.raises(NoRecipe, match="listed here"):
            recipe_of(name)
