"""Deterministic weights with healthy activations at every depth, for any Keras model.

Random initialisation alone leaves deep networks useless as subjects: activations die, explode, or
become the same for every input, and then nothing that is wrong with a conversion can show. So:

1. every variable gets values from one ``numpy`` generator, in the order of the layers; what Keras
   starts at zero (biases, layer scales of 1e-6, moving statistics) gets values that matter;
2. a batch of random inputs goes through the model once, eagerly, layer by layer. Each linear layer
   (anything with a kernel and an ``activation``) is rescaled so that its response has unit scale,
   and its bias centres it, before its output goes on (Mishkin and Matas, "All you need is a good
   init", 2016); each BatchNormalization takes the statistics of what reaches it;
3. the linear layers behind the outputs are rescaled last, so that logits spread over the inputs by
   about two: a softmax then varies visibly and is neither uniform nor saturated.

Layers are caught in ``Layer.__call__``, so functional, nested and subclassed models are treated
alike. Nothing depends on a model's or layer's name. ``Normalization`` and other preprocessing layers
keep what they were built with.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxeq.types import TensorSpec
from onnxeq_converters.from_keras.framework import framework

__all__ = ["calibration_inputs", "seed"]

_BATCH = 8
"""Images in the calibration batch: enough for a spread over inputs, few enough for seconds."""

_LOGIT_SPREAD = 2.0
"""Standard deviation of logits over inputs. With 1000 classes the largest softmax output is then
near exp(2*3.2 - 2)/1000 = 0.08: visible, and far from saturated."""

_BIAS_SPREAD = 1.0
"""Standard deviation of what starts at zero: offsets and biases. Near zero, activations would be
homogeneous in an image's contrast, which products (squeeze-and-excite) and soft thresholds
(``silu``) raise to higher powers layer by layer: a few images dominate all statistics, and the
others look alike. Measured on EfficientNet and Inception: logits 15 times the typical at 0.1."""

_BIAS_SHARE = 0.5
"""A centred response gets biases of this share of its spread: units differ, and few are dead."""

_HIGHEST_DEVIATION = 1.5
"""An image may stand out from the calibration batch's mean by this many logit spreads."""

_OPEN_SIZE = 64
"""Size of an axis that the model leaves open."""

_SOURCE = "_onnxeq_linear"
"""Attribute on an eager tensor: the linear layer that it comes from through weightless layers."""


@dataclass(frozen=True)
class _Source:
    """A linear layer and its last response before the activation."""

    layer: Any
    response: Any


@dataclass
class _Pass:
    """What one calibration pass has seen."""

    rng: np.random.RandomState
    done: set[int] = field(default_factory=set)
    last: _Source | None = None


def seed(model: Any, call: Callable[[Sequence[Any]], Any], specs: Sequence[TensorSpec], seed_value: int) -> None:
    """Gives ``model`` seeded weights, in place.

    Args:
        model: A Keras model, built or buildable by calling it.
        call: The model as a function of its flat inputs, in inference mode.
        specs: Its inputs, with ranges where known.
        seed_value: The same value gives the same weights on the same machine and versions.
    """
    fw = framework()
    rng = np.random.RandomState(seed_value % 2**32)
    inputs = [fw.tf.constant(x) for x in calibration_inputs(specs, rng)]
    fw.keras.utils.set_random_seed(seed_value % 2**32)
    if not model.built:
        call([x[:1] for x in inputs])
    for layer in _layers(model):
        _initialise(layer, rng)
    state = _Pass(rng)
    with _caught(type(model), state):
        outputs = call(inputs)
    finals: dict[int, _Source] = {}
    for output in fw.tf.nest.flatten(outputs):
        source = getattr(output, _SOURCE, None) or state.last
        if source is not None:
            finals[id(source.layer)] = source
    for source in finals.values():
        _spread_logits(source, rng)


def calibration_inputs(specs: Sequence[TensorSpec], rng: np.random.RandomState) -> list[Any]:
    """A batch for each input, in its range where one is known.

    Integers and booleans are uniform; floats of rank 3 and more are textures, others normal.
    """
    values: list[Any] = []
    for spec in specs:
        batch, *sizes = spec.shape or ("N",)
        shape = (
            batch if isinstance(batch, int) else _BATCH,
            *(d if isinstance(d, int) else _OPEN_SIZE for d in sizes),
        )
        if spec.dtype == "bool":
            values.append(rng.rand(*shape) < 0.5)
        elif np.dtype(spec.dtype).kind in "iu":
            low, high = (int(spec.range.low), int(spec.range.high)) if spec.range else (0, 2)
            values.append(rng.randint(low, max(high, low + 1), shape).astype(spec.dtype))
        else:
            value = _texture(shape, rng)
            if spec.range is not None:
                middle, half = (spec.range.low + spec.range.high) / 2, (spec.range.high - spec.range.low) / 2
                value = np.clip(middle + half * value / 2, spec.range.low, spec.range.high)
            values.append(value.astype(spec.dtype))
    return values


