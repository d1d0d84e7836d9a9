"""Operators that move elements without computing with them: views where numpy has one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs
from onnxeq.referee.ops.tensors import as_axes, as_int, as_ints, normal_axis, unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


@op("Identity", witnesses=("suite", "onnxruntime"))
def identity(call: Call, value: Any) -> Any:
    """Its input: a tensor, a sequence or an optional."""
    return value


@op("Shape", witnesses=("suite", "onnxruntime"))
def shape(call: Call, X: Any) -> Any:
    """The sizes of the dimensions ``start`` to ``end`` (from opset 15; all of them before)."""
    return np.array(X.shape[call.get("start", 0) : call.get("end")], dtype=np.int64)


@op("Size", witnesses=("suite", "onnxruntime"))
def size(call: Call, X: Any) -> Any:
    """The number of elements."""
    return np.array(X.size, dtype=np.int64)


@op("Reshape", witnesses=("suite", "onnxruntime"))
def reshape(call: Call, X: Any, sizes: Any = None) -> Any:
    """0 copies the input's dimension (unless ``allowzero``), -1 is worked out."""
    target = list(call.get("shape", ())) if sizes is None else as_ints(sizes)
    if not call.get("allowzero", 0):
        target = [X.shape[i] if s == 0 else s for i, s in enumerate(target)]
    if -1 in target and X.size == 0:
        # numpy cannot divide 0 elements by 0; the specification's -1 is then 0
        known = math.prod(s for s in target if s != -1)
        target = [(0 if known == 0 else X.size // known) if s == -1 else s for s in target]
    return X.reshape(target)


@op("Flatten", witnesses=("suite", "onnxruntime"))
def flatten(call: Call, X: Any) -> Any:
    """Two dimensions: the product of those before ``axis``, and of the rest."""
    axis = call.get("axis", 1)
    axis = axis + X.ndim if axis < 0 else axis
    return X.reshape(math.prod(X.shape[:axis]), math.prod(X.shape[axis:]))


@op("Squeeze", witnesses=("suite", "onnxruntime"))
def squeeze(call: Call, X: Any, axes: Any = None) -> Any:
    """Removes the named dimensions of size 1, or all of them (axes: an attribute before opset 13)."""
    given = call.get("axes") if axes is None else as_ints(axes)
    return np.squeeze(X) if given is None else np.squeeze(X, axis=as_axes(given, X.ndim))


@op("Unsqueeze", witnesses=("suite", "onnxruntime"))
def unsqueeze(call: Call, X: Any, axes: Any = None) -> Any:
    """Inserts dimensions of size 1 (axes: an attribute before opset 13)."""
    given = call.get("axes", ()) if axes is None else as_ints(axes)
    return np.expand_dims(X, as_axes(given, X.ndim + len(given)))


@op("Transpose", witnesses=("suite", "onnxruntime"))
def transpose(call: Call, X: Any) -> Any:
    """Permutes the dimensions; reverses them without ``perm``."""
    return np.transpose(X, call.get("perm"))


@op("Concat", witnesses=("suite", "onnxruntime"))
def concat(call: Call, *values: Any) -> Any:
    """Joins tensors along ``axis`` (1 by default before opset 4)."""
    return np.concatenate(values, axis=call.get("axis", 1))


@op("Split", witnesses=("suite", "onnxruntime"))
def split(call: Call, X: Any, sizes: Any = None) -> tuple[Any, ...]:
    """Parts along ``axis``: of the sizes given, or equal; from opset 18 the last may be smaller."""
    axis = normal_axis(call.get("axis", 0), X.ndim)
    given = call.get("split") if sizes is None else as_ints(sizes)
    length = X.shape[axis]
    if given is None:
        parts = call.get("num_outputs", call.n_outputs)
        if call.opset < 18 and length % parts:
            raise BadInputs(f"Split {call.node.name}: {length} elements do not make {parts} equal parts")
        step = -(-length // parts)
        given = [max(min(step, length - i * step), 0) for i in range(parts)]
    if sum(given) != length:
        raise BadInputs(f"Split {call.node.name}: parts of {list(given)} elements do not make {length}")
    ends = np.cumsum(given)
    lead = (slice(None),) * axis
    return tuple(X[(*lead, slice(int(e) - int(s), int(e)))] for s, e in zip(given, ends, strict=True))


def _one_slice(start: int, end: int, step: int, length: int) -> slice:
    """A Python slice with ONNX's clamping: out-of-range bounds mean as far as there is."""
    start = start + length if start < 0 else start
    end = end + length if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), length), min(max(end, 0), length), step)
    start, end = min(max(start, 0), length - 1), min(max(end, -1), length - 1)
    return slice(start, None if end < 0 else end, step) if length else slice(0, 0)


