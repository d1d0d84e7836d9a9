"""Names and recipes of TensorFlow Model Garden's models, from tables like the package's; no framework is loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import onnxeq_converters.from_keras as converter
from onnxeq.errors import WeightsUnavailable
from onnxeq.protocols import LoadRequest
from onnxeq_converters.from_keras.model_garden.configuring import fitting
from onnxeq_converters.from_keras.model_garden.names import Experiment, Recipe, name_of, recipes

IMAGES = ("resnet", "dilated_resnet", "efficientnet", "mobilenet", "vit", "convmixer")
EXPERIMENTS = (
    Experiment("image_classification", "resnet", False, IMAGES),  # it has no number of classes
    Experiment("resnet_imagenet", "resnet", True, IMAGES),
    Experiment("resnet_rs_imagenet", "resnet", True),
    Experiment("mobilenet_imagenet", "mobilenet", True),
    Experiment("vit_imagenet_pretrain", "vit", True),
    Experiment("vit_imagenet_finetune", "vit", True),
    Experiment("seg_deeplabv3_pascal", "dilated_resnet", False),
    Experiment("video_classification_ucf101", "resnet_3d", True, ("resnet_3d", "resnet_3d_rs")),
)
KEYS: dict[str, tuple[int | str, ...]] = {
    "resnet": (18, 50),
    "dilated_resnet": (50,),
    "efficientnet": ("b0", "b7"),
    "mobilenet": ("MobileNetV1", "MobileNetV3Small", "MobileNetV3Large"),
    "vit": ("vit-b16",),
    "resnet_3d": (50,),
    "resnet_3d_rs": (50,),
    "of_another_task": ("a",),
}


@pytest.mark.parametrize(
    ("prefix", "key", "backbone", "name"),
    [
        ("resnet", 50, "", "resnet50"),
        ("resnet_rs", 101, "resnet", "resnet_rs101"),
        ("resnet_3d", 50, "", "resnet_3d_50"),
        ("efficientnet", "b0", "", "efficientnet_b0"),
        ("spinenet", "49S", "", "spinenet49s"),
        ("spinenet_mobile", "49XS", "", "spinenet_mobile49xs"),
        ("mobilenet", "MobileNetV2", "", "mobilenet_v2"),
        ("mobilenet", "MobileNetV4ConvSmall", "", "mobilenet_v4_conv_small"),
        ("mobilenet", "MobileNetV3EdgeTPU", "", "mobilenet_v3_edge_tpu"),
        ("mobilenet", "MobileNetMultiAVGSeg", "", "mobilenet_multi_avg_seg"),
        ("mobiledet", "MobileDetCPU", "", "mobiledet_cpu"),
        ("vit", "vit-b16", "", "vit_b16"),
        ("deit", "vit-ti16", "vit", "deit_ti16"),
        ("resnet_3d_rs", 50, "", "resnet_3d_rs50"),
        ("vit", "vit", "", "vit"),
    ],
)
def test_a_name_is_what_the_identifier_adds(prefix: str, key: int | str, backbone: str, name: str) -> None:
    """The backbone's own name is not said twice, words are apart, and a number follows a word directly."""
    assert name_of(prefix, key, backbone) == name


def test_small_letters_are_given_up_where_they_would_make_two_alike() -> None:
    """``vit-g14`` and ``vit-G14`` are two models."""
    assert list(recipes(EXPERIMENTS, {"vit": ("vit-g14", "vit-G14")})) == ["vit_g14", "vit_G14"]


def test_each_experiment_is_made_with_each_identifier_of_its_backbone() -> None:
    """A family is an experiment, of two for one design the first; a backbone without one is put into another."""
    found = recipes(EXPERIMENTS, KEYS)
    assert list(found) == [
        "resnet18", "resnet50", "resnet_rs18", "resnet_rs50", "mobilenet_v1", "mobilenet_v3_small",
        "mobilenet_v3_large", "vit_b16", "resnet_3d_50", "dilated_resnet50", "efficientnet_b0", "efficientnet_b7",
        "resnet_3d_rs50",
    ]  # fmt: skip
    assert found["resnet_rs50"] == Recipe("resnet_rs50", "resnet_rs", "resnet", 50, "resnet_rs_imagenet")
    assert found["vit_b16"].experiment == "vit_imagenet_pretrain"
    assert found["resnet_3d_50"].experiment == "video_classification_ucf101"
    donated = Recipe(
        "dilated_resnet50", "dilated_resnet", "dilated_resnet", 50, "resnet_imagenet", "seg_deeplabv3_pascal"
    )
    assert found["dilated_resnet50"] == donated
    assert (found["efficientnet_b0"].experiment, found["efficientnet_b0"].donor) == ("resnet_imagenet", "")
    assert found["resnet_3d_rs50"].experiment == "video_classification_ucf101"


def test_a_design_with_a_name_of_its_own_is_a_family() -> None:
    """MobileNet's generations are told apart, sizes of one are not."""
    families = {name: recipe.family for name, recipe in recipes(EXPERIMENTS, KEYS).items()}
    assert families["mobilenet_v1"] == "mobilenet_v1"
    assert families["mobilenet_v3_small"] == families["mobilenet_v3_large"] == "mobilenet_v3"
    assert families["resnet18"] == families["resnet50"] == "resnet"
    assert families["efficientnet_b7"] == "efficientnet"


def test_a_new_identifier_appears_by_itself() -> None:
    """Nothing but the tables says which models there are."""
    more = recipes(EXPERIMENTS, KEYS | {"resnet": (18, 50, 1001), "convmixer": ("s",)})
    assert set(more) - set(recipes(EXPERIMENTS, KEYS)) == {"resnet1001", "resnet_rs1001", "convmixer_s"}


@pytest.mark.parametrize(
    ("size", "level", "fits"), [(224, 7, 256), (256, 7, 256), (257, 7, 384), (224, 0, 224), (160, 5, 160)]
)
def test_a_size_is_raised_to_one_that_can_be_halved(size: int, level: int, fits: int) -> None:
    """The smallest multiple of ``2**level`` that is not smaller."""
    assert fitting(size, level) == fits


@pytest.mark.parametrize("weights", ["", "pretrained"])
def test_there_are_no_pretrained_weights(weights: str, request_for: Callable[..., LoadRequest]) -> None:
    """One line says that none come with the package, and both things to type; no framework is needed to say it."""
    with pytest.raises(WeightsUnavailable) as caught:
        converter.load(request_for("tfmg", "resnet50", weights), lambda _step: None)
    assert "none comes with the package" in caught.value.line()
    assert caught.value.hint.startswith("tfmg:resnet50@seeded, or tfmg:resnet50@FOLDER/ckpt-NUMBER")
