"""Resampling at positions given by a grid: GridSample, and AffineGrid that makes one; any number of axes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.ops.resize import cubic_weights
from onnxeq.referee.registry import Call, Value, op

__all__: list[str] = []

_CUBIC_A = -0.75


def _reflected(x: NDArray[Any], size: int, align: bool) -> NDArray[Any]:
    """Positions (or indices) mirrored into the image: at the centres of the outer pixels, or their edges."""
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    span = high - low
    if span <= 0:
        return np.zeros_like(x)
    away = np.abs(x - low)
    turns = np.floor(away / span)
    rest = away - turns * span
    return np.where(turns % 2 == 0, rest + low, high - rest)


def _resolve(index: NDArray[np.int64], size: int, padding: str, align: bool) -> tuple[Any, Any]:
    """The index to read for each tap, and whether it counts."""
    if padding == "zeros":
        return np.clip(index, 0, size - 1), (index >= 0) & (index < size)
    if padding == "border":
        return np.clip(index, 0, size - 1), True
    if padding == "reflection":
        mirrored = np.rint(_reflected(index.astype(np.float64), size, align)).astype(np.int64)
        return np.clip(mirrored, 0, size - 1), True
    raise ValueError(f"padding_mode {padding!r} is not defined")


def _axis_taps(x: NDArray[np.float64], size: int, mode: str, padding: str, align: bool) -> list[tuple[Any, Any]]:
    """Index and weight of each tap along one axis, for positions ``x``."""
    if mode == "nearest":
        if padding == "border":
            x = np.clip(x, 0, size - 1)
        elif padding == "reflection":
            x = np.clip(_reflected(x, size, align), 0, size - 1)
        index, counts = _resolve(np.rint(x).astype(np.int64), size, "zeros", align)
        return [(index, counts.astype(np.float64))]
    first = np.floor(x)
    offsets = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    found = []
    for offset in offsets:
        distance = first + offset - x
        weight = 1 - np.abs(distance) if mode == "linear" else cubic_weights(distance, _CUBIC_A)
        index, counts = _resolve((first + offset).astype(np.int64), size, padding, align)
        found.append((index, weight * counts))
    return found


@op(
    "GridSample", since=16,
    witnesses=("suite", "torch", "not reference: cubic with border; computes in float32"),
)  # fmt: skip
def grid_sample(call: Call, X: Value, grid: Value) -> Value:
    """``X[N,C,D1..Dr]`` at ``grid[N,O1..Or,r]``, positions in -1..1, the last axis of X first."""
    mode = call.get("mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    padding = call.get("padding_mode", "zeros")
    align = bool(call.get("align_corners", 0))
    size = X.shape[2:]
    n, output = X.shape[0], grid.shape[1:-1]
    taps = []
    for axis, length in enumerate(size):
        g = grid[..., len(size) - 1 - axis].astype(np.float64)
        x = (g + 1) / 2 * (length - 1) if align else ((g + 1) * length - 1) / 2
        taps.append(_axis_taps(x, length, mode, padding, align))
    batch = np.arange(n).reshape(n, *(1,) * len(output))
    channels_last = np.moveaxis(X, 1, -1)
    total: NDArray[Any] = np.zeros((n, *output, X.shape[1]))
    for combination in itertools.product(*taps):
        weight = np.ones(())
        for _, share in combination:
            weight = weight * share
        total += channels_last[(batch, *(index for index, _ in combination))] * weight[..., None]
    return np.ascontiguousarray(np.moveaxis(total, -1, 1)).astype(X.dtype, copy=False)


@op("AffineGrid", since=20, witnesses=("suite", "torch", "not the schema's body: fails for a batch of one"))
def affine_grid(call: Call, theta: Value, size: Value) -> Value:
    """``theta[N,r,r+1]`` times every position of the output, -1..1 along each axis, as ``[N,D1..Dr,r]``."""
    lengths = [int(v) for v in size[2:]]
    axes = []
    for length in lengths:
        if call.get("align_corners", 0):
            positions = np.linspace(-1.0, 1.0, length) if length > 1 else np.zeros(1)
        else:
            positions = (2 * np.arange(length) + 1) / length - 1
        axes.append(positions)
    grids = np.meshgrid(*axes, indexing="ij")
    places = np.stack([*reversed(grids), np.ones(lengths)], axis=-1)  # the grid names the last axis first
    flat = places.reshape(-1, len(lengths) + 1)
    moved = np.matmul(flat, np.swapaxes(theta, 1, 2))
    return moved.reshape(theta.shape[0], *lengths, len(lengths)).astype(theta.dtype, copy=False)
