"""Gathering, scattering and picking by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxeq.errors import BadInputs
from onnxeq.referee.ops.tensors import as_int, normal_axis, unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


def _check_range(call: Call, indices: Any, length: int) -> Any:
    """Indices as int64, each in ``[-length, length)``; numpy's own message would not name the node."""
    indices = np.asarray(indices).astype(np.int64, copy=False)
    if indices.size and (indices.min() < -length or indices.max() >= length):
        worst = int(indices.max() if indices.max() >= length else indices.min())
        where = call.node.name or call.node.output[0]
        raise BadInputs(f"{call.node.op_type} {where}: index {worst} is outside [{-length}, {length})")
    return indices


def _along(indices: Any, axis: int) -> tuple[Any, ...]:
    """An index that meets element ``indices[i,j,k]`` on ``axis`` and ``i, j, k`` on the others."""
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    return tuple(grid)


@op("Gather", witnesses=("suite", "onnxruntime"))
def gather(call: Call, data: Any, indices: Any) -> Any:
    """``data[..., indices, ...]`` at ``axis``; for one index of several dimensions a view, which copies nothing."""
    axis = normal_axis(call.get("axis", 0), data.ndim)
    indices = _check_range(call, indices, data.shape[axis])
    if indices.ndim == 0 and data.ndim > 1:
        return data[(*(slice(None),) * axis, int(indices))]
    return np.take(data, indices, axis=axis)


@op("GatherElements", witnesses=("suite", "onnxruntime"))
def gather_elements(call: Call, data: Any, indices: Any) -> Any:
    """``out[i,j,k] = data[indices[i,j,k],j,k]`` for axis 0."""
    axis = normal_axis(call.get("axis", 0), data.ndim)
    return data[_along(_check_range(call, indices, data.shape[axis]), axis)]


@op("GatherND", witnesses=("suite", "onnxruntime"))
def gather_nd(call: Call, data: Any, indices: Any) -> Any:
    """``out[b,...] = data[b, indices[b,...,:]]`` with ``batch_dims`` shared leading dimensions."""
    batch = call.get("batch_dims", 0)
    lead: list[Any] = list(np.ogrid[tuple(slice(n) for n in data.shape[:batch])]) if batch else []
    extra = indices.ndim - 1 - batch
    lead = [g.reshape(g.shape + (1,) * extra) for g in lead]
    picks = [_check_range(call, indices[..., i], data.shape[batch + i]) for i in range(indices.shape[-1])]
    return data[(*lead, *picks)]


_COMBINE: dict[str, np.ufunc] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _write(call: Call, out: Any, index: tuple[Any, ...], updates: Any) -> Any:
    """Writes or combines in place; duplicates combine in order, as the specification asks."""
    reduction = call.get("reduction", "none")
    if reduction == "none":
        out[index] = updates
    elif reduction in _COMBINE:
        _COMBINE[reduction].at(out, index, updates)
    else:
        raise unsupported(call, f"reduction {reduction!r}")
    return out


@op("Scatter", "ScatterElements", witnesses=("suite", "onnxruntime"))
def scatter_elements(call: Call, data: Any, indices: Any, updates: Any) -> Any:
    """``out[indices[i,j,k],j,k] = updates[i,j,k]`` for axis 0, or combined by ``reduction``."""
    axis = normal_axis(call.get("axis", 0), data.ndim)
    index = _along(_check_range(call, indices, data.shape[axis]), axis)
    return _write(call, np.array(data), index, updates)


@op("ScatterND", witnesses=("suite", "onnxruntime"))
def scatter_nd(call: Call, data: Any, indices: Any, updates: Any) -> Any:
    """``out[indices[...,:]] = updates[...]``, or combined by ``reduction``."""
    index = tuple(_check_range(call, indices[..., i], data.shape[i]) for i in range(indices.shape[-1]))
    return _write(call, np.array(data), index, updates)


@op("TensorScatter", witnesses=("suite", "onnxruntime"))
def tensor_scatter(call: Call, past: Any, update: Any, write_indices: Any = None) -> Any:
    """Writes a block into a cache at each sample's own place along ``axis`` (a key-value cache)."""
    axis = normal_axis(call.get("axis", -2), past.ndim)
    length, count = past.shape[axis], update.shape[axis]
    starts = np.zeros(past.shape[0], np.int64) if write_indices is None else write_indices
    out = np.array(past)
    for sample, start in enumerate(starts.astype(np.int64)):
        places = int(start) + np.arange(count)
        if call.get("mode", "linear") == "circular":
            places = places % length
        elif count and not 0 <= int(start) <= length - count:
            raise BadInputs(f"TensorScatter {call.node.name}: {start}+{count} is past the cache's {length}")
        np.moveaxis(out[sample], axis - 1, 0)[places] = np.moveaxis(update[sample], axis - 1, 0)
    return out


