"""How large the rounding of operators is that return, or divide by, a sum over many elements: one rule each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxeq.accumulation import BLOCK, LANES, ONE, RANDOM, Shared, Size, accumulate, terms, total

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["attribute", "average_pool", "cumsum", "lp_pool", "plain_reduction", "product", "reduction", "sum_size"]

Real: TypeAlias = "NDArray[np.float64]"


def attribute(info: NodeInfo, name: str, default: Any) -> Any:
    """An attribute of a node, or the default when it does not carry it."""
    import onnx

    for found in info.node.attribute:
        if found.name == name:
            return onnx.helper.get_attribute_value(found)
    return default


def sum_size(n: float, q: Real | float, chain: float = 0.0) -> Size:
    """Perturbation of a sum of ``n`` terms whose squares add up to ``q``, summed in blocks unless a chain is given."""
    chain = chain or terms(n)
    return Size(((1 + chain / 3) / 3) ** 0.5, np.sqrt(np.multiply(q, chain / 6)))


def reduction(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """ReduceSum and ReduceMean, GlobalAveragePool: a sum in a vector's accumulators, or in one along a strided axis."""
    x = np.asarray(inputs[0])
    axes = _reduced_axes(info, inputs, x.ndim)
    along_memory = list(axes) == list(range(x.ndim - len(axes), x.ndim))
    error = accumulate(_rows(x, axes, y), LANES if along_memory else 1)
    if info.node.op_type != "ReduceSum":
        error = error.scaled(y.size / max(1, x.size))
    return Size(ONE, error.random.reshape(y.shape), error.alone(y.shape))


def plain_reduction(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Sums of powers and exponentials, their roots and logarithms: one accumulator (:data:`LANES`).

    The root ``S^(1/p)`` of a sum has a ``p``-th of its relative error, its logarithm has it as an absolute one.
    """
    x = np.asarray(inputs[0])
    op = info.node.op_type
    axes = _reduced_axes(info, inputs, x.ndim)
    extra, p = 0.0, 2.0
    if op == "ReduceL1":
        x = np.abs(x)
    elif op in ("ReduceSumSquare", "ReduceL2"):
        x = np.square(x)
    elif op == "GlobalLpPool":
        p = float(attribute(info, "p", 2))
        x = np.abs(x) ** p
    elif op == "ReduceLogSumExp":
        # The largest argument is subtracted: what remains of it is rounded, and what the exponential makes of that.
        x = np.exp(x - np.max(x, axis=axes, keepdims=True)) if x.size else x
        extra = 2 * ONE
    rows = _rows(x, axes, y)
    error = accumulate(rows, 1)
    s = rows.sum(1)
    if op in ("ReduceL2", "GlobalLpPool"):
        error = error.scaled(_inverse(p * s ** (1 - 1 / p)))
    elif op in ("ReduceLogSum", "ReduceLogSumExp"):
        error = error.scaled(_inverse(s))
    return Size(2 * ONE, np.hypot(error.random, extra).reshape(y.shape), error.alone(y.shape))


def product(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """ReduceProd: every one of ``n`` products rounds, relatively. Measured on 1000 factors: 6 to 8 roundings' size."""
    return Size(ONE * max(1.0, np.asarray(inputs[0]).size / max(1, y.size)) ** 0.5, 0.0)


def _inverse(values: Real) -> Real:
    return np.where(values > 0, 1 / np.where(values > 0, values, 1.0), 0.0)


def _rows(x: Real, axes: Sequence[int], y: Real) -> Real:
    """The terms of each element of ``y``, in memory order."""
    kept = [a for a in range(x.ndim) if a not in axes]
    rows: Real = np.transpose(x, [*kept, *axes]).reshape(max(1, y.size), -1)
    return rows


def _reduced_axes(info: NodeInfo, inputs: Sequence[Value], rank: int) -> tuple[int, ...]:
    if info.node.op_type in ("GlobalAveragePool", "GlobalLpPool"):
        return tuple(range(2, rank))
    given = attribute(info, "axes", None)
    if given is None and len(inputs) > 1 and inputs[1] is not None:
        given = np.asarray(inputs[1]).tolist()
    if not given and attribute(info, "noop_with_empty_axes", 0):
        return ()
    return tuple(sorted(int(a) % rank for a in given)) if given else tuple(range(rank))


def cumsum(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Running sums in one accumulator: an error, once made, stays in all the sums that follow."""
    axis = int(np.asarray(inputs[1]).ravel()[0]) % max(1, y.ndim)
    reverse = bool(attribute(info, "reverse", 0))
    x = np.moveaxis(np.asarray(inputs[0]), axis, -1)
    ordered = x[..., ::-1] if reverse else x
    sums = np.cumsum(ordered, axis=-1)
    with np.errstate(all="ignore"):
        random = np.sqrt(np.cumsum(np.square(sums), axis=-1) / 3)
        given = ordered.astype(np.float32)
        alike = (np.cumsum(given, axis=-1) - np.cumsum(given, axis=-1, dtype=np.float64)) * 2.0**24
        alike = np.where(np.abs(alike) > RANDOM * random, np.nan_to_num(alike), 0.0)
    found = [np.moveaxis(v[..., ::-1] if reverse else v, -1, axis) for v in (random, alike)]
    signs = tuple(1 if a == axis else d for a, d in enumerate(y.shape))
    shared: tuple[Shared, ...] = ((np.ascontiguousarray(found[0]), signs),)
    if alike.any():
        shared = (*shared, (np.asarray(found[1], dtype=np.float64), ()))
    return Size(ONE, 0.0, shared)


def average_pool(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Each window by its own terms: the mean of many zeros is zero, whatever lies beside them.

    Kernels add a window's elements up one by one: over 65,536 elements the error of onnxruntime 1.31 is to the bit that
    of one accumulator, and torch 2.13 has the same.
    """
    from onnxeq.referee.again import compute_again

    n = float(np.prod(attribute(info, "kernel_shape", [1])))
    squares = compute_again(info, [np.square(inputs[0])])
    q = squares[0] / n if squares else float(np.mean(np.square(inputs[0]))) / n
    return _in_one_accumulator(info, inputs, y, n, sum_size(n, q, chain=n))


def lp_pool(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """A root of a sum of positive terms, one by one: its error is relative."""
    n = float(np.prod(attribute(info, "kernel_shape", [1])))
    return _in_one_accumulator(info, inputs, y, n, Size(sum_size(n, 0.0, chain=n).relative, 0.0))


def _in_one_accumulator(info: NodeInfo, inputs: Sequence[Value], y: Real, n: float, size: Size) -> Size:
    """The same, with what nearly equal terms make of a long window: the pool itself, run in float32."""
    from onnxeq.referee.again import compute_again

    given = compute_again(info, [np.asarray(inputs[0], dtype=np.float32)]) if n >= BLOCK else None
    if not given:
        return size
    alike = (np.asarray(given[0], dtype=np.float64) - y) * 2.0**24
    alike = np.where(np.abs(alike) > RANDOM * total(size, y), np.nan_to_num(alike), 0.0)
    return Size(size.relative, size.absolute, ((alike, ()),)) if alike.any() else size
