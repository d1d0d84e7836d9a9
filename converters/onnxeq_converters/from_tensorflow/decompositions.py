"""float64 forms of TensorFlow operators that have no float64 kernel, or whose schema fixes float32.

Each takes the operator (for its attributes) and its inputs, already float64, and returns its
outputs. The formulas are those of TensorFlow's own kernels; attributes are stored as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from onnxeq_converters.from_tensorflow.framework import tensorflow

__all__ = ["DECOMPOSITIONS"]

Decomposition: TypeAlias = Callable[[Any, Sequence[Any]], Sequence[Any]]


def _fused_batch_norm(op: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """``y = (x - mean) * scale / sqrt(variance + epsilon) + offset``, per channel."""
    tf = tensorflow()
    x, scale, offset, mean, variance = inputs
    layout = op.get_attr("data_format").decode()
    channel = layout.index("C")
    if op.get_attr("is_training"):
        axes = [axis for axis in range(len(layout)) if axis != channel]
        mean, variance = tf.nn.moments(x, axes)
    shape = [-1 if axis == channel else 1 for axis in range(len(layout))]
    wide = {k: tf.reshape(v, shape) for k, v in zip("smvo", (scale, mean, variance, offset), strict=True)}
    factor = wide["s"] * tf.math.rsqrt(wide["v"] + op.get_attr("epsilon"))
    y = (x - wide["m"]) * factor + wide["o"]
    # The remaining outputs serve training only; what they hold at inference is the statistics.
    return [y, mean, variance, mean, variance, tf.zeros([0], tf.float64)][: len(op.outputs)]


def _resize_bilinear(op: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """Linear interpolation between the two nearest rows, then columns; edges clamp."""
    images, size = inputs
    for axis in (1, 2):
        images = _interpolate(op, images, size[axis - 1], axis)
    return [images]


def _interpolate(op: Any, x: Any, size: Any, axis: int) -> Any:
    """One axis: source position ``s = i * scale``, or ``(i + 1/2) * scale - 1/2`` for half pixels."""
    tf = tensorflow()
    n_in = tf.shape(x)[axis]
    wide_in, wide_out = tf.cast(n_in, tf.float64), tf.cast(size, tf.float64)
    scale = wide_in / wide_out
    if op.get_attr("align_corners"):
        scale = tf.where(size > 1, (wide_in - 1) / tf.maximum(wide_out - 1, 1), scale)
    i = tf.cast(tf.range(size), tf.float64)
    source = (i + 0.5) * scale - 0.5 if op.get_attr("half_pixel_centers") else i * scale
    floor = tf.floor(source)
    low = tf.cast(tf.maximum(floor, 0), tf.int32)
    high = tf.minimum(tf.cast(tf.math.ceil(source), tf.int32), n_in - 1)
    shape = [-1 if a == axis else 1 for a in range(4)]
    weight = tf.reshape(source - floor, shape)
    below = tf.gather(x, low, axis=axis)
    return below + (tf.gather(x, high, axis=axis) - below) * weight


def _lrn(op: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """``x / (bias + alpha * sum of squares over 2 * radius + 1 channels) ** beta``."""
    tf = tensorflow()
    (x,) = inputs
    radius = op.get_attr("depth_radius")
    padded = tf.pad(tf.square(x), [[0, 0], [0, 0], [0, 0], [radius, radius]])
    channels = tf.shape(x)[-1]
    total = tf.add_n([padded[..., k : k + channels] for k in range(2 * radius + 1)])
    return [x * tf.pow(op.get_attr("bias") + op.get_attr("alpha") * total, -op.get_attr("beta"))]


def _pool_3d(op: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """A pool over depth, height and width: one over height and width, then one over depth.

    Both maxima and means are separable so: what is padded counts for nothing, and every slice of a window has as many
    values as the next.
    """
    tf = tensorflow()
    pool = tf.nn.max_pool2d if op.type == "MaxPool3D" else tf.nn.avg_pool2d
    sizes, strides = list(op.get_attr("ksize")), list(op.get_attr("strides"))
    padding = op.get_attr("padding").decode()
    (x,) = inputs
    n, depth, height, width, channels = (tf.shape(x)[axis] for axis in range(5))
    flat = tf.reshape(x, [n * depth, height, width, channels])
    flat = pool(flat, sizes[2:4], strides[2:4], padding)
    height, width = tf.shape(flat)[1], tf.shape(flat)[2]
    deep = pool(tf.reshape(flat, [n, depth, height * width, channels]), [sizes[1], 1], [strides[1], 1], padding)
    return [tf.reshape(deep, [n, tf.shape(deep)[1], height, width, channels])]


def _conv_3d(op: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """A convolution for each group of channels: a kernel for fewer than come in means groups, which only XLA runs."""
    tf = tensorflow()
    x, kernel = inputs
    strides, padding = list(op.get_attr("strides")), op.get_attr("padding").decode()
    dilations = list(op.get_attr("dilations"))
    groups = (op.inputs[0].shape[-1] or kernel.shape[3]) // kernel.shape[3]
    parts = zip(tf.split(x, groups, axis=4), tf.split(kernel, groups, axis=4), strict=True)
    made = [tf.nn.conv3d(a, b, strides, padding, dilations=dilations) for a, b in parts]
    return [tf.concat(made, axis=4)]


DECOMPOSITIONS: Mapping[str, Decomposition] = {
    "AvgPool3D": _pool_3d,
    "Conv3D": _conv_3d,
    "FusedBatchNorm": _fused_batch_norm,
    "FusedBatchNormV2": _fused_batch_norm,
    "FusedBatchNormV3": _fused_batch_norm,
    "LRN": _lrn,
    "MaxPool3D": _pool_3d,
    "ResizeBilinear": _resize_bilinear,
}
"""TensorFlow operator -> its float64 form."""
