"""What compare says of Keras' ResNet-50, against what its layers and the other zoo's file say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import onnxeq
from onnxeq.compare.values import Comparison, Same, Topic

pytestmark = [pytest.mark.keras, pytest.mark.slow]


@pytest.fixture(scope="module")
def keras_model() -> Any:
    """The model as the zoo defines it; its weights are not compared."""
    import keras

    return keras.applications.ResNet50(weights=None)


@pytest.fixture(scope="module")
def found(keras_model: Any) -> Iterator[Comparison]:
    """It against the ONNX Model Zoo's ResNet-50, which lies in the onnx package."""
    return onnxeq.compare(keras_model, "onnx-zoo:light_resnet50@seeded", parts=["architecture"])


def _layers(model: Any, kind: str) -> list[Any]:
    return [layer for layer in model.layers if type(layer).__name__ == kind]


def test_the_layers_are_what_keras_says(keras_model: Any, found: Comparison) -> None:
    """Each convolution and BatchNorm has its Keras layer's attributes; padding may be that of the layer before it."""
    graph = found.sides[0].graph
    layers = {layer.name: layer for layer in graph.layers}
    convolutions = _layers(keras_model, "Conv2D")
    assert sum(layer.kind == "conv" for layer in graph.layers) == len(convolutions) == 53
    for conv in convolutions:
        held = layers[conv.name].attributes
        assert (held["kernel"], held["strides"]) == (conv.kernel_size, conv.strides)
        assert (held["bias"], held["out"]) == (conv.use_bias, conv.filters)
        same = (conv.kernel_size[0] // 2,) * 4 if conv.padding == "same" else (0,) * 4
        assert held["pads"] == ((3, 3, 3, 3) if conv.name == "conv1_conv" else same)
    assert keras_model.get_layer("conv1_pad").padding == ((3, 3), (3, 3))
    norms = _layers(keras_model, "BatchNormalization")
    assert {n.name: layers[n.name].attributes["epsilon"] for n in norms} == {n.name: n.epsilon for n in norms}
    trained = sum(_count(weight.shape) for weight in keras_model.trainable_weights)
    assert found.sides[0].architecture.parameters == trained


def _count(shape: Any) -> int:
    total = 1
    for size in shape:
        total *= int(size)
    return total


def test_each_statement_is_true(keras_model: Any, found: Comparison) -> None:
    """ResNet v1 against v1.5, biases, epsilon: each statement is checked on both sides, and there is no other."""
    (pair,) = found.pairs
    assert pair.same is Same.DIFFERENT
    assert [(d.topic, len(d.places)) for d in pair.differences] == [
        (Topic.STRIDE, 3),
        (Topic.BIAS, 53),
        (Topic.EPSILON, 53),
    ]
    stride, bias, epsilon = pair.differences
    assert (
        "on the 1x1 convolution in Functional and on the 3x3 convolution in onnx-zoo:light_resnet50" in stride.sentence
    )
    for stage in (3, 4, 5):
        strides = [keras_model.get_layer(f"conv{stage}_block1_{i}_conv").strides for i in (1, 2)]
        assert strides == [(2, 2), (1, 1)]
    file = {layer.name: layer.attributes for layer in found.sides[1].graph.layers if layer.kind == "conv"}
    for stage in (3, 4, 5):
        branch = [file[f"res{stage}_0_branch2{part}_w"]["strides"] for part in "ab"]
        assert branch == [(1, 1), (2, 2)]
    assert "all 53 convolutions have a bias in Functional" in bias.sentence
    assert all(conv.use_bias for conv in _layers(keras_model, "Conv2D"))
    assert not any(held["bias"] for held in file.values())
    assert (epsilon.left, epsilon.right) == (1.001e-05, 1e-05)
    assert found.sides[1].architecture.kinds["softmax"] == found.sides[0].architecture.kinds["softmax"] == 1
