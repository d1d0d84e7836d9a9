"""Small Keras models for the corpus: what tf2onnx writes differs in layout and in names from torch's exporters."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

__all__ = ["attention", "convolutions", "gru", "lstm", "separable"]

WORDS = 61


def convolutions() -> Any:
    """Convolutions with batch normalisation, a residual, poolings, a dense head."""
    image = keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(16, 3, 2, padding="same")(x)
    y = layers.Activation("swish")(layers.BatchNormalization(epsilon=1e-4)(y))
    z = layers.Conv2D(16, 3, padding="same", activation="elu")(y)
    y = layers.Add()([y, z])
    y = layers.Concatenate()([layers.AveragePooling2D(2)(y), layers.MaxPooling2D(2)(y)])
    y = layers.Conv2DTranspose(8, 3, 2, padding="same", activation="relu")(y)
    y = layers.Dense(24, activation="tanh")(layers.GlobalAveragePooling2D()(y))
    return keras.Model(image, layers.Dense(10, activation="softmax")(y))


def separable() -> Any:
    """Depthwise and separable convolutions, limited activations, bilinear growth."""
    image = keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(image)
    x = layers.ReLU(max_value=6)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(12, 3, padding="same")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return keras.Model(image, layers.Conv2D(3, 1, activation="sigmoid")(x))


def lstm() -> Any:
    """An embedding and an LSTM in both directions."""
    ids = keras.Input((8,), dtype="int32", name="ids")
    x = layers.Bidirectional(layers.LSTM(12))(layers.Embedding(WORDS, 16)(ids))
    return keras.Model(ids, layers.Dense(4, activation="softmax")(x))


def gru() -> Any:
    """A GRU over a signal, every step put out."""
    signal = keras.Input((10, 4), name="signal")
    x = layers.GRU(14, return_sequences=True)(signal)
    return keras.Model(signal, layers.Dense(2)(layers.LayerNormalization()(x)))


def attention() -> Any:
    """One encoder block."""
    tokens = keras.Input((8, 24), name="tokens")
    x = layers.LayerNormalization()(tokens + layers.MultiHeadAttention(3, 8)(tokens, tokens))
    y = layers.Dense(24)(layers.Dense(48, activation="swish")(x))
    return keras.Model(tokens, layers.LayerNormalization()(x + y))