def _slice(X: Any, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Any:
    index = [slice(None)] * X.ndim
    for start, end, axis, step in zip(starts, ends, as_axes(axes, X.ndim), steps, strict=True):
        index[axis] = _one_slice(start, end, step, X.shape[axis])
    return X[tuple(index)]


@op("Slice", until=9, witnesses=("suite", "onnxruntime"))
def slice_attributes(call: Call, X: Any) -> Any:
    """A slice with attributes ``starts``, ``ends`` and ``axes``."""
    starts, ends = list(call.get("starts")), list(call.get("ends"))
    return _slice(X, starts, ends, list(call.get("axes", range(len(starts)))), [1] * len(starts))


@op("Slice", since=10, witnesses=("suite", "onnxruntime"))
def slice_inputs(call: Call, X: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    """A slice with inputs; steps may be negative."""
    begin = as_ints(starts)
    along = list(range(len(begin))) if axes is None else as_ints(axes)
    return _slice(X, begin, as_ints(ends), along, [1] * len(begin) if steps is None else as_ints(steps))


def _pad(call: Call, X: Any, pads: list[int], axes: list[int], value: Any) -> Any:
    """Crops where a pad is negative, then pads the rest in the mode asked for."""
    half = len(pads) // 2
    before, after = [0] * X.ndim, [0] * X.ndim
    for i, axis in enumerate(as_axes(axes, X.ndim)):
        before[axis], after[axis] = pads[i], pads[i + half]
    X = X[tuple(slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(before, after, X.shape, strict=True))]
    before, after = [max(b, 0) for b in before], [max(a, 0) for a in after]
    mode = call.get("mode", "constant")
    if mode == "constant":
        sizes = [b + n + a for b, n, a in zip(before, X.shape, after, strict=True)]
        out = np.full(sizes, value, dtype=X.dtype)
        out[tuple(slice(b, b + n) for b, n in zip(before, X.shape, strict=True))] = X
        return out
    if mode not in ("edge", "reflect", "wrap"):
        raise unsupported(call, f"mode {mode!r}")
    return np.pad(X, list(zip(before, after, strict=True)), mode=mode)


@op("Pad", until=10, witnesses=("suite", "onnxruntime"))
def pad_attributes(call: Call, X: Any) -> Any:
    """Pads by attributes: ``pads`` (opset 1: ``paddings``), begins first, and ``value``."""
    pads = list(call.get("pads", call.get("paddings")))
    return _pad(call, X, pads, list(range(X.ndim)), call.get("value", 0))


@op("Pad", since=11, witnesses=("suite", "onnxruntime", "not onnx.reference: raises for negative pads"))
def pad(call: Call, X: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    """Pads by inputs, begins first, for ``axes`` (all by default); a negative pad crops."""
    fill = ("" if X.dtype == object else 0) if value is None or value.size == 0 else value.reshape(-1)[0]
    return _pad(call, X, as_ints(pads), list(range(X.ndim)) if axes is None else as_ints(axes), fill)


@op("CenterCropPad", witnesses=("suite", "onnxruntime"))
def center_crop_pad(call: Call, X: Any, sizes: Any) -> Any:
    """Crops or zero-pads around the centre; an odd rest goes to the end."""
    axes = as_axes(call.get("axes", range(X.ndim)), X.ndim)
    source, place = [slice(None)] * X.ndim, [slice(None)] * X.ndim
    target = list(X.shape)
    for axis, want in zip(axes, as_ints(sizes), strict=True):
        have, target[axis] = X.shape[axis], want
        if have >= want:
            source[axis] = slice((have - want) // 2, (have - want) // 2 + want)
        else:
            place[axis] = slice((want - have) // 2, (want - have) // 2 + have)
    out = np.zeros(target, dtype=X.dtype)
    out[tuple(place)] = X[tuple(source)]
    return out


@op("Tile", until=5, witnesses=("spec",))
def tile_one_axis(call: Call, X: Any, tiles: Any, axis: Any) -> Any:
    """Repeats along the one axis that is given as an input."""
    repeats = [1] * X.ndim
    repeats[normal_axis(as_int(axis), X.ndim)] = as_int(tiles)
    return np.tile(X, repeats)


@op("Tile", since=6, witnesses=("suite", "onnxruntime"))
def tile(call: Call, X: Any, repeats: Any) -> Any:
    """Repeats the tensor along each axis."""
    return np.tile(X, as_ints(repeats))


@op("Expand", witnesses=("suite", "onnxruntime"))
def expand(call: Call, X: Any, sizes: Any) -> Any:
    """Broadcasts in both directions: a size of 1 keeps the input's own dimension."""
    return np.broadcast_to(X, np.broadcast_shapes(X.shape, tuple(as_ints(sizes))))
