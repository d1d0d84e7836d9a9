"""Small Keras architectures for what Keras Applications lack; see ``torch_models`` for the torch ones."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def lstm_text() -> Any:
    """Embedding, a bidirectional LSTM, a sigmoid."""
    ids = keras.Input((24,), dtype="int32", name="ids")
    x = layers.Embedding(150, 16)(ids)
    x = layers.Bidirectional(layers.LSTM(12))(x)
    return keras.Model(ids, layers.Dense(3, activation="sigmoid")(x))


def gru_signal() -> Any:
    """A GRU over a signal, every step put out."""
    signal = keras.Input((30, 4), name="signal")
    return keras.Model(signal, layers.Dense(2)(layers.GRU(14, return_sequences=True)(signal)))


def attention_block() -> Any:
    """One encoder block with layer normalisation and GELU."""
    tokens = keras.Input((18, 32), name="tokens")
    x = layers.LayerNormalization()(tokens + layers.MultiHeadAttention(4, 8)(tokens, tokens))
    y = layers.Dense(32)(layers.Dense(64, activation="gelu")(x))
    return keras.Model(tokens, layers.LayerNormalization()(x + y))


def unet() -> Any:
    """Down, and up by a transposed convolution and by bilinear interpolation."""
    image = keras.Input((32, 48, 3), name="image")
    a = layers.Conv2D(12, 3, padding="same", activation="relu")(image)
    b = layers.BatchNormalization()(layers.Conv2D(24, 3, 2, padding="same", activation="swish")(a))
    c = layers.Conv2D(32, 3, 2, padding="same", activation="elu")(b)
    x = layers.Concatenate()([layers.Conv2DTranspose(24, 3, 2, padding="same")(c), b])
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(16, 3, padding="same")(x))
    return keras.Model(image, layers.Conv2D(2, 1)(layers.Concatenate()([x, a])))


def separable() -> Any:
    """Depthwise and separable convolutions with batch normalisation."""
    image = keras.Input((40, 40, 3), name="image")
    x = layers.Conv2D(8, 3, 2, use_bias=False)(image)
    x = layers.ReLU(max_value=6)(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(16, 3, padding="same")(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(6, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def audio_cnn() -> Any:
    """Convolutions over a waveform."""
    wave = keras.Input((2000, 1), name="wave")
    x = wave
    for width in (8, 16, 24):
        x = layers.Conv1D(width, 9, 4, padding="same")(x)
        x = layers.Activation("tanh")(layers.BatchNormalization()(x))
    return keras.Model(wave, layers.Dense(5)(layers.GlobalMaxPooling1D()(x)))


def volume_cnn() -> Any:
    """Convolutions in three dimensions (TensorFlow has no float64 pooling in three, so that none could be judged)."""
    volume = keras.Input((10, 12, 12, 1), name="volume")
    x = layers.Conv3D(8, 3, 2, padding="same", activation="relu")(volume)
    x = layers.Conv3D(12, 3, padding="same", activation="softplus")(x)
    return keras.Model(volume, layers.Dense(4)(layers.Flatten()(x)))
