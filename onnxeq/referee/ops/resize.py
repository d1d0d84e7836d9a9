"""Resampling on a regular grid: Resize and Upsample, axis by axis with explicit tap weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.registry import Call, Value, op

__all__ = ["cubic_weights"]


@dataclass(frozen=True)
class _Axis:
    """How one axis is resampled.

    Attributes:
        size: Input length.
        output: Output length.
        scale: Output per input element; as given, since ``output / size`` is rounded.
        roi: Start and end, of the input's length, for ``tf_crop_and_resize``.
    """

    size: int
    output: int
    scale: float
    roi: tuple[float, float]


@dataclass(frozen=True)
class _Style:
    """The attributes that choose the interpolation."""

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float
    exclude_outside: bool
    antialias: bool
    extrapolation: float
    nudge: float = 0.0


def _original(axis: _Axis, mode: str, kind: type[np.float32 | np.float64] = np.float64) -> NDArray[Any]:
    """Where each output element lies in the input, by the coordinate transformation mode, computed in ``kind``."""
    x: NDArray[Any] = np.arange(axis.output).astype(kind)
    half, size, output, scale = kind(0.5), kind(axis.size), kind(axis.output), kind(axis.scale)
    if mode == "half_pixel":
        return (x + half) / scale - half
    if mode == "half_pixel_symmetric":
        adjustment = output / (scale * size)
        return size / 2 * (1 - adjustment) + (x + half) / scale - half
    if mode == "pytorch_half_pixel":
        return (x + half) / scale - half if axis.output > 1 else np.zeros_like(x)
    if mode == "align_corners":
        return x * (size - 1) / (output - 1) if axis.output > 1 else np.zeros_like(x)
    if mode == "asymmetric":
        return x / scale
    if mode == "tf_half_pixel_for_nn":
        return (x + half) / scale
    if mode == "tf_crop_and_resize":
        start, end = (kind(place) for place in axis.roi)
        if axis.output > 1:
            return start * (size - 1) + x * (end - start) * (size - 1) / (output - 1)
        return np.full(axis.output, half * (start + end) * (size - 1))
    raise ValueError(f"coordinate_transformation_mode {mode!r} is not defined")


def _nearest(x: NDArray[np.float64], mode: str, scale: float) -> NDArray[np.int64]:
    if mode == "simple":  # before opset 11: upwards when shrinking, downwards when growing
        return (np.ceil(x) if scale < 1 else np.floor(x)).astype(np.int64)
    if mode == "round_prefer_floor":
        return np.ceil(x - 0.5).astype(np.int64)
    if mode == "round_prefer_ceil":
        return np.floor(x + 0.5).astype(np.int64)
    if mode in ("floor", "ceil"):
        return (np.floor(x) if mode == "floor" else np.ceil(x)).astype(np.int64)
    raise ValueError(f"nearest_mode {mode!r} is not defined")


def cubic_weights(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' kernel: ``(a+2)d^3 - (a+3)d^2 + 1`` up to 1, ``a(d^3 - 5d^2 + 8d - 4)`` up to 2, 0 beyond."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * a - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _taps(axis: _Axis, style: _Style) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Input indices and weights, ``[taps,output]``; they sum to one over the taps."""
    if style.mode == "nearest":
        # An index, like a size, is what every runtime computes it to be in float32: 17 / 1.7 is 10 there, and 9.9999997
        # from the stored scale's exact value.
        x = _original(axis, style.coordinates, np.float32).astype(np.float64)
        if not _divides_exactly(axis, style):
            x += style.nudge * (np.abs(x) + 1)
        index = _nearest(x, style.nearest, axis.scale)
        return np.clip(index, 0, axis.size - 1)[None], np.ones((1, axis.output))
    x = _original(axis, style.coordinates)
    radius = 1 if style.mode == "linear" else 2
    squeeze = min(axis.scale, 1.0) if style.antialias else 1.0
    if squeeze < 1.0:
        reach = math.ceil(radius / squeeze) + 1
        offsets = np.arange(-reach, reach + 2)
    else:
        offsets = np.arange(1 - radius, radius + 1)
    index = np.floor(x).astype(np.int64)[None] + offsets[:, None]
    distance = (index - x) * squeeze
    hat = style.mode == "linear"
    weights = np.maximum(1 - np.abs(distance), 0) if hat else cubic_weights(distance, style.cubic_a)
    if style.exclude_outside:
        weights = np.where((index < 0) | (index >= axis.size), 0.0, weights)
    if style.exclude_outside or squeeze < 1.0:
        weights = weights / weights.sum(axis=0)
    return np.clip(index, 0, axis.size - 1), weights


def _divides_exactly(axis: _Axis, style: _Style) -> bool:
    """Whether coordinates come out without rounding, however a runtime computes them: by a power of two."""
    plain = style.coordinates in ("asymmetric", "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn")
    return plain and math.frexp(axis.scale)[0] == 0.5


def _along(x: NDArray[Any], dim: int, axis: _Axis, style: _Style) -> NDArray[Any]:
    index, weights = _taps(axis, style)
    if style.mode == "nearest":
        return np.asarray(np.take(x, index[0], axis=dim))
    shape = [1] * x.ndim
    shape[dim] = axis.output
    total: NDArray[Any] | None = None
    for positions, weight in zip(index, weights, strict=True):
        if not weight.any():
            continue
        term = np.take(x, positions, axis=dim)
        term = term * weight.reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    return np.zeros((*x.shape[:dim], axis.output, *x.shape[dim + 1 :])) if total is None else total


