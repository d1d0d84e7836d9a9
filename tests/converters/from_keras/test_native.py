"""Running live models: their interface, their inputs and outputs, their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onnxeq_converters.from_keras as converter
from onnxeq.errors import BadInputs, CannotRun
from onnxeq.types import Precision, TensorSpec

pytestmark = pytest.mark.keras


def test_wrap_changes_nothing_and_runs_as_the_model_does(
    small_cnn: Any, images: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Weights, training flags and outputs of a live model are the same after ``wrap`` and ``run``."""
    before = [np.array(v) for v in small_cnn.variables]
    expected = np.asarray(small_cnn(images, training=False))
    native = converter.wrap(small_cnn, request_for(weights="seeded"), quiet)
    result = native.run({"image": images}, Precision.F32)
    # One eager and one traced run: the same kernels, which TensorFlow may fuse.
    np.testing.assert_allclose(result["classes"], expected, rtol=0, atol=2.0**-21)
    for variable, value in zip(small_cnn.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)
    assert [s.text() for s in native.signature.inputs] == ["float32[N,12,12,3]"]
    assert [(s.name, s.text()) for s in native.signature.outputs] == [("classes", "float32[N,5]")]


def test_nested_inputs_and_outputs_are_flat_and_in_order(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Dictionaries of inputs and outputs are fed and returned by name; the arithmetic tells them apart."""
    a, b = keras.Input((2,), name="zeta"), keras.Input((2,), name="alpha")
    model = keras.Model({"zeta": a, "alpha": b}, {"plus": a + b, "minus": a - b})
    native = converter.wrap(model, request_for(), quiet)
    feed = {"zeta": np.full((1, 2), 5, np.float32), "alpha": np.full((1, 2), 3, np.float32)}
    result = native.run(feed, Precision.F32)
    assert set(result) == {"plus", "minus"}
    assert [spec.name for spec in native.signature.outputs] == list(result)
    np.testing.assert_array_equal(result["plus"], [[8, 8]])
    np.testing.assert_array_equal(result["minus"], [[2, 2]])
    wide = native.run(feed, Precision.F64)
    assert list(wide) == list(result)
    np.testing.assert_array_equal(wide["minus"], [[2, 2]])


def test_output_names_that_repeat_are_made_unique(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Two outputs of one shared layer keep their order under two names."""
    x = keras.Input((1,), name="x")
    double = keras.layers.Rescaling(2.0, name="double")
    model = keras.Model(x, [double(x), double(double(x))])
    result = converter.wrap(model, request_for(), quiet).run({"x": np.ones((1, 1), np.float32)}, Precision.F32)
    assert len(result) == 2
    assert [float(v.item()) for v in result.values()] == [2, 4]


def test_subclassed_model_takes_its_inputs_from_the_declaration(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A subclassed model with two arguments runs on declared inputs, and says what it needs without them."""

    class Two(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, left: Any, right: Any) -> Any:
            return self.dense(left) - right

    with pytest.raises(BadInputs) as caught:
        converter.wrap(Two(), request_for(), quiet)
    assert "--shape" in caught.value.hint
    declared = (TensorSpec("l", "float32", (1, 4)), TensorSpec("r", "float32", (1, 3)))
    model = Two()
    native = converter.wrap(model, request_for(inputs=declared), quiet)
    left, right = np.ones((2, 4), np.float32), np.full((2, 3), 7, np.float32)
    (y,) = native.run({"l": left, "r": right}, Precision.F64).values()
    np.testing.assert_allclose(y, left.astype(float) @ np.asarray(model.dense.kernel) - 7, rtol=1e-15)


def test_open_sizes_are_filled_from_the_declaration_by_name(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """An axis that the model leaves open takes the declared size; one that contradicts it is refused."""
    x = keras.Input((None, None, 3), name="x")
    model = keras.Model(x, keras.layers.GlobalMaxPooling2D()(x))
    given = (TensorSpec("x", "float32", (1, 6, 7, 3)),)
    native = converter.wrap(model, request_for(inputs=given), quiet)
    assert native.signature.inputs[0].shape == ("N", 6, 7, 3)
    with pytest.raises(BadInputs, match=r"1,6,7,4"):
        converter.wrap(model, request_for(inputs=(TensorSpec("x", "float32", (1, 6, 7, 4)),)), quiet)


@pytest.mark.parametrize(
    "value",
    [np.zeros((1, 12, 12, 4), np.float32), np.zeros((1, 12, 12, 3)), np.zeros((12, 12, 3), np.float32)],
    ids=["shape", "dtype", "rank"],
)
def test_feed_that_does_not_fit_is_refused(
    value: Any, small_cnn: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A wrong size, dtype or rank is said with what the input takes, and never broadcast or cast away."""
    native = converter.wrap(small_cnn, request_for(), quiet)
    with pytest.raises(BadInputs, match=r"float32\[N,12,12,3\]"):
        native.run({"image": value}, Precision.F32)


def test_weights_are_named_by_layer_and_unique(
    small_cnn: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Every variable is there once, by its path; the digest changes with a single value."""
    native = converter.wrap(small_cnn, request_for(), quiet)
    weights = native.weights()
    assert len(weights) == len(small_cnn.variables)
    assert weights["classes/kernel"].shape == (8, 5)
    digest = native.provenance["weights_sha256"]
    bias = small_cnn.get_layer("classes").bias
    bias.assign(np.nextafter(np.asarray(bias), np.float32(1)))
    assert converter.wrap(small_cnn, request_for(), quiet).provenance["weights_sha256"] != digest


def test_embedding_inputs_carry_the_vocabulary_as_range(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Integer inputs in front of an embedding range over what it can look up."""
    ids = keras.Input((5,), dtype="int32", name="ids")
    model = keras.Model(ids, keras.layers.Embedding(11, 4)(ids))
    native = converter.wrap(model, request_for(), quiet)
    limits = native.signature.inputs[0].range
    assert limits is not None
    assert (limits.low, limits.high) == (0, 11)


def test_a_model_that_raises_is_one_line(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """An exception in a model's own code becomes ``CannotRun`` with its first line."""

    class Broken(keras.Model):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            raise RuntimeError("no such thing\nsecond line")

    with pytest.raises(CannotRun, match="no such thing") as caught:
        converter.wrap(Broken(), request_for(inputs=(TensorSpec("x", "float32", (1, 2)),)), quiet)
    assert "\n" not in caught.value.line()


def test_a_random_state_is_no_weight(keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]) -> None:
    """A recurrent layer draws the state of its generator whenever it is made: the digest is that of the weights."""
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(2, dropout=0.5)])
    before = converter.wrap(model, request_for(), quiet).provenance["weights_sha256"]
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    assert states
    states[0].assign(np.asarray(states[0]) + 1)
    assert converter.wrap(model, request_for(), quiet).provenance["weights_sha256"] == before
