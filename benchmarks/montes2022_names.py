"""Which names in which zoo mean the same architecture: the table that ``montes2022.py`` works through.

A name stands here where the zoo says that it implements the paper's architecture, whatever it then does: that two of
them differ is what the study is to find. The light models of the ONNX Model Zoo are those inside the ``onnx`` package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ARCHITECTURES", "FOUR", "Named"]

FOUR = ("torchvision", "keras", "tfmg", "onnx-zoo")
"""The zoos of the study: torchvision, Keras Applications, TensorFlow Model Garden, ONNX Model Zoo."""


@dataclass(frozen=True)
class Named:
    """One architecture.

    Attributes:
        family: Its family.
        name: What its paper calls it.
        names: Zoo -> its name there.
    """

    family: str
    name: str
    names: Mapping[str, str]


def _named(
    family: str, name: str, tv: str = "", keras: str = "", tfmg: str = "", onnx: str = "", timm: str = ""
) -> Named:
    names = {"torchvision": tv, "keras": keras, "tfmg": tfmg, "onnx-zoo": onnx, "timm": timm}
    return Named(family, name, {zoo: text for zoo, text in names.items() if text})


ARCHITECTURES: tuple[Named, ...] = (
    _named("AlexNet", "AlexNet", "alexnet", onnx="light_bvlc_alexnet"),
    _named("VGG", "VGG-16", "vgg16", "VGG16", timm="vgg16"),
    _named("VGG", "VGG-19", "vgg19", "VGG19", onnx="light_vgg19", timm="vgg19"),
    _named("ResNet", "ResNet-18", "resnet18", tfmg="resnet18", timm="resnet18"),
    _named("ResNet", "ResNet-34", "resnet34", tfmg="resnet34", timm="resnet34"),
    _named("ResNet", "ResNet-50", "resnet50", "ResNet50", "resnet50", "light_resnet50", "resnet50"),
    _named("ResNet", "ResNet-101", "resnet101", "ResNet101", "resnet101", timm="resnet101"),
    _named("ResNet", "ResNet-152", "resnet152", "ResNet152", "resnet152", timm="resnet152"),
    _named("ResNet v2", "ResNet-50 v2", keras="ResNet50V2", timm="resnetv2_50"),
    _named("ResNet v2", "ResNet-101 v2", keras="ResNet101V2", timm="resnetv2_101"),
    _named("ResNet v2", "ResNet-152 v2", keras="ResNet152V2", timm="resnetv2_152"),
    _named("ResNet-RS", "ResNet-RS-50", tfmg="resnet_rs50", timm="resnetrs50"),
    _named("Inception v1", "Inception v1", "googlenet", onnx="light_inception_v1"),
    _named("Inception v3", "Inception v3", "inception_v3", "InceptionV3", timm="inception_v3"),
    _named("Inception-ResNet", "Inception-ResNet v2", keras="InceptionResNetV2", timm="inception_resnet_v2"),
    _named("Xception", "Xception", keras="Xception", timm="legacy_xception"),
    _named("DenseNet", "DenseNet-121", "densenet121", "DenseNet121", onnx="light_densenet121", timm="densenet121"),
    _named("DenseNet", "DenseNet-169", "densenet169", "DenseNet169", timm="densenet169"),
    _named("DenseNet", "DenseNet-201", "densenet201", "DenseNet201", timm="densenet201"),
    _named("SqueezeNet", "SqueezeNet 1.1", "squeezenet1_1", onnx="light_squeezenet"),
    _named("MobileNet v1", "MobileNet v1", keras="MobileNet", tfmg="mobilenet_v1", timm="mobilenetv1_100"),
    _named("MobileNet v2", "MobileNet v2", "mobilenet_v2", "MobileNetV2", "mobilenet_v2", timm="mobilenetv2_100"),
    _named(
        "MobileNet v3", "MobileNet v3 small", "mobilenet_v3_small", "MobileNetV3Small", "mobilenet_v3_small",
        timm="mobilenetv3_small_100",
    ),
    _named(
        "MobileNet v3", "MobileNet v3 large", "mobilenet_v3_large", "MobileNetV3Large", "mobilenet_v3_large",
        timm="mobilenetv3_large_100",
    ),
    _named("NASNet", "NASNet-A large", keras="NASNetLarge", timm="nasnetalarge"),
    *(
        _named("EfficientNet", f"EfficientNet-B{n}", f"efficientnet_b{n}", f"EfficientNetB{n}", f"efficientnet_b{n}",
               timm=f"efficientnet_b{n}")
        for n in range(8)
    ),
    _named("EfficientNet v2", "EfficientNet v2 S", "efficientnet_v2_s", "EfficientNetV2S", timm="efficientnetv2_s"),
    _named("EfficientNet v2", "EfficientNet v2 M", "efficientnet_v2_m", "EfficientNetV2M", timm="efficientnetv2_m"),
    _named("EfficientNet v2", "EfficientNet v2 L", "efficientnet_v2_l", "EfficientNetV2L", timm="efficientnetv2_l"),
    _named("ConvNeXt", "ConvNeXt-T", "convnext_tiny", "ConvNeXtTiny", timm="convnext_tiny"),
    _named("ConvNeXt", "ConvNeXt-S", "convnext_small", "ConvNeXtSmall", timm="convnext_small"),
    _named("ConvNeXt", "ConvNeXt-B", "convnext_base", "ConvNeXtBase", timm="convnext_base"),
    _named("ConvNeXt", "ConvNeXt-L", "convnext_large", "ConvNeXtLarge", timm="convnext_large"),
    _named("MaxViT", "MaxViT-T", "maxvit_t", tfmg="maxvit_tiny", timm="maxvit_tiny_tf_224"),
    _named("ViT", "ViT-B/32", "vit_b_32", tfmg="vit_b32", timm="vit_base_patch32_224"),
    _named("ViT", "ViT-B/16", "vit_b_16", tfmg="vit_b16", timm="vit_base_patch16_224"),
    _named("ViT", "ViT-L/16", "vit_l_16", tfmg="vit_l16", timm="vit_large_patch16_224"),
)  # fmt: skip
"""From small to large within a family."""
