"""Pooling: accumulation over the window's taps on strided views, no im2col."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.blocks import in_blocks
from onnxeq.referee.registry import Call, Value, op
from onnxeq.referee.windows import Windows, padded, windows_of

__all__: list[str] = []

_ACTIVE = ("suite", "onnxruntime", "torch")
_BLOCK = 1 << 15


def _windows(call: Call, X: NDArray[Any]) -> Windows:
    kernel = tuple(call.get("kernel_shape"))
    return windows_of(call, X.shape[2:], kernel, ceil=bool(call.get("ceil_mode", 0)))


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _accumulate(
    X: NDArray[Any], windows: Windows, combine: np.ufunc, fill: float, power: float | None = None
) -> NDArray[Any]:
    """``combine`` over the taps of every window, a cache-sized block of channels at a time."""
    n, channels = X.shape[:2]
    planes = X.reshape(n * channels, *X.shape[2:])
    result = np.empty((n * channels, *windows.output), dtype=X.dtype)
    taps = [where for _, where in windows.taps()]

    def work(start: int, stop: int) -> None:
        part = planes[start:stop]
        if power is not None:
            part = np.abs(part) ** power
        source = padded(part, windows, fill)
        total = result[start:stop]
        np.copyto(total, source[(slice(None), *taps[0])])
        for where in taps[1:]:
            combine(total, source[(slice(None), *where)], out=total)

    plane = max(1, math.prod(windows.size))
    in_blocks(n * channels, max(1, _BLOCK // plane), work, weight=plane * len(taps))
    return result.reshape(n, channels, *windows.output)


@op("MaxPool", witnesses=(*_ACTIVE, "not reference: shape of SAME_LOWER"))
def max_pool(call: Call, X: Value) -> Value:
    """The largest element of each window; padding never wins. Optionally its index in the flattened input."""
    windows = _windows(call, X)
    Y = _accumulate(X, windows, np.maximum, _lowest(X.dtype))
    if call.n_outputs < 2:
        return Y
    return Y, _max_indices(X, Y, windows, bool(call.get("storage_order", 0)))


def _max_indices(X: NDArray[Any], Y: NDArray[Any], windows: Windows, column_major: bool) -> NDArray[np.int64]:
    """The position of the first tap that holds the maximum, in the whole flattened tensor."""
    n, channels = X.shape[:2]
    source = padded(X, windows, _lowest(X.dtype))
    inside = padded(np.ones(X.shape[2:], dtype=np.bool_)[None, None], windows, 0)
    size = windows.size
    numbers = np.arange(math.prod(size), dtype=np.int64).reshape(size[::-1] if column_major else size)
    if column_major:
        numbers = numbers.T
    places = padded(numbers[None, None], windows, 0)
    indices = np.full(Y.shape, -1, dtype=np.int64)
    for _, where in windows.taps():
        cut = (slice(None), slice(None), *where)
        hit = (source[cut] == Y) & inside[cut] & (indices < 0)
        np.copyto(indices, np.broadcast_to(places[cut], Y.shape), where=hit)
    planes = np.arange(n * channels, dtype=np.int64).reshape(n, channels, *(1,) * len(size))
    return np.asarray(indices + planes * math.prod(size))


@op("AveragePool", witnesses=_ACTIVE)
def average_pool(call: Call, X: Value) -> Value:
    """The mean of each window over its elements inside the input.

    With ``count_include_pad`` the padding counts too, but never what ``ceil_mode`` adds beyond it.
    """
    windows = _windows(call, X)
    total = _accumulate(X, windows, np.add, 0)
    total /= _counts(windows, bool(call.get("count_include_pad", 0)))
    return total


def _counts(windows: Windows, include_pad: bool) -> NDArray[np.float64]:
    """How many elements each window averages: a product of one count per axis."""
    counts = np.ones(())
    for axis, size in enumerate(windows.size):
        before, after = windows.before[axis], windows.after[axis]
        low, high = (-before, size + after) if include_pad else (0, size)
        first = np.arange(windows.output[axis]) * windows.strides[axis] - before
        taps = first[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        counts = counts[..., None] * ((taps >= low) & (taps < high)).sum(axis=1)
    return counts


@op("LpPool", since=2, witnesses=("suite", "onnxruntime"))
def lp_pool(call: Call, X: Value) -> Value:
    """``(sum |x|^p)^(1/p)`` of each window."""
    p = call.get("p", 2)
    return _accumulate(X, _windows(call, X), np.add, 0, power=p) ** (1 / p)


@op("LpPool", until=1, witnesses=("spec",))
def lp_pool_first(call: Call, X: Value) -> Value:
    """Opset 1: ``p`` is a float."""
    p = call.get("p", 2.0)
    return _accumulate(X, _windows(call, X), np.add, 0, power=p) ** (1 / p)


def _spatial(X: NDArray[Any]) -> tuple[int, ...]:
    return tuple(range(2, X.ndim))


@op("GlobalAveragePool", witnesses=("suite", "onnxruntime"))
def global_average_pool(call: Call, X: Value) -> Value:
    """The mean over the spatial axes."""
    return X.mean(axis=_spatial(X), keepdims=True)


@op("GlobalMaxPool", witnesses=("suite", "onnxruntime"))
def global_max_pool(call: Call, X: Value) -> Value:
    """The largest element over the spatial axes."""
    return X.max(axis=_spatial(X), keepdims=True)


@op("GlobalLpPool", witnesses=("onnxruntime", "spec"))
def global_lp_pool(call: Call, X: Value) -> Value:
    """``(sum |x|^p)^(1/p)`` over the spatial axes."""
    p = call.get("p", 2)
    return (np.abs(X) ** p).sum(axis=_spatial(X), keepdims=True) ** (1 / p)


@op("MaxUnpool", since=9, witnesses=("suite", "onnxruntime"))
def max_unpool(call: Call, X: Value, indices: Value, output_shape: Value = None) -> Value:
    """Puts each element where its index says in the unpooled size; zero elsewhere.

    The indices count in the size that the attributes give; ``output_shape`` pads that at the end.
    """
    rank = X.ndim - 2
    kernel = call.get("kernel_shape")
    strides = call.get("strides") or [1] * rank
    pads = call.get("pads") or [0] * (2 * rank)
    natural = [(X.shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank)]
    inferred = (*X.shape[:2], *natural)
    total = np.zeros(math.prod(inferred), dtype=X.dtype)
    if output_shape is None:
        total[indices.reshape(-1)] = X.reshape(-1)
        return total.reshape(inferred)
    shape = tuple(int(v) for v in output_shape)
    total[indices.reshape(-1)] = X.reshape(-1)
    whole = np.zeros(shape, dtype=X.dtype)
    whole[tuple(slice(0, n) for n in inferred)] = total.reshape(inferred)
    return whole
