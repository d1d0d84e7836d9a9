"""Convolutions: im2col in bounded chunks and BLAS; depthwise by taps on cache-sized channel blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.blocks import in_blocks, product_threads, shared_out
from onnxeq.referee.registry import Call, Value, op
from onnxeq.referee.windows import Windows, padded, windows_of

__all__ = ["convolve"]

_CHUNK = 1 << 21
"""Elements of the im2col buffer: 16 MiB, large enough for BLAS, small beside the values themselves."""

_CHANNEL_BLOCK = 1 << 15
"""Elements of a depthwise block: with its padded input and one temporary it fits the second-level cache."""


def convolve(X: NDArray[Any], W: NDArray[Any], B: NDArray[Any] | None, windows: Windows, group: int) -> NDArray[Any]:
    """Cross-correlation ``float64[N,C,...] x float64[M,C/group,...] -> float64[N,M,...]``."""
    n, channels = X.shape[:2]
    filters, per_group = W.shape[:2]
    if channels != per_group * group or filters % group:
        raise ValueError(f"{channels} channels do not fit weights {list(W.shape)} with group {group}")
    Y = np.empty((n, filters, *windows.output), dtype=np.result_type(X, W))
    if Y.size == 0:
        return Y
    if windows.plain and group == 1:
        _pointwise(X.reshape(n, channels, -1), W.reshape(filters, channels), Y.reshape(n, filters, -1))
    elif per_group == 1:
        _depthwise(X, W, Y, windows, filters // group)
    else:
        _grouped(X, W, Y, windows, group)
    if B is not None:
        Y += B.reshape(-1, *(1,) * len(windows.size))
    return Y


def _pointwise(X: NDArray[Any], W: NDArray[Any], Y: NDArray[Any]) -> None:
    """A product for each image; images, or the filters of a single one, are shared out to the threads."""
    n, filters, length = Y.shape

    def images(start: int, stop: int) -> None:
        np.matmul(W, X[start:stop], out=Y[start:stop])

    def share(start: int, stop: int) -> None:
        np.matmul(W[start:stop], X[0], out=Y[0, start:stop])

    if n > 1:
        shared_out(n, images, weight=filters * length)
    else:
        shared_out(filters, share, weight=length)


def _grouped(X: NDArray[Any], W: NDArray[Any], Y: NDArray[Any], windows: Windows, group: int) -> None:
    n, channels = X.shape[:2]
    filters = W.shape[0]
    per_group = channels // group
    taps = int(np.prod(windows.kernel))
    weights = W.reshape(group, filters // group, per_group * taps)
    first, *rest = windows.output
    row = int(np.prod(rest))
    rows = min(first, max(1, _CHUNK // max(1, channels * taps * row)))
    if n == 1:
        rows = min(rows, -(-first // product_threads()))
    slices = list(windows.taps())
    chunks = [(image, start) for image in range(n) for start in range(0, first, rows)]

    def work(begin: int, end: int) -> None:
        buffer, source, last = np.empty(channels * taps * rows * row, dtype=X.dtype), X, -1
        for image, start in chunks[begin:end]:
            if image != last:
                source, last = padded(X[image], windows), image
            target = Y[image].reshape(group, filters // group, -1)
            count = min(rows, first - start)
            columns = buffer[: channels * taps * count * row].reshape(channels, taps, count, *rest)
            step = windows.strides[0]
            for position, (_, where) in enumerate(slices):
                top = where[0].start + start * step
                lines = slice(top, top + (count - 1) * step + 1, step)
                columns[:, position] = source[(slice(None), lines, *where[1:])]
            products = np.matmul(weights, columns.reshape(group, per_group * taps, count * row))
            target[:, :, start * row : (start + count) * row] = products

    shared_out(len(chunks), work, weight=filters * rows * row)


def _depthwise(X: NDArray[Any], W: NDArray[Any], Y: NDArray[Any], windows: Windows, multiplier: int) -> None:
    """One input channel per filter: accumulates over the kernel's taps, a block of filters at a time."""
    n, filters = Y.shape[:2]
    plane = int(np.prod(windows.output))
    ones = (1,) * len(windows.size)
    taps = list(windows.taps())
    columns = W.reshape(filters, len(taps))

    def work(start: int, stop: int) -> None:
        for image in range(n):
            first, last = start // multiplier, (stop - 1) // multiplier + 1
            source = padded(X[image, first:last], windows)
            if multiplier > 1:
                source = source[np.arange(start, stop) // multiplier - first]
            total = Y[image, start:stop]
            product = np.empty_like(total)
            for index, (_, where) in enumerate(taps):
                weight = columns[start:stop, index].reshape(-1, *ones)
                if index == 0:
                    np.multiply(source[(slice(None), *where)], weight, out=total)
                else:
                    np.multiply(source[(slice(None), *where)], weight, out=product)
                    total += product

    in_blocks(filters, max(1, _CHANNEL_BLOCK // max(1, plane)), work, weight=plane * len(taps))


def _with_batch(X: NDArray[Any], W: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    return (X[None], True) if X.ndim == W.ndim - 1 else (X, False)


@op("Conv", witnesses=("suite", "onnxruntime", "torch"))
def conv(call: Call, X: Value, W: Value, B: Value = None) -> Value:
    """``Y[n,m,o] = B[m] + sum over c and taps k of X[n,c,o*stride + k*dilation - pad] * W[m,c,k]``."""
    X, added = _with_batch(X, W)
    kernel = W.shape[2:]
    declared = call.get("kernel_shape")
    if declared and tuple(declared) != kernel:
        raise ValueError(f"kernel_shape {declared} does not fit weights {list(W.shape)}")
    Y = convolve(X, W, B, windows_of(call, X.shape[2:], kernel), call.get("group", 1))
    return Y[0] if added else Y


@op("ConvInteger", witnesses=("suite", "onnxruntime"))
def conv_integer(call: Call, X: Value, W: Value, x_zero: Value = None, w_zero: Value = None) -> Value:
    """Conv of ``X - x_zero_point`` and ``W - w_zero_point``, exact, as int32."""
    x = X.astype(np.float64) - (0.0 if x_zero is None else x_zero.astype(np.float64))
    w = W.astype(np.float64)
    if w_zero is not None:
        w = w - w_zero.astype(np.float64).reshape(-1, *(1,) * (W.ndim - 1))
    # Sums of products of 9-bit integers stay below 2^53 for any kernel that fits in memory.
    Y = convolve(x, w, None, windows_of(call, X.shape[2:], W.shape[2:]), call.get("group", 1))
    return Y.astype(np.int64).astype(np.int32)


@op(
    "ConvTranspose",
    witnesses=("suite", "onnxruntime", "torch", "not reference: groups and output_shape fail"),
)
def conv_transpose(call: Call, X: Value, W: Value, B: Value = None) -> Value:
    """The adjoint of Conv: each input element adds ``X * W`` at ``i * stride + k * dilation - pad``."""
    X, added = _with_batch(X, W)
    group = call.get("group", 1)
    n, channels, *size = X.shape
    rank = len(size)
    kernel = W.shape[2:]
    per_group = W.shape[1]
    if W.shape[0] != channels or channels % group:
        raise ValueError(f"{channels} channels do not fit weights {list(W.shape)} with group {group}")
    strides = list(call.get("strides") or [1] * rank)
    dilations = list(call.get("dilations") or [1] * rank)
    before, output = _transposed_size(call, size, kernel, strides, dilations)
    whole = [
        max((i - 1) * s + (k - 1) * d + 1, b + o)
        for i, s, k, d, b, o in zip(size, strides, kernel, dilations, before, output, strict=True)
    ]
    Y = np.zeros((n, group, per_group, *whole), dtype=np.result_type(X, W))
    x = X.reshape(n, group, channels // group, -1)
    w = W.reshape(group, channels // group, per_group, *kernel)
    for tap in np.ndindex(*kernel):
        weight = np.swapaxes(w[(slice(None), slice(None), slice(None), *tap)], 1, 2)
        where = tuple(
            slice(t * d, t * d + (i - 1) * s + 1, s) for t, d, i, s in zip(tap, dilations, size, strides, strict=True)
        )
        product = np.matmul(np.ascontiguousarray(weight), x)
        Y[(slice(None), slice(None), slice(None), *where)] += product.reshape(n, group, per_group, *size)
    cut = tuple(slice(b, b + o) for b, o in zip(before, output, strict=True))
    Y = Y[(slice(None), slice(None), slice(None), *cut)].reshape(n, group * per_group, *output)
    if B is not None:
        Y = Y + B.reshape(-1, *(1,) * rank)
    return Y[0] if added else Y


def _transposed_size(
    call: Call, size: list[int], kernel: tuple[int, ...], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    """Padding before, and output size, of a transposed convolution."""
    rank = len(size)
    extra = list(call.get("output_padding") or [0] * rank)
    mode = call.get("auto_pad", "NOTSET") or "NOTSET"
    full = [
        (i - 1) * s + (k - 1) * d + 1 + e for i, s, k, d, e in zip(size, strides, kernel, dilations, extra, strict=True)
    ]
    output = call.get("output_shape")
    if output is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        output = [i * s for i, s in zip(size, strides, strict=True)]
    if output is None:
        pads = list(call.get("pads") or [0] * (2 * rank)) if mode == "NOTSET" else [0] * (2 * rank)
        return pads[:rank], [f - pads[i] - pads[rank + i] for i, f in enumerate(full)]
    output = list(output)[-rank:]
    # The text gives SAME_UPPER the smaller half in front; every other mode the larger.
    totals = [max(f - o, 0) for f, o in zip(full, output, strict=True)]
    return [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in totals], output


@op("DeformConv", since=19, witnesses=("suite", "torch"))
def deform_conv(call: Call, X: Value, W: Value, offset: Value, B: Value = None, mask: Value = None) -> Value:
    """Conv whose taps are moved by ``offset`` (bilinear, zero outside) and weighed by ``mask``; two axes."""
    n, channels, height, width = X.shape
    filters, per_group, *kernel = W.shape
    windows = windows_of(call, (height, width), kernel)
    if len(windows.before) != 2:
        raise ValueError("only two spatial axes are defined")
    groups = call.get("offset_group", 1)
    oh, ow = windows.output
    taps = kernel[0] * kernel[1]
    shift = offset.reshape(n, groups, taps, 2, oh, ow)
    weight = None if mask is None else mask.reshape(n, groups, taps, 1, oh, ow)
    grid_y = np.arange(oh)[:, None] * windows.strides[0] - windows.before[0]
    grid_x = np.arange(ow)[None, :] * windows.strides[1] - windows.before[1]
    columns = np.empty((n, channels, taps, oh, ow))
    image = X.reshape(n, groups, channels // groups, height, width)
    for tap in range(taps):
        i, j = divmod(tap, kernel[1])
        y = grid_y + i * windows.dilations[0] + shift[:, :, tap, 0]
        x = grid_x + j * windows.dilations[1] + shift[:, :, tap, 1]
        sampled = _bilinear(image, y, x)
        if weight is not None:
            sampled = sampled * weight[:, :, tap]
        columns[:, :, tap] = sampled.reshape(n, channels, oh, ow)
    group = call.get("group", 1)
    matrix = W.reshape(group, filters // group, per_group * taps)
    Y = np.matmul(matrix, columns.reshape(n, group, per_group * taps, oh * ow)).reshape(n, filters, oh, ow)
    return Y if B is None else Y + B.reshape(-1, 1, 1)


def _bilinear(image: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """``image[n,g,c,H,W]`` at ``y, x [n,g,oh,ow]``; corners outside the image count as zero."""
    n, groups, _, height, width = image.shape
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    which = np.arange(n)[:, None, None, None], np.arange(groups)[None, :, None, None]
    total = np.zeros((*y.shape[:2], image.shape[2], *y.shape[2:]))
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = top + dy, left + dx
            share = (1 - np.abs(y - row)) * (1 - np.abs(x - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            corner = image[which[0], which[1], :, np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
            total += np.moveaxis(corner, -1, 2) * (share * inside)[:, :, None]
    return total


@op("Col2Im", since=18, witnesses=("suite", "torch"))
def col2im(call: Call, columns: Value, image_shape: Value, block_shape: Value) -> Value:
    """Adds each column block back to its place: the adjoint of taking windows."""
    size = tuple(int(v) for v in image_shape)
    kernel = tuple(int(v) for v in block_shape)
    windows = windows_of(call, size, kernel)
    n = columns.shape[0]
    taps = int(np.prod(kernel))
    channels = columns.shape[1] // taps
    blocks = columns.reshape(n, channels, taps, *windows.output)
    whole = [max(reach, b + s) for reach, b, s in zip(windows.reach, windows.before, size, strict=True)]
    total = np.zeros((n, channels, *whole), dtype=columns.dtype)
    for position, (_, where) in enumerate(windows.taps()):
        total[(slice(None), slice(None), *where)] += blocks[:, :, position]
    cut = tuple(slice(b, b + s) for b, s in zip(windows.before, size, strict=True))
    return np.ascontiguousarray(total[(slice(None), slice(None), *cut)])
