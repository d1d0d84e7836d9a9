"""The float64 run against independent witnesses: Keras' own float64 policy, and formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import onnxeq_converters.from_keras as converter
from onnxeq.errors import CannotRun
from onnxeq.types import Precision, TensorSpec

pytestmark = pytest.mark.keras


@pytest.fixture
def in_float64(keras: Any) -> Iterator[Callable[[Any], Any]]:
    """Rebuilds a model with every layer's dtype policy set to float64, and copies its weights.

    Float scalars are rounded to float32 first, which is how the traced program stores them.
    """
    before = keras.config.floatx(), keras.config.dtype_policy()

    def rebuild(model: Any) -> Any:
        keras.config.set_floatx("float64")

        def widen(layer: Any) -> Any:
            config = layer.get_config()
            config["dtype"] = "float64"
            for key in ("epsilon", "negative_slope"):
                if key in config:
                    config[key] = float(np.float32(config[key]))
            return type(layer).from_config(config)

        copy = keras.models.clone_model(model, clone_function=widen)
        for target, source in zip(copy.variables, model.variables, strict=True):
            target.assign(np.asarray(source).astype(np.float64))
        return copy

    yield rebuild
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def _relative(a: Any, b: Any) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_convolutional_model_agrees_with_the_float64_policy(
    keras: Any,
    images: Any,
    in_float64: Callable[[Any], Any],
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """Lifting the trace equals building the model in float64, to float64 rounding.

    Interpolation is left out here: TensorFlow's bilinear kernel answers in float32 under any policy.
    """
    keras.utils.set_random_seed(5)
    layers = keras.layers
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.LeakyReLU(0.1)(layers.BatchNormalization(epsilon=1.001e-5)(x))
    y = layers.DepthwiseConv2D(3, padding="same", activation="gelu")(x)
    y = layers.SeparableConv2D(8, 3, padding="same", activation="silu")(y)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="hard_sigmoid")(x)
    x = layers.GroupNormalization(2)(layers.AveragePooling2D(3, padding="same")(x))
    x = layers.Dense(5, activation="log_softmax")(layers.Flatten()(x))
    model = keras.Model(image, x)
    native = converter.wrap(model, request_for(), quiet)
    (wide,) = native.run({"image": images}, Precision.F64).values()
    expected = np.asarray(in_float64(model)(images.astype(np.float64), training=False))
    assert wide.dtype == expected.dtype == np.float64
    assert _relative(wide, expected) < 1e-14
    (narrow,) = native.run({"image": images}, Precision.F32).values()
    assert 0 < _relative(narrow, wide) < 1e-5


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_loops_are_lifted_with_their_bodies(
    cell: str,
    keras: Any,
    in_float64: Callable[[Any], Any],
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """A recurrent layer, a loop over a function in the graph's library, runs in float64 throughout."""
    keras.utils.set_random_seed(6)
    x = keras.Input((7, 3), name="x")
    model = keras.Model(x, getattr(keras.layers, cell)(4, return_sequences=True)(x))
    value = np.random.default_rng(1).standard_normal((2, 7, 3)).astype(np.float32)
    native = converter.wrap(model, request_for(), quiet)
    (wide,) = native.run({"x": value}, Precision.F64).values()
    expected = np.asarray(in_float64(model)(value.astype(np.float64), training=False))
    assert _relative(wide, expected) < 1e-14


