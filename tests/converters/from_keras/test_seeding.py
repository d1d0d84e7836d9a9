"""``@seeded``: deterministic weights under which activations live at every depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onnxeq_converters.from_keras as converter
from onnxeq.types import Precision, TensorSpec

pytestmark = pytest.mark.keras


@pytest.fixture
def deep_model(keras: Any) -> Callable[[], Any]:
    """Builds a deep plain network whose plain initialisation would die: 12 ReLU layers, no normalisation."""

    def build() -> Any:
        layers = keras.layers
        x = image = keras.Input((16, 16, 3), name="image")
        for _ in range(12):
            x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
        inner = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(16, activation="relu")])
        return keras.Model(image, layers.Softmax()(layers.Dense(10)(inner(x))))

    return build


def _seeded(model: Any, request_for: Callable[..., Any], quiet: Any, seed: int = 0, **more: Any) -> Any:
    return converter.wrap(model, request_for("factory", "build", "seeded", seed=seed, **more), quiet)


def test_same_seed_same_weights(
    deep_model: Callable[[], Any], request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A seed fixes every weight bit for bit, whatever ran before; another seed gives others."""
    first = _seeded(deep_model(), request_for, quiet, 7).provenance["weights_sha256"]
    np.random.default_rng().random()
    values = [list(_seeded(deep_model(), request_for, quiet, seed).weights().values()) for seed in (7, 7, 8)]
    for a, b, c in zip(*values, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c)
    assert first


