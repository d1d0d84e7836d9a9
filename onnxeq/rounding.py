"""How large the rounding of each operator's float kernels is: the rules behind the rounding noise.

The size of a rounding. With unit roundoff ``u`` (2^-24 for float32), one correctly rounded operation
has a relative error of at most ``u`` and of ``u/sqrt(3)`` in the root mean square. A sum of ``n`` terms
kept in one accumulator rounds every partial sum ``s_k``, so its error has the variance
``u^2/3 * sum_k s_k^2``. Terms of random sign with squares that add up to ``q`` give
``sum_k s_k^2 = q*n/2``; terms of one sign give ``y^2*n/3``. Kernels cut long sums into blocks, so
``n`` grows up to a block's length and from there with the number of blocks (``terms``). Source of the
model: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., chapters 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["BLOCK", "LANES", "is_rounded", "size_of", "terms"]

Real: TypeAlias = "NDArray[np.float64]"
Size: TypeAlias = "tuple[Real | float, Real | float]"
"""A perturbation's root mean square in units of ``u``: relative to the value, and absolute."""

BLOCK = 128
"""Terms that a kernel sums in one accumulator before it starts another."""

LANES = 4.0
"""By how much the accumulators of a vector unit shorten the error of a long reduction along memory. Measured
on onnxruntime 1.31: 3 to 14, by the signs of the terms; along a strided axis there is one accumulator only."""

# Operators that only move, select or compare values: what they return was rounded before.
_EXACT = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Concat Gather GatherElements GatherND "
    "Scatter Pad Expand Tile Where Relu MaxPool GlobalMaxPool Max Min Clip Abs Neg Sign "
    "Ceil Floor Round Shape Size Constant ConstantOfShape Cast CastLike Dropout DepthToSpace SpaceToDepth "
    "ReduceMax ReduceMin ArgMax ArgMin TopK NonZero Not And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual "
    "If Loop Scan SequenceConstruct SequenceAt SequenceInsert SequenceErase SequenceEmpty SequenceLength "
    "SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement Trilu EyeLike Range "
    "OneHot Compress ReverseSequence Unique NonMaxSuppression QuantizeLinear MaxUnpool Hardmax".split()
)


def terms(n: float) -> float:
    """The length of the longest chain of additions when ``n`` terms are summed in blocks."""
    return min(n, BLOCK) + n / BLOCK


def is_rounded(info: NodeInfo) -> bool:
    """Whether a node computes something that a runtime rounds, and not its nodes inside."""
    return not (info.exact or info.composite or info.node.op_type in _EXACT)


_ONE = (1 / 3) ** 0.5


