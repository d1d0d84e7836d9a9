"""Reductions, positions of extremes and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxeq.referee.ops.tensors import as_axes, as_int, as_ints, normal_axis
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _highest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).max if dtype.kind in "iu" else np.inf


def _log_sum_exp(X: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """``log(sum(exp(X)))`` shifted by the largest element; all -inf (or nothing) gives -inf."""
    dtype = X.dtype
    if dtype.kind in "iu":
        X = X.astype(np.float64)
    top = np.max(X, axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0)
    out = np.log(np.sum(np.exp(X - shift), axis=axis, keepdims=True)) + shift
    out = out if keepdims else np.squeeze(out, axis=axis)
    return out.astype(dtype, copy=False)


def _sum(X: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sum(X, axis=axis, keepdims=keepdims, dtype=X.dtype)


def _mean(X: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    if X.dtype.kind not in "iu":
        return np.mean(X, axis=axis, keepdims=keepdims, dtype=X.dtype)
    total = np.sum(X, axis=axis, keepdims=keepdims, dtype=X.dtype)
    count = int(np.prod([X.shape[a] for a in axis], dtype=np.int64))
    return np.trunc(total / count).astype(X.dtype)


def _cast_back(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(X: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
        return np.asarray(f(X, axis, keepdims)).astype(X.dtype, copy=False)

    return run


_REDUCE: dict[str, Callable[..., Any]] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": lambda X, axis, keep: np.prod(X, axis=axis, keepdims=keep, dtype=X.dtype),
    "ReduceMax": lambda X, axis, keep: np.max(X, axis=axis, keepdims=keep, initial=_lowest(X.dtype)),
    "ReduceMin": lambda X, axis, keep: np.min(X, axis=axis, keepdims=keep, initial=_highest(X.dtype)),
    "ReduceL1": lambda X, axis, keep: _sum(np.abs(X), axis, keep),
    "ReduceL2": _cast_back(lambda X, axis, keep: np.sqrt(_sum(np.square(X), axis, keep))),
    "ReduceSumSquare": lambda X, axis, keep: _sum(np.square(X), axis, keep),
    "ReduceLogSum": _cast_back(lambda X, axis, keep: np.log(_sum(X, axis, keep))),
    "ReduceLogSumExp": _log_sum_exp,
}


@op(*_REDUCE, witnesses=("suite", "onnxruntime", "not onnx.reference: all -inf gives NaN there"))
def reduce(call: Call, X: Any, axes: Any = None) -> Any:
    """Reduces over ``axes`` (an attribute at first, an input from opset 13 or 18 on); none means all.

    With ``noop_with_empty_axes`` and no axes each element is reduced by itself: the operator's
    element-wise part (square, abs, log) still applies.
    """
    given = call.get("axes") if axes is None else as_ints(axes)
    if given:
        axis = as_axes(given, X.ndim)
    elif call.get("noop_with_empty_axes", 0):
        axis = ()
    else:
        axis = tuple(range(X.ndim))
    with np.errstate(all="ignore"):
        return np.asarray(_REDUCE[call.node.op_type](X, axis, bool(call.get("keepdims", 1))))


@op("ArgMax", "ArgMin", witnesses=("suite", "onnxruntime"))
def arg_extreme(call: Call, X: Any) -> Any:
    """The index of the extreme along ``axis``: the first one, or the last with ``select_last_index``."""
    axis = normal_axis(call.get("axis", 0), X.ndim)
    find = np.argmax if call.node.op_type == "ArgMax" else np.argmin
    if call.get("select_last_index", 0):
        index = X.shape[axis] - 1 - find(np.flip(X, axis), axis=axis)
    else:
        index = find(X, axis=axis)
    index = np.asarray(index, dtype=np.int64)
    return np.expand_dims(index, axis) if call.get("keepdims", 1) else index


@op("CumSum", "CumProd", witnesses=("suite", "onnxruntime"))
def cumulate(call: Call, X: Any, axis: Any) -> Any:
    """Running sums or products along ``axis``, without the element itself when ``exclusive``."""
    along = normal_axis(as_int(axis), X.ndim)
    is_sum = call.node.op_type == "CumSum"
    if call.get("reverse", 0):
        X = np.flip(X, along)
    out = (np.cumsum if is_sum else np.cumprod)(X, axis=along, dtype=X.dtype)
    if call.get("exclusive", 0):
        first = np.full_like(np.take(X, [0], axis=along), 0 if is_sum else 1) if X.shape[along] else X
        kept = [slice(None)] * X.ndim
        kept[along] = slice(0, max(X.shape[along] - 1, 0))
        out = np.concatenate([first, out[tuple(kept)]], axis=along)
    return np.flip(out, along) if call.get("reverse", 0) else out