@op("Compress", witnesses=("suite", "onnxruntime"))
def compress(call: Call, X: Any, condition: Any) -> Any:
    """The slices along ``axis`` (of the flat tensor without it) where the condition holds."""
    return np.compress(condition.reshape(-1).astype(bool), X, axis=call.get("axis"))


@op("OneHot", witnesses=("suite", "onnxruntime"))
def one_hot(call: Call, indices: Any, depth: Any, values: Any) -> Any:
    """``values[1]`` at the index along a new ``axis``, ``values[0]`` elsewhere and for bad indices."""
    count = as_int(depth)
    axis = normal_axis(call.get("axis", -1), indices.ndim + 1)
    whole = indices.astype(np.int64)
    whole = np.expand_dims(np.where(whole < 0, whole + count, whole), axis)
    steps = np.arange(count).reshape((-1,) + (1,) * (indices.ndim - axis))
    return np.where(whole == steps, values[1], values[0]).astype(values.dtype, copy=False)


@op("NonZero", witnesses=("suite", "onnxruntime"))
def non_zero(call: Call, X: Any) -> Any:
    """``int64[rank, n]``: the coordinates of the elements that are not zero, in row-major order."""
    if X.ndim == 0:
        return np.zeros((0, int(bool(X))), dtype=np.int64)
    return np.array(np.nonzero(X), dtype=np.int64)


@op("Trilu", witnesses=("suite", "onnxruntime"))
@op("Trilu", domain="com.microsoft", witnesses=("onnxruntime",))
def trilu(call: Call, X: Any, k: Any = None) -> Any:
    """The upper (or lower) triangle of the last two dimensions, from diagonal ``k``."""
    offset = 0 if k is None else as_int(k)
    rows, columns = np.ogrid[: X.shape[-2], : X.shape[-1]]
    keep = columns - rows >= offset if call.get("upper", 1) else columns - rows <= offset
    return np.where(keep, X, np.zeros((), X.dtype))


@op("ReverseSequence", witnesses=("suite", "onnxruntime"))
def reverse_sequence(call: Call, X: Any, sequence_lens: Any) -> Any:
    """Reverses the first ``sequence_lens[b]`` steps of each sample; the rest stays."""
    batch, time = call.get("batch_axis", 1), call.get("time_axis", 0)
    steps = np.arange(X.shape[time])
    lens = sequence_lens.reshape(-1, 1).astype(np.int64)
    order = np.where(steps < lens, lens - 1 - steps, steps)  # [batch, time]
    order = order if batch < time else order.T
    order = np.expand_dims(order, [a for a in range(X.ndim) if a not in (batch, time)])
    return np.take_along_axis(X, order, axis=time)


@op("TopK", witnesses=("suite", "onnxruntime"))
def top_k(call: Call, X: Any, k: Any = None) -> tuple[Any, Any]:
    """The ``k`` largest (or smallest) along ``axis``, sorted; ties by the lower index; NaN is largest.

    With ``sorted=0`` the order is not specified; it is the sorted one here.
    """
    axis = normal_axis(call.get("axis", -1), X.ndim)
    count = int(call.get("k")) if k is None else as_int(k)
    if call.get("largest", 1):
        # ascending and stable over the reversed axis, read backwards: ties come by the lower index
        order = np.argsort(np.flip(X, axis), axis=axis, kind="stable")
        order = X.shape[axis] - 1 - np.flip(order, axis)
    else:
        order = np.argsort(X, axis=axis, kind="stable")
    order = np.take(order, np.arange(count), axis=axis).astype(np.int64, copy=False)
    return np.take_along_axis(X, order, axis=axis), order


@op("Unique", witnesses=("suite", "onnxruntime"))
def unique(call: Call, X: Any) -> tuple[Any, Any, Any, Any]:
    """The distinct elements (or slices along ``axis``), first places, inverse places and counts."""
    axis = call.get("axis")
    values, first, inverse, counts = np.unique(X, return_index=True, return_inverse=True, return_counts=True, axis=axis)
    inverse = inverse.reshape(-1)
    if not call.get("sorted", 1):
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        values = np.take(values, order, axis=axis)
        first, counts, inverse = first[order], counts[order], rank[inverse]
    return values, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)