def test_activations_live_at_every_depth(
    keras: Any, deep_model: Callable[[], Any], request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """On fresh inputs every layer's response has a sane scale, varies over inputs, and enough units live."""
    from onnxeq_converters.from_keras.seeding import calibration_inputs

    model = deep_model()
    _seeded(model, request_for, quiet)
    (fresh,) = calibration_inputs((TensorSpec("image", "float32", (6, 16, 16, 3)),), np.random.RandomState(99))
    for layer in model.layers[1:-1]:
        y = np.asarray(keras.Model(model.inputs, layer.output)(fresh))
        assert 0.01 < np.sqrt((y**2).mean()) < 10, layer.name
        # A hundred thousand float32 roundings, behind the global mean as well.
        assert np.sqrt(((y - y.mean(0)) ** 2).mean()) > 1e5 * 2.0**-24, layer.name
        dead = np.all(y == 0, axis=tuple(range(y.ndim - 1))).mean()
        assert dead < 0.75, layer.name


def test_logits_spread_over_inputs(
    keras: Any, deep_model: Callable[[], Any], request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Fresh inputs give visibly different class probabilities, neither uniform nor saturated."""
    model = deep_model()
    native = _seeded(model, request_for, quiet)
    x = np.random.default_rng(9).standard_normal((8, 16, 16, 3)).astype(np.float32)
    logits = np.asarray(keras.Model(model.inputs, model.layers[-2].output)(x))
    assert 0.3 < (logits - logits.mean(0)).std() < 6
    (p,) = native.run({"image": x}, Precision.F32).values()
    assert np.sqrt(((p - p.mean(0)) ** 2).mean()) > 0.02
    assert np.median(p.max(1)) < 0.999


def test_a_mixed_policy_is_seeded(keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]) -> None:
    """A layer that computes in float16 and keeps float32 variables is calibrated in its own types."""
    x = keras.Input((24,), name="x")
    dense = keras.layers.Dense(16, activation="relu", dtype="mixed_float16")
    model = keras.Model(x, keras.layers.Dense(4, dtype="float32")(dense(x)))
    _seeded(model, request_for, quiet)
    assert (dense.kernel.dtype, dense.bias.dtype, dense.compute_dtype) == ("float32", "float32", "float16")
    response = np.asarray(model(np.random.default_rng(9).standard_normal((64, 24)).astype(np.float32)))
    assert 0.3 < response.std() < 6


def test_what_keras_starts_at_zero_gets_values(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Biases and layer scales of 1e-6 matter after seeding; statistics fit what arrives; Normalization stays."""
    from onnxeq_converters.from_keras.seeding import calibration_inputs

    class Scale(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def build(self, shape: Any) -> None:
            self.factor = self.add_weight(shape=(shape[-1],), initializer=keras.initializers.Constant(1e-6))

        def call(self, x: Any) -> Any:
            return x * self.factor

    norm = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])
    scale, bn, dense = Scale(), keras.layers.BatchNormalization(), keras.layers.Dense(4)
    model = keras.Sequential([keras.Input((8, 8, 3), name="x"), norm, scale, bn, dense])
    _seeded(model, request_for, quiet)
    assert np.all(np.asarray(scale.factor) > 0.1)
    (fresh,) = calibration_inputs((TensorSpec("x", "float32", (8, 8, 8, 3)),), np.random.RandomState(99))
    arriving = np.asarray(scale(norm(fresh))).var((0, 1, 2))
    assert np.abs(np.log(np.asarray(bn.moving_variance) / arriving)).max() < np.log(3)
    assert np.all(np.asarray(bn.beta) != 0)
    assert np.all(np.asarray(dense.bias) != 0)
    np.testing.assert_array_equal(np.ravel(norm.mean), [1, 2, 3])


def test_subclassed_model_is_seeded_too(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Layers are caught when called, so a model without a graph gets calibrated statistics as well."""

    class Mine(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = keras.layers.Conv2D(6, 3)
            self.norm = keras.layers.BatchNormalization()
            self.head = keras.layers.Dense(3, activation="softmax")

        def call(self, x: Any) -> Any:
            y = self.norm(self.conv(100 * x))
            return self.head(keras.ops.mean(y, axis=(1, 2)))

    model = Mine()
    inputs = (TensorSpec("x", "float32", (1, 10, 10, 3)),)
    native = _seeded(model, request_for, quiet, inputs=inputs)
    x = np.random.default_rng(4).standard_normal((5, 10, 10, 3)).astype(np.float32)
    y = np.asarray(model.conv(100 * x))
    assert 0.2 < y.std() < 5
    assert np.asarray(model.norm.moving_variance) == pytest.approx(y.var((0, 1, 2)), rel=3)
    (p,) = native.run({"x": x}, Precision.F32).values()
    assert p.std(0).max() > 0.02


def test_layer_call_is_restored(
    keras: Any, deep_model: Callable[[], Any], request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Seeding leaves ``Layer.__call__`` and every activation as they were."""
    before = keras.layers.Layer.__call__
    model = deep_model()
    activations = [getattr(layer, "activation", None) for layer in model.layers]
    _seeded(model, request_for, quiet)
    assert keras.layers.Layer.__call__ is before
    assert [getattr(layer, "activation", None) for layer in model.layers] == activations


@pytest.mark.parametrize("kind", ["recurrent", "attention"])
def test_cells_and_heads_are_seeded(
    keras: Any, kind: str, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A recurrent cell, whose response is a tuple, and an attention, whose biases have an axis of heads, are given
    values, and the output differs between inputs.
    """
    layers = keras.layers
    x = keras.Input((8, 16), name="x")
    if kind == "recurrent":
        h = layers.GRU(8)(layers.LSTM(16, return_sequences=True)(x))
    else:
        h = layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 8)(x, x))
    native = _seeded(keras.Model(x, layers.Dense(4)(h)), request_for, quiet)
    feed = {"x": np.random.default_rng(0).standard_normal((6, 8, 16)).astype(np.float32)}
    (y,) = native.run(feed, Precision.F32).values()
    assert np.all(np.isfinite(y))
    assert 0.05 < float(np.std(y, axis=0).mean()) < 20
    assert all(np.any(value != 0) for value in native.weights().values())


def test_a_normalisation_that_a_package_derives_is_calibrated(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A class of another name under BatchNormalization gets the statistics that the original gets, bit for bit."""

    class Renamed(keras.layers.BatchNormalization):  # type: ignore[misc]
        pass

    def weights(kind: Any) -> list[Any]:
        image = keras.Input((8, 8, 3), name="image")
        x = kind()(keras.layers.Conv2D(4, 3, use_bias=False)(image))
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
        return list(_seeded(model, request_for, quiet).weights().values())

    for ours, original in zip(weights(Renamed), weights(keras.layers.BatchNormalization), strict=True):
        np.testing.assert_array_equal(ours, original)