def test_attention_and_embedding_agree_with_the_float64_policy(
    keras: Any,
    in_float64: Callable[[Any], Any],
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """Einsum, softmax and lookups of variables are lifted too."""
    keras.utils.set_random_seed(8)
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = keras.layers.Embedding(9, 8)(ids)
    model = keras.Model(ids, keras.layers.MultiHeadAttention(2, 4)(x, x))
    value = np.arange(12, dtype=np.int32).reshape(2, 6) % 9
    native = converter.wrap(model, request_for(), quiet)
    (wide,) = native.run({"ids": value}, Precision.F64).values()
    expected = np.asarray(in_float64(model)(value, training=False))
    assert _relative(wide, expected) < 1e-14


def _native(keras: Any, function: Callable[[Any], Any], shape: tuple[int, ...], request: Any, quiet: Any) -> Any:
    class Op(keras.Model):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return function(x)

    inputs = (TensorSpec("x", "float32", (1, *shape)),)
    return converter.wrap(Op(), request(inputs=inputs), quiet)


@pytest.mark.parametrize("size", [(6, 10), (5, 3), (1, 1), (13, 4)])
@pytest.mark.parametrize("mode", ["half_pixel", "align_corners", "asymmetric"])
def test_bilinear_resize_is_the_interpolation_formula(
    mode: str,
    size: tuple[int, int],
    keras: Any,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """float64 resize equals ``sum_k w_k x_k`` with exact weights, and TensorFlow's kernel to float32 rounding."""
    import tensorflow as tf

    flags = {"half_pixel_centers": mode == "half_pixel", "align_corners": mode == "align_corners"}
    native = _native(
        keras,
        lambda x: tf.raw_ops.ResizeBilinear(images=x, size=size, **flags),
        (5, 4, 2),
        request_for,
        quiet,
    )
    x = np.random.default_rng(2).standard_normal((2, 5, 4, 2)).astype(np.float32)
    (wide,) = native.run({"x": x}, Precision.F64).values()
    (narrow,) = native.run({"x": x}, Precision.F32).values()

    def matrix(n_in: int, n_out: int) -> Any:
        i = np.arange(n_out)
        if mode == "half_pixel":
            s = (i + 0.5) * n_in / n_out - 0.5
        elif mode == "align_corners" and n_out > 1:
            s = i * (n_in - 1) / (n_out - 1)
        else:
            s = i * n_in / n_out
        # A hat function around each source sample, its ends extended: linear interpolation with clamping.
        return np.maximum(0, 1 - np.abs(np.clip(s, 0, n_in - 1)[:, None] - np.arange(n_in)))

    expected = np.einsum("ih,nhwc,jw->nijc", matrix(5, size[0]), x.astype(np.float64), matrix(4, size[1]))
    np.testing.assert_allclose(wide, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=2e-6)


@pytest.mark.parametrize("training", [False, True])
def test_fused_batch_norm_is_its_formula(
    training: bool, keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """``(x - mean) / sqrt(var + eps) * scale + offset`` with epsilon as float32 stores it."""
    import tensorflow as tf

    scale, offset, mean, var = (np.array(v, np.float32) for v in ([2, 3], [0.1, 0.2], [1, -1], [1e-5, 4]))
    epsilon = 1.001e-5

    def normalise(x: Any) -> Any:
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=[] if training else mean, variance=[] if training else var,
            epsilon=epsilon, is_training=training,
        ).y  # fmt: skip

    native = _native(keras, normalise, (3, 3, 2), request_for, quiet)
    x = np.random.default_rng(2).standard_normal((2, 3, 3, 2)).astype(np.float32)
    (wide,) = native.run({"x": x}, Precision.F64).values()
    f = {k: v.astype(np.float64) for k, v in (("x", x), ("s", scale), ("o", offset), ("m", mean), ("v", var))}
    m, v = (f["x"].mean((0, 1, 2)), f["x"].var((0, 1, 2))) if training else (f["m"], f["v"])
    expected = (f["x"] - m) / np.sqrt(v + float(np.float32(epsilon))) * f["s"] + f["o"]
    np.testing.assert_allclose(wide, expected, rtol=1e-13)


def test_local_response_normalization_is_its_formula(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """``x / (bias + alpha * sum over 2r+1 channels of x^2) ** beta``."""
    import tensorflow as tf

    native = _native(
        keras,
        lambda x: tf.nn.lrn(x, depth_radius=1, bias=2.0, alpha=0.5, beta=0.75),
        (1, 1, 4),
        request_for,
        quiet,
    )
    x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 1, 4)
    (wide,) = native.run({"x": x}, Precision.F64).values()
    sums = np.array([1 + 4, 1 + 4 + 9, 4 + 9 + 16, 9 + 16], np.float64)
    np.testing.assert_allclose(wide.ravel(), x.ravel() / (2 + 0.5 * sums) ** 0.75, rtol=1e-14)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kind", ["MaxPool3D", "AvgPool3D"])
def test_a_pool_over_volumes_is_the_formula(
    kind: str,
    padding: str,
    keras: Any,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """float64 pools over depth, height and width take the window's values that exist, as TensorFlow's kernel does."""
    import tensorflow as tf

    size, stride, shape = (2, 3, 3), (2, 1, 2), (5, 6, 7)
    native = _native(
        keras,
        lambda x: getattr(tf.raw_ops, kind)(input=x, ksize=[1, *size, 1], strides=[1, *stride, 1], padding=padding),
        (*shape, 2),
        request_for,
        quiet,
    )
    x = np.random.default_rng(3).standard_normal((2, *shape, 2)).astype(np.float32)
    (wide,) = native.run({"x": x}, Precision.F64).values()
    (narrow,) = native.run({"x": x}, Precision.F32).values()

    def windows(n: int, k: int, s: int) -> list[slice]:
        if padding == "VALID":
            return [slice(i, i + k) for i in range(0, n - k + 1, s)]
        before = max((-(-n // s) - 1) * s + k - n, 0) // 2
        return [slice(max(i * s - before, 0), i * s - before + k) for i in range(-(-n // s))]

    places = [windows(n, k, s) for n, k, s in zip(shape, size, stride, strict=True)]
    reduce = np.max if kind == "MaxPool3D" else np.mean
    expected = np.array(
        [
            [[reduce(x[:, d, h, w].astype(np.float64), (1, 2, 3)) for w in places[2]] for h in places[1]]
            for d in places[0]
        ]
    ).transpose(3, 0, 1, 2, 4)
    np.testing.assert_allclose(wide, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(narrow, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_grouped_convolution_over_volumes_is_the_formula(
    groups: int, keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """``y[d, h, w, c] = sum x[d + i, h + j, w + k, g(c) + q] K[i, j, k, q, c]``; TensorFlow runs one group only."""
    import tensorflow as tf

    rng = np.random.default_rng(4)
    each, out, size = 4 // groups, 8, (2, 3, 2)
    kernel = rng.standard_normal((*size, each, out)).astype(np.float32)
    x = rng.standard_normal((2, 4, 5, 4, 4)).astype(np.float32)
    native = _native(
        keras,
        lambda v: tf.raw_ops.Conv3D(input=v, filter=kernel, strides=[1] * 5, padding="VALID"),
        x.shape[1:],
        request_for,
        quiet,
    )
    (wide,) = native.run({"x": x}, Precision.F64).values()
    views = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), size, (1, 2, 3))  # n d h w channel i j k
    expected = np.empty(wide.shape)
    for c in range(out):
        first = (c * groups // out) * each
        expected[..., c] = np.einsum("ndhwqijk,ijkq->ndhw", views[..., first : first + each, :, :, :], kernel[..., c])
    np.testing.assert_allclose(wide, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("op", ["ResizeBicubic", "FakeQuantWithMinMaxArgs", "Bitcast"])
def test_operator_without_float64_form_is_refused_by_name(
    op: str, keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """Nothing is computed in float32 on the way: the operator is named instead."""
    import tensorflow as tf

    functions = {
        "ResizeBicubic": lambda x: tf.raw_ops.ResizeBicubic(images=x, size=(3, 3)),
        "FakeQuantWithMinMaxArgs": lambda x: tf.raw_ops.FakeQuantWithMinMaxArgs(inputs=x),
        "Bitcast": lambda x: tf.bitcast(x, tf.int32),
    }
    native = _native(keras, functions[op], (2, 2, 1), request_for, quiet)
    x = np.ones((1, 2, 2, 1), np.float32)
    native.run({"x": x}, Precision.F32)
    with pytest.raises(CannotRun, match=rf"no float64 form of {op} at \w+"):
        native.run({"x": x}, Precision.F64)


def test_half_precision_casts_keep_their_meaning(
    keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A cast to float16 inside the program still rounds to float16; what follows is float64."""
    import tensorflow as tf

    native = _native(keras, lambda x: tf.cast(tf.cast(x, tf.float16), tf.float32) / 3.0, (1,), request_for, quiet)
    (wide,) = native.run({"x": np.array([[0.1]], np.float32)}, Precision.F64).values()
    assert wide.item() == float(np.float16(0.1)) / 3.0


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_arithmetic_is_not_rounded(
    name: str, keras: Any, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """``half(x)^2 * half(0.3)`` is that in float64, and a half-precision output is not rounded either."""
    import ml_dtypes
    import tensorflow as tf

    dtype = np.dtype(getattr(ml_dtypes, name, name))

    def product(x: Any) -> Any:
        half = tf.cast(x, name)
        return half * half * tf.constant(0.3, name)

    native = _native(keras, lambda x: [tf.cast(product(x), tf.float32), product(x)], (8,), request_for, quiet)
    x = np.random.default_rng(0).standard_normal((1, 8)).astype(np.float32)
    single, half = native.run({"x": x}, Precision.F64).values()
    want = x.astype(dtype).astype(np.float64) ** 2 * float(np.array(0.3, dtype))
    np.testing.assert_array_equal(single, want)
    np.testing.assert_array_equal(half, want)
    assert (want != want.astype(dtype).astype(np.float64)).any()
