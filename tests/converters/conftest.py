"""Small Keras models and requests for the tests of the Keras converter."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxeq.protocols import LoadRequest
from onnxeq.types import ModelRef, TensorSpec


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras 3 on TensorFlow, imported as the converter does it."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("keras")
    from onnxeq_converters.from_keras.framework import framework

    return framework().keras


@pytest.fixture
def quiet() -> Callable[[str], None]:
    """A progress callback that does nothing."""
    return lambda step: None


@pytest.fixture
def request_for() -> Callable[..., LoadRequest]:
    """Builds a request from ``zoo``, ``name`` and ``weights``."""

    def build(
        zoo: str = "live",
        name: str = "model",
        weights: str = "",
        *,
        seed: int = 0,
        inputs: tuple[TensorSpec, ...] | None = None,
        trust: bool = False,
    ) -> LoadRequest:
        ref = ModelRef(f"{zoo}:{name}", zoo, name, weights, seed)
        return LoadRequest(ref, inputs=inputs, trust=trust)

    return build


@pytest.fixture
def small_cnn(keras: Any) -> Any:
    """Convolutions of three kinds, both normalisations, a residual sum and a softmax; random weights."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.BatchNormalization(epsilon=1.001e-5)(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="elu")(layers.LeakyReLU(0.1)(x))
    y = layers.SeparableConv2D(8, 3, padding="same", activation="silu")(y)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(3)(x))
    model = keras.Model(image, layers.Dense(5, activation="softmax", name="classes")(x))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "moving" in variable.name or "gamma" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, tuple(variable.shape)))
    return model


@pytest.fixture
def images() -> Any:
    """Three images for ``small_cnn``."""
    return np.random.default_rng(7).uniform(-1, 1, (3, 12, 12, 3)).astype(np.float32)


@pytest.fixture
def real_models() -> Path:
    """The folder of real trained models; skips where it is absent."""
    folder = Path(os.environ.get("ONNXEQ_REAL_MODELS", "../shared/models"))
    if not folder.is_dir():
        pytest.skip(f"no real models at {folder}: set ONNXEQ_REAL_MODELS")
    return folder