def _resample(X: NDArray[Any], axes: Sequence[int], plans: Sequence[_Axis], style: _Style) -> NDArray[Any]:
    dtype = X.dtype
    Y = X if style.mode == "nearest" else X.astype(np.float64, copy=False)
    cropping = style.coordinates == "tf_crop_and_resize"
    for dim, plan in zip(axes, plans, strict=True):
        untouched = plan.output == plan.size and plan.scale == 1 and plan.roi == (0.0, 1.0)
        if not untouched and Y.size:
            Y = _along(Y, dim, plan, style)
    if cropping:
        Y = np.array(Y)
        for dim, plan in zip(axes, plans, strict=True):
            x = _original(plan, style.coordinates)
            outside = (x < 0) | (x > plan.size - 1)
            Y[(slice(None),) * dim + (outside,)] = style.extrapolation
    if dtype.kind in "iu" and Y.dtype != dtype:
        return np.asarray(np.trunc(Y).astype(dtype))
    return Y


def _sizes_by_scale(size: Sequence[int], scales: Sequence[float], spans: Sequence[float]) -> list[int]:
    """``floor(size * span * scale)`` in float32, as every runtime does: 10 * 0.7 is 7, not 6.9999999."""
    return [
        int(np.floor(np.float32(np.float32(n) * np.float32(span)) * np.float32(s)))
        for n, s, span in zip(size, scales, spans, strict=True)
    ]


def _style(call: Call) -> _Style:
    mode = call.get("mode", "nearest")
    return _Style(
        mode="linear" if mode == "bilinear" else mode,
        coordinates=call.get("coordinate_transformation_mode", "half_pixel"),
        nearest=call.get("nearest_mode", "round_prefer_floor"),
        cubic_a=call.get("cubic_coeff_a", -0.75),
        exclude_outside=bool(call.get("exclude_outside", 0)),
        antialias=bool(call.get("antialias", 0)),
        extrapolation=call.get("extrapolation_value", 0.0),
        nudge=call.nudge,
    )


def _kept_ratio(policy: str, size: Sequence[int], wanted: Sequence[int]) -> float:
    ratios = [w / n for w, n in zip(wanted, size, strict=True)]
    if policy == "not_larger":
        return min(ratios)
    if policy == "not_smaller":
        return max(ratios)
    raise ValueError(f"keep_aspect_ratio_policy {policy!r} is not defined")


@op("Resize", since=11, witnesses=("suite", "onnxruntime", "torch"))
def resize(call: Call, X: Value, roi: Value = None, scales: Value = None, sizes: Value = None) -> Value:
    """Weighted averages of neighbours at the coordinates that the attributes choose."""
    style = _style(call)
    axes = [int(a) % X.ndim for a in call.get("axes") or range(X.ndim)]
    size = [X.shape[a] for a in axes]
    regions = [(0.0, 1.0)] * len(axes)
    if style.coordinates == "tf_crop_and_resize" and roi is not None and roi.size:
        regions = [(float(roi[i]), float(roi[len(axes) + i])) for i in range(len(axes))]
    if sizes is not None and sizes.size:
        output = [int(v) for v in sizes]
        policy = call.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = _kept_ratio(policy, size, output)
            output = [math.floor(ratio * n + 0.5) for n in size]
            factors = [ratio] * len(size)
        else:
            factors = [o / n if n else 1.0 for o, n in zip(output, size, strict=True)]
    elif scales is not None and scales.size:
        factors = [float(v) for v in scales]
        output = _sizes_by_scale(size, factors, [end - start for start, end in regions])
    else:
        raise ValueError("neither scales nor sizes is given")
    plans = [_Axis(n, o, f, r) for n, o, f, r in zip(size, output, factors, regions, strict=True)]
    return _resample(X, axes, plans, style)


_OLD = _Style("nearest", "asymmetric", "simple", -0.75, False, False, 0.0)


def _resize_old(call: Call, X: NDArray[Any], scales: Sequence[float]) -> NDArray[Any]:
    mode = call.get("mode", "nearest")
    style = _Style(
        "linear" if mode in ("linear", "bilinear") else mode,
        _OLD.coordinates, _OLD.nearest, _OLD.cubic_a, False, False, 0.0, call.nudge,
    )  # fmt: skip
    output = _sizes_by_scale(X.shape, scales, [1.0] * X.ndim)
    plans = [_Axis(n, o, s, (0.0, 1.0)) for n, o, s in zip(X.shape, output, scales, strict=True)]
    return _resample(X, range(X.ndim), plans, style)


@op("Resize", since=10, until=10, witnesses=("onnxruntime", "spec"))
def resize_10(call: Call, X: Value, scales: Value) -> Value:
    """Opset 10: ``x / scale``, nearest by truncation (upwards when shrinking)."""
    return _resize_old(call, X, [float(v) for v in scales])


@op("Upsample", since=9, witnesses=("suite", "onnxruntime"))
def upsample(call: Call, X: Value, scales: Value) -> Value:
    """The scales are an input; otherwise as Resize in opset 10."""
    return _resize_old(call, X, [float(v) for v in scales])


@op("Upsample", since=7, until=8, witnesses=("onnxruntime", "spec"))
def upsample_7(call: Call, X: Value) -> Value:
    """The scales are an attribute."""
    return _resize_old(call, X, call.get("scales"))


@op("Upsample", until=6, witnesses=("spec",))
def upsample_1(call: Call, X: Value) -> Value:
    """The first version scales height and width only."""
    scales = [1.0, 1.0, call.get("height_scale"), call.get("width_scale")]
    return _resize_old(call, X, scales)