def size_of(op: str, info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """How large the rounding of a node's result ``y`` is."""
    rule = _RULES.get(op)
    if rule is None:
        return _ONE, 0.0
    return rule(info, inputs, y)


def _attribute(info: NodeInfo, name: str, default: Any) -> Any:
    import onnx

    for attribute in info.node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _sum_size(n: float, q: Real | float) -> Size:
    """Perturbation of a sum of ``n`` terms whose squares add up to ``q``."""
    chain = terms(n)
    return ((1 + chain / 3) / 3) ** 0.5, np.sqrt(np.multiply(q, chain / 6))


def _conv(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    x, w = inputs[0], inputs[1]
    group = int(_attribute(info, "group", 1))
    axes = tuple(range(2, x.ndim))
    flat = x.reshape(*x.shape[:2], -1)
    power = np.einsum("ncs,ncs->nc", flat, flat) / max(1, flat.shape[2])
    if info.node.op_type == "ConvTranspose":
        taps = np.sum(np.square(w), axis=axes)  # [C, M/group]
        taps = taps.reshape(group, w.shape[0] // group, -1).transpose(0, 2, 1).reshape(-1, w.shape[0] // group)
    else:
        taps = np.sum(np.square(w), axis=axes)  # [M, C/group]
    m, per_group = taps.shape
    grouped = power.reshape(power.shape[0], group, per_group)
    q = np.einsum("ngc,gmc->ngm", grouped, taps.reshape(group, m // group, per_group)).reshape(-1, m)
    n = per_group * float(np.prod(w.shape[2:]))
    return _sum_size(n, q.reshape(q.shape + (1,) * (y.ndim - 2)))


def _matmul(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    a, b = np.asarray(inputs[0]), np.asarray(inputs[1])
    if info.node.op_type in ("Gemm", "FusedMatMul", "FusedGemm"):
        a = a.swapaxes(-1, -2) if _attribute(info, "transA", 0) else a
        b = b.swapaxes(-1, -2) if _attribute(info, "transB", 0) else b
    if a.ndim < 2 or b.ndim < 2 or y.ndim < 2:
        return _sum_size(a.shape[-1], float(np.mean(np.square(a)) * np.mean(np.square(b)) * a.shape[-1]))
    # q[m,n] = sum_k a[m,k]^2 b[k,n]^2, as an average row's columns times each row's relative power: one
    # pass over each operand in place of a second product.
    power = np.einsum("...mk,...mk->...m", a, a)[..., None]
    profile = np.einsum("...mk,...mk->...k", a, a)[..., None, :] / a.shape[-2]
    columns = np.matmul(profile, np.square(b))
    mean = power.mean(-2, keepdims=True)
    relative, across = _sum_size(a.shape[-1], columns)
    return relative, np.sqrt(power / np.where(mean > 0, mean, 1.0)) * across


def _einsum(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    total = float(np.prod([float(v.size) for v in inputs]))
    n = max(1.0, (total / max(1.0, float(y.size))) ** 0.5)
    scale = float(np.prod([np.mean(np.square(v)) for v in inputs]))
    return _sum_size(n, scale * n)


def _mean(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Averages: terms are ``x/n``."""
    x = inputs[0]
    n = max(1.0, x.size / max(1, y.size))
    if n >= BLOCK:
        return _ONE, _partial_sums(info, inputs, y) / n
    return _sum_size(n, float(np.mean(np.square(x))) / n)


def _sum(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    x = inputs[0]
    n = max(1.0, x.size / max(1, y.size))
    if n >= BLOCK and info.node.op_type == "ReduceSum":
        return _ONE, _partial_sums(info, inputs, y)
    return _sum_size(n, float(np.mean(np.square(x))) * n)


_PIECES = 64


def _partial_sums(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Real:
    """The rounding of a long sum, ``sqrt(sum_k s_k^2 / 3)``, from the partial sums themselves.

    What cancels in the end (channels of opposite mean) was there in between, so neither the result nor the
    squares of the terms tell. The partial sums are taken in memory order, at :data:`_PIECES` places.
    """
    x = np.asarray(inputs[0])
    axes = _reduced_axes(info, inputs, x.ndim)
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = np.transpose(x, [*kept, *axes]).reshape(max(1, y.size), -1)
    n = rows.shape[1]
    pieces = rows[:, : _PIECES * (n // _PIECES)].reshape(len(rows), _PIECES, -1).sum(-1)
    squares = np.mean(np.square(np.cumsum(pieces, axis=1)), axis=1)
    along_memory = list(axes) == list(range(x.ndim - len(axes), x.ndim))
    error: Real = np.sqrt(squares * (n / 3)).reshape(y.shape) / (LANES if along_memory else 1.0)
    return error


def _reduced_axes(info: NodeInfo, inputs: Sequence[Value], rank: int) -> tuple[int, ...]:
    if info.node.op_type == "GlobalAveragePool":
        return tuple(range(2, rank))
    given = _attribute(info, "axes", None)
    if given is None and len(inputs) > 1 and inputs[1] is not None:
        given = np.asarray(inputs[1]).tolist()
    return tuple(sorted(int(a) % rank for a in given)) if given else tuple(range(rank))


def _average_pool(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Each window by its own terms: the mean of many zeros is zero, whatever lies beside them."""
    from onnxeq.referee.again import compute_again

    n = float(np.prod(_attribute(info, "kernel_shape", [1])))
    squares = compute_again(info, [np.square(inputs[0])])
    return _sum_size(n, squares[0] / n if squares else float(np.mean(np.square(inputs[0]))) / n)


def _lp_pool(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """A root of a sum of positive terms: its error is relative."""
    return _sum_size(float(np.prod(_attribute(info, "kernel_shape", [1]))), 0.0)[0], 0.0


def _cumsum(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    axis = int(np.asarray(inputs[1]).ravel()[0])
    n = y.shape[axis] if y.ndim else 1
    return ((1 + n / 3) / 3) ** 0.5, float(np.sqrt(np.mean(np.square(y)) / 3))


def _batch_norm(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Kernels compute ``x*a + b``; both terms round, however much of them cancels."""
    if y.ndim < 2 or y.shape != inputs[0].shape:
        return _ONE, 0.0
    x, scale, bias, mean, variance = inputs[:5]
    channel = (1, -1) + (1,) * (x.ndim - 2)
    a = (scale / np.sqrt(variance + float(_attribute(info, "epsilon", 1e-5)))).reshape(channel)
    b = bias.reshape(channel) - mean.reshape(channel) * a
    rms = np.sqrt(np.mean(np.square(x), axis=tuple(i for i in range(x.ndim) if i != 1), keepdims=True))
    return _ONE, _ONE * np.sqrt(np.square(rms * a) + np.square(b))


def _normalisation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``(x - mean)/deviation``: the subtraction leaves an error of the size of ``x``, not of the result."""
    x = inputs[0]
    if y.shape != x.shape:
        return _ONE, 0.0
    if info.node.op_type in ("InstanceNormalization", "GroupNormalization"):
        axes = tuple(range(2, x.ndim))
    else:
        axis = int(_attribute(info, "axis", -1))
        axes = tuple(range(axis % x.ndim, x.ndim))
    if info.node.op_type == "MeanVarianceNormalization":
        axes, epsilon = tuple(int(a) for a in _attribute(info, "axes", (0, 2, 3))), 1e-18
    else:
        epsilon = float(_attribute(info, "epsilon", 1e-5))
    mean = x.mean(axes, keepdims=True)
    # Instances of few or equal elements have no deviation of their own; the epsilon is what they are divided by.
    deviation = np.sqrt(x.var(axes, keepdims=True) + epsilon)
    n = float(np.prod([x.shape[a] for a in axes]))
    # Kernels sum an image's statistics in LANES accumulators whose rounding errors are independent, so that the
    # relative error falls by LANES: in a chain, which enters by its square root, by LANES squared.
    chain = max(terms(n), n / LANES**2)
    lift = np.abs(mean) / deviation
    spread = float(np.sqrt(np.mean(np.square(y))))
    scale = float(np.sqrt(np.mean(np.square(inputs[1])))) if len(inputs) > 1 and inputs[1] is not None else 1.0
    return ((1 + chain / 3) / 3) ** 0.5, _ONE * (spread + scale * lift * (1 + chain / 3) ** 0.5)


def _rms_normalisation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x / sqrt(mean(x^2) + e) * scale``: nothing is subtracted, so that a mean far from zero costs nothing.

    The sum of squares has one sign and enters by its square root; it, the root and the products round. Measured on
    onnxruntime 1.31, for means from 0 to 100 deviations: 0.4 of this unit over 20,000 elements, 0.5 over 768, 0.8 over
    16; a kernel with one accumulator 0.7 to 3.5.
    """
    x = inputs[0]
    axis = int(_attribute(info, "axis", -1)) % x.ndim
    n = float(np.prod(x.shape[axis:]))
    chain = max(terms(n), n / LANES**2)
    return _ONE * (3 + (1 + chain / 3) / 4) ** 0.5, 0.0


def _softmax(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``exp(x - max)`` turns the absolute rounding of its argument into a relative error of the result."""
    argument = float(np.sqrt(np.mean(np.square(inputs[0] - np.max(inputs[0])))))
    return _ONE * (3 + min(argument, 100.0)), 0.0


def _log_softmax(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x - max - log(sum)``: the sum is one or more, so that where the result is near zero its rounding is not."""
    n = y.shape[int(_attribute(info, "axis", -1))] if y.ndim else 1
    return 2 * _ONE, ((1 + terms(n) / 3) / 3) ** 0.5


def _bounded(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Functions that kernels approximate to a few units in the last place."""
    return 2 * _ONE, 0.0


def _elu(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``a*(exp(x) - 1)``: near zero the difference cancels, its error is that of the exponential."""
    x = inputs[0]
    op = info.node.op_type
    a = float(_attribute(info, "alpha", 1.6732632 if op == "Selu" else 1.0))
    argument = x / a if op == "Celu" else x
    scale = a * (float(_attribute(info, "gamma", 1.0507010)) if op == "Selu" else 1.0)
    return 2 * _ONE, np.where(x < 0, 2 * _ONE * abs(scale) * np.exp(np.minimum(argument, 0)), 0.0)


def _sigmoid(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Kernels approximate it as ``1/2`` and an odd function, so that far below zero the error stays a rounding of 1."""
    return 2 * _ONE, 2 * _ONE * np.where(inputs[0] < 0, 1.0, 0.0)


def _gelu(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x*(1 + erf(..))/2``: the bracket cancels for negative ``x``, its error is of the size of ``x``."""
    return 2 * _ONE, _ONE * np.abs(inputs[0])


def _hard_swish(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x*(x/6 + 1/2)`` between -3 and 3: near -3 the bracket cancels, its error is a rounding of 1/2."""
    x = inputs[0]
    return 2 * _ONE, np.where(np.abs(x) < 3, _ONE / 2 * np.abs(x), 0.0)


def _lrn(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x * s^-beta``: kernels slide the sum ``s`` along the channels, so that what leaves it leaves its rounding."""
    size, beta = int(_attribute(info, "size", 1)), float(_attribute(info, "beta", 0.75))
    squares = np.square(inputs[0]) * (float(_attribute(info, "alpha", 1e-4)) / size)
    sums = np.cumsum(np.pad(squares, [(0, 0), (size, size)] + [(0, 0)] * (y.ndim - 2)), axis=1)
    last = size + size // 2  # of the first channel's window
    window = sums[:, last : last + y.shape[1]] - sums[:, last - size : last - size + y.shape[1]]
    total = float(_attribute(info, "bias", 1.0)) + window
    slid = np.sqrt(np.cumsum(np.square(total), axis=1)) / total
    return _ONE * (2 + abs(beta) * (slid + np.abs(np.log(total)))), 0.0


def _interpolation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Coordinates are float32 as well: an error of ``u*size`` pixels moves along the local slope."""
    default = b"nearest" if info.node.op_type in ("Resize", "Upsample") else b"linear"
    if _attribute(info, "mode", default) == b"nearest":
        return 0.0, 0.0
    x = inputs[0]
    slope = max(
        (float(np.sqrt(np.mean(np.square(np.diff(x, axis=a))))) for a in range(2, x.ndim) if x.shape[a] > 1),
        default=0.0,
    )
    return 2 * _ONE, slope * max(x.shape[2:], default=1)


def _variadic(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Every partial sum rounds, also one whose terms cancel later."""
    partial = np.zeros(y.shape)
    squares = np.zeros(y.shape)
    for index, value in enumerate(inputs):
        partial = partial + value
        if index:
            squares += np.square(partial)
    return _ONE, _ONE * np.sqrt(squares) / (len(inputs) if info.node.op_type == "Mean" else 1)


def _scatter(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """With a reduction, each of an element's ``h`` updates rounds what was gathered so far; else nothing does."""
    how = _attribute(info, "reduction", b"none")
    if how not in (b"add", b"mul"):
        return 0.0, 0.0
    data, indices, updates = (np.asarray(v) for v in inputs)
    if info.node.op_type == "ScatterND":
        flat = indices.reshape(-1, indices.shape[-1]).T
        where: tuple[Any, ...] = tuple(flat)
        updates = updates.reshape(flat.shape[1], *updates.shape[indices.ndim - 1 :])
    else:
        axis = int(_attribute(info, "axis", 0)) % data.ndim
        grid: list[Any] = list(np.indices(indices.shape, sparse=True))
        grid[axis] = indices
        where = tuple(grid)
    hits, squares = np.zeros(data.shape), np.square(data)
    np.add.at(hits, where, 1.0)
    np.add.at(squares, where, np.square(updates))
    if how == b"mul":
        return _ONE * np.sqrt(hits), 0.0
    return 0.0, _ONE * np.sqrt(hits * squares)


def _recurrent(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Gates are dot products over the input and the hidden state; their error is carried along the sequence."""
    n = inputs[1].shape[-1] + inputs[2].shape[-1]
    chain = terms(n)
    # The gates' functions are made from the exponential: where they are near zero their error is a rounding of 1.
    return ((1 + chain / 3) / 3) ** 0.5, float(np.sqrt(np.mean(np.square(y)) * chain / 6 + 1 / 3))


_RULES: dict[str, Callable[[NodeInfo, Sequence[Value], Real], Size]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "FusedConv", "DeformConv"), _conv),
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm"), _matmul),
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool"), _mean),
    **dict.fromkeys(("ReduceSum", "ReduceL1", "ReduceSumSquare"), _sum),
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization"),
        _normalisation),
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization"), _rms_normalisation),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    **dict.fromkeys(
        ("Exp", "Log", "Erf", "Tanh", "Softplus", "Mish", "Pow", "Sin",
         "Cos", "Tan", "Atan", "Asin", "Acos", "Sinh", "Cosh", "Softsign"), _bounded),
    **dict.fromkeys(("Elu", "Selu", "Celu"), _elu),
    **dict.fromkeys(("Gelu", "FastGelu", "BiasGelu", "Swish", "QuickGelu"), _gelu),
    **dict.fromkeys(("Resize", "Upsample", "GridSample", "AffineGrid"), _interpolation),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("ScatterElements", "ScatterND"), _scatter),
    **dict.fromkeys(("Sum", "Mean"), _variadic),
    "Sigmoid": _sigmoid,
    "HardSwish": _hard_swish,
    "LRN": _lrn,
    "Einsum": _einsum,
    "CumSum": _cumsum,
    "BatchNormalization": _batch_norm,
}  # fmt: skip
"""How large an operator's rounding is; what is not listed rounds its result once."""
