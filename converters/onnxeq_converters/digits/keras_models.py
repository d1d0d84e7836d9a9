"""The digits architectures in Keras: functional models from ``image: float32[N,8,8]`` to ``logits: float32[N,10]``.

A layer is called what torch calls its module, so that :mod:`.mapping` finds its weights. Where the frameworks'
defaults differ (epsilons, padding of strides, the form of GELU) torch's are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers, ops

from onnxeq.types import Array

from . import mapping, shipped

__all__ = ["BUILDERS", "Positions", "put_in", "trained"]

_CLASSES = 10
_EPSILON = 1e-5
"""Of torch's normalisations; Keras has 1e-3."""


@keras.saving.register_keras_serializable("onnxeq_digits")
class Positions(layers.Layer):  # type: ignore[misc]
    """Adds a learned vector to each place: ``float32[N,T,D] -> float32[N,T,D]``."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the table ``float32[T,D]``."""
        self.table = self.add_weight(name="table", shape=shape[1:], initializer="random_normal")

    def call(self, x: Any) -> Any:
        """``x + table``."""
        return x + self.table


def _convolved(x: Any, made: int, name: str, norm: str, size: int = 3, stride: int = 1) -> Any:
    """A convolution and its normalisation. Keras' ``same`` pads a stride unevenly; torch pads both sides."""
    if size > 1:
        x = layers.ZeroPadding2D(size // 2)(x)
    x = layers.Conv2D(made, size, strides=stride, use_bias=False, name=name)(x)
    return layers.BatchNormalization(epsilon=_EPSILON, name=norm)(x)


def _image() -> Any:
    return keras.Input((8, 8), name="image")


def _logits(x: Any) -> Any:
    return layers.Dense(_CLASSES, name="head")(x)


def _cnn() -> Any:
    image = _image()
    x = layers.Reshape((8, 8, 1))(image)
    x = layers.ReLU()(_convolved(x, 16, "conv1", "norm1"))
    x = layers.MaxPooling2D(2)(layers.ReLU()(_convolved(x, 32, "conv2", "norm2")))
    x = layers.ReLU()(_convolved(x, 32, "conv3", "norm3"))
    return keras.Model(image, _logits(layers.GlobalAveragePooling2D()(x)), name="cnn")


def _block(x: Any, place: str, made: int, stride: int = 1) -> Any:
    shortcut = x
    if x.shape[-1] != made:
        shortcut = _convolved(x, made, f"{place}.projection", f"{place}.norm3", 1, stride)
    x = layers.ReLU()(_convolved(x, made, f"{place}.conv1", f"{place}.norm1", 3, stride))
    x = _convolved(x, made, f"{place}.conv2", f"{place}.norm2")
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _resnet() -> Any:
    image = _image()
    x = layers.ReLU()(_convolved(layers.Reshape((8, 8, 1))(image), 16, "stem", "norm"))
    for index, (made, stride) in enumerate(((16, 1), (32, 2), (32, 1))):
        x = _block(x, f"blocks.{index}", made, stride)
    return keras.Model(image, _logits(layers.GlobalAveragePooling2D()(x)), name="resnet")


def _vit(width: int = 32, heads: int = 4, depth: int = 3) -> Any:
    image = _image()
    x = layers.Permute((1, 3, 2, 4))(layers.Reshape((4, 2, 4, 2))(image))
    x = layers.Dense(width, name="patches")(layers.Reshape((16, 4))(x))
    x = Positions(name="positions")(x)
    for place in (f"layers.{index}" for index in range(depth)):
        y = layers.LayerNormalization(epsilon=_EPSILON, name=f"{place}.norm1")(x)
        y = layers.MultiHeadAttention(heads, width // heads, name=f"{place}.attention")(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=_EPSILON, name=f"{place}.norm2")(x)
        y = ops.gelu(layers.Dense(2 * width, name=f"{place}.first")(y), approximate=False)
        x = layers.Add()([x, layers.Dense(width, name=f"{place}.second")(y)])
    x = layers.LayerNormalization(epsilon=_EPSILON, name="norm")(x)
    return keras.Model(image, _logits(layers.GlobalAveragePooling1D()(x)), name="vit")


def _gru(width: int = 64) -> Any:
    image = _image()
    return keras.Model(image, _logits(layers.GRU(width, name="gru")(image)), name="gru")


BUILDERS: dict[str, Callable[[], Any]] = {"cnn": _cnn, "resnet": _resnet, "vit": _vit, "gru": _gru}
"""Architecture -> what builds it, with Keras' random weights."""


def put_in(model: Any, state: Mapping[str, Array], origin: str = "the file") -> None:
    """Gives a model, in place, the weights that torch's names say.

    Raises:
        onnxeq.errors.UsageError: Names are missing or left over, or a shape differs.
    """
    holders = {layer.name: layer for layer in model.layers if layer.weights}
    kinds = {name: type(layer).__name__ for name, layer in holders.items()}
    shapes = {name: [tuple(w.shape) for w in layer.weights] for name, layer in holders.items()}
    for name, values in mapping.for_keras(state, kinds, shapes, origin).items():
        holders[name].set_weights(values)


def trained(architecture: str, kind: str = "pretrained") -> Any:
    """A model with weights that come with the package (``pretrained``, ``retrained``)."""
    model = BUILDERS[architecture]()
    put_in(model, shipped(architecture, kind))
    return model