def _texture(shape: tuple[int, ...], rng: np.random.RandomState) -> Any:
    """Unit-scale noise under smooth patterns, each sample with its own contrast and brightness.

    White noise alone would average out behind pooling: every sample would look the same there, and
    the last layer would have to amplify the little that is left, rounding included.
    """
    noise = rng.standard_normal(shape)
    if len(shape) < 3:
        return noise
    sample = (shape[0],) + (1,) * (len(shape) - 1)
    waves = np.zeros(shape)
    for _ in range(3):
        wave = np.ones((1,) * len(shape))
        for axis in range(1, len(shape)):
            place = np.linspace(0, 1, shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
            turns = rng.uniform(0.2, 3.0, sample) * place + rng.uniform(0, 1, sample)
            wave = wave * np.cos(2 * np.pi * turns)
        waves = waves + wave
    # From pure noise to pure pattern: statistics of one kind do not hold for the other.
    share = rng.permutation(np.linspace(0, 1, shape[0])).reshape(sample)
    contrast = rng.uniform(0.8, 1.3, sample)
    return contrast * (share * waves + (1 - share) * noise) + rng.normal(0, 0.4, sample)


def _layers(model: Any) -> list[Any]:
    """Every layer that holds variables of its own, in the model's order."""
    return [layer for layer in model._flatten_layers() if _own_variables(layer)]


def _own_variables(layer: Any) -> list[Any]:
    """Variables of the layer itself, not of the layers inside it."""
    keras3 = [*getattr(layer, "_trainable_variables", ()), *getattr(layer, "_non_trainable_variables", ())]
    return keras3 or [
        *getattr(layer, "_trainable_weights", ()),
        *getattr(layer, "_non_trainable_weights", ()),
    ]


def _short_name(variable: Any) -> str:
    return str(variable.name).rpartition("/")[2].partition(":")[0]


def _initialise(layer: Any, rng: np.random.RandomState) -> None:
    """Values for a layer's own float variables; preprocessing state (not trainable) stays."""
    for variable in _own_variables(layer):
        shape = tuple(variable.shape)
        if not str(getattr(variable.dtype, "name", variable.dtype)).startswith(("float", "bfloat")):
            continue
        if not variable.trainable and not _short_name(variable).startswith("moving_"):
            continue
        variable.assign(_initial_value(np.asarray(variable), shape, _is_embedding(layer), rng))


def _is_embedding(layer: Any) -> bool:
    return type(layer).__name__ == "Embedding"


def _initial_value(built: Any, shape: tuple[int, ...], embedding: bool, rng: np.random.RandomState) -> Any:
    """Kernels ``N(0, 1/fan_in)``; vectors near what they were built with, but telling."""
    if embedding:
        return rng.standard_normal(shape)
    if sum(d > 1 for d in shape) >= 2:
        return rng.standard_normal(shape) / math.sqrt(max(math.prod(shape[:-1]), 1))
    if np.all(np.abs(built) < 0.01):
        # Biases, offsets, and layer scales of 1e-6: a layer scale near zero would hide its block.
        scale = rng.uniform(0.3, 0.7, shape)
        return scale if np.any(built != 0) else _BIAS_SPREAD * rng.standard_normal(shape)
    if float(built.min()) == float(built.max()):
        return built * rng.uniform(0.8, 1.2, shape)
    return built


@contextlib.contextmanager
def _caught(model_class: type, state: _Pass) -> Iterator[None]:
    """Every layer call goes through the calibration while the context lasts."""
    base: Any = next(c for c in model_class.__mro__ if c.__name__ == "Layer" and "__call__" in vars(c))
    original = base.__call__

    def caught(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _calibrated(self, lambda: original(self, *args, **kwargs), args, state)

    base.__call__ = caught
    try:
        yield
    finally:
        base.__call__ = original


def _calibrated(layer: Any, run: Callable[[], Any], args: Sequence[Any], state: _Pass) -> Any:
    if _normalises_batches(layer) and id(layer) not in state.done and _is_eager(args[0]):
        state.done.add(id(layer))
        _take_statistics(layer, args[0])
        return run()
    if _is_linear(layer):
        return _run_linear(layer, run, state)
    result = run()
    source = getattr(args[0], _SOURCE, None) if args else None
    if source is not None and _is_eager(result) and not layer.weights:
        setattr(result, _SOURCE, source)
    return result


def _normalises_batches(layer: Any) -> bool:
    """Whether it has moving statistics: a BatchNormalization, or one that packages derive from it."""
    named = any(cls.__name__.startswith("BatchNormalization") for cls in type(layer).__mro__)
    return named and getattr(layer, "moving_variance", None) is not None


def _is_eager(value: Any) -> bool:
    return hasattr(value, "numpy") and hasattr(value, "shape")


def _is_linear(layer: Any) -> bool:
    """Has one kernel that its response is proportional to, and an activation after the bias; no recurrent cell."""
    if hasattr(layer, "recurrent_kernel"):
        return False
    return callable(getattr(layer, "activation", None)) and _kernel(layer) is not None and not hasattr(layer, "units_")


def _kernel(layer: Any) -> Any | None:
    """The variable that scales the response: the pointwise one where there are two."""
    for name in ("pointwise_kernel", "_kernel", "kernel", "depthwise_kernel"):
        variable = getattr(layer, name, None)
        if variable is not None and hasattr(variable, "assign"):
            return variable
    return None


def _run_linear(layer: Any, run: Callable[[], Any], state: _Pass) -> Any:
    """The layer's output, after its first response set its kernel's scale and its bias."""
    activation = layer.activation
    layer.activation = framework().keras.activations.linear
    try:
        response = run()
    finally:
        layer.activation = activation
    if not _is_eager(response):
        return activation(response)
    if id(layer) not in state.done:
        state.done.add(id(layer))
        response = _unit_response(layer, response, state.rng)
    source = _Source(layer, response)
    state.last = source
    result = activation(response)
    setattr(result, _SOURCE, source)
    return result


def _channel_axis(layer: Any, response: Any) -> int:
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first and len(response.shape) > 2 else len(response.shape) - 1


def _statistics(layer: Any, response: Any) -> tuple[Any, Any, int]:
    """Mean and variance per channel over inputs and places, and the channel axis."""
    tf = framework().tf
    channel = _channel_axis(layer, response)
    axes = [a for a in range(len(response.shape)) if a != channel]
    mean, variance = tf.nn.moments(response, axes, keepdims=True)
    return mean, variance, channel


def _unit_response(layer: Any, response: Any, rng: np.random.RandomState) -> Any:
    """Rescales the kernel to a response of unit spread and centres it with the bias, if there is one."""
    tf = framework().tf
    mean, variance, _ = _statistics(layer, response)
    magnitude = float(tf.sqrt(tf.reduce_mean(tf.square(response))))
    spread = float(tf.sqrt(tf.reduce_mean(variance)))
    if not np.isfinite(magnitude) or magnitude == 0.0:
        return response
    if getattr(layer, "bias", None) is None:
        # Without a bias the mean stays, and counts.
        return _scaled(layer, response, 1.0 / magnitude, None)
    # With one value per input and channel (behind a global mean: squeeze-and-excite), unit spread
    # would amplify what little varies, rounding and outliers included.
    places = int(np.prod(response.shape)) // int(np.prod(mean.shape)) // int(response.shape[0])
    scale = spread if places > 1 else max(spread, magnitude)
    shift = (_BIAS_SHARE * _normal_like(mean, rng) * spread - mean) / scale
    return _scaled(layer, response, 1.0 / scale, shift)


def _normal_like(value: Any, rng: np.random.RandomState) -> Any:
    return rng.standard_normal(tuple(value.shape)).astype(value.dtype.as_numpy_dtype)


def _scaled(layer: Any, response: Any, gain: float, shift: Any | None) -> Any:
    """``response * gain + shift``, having made the layer give just that."""
    tf = framework().tf
    kernel, bias = _kernel(layer), getattr(layer, "bias", None)
    if kernel is None:
        return response
    kernel.assign(tf.convert_to_tensor(kernel) * gain)
    if bias is None:
        return response * gain
    old = tf.convert_to_tensor(bias) * gain
    if shift is None:
        bias.assign(old)
        return response * gain
    # A bias of several axes (heads of an attention) is moved alike along all but the last.
    same = int(np.prod(shift.shape)) == int(np.prod(bias.shape))
    moved = tf.cast(tf.reshape(shift, bias.shape if same else (-1,)), bias.dtype)  # a mixed policy's own is float32
    bias.assign(old + tf.broadcast_to(moved, bias.shape))
    return response * gain + shift


def _take_statistics(layer: Any, x: Any) -> None:
    """Sets the moving statistics to those of the batch; a channel that does not vary gets a floor."""
    tf = framework().tf
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    axes = [a for a in range(len(x.shape)) if a != axis % len(x.shape)]
    mean, variance = tf.nn.moments(x, axes)
    floor = 0.01 * tf.reduce_mean(variance) + 1e-6
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(tf.maximum(variance, floor))


def _spread_logits(source: _Source, rng: np.random.RandomState) -> None:
    """Rescales an output's linear layer so that its response spreads over the inputs as it should."""
    tf = framework().tf
    layer, response = source.layer, source.response
    deviation = np.asarray(response - tf.reduce_mean(response, axis=0, keepdims=True)).astype(np.float64)
    per_input = np.sqrt(np.mean(deviation.reshape(len(deviation), -1) ** 2, axis=1))
    magnitude = float(tf.sqrt(tf.reduce_mean(tf.square(response))))
    if not np.isfinite(magnitude) or per_input.max() == 0.0:
        return
    # The typical input spreads as it should, and none of them far more.
    limit = _LOGIT_SPREAD * _HIGHEST_DEVIATION
    gain = min(_LOGIT_SPREAD / max(float(np.median(per_input)), 1e-30), limit / float(per_input.max()))
    if getattr(layer, "bias", None) is None:
        # The mean cannot be taken out: keep it from saturating what follows.
        _scaled(layer, response, min(gain, 3 * _LOGIT_SPREAD / magnitude), None)
        return
    mean, _, _ = _statistics(layer, response)
    _scaled(layer, response, gain, 0.5 * _BIAS_SPREAD * _normal_like(mean, rng) - mean * gain)
