"""How large the rounding of each operator's float kernels is: the rules behind the rounding noise.

How sums err is told in :mod:`onnxeq.accumulation`. Kernels of products and convolutions cut long sums into blocks, so
that their chains grow up to a block's length and from there with the number of blocks (:func:`terms`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxeq.accumulation import BLOCK, LANES, ONE, Size, terms
from onnxeq.rounding_draws import by_draws, longest, once
from onnxeq.rounding_groups import (
    log_softmax,
    lp_normalisation,
    normalisation,
    rms_normalisation,
    skip_normalisation,
    softmax,
)
from onnxeq.rounding_sums import (
    attribute,
    average_pool,
    cumsum,
    lp_pool,
    plain_reduction,
    product,
    reduction,
    sum_size,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["is_rounded", "size_of"]

Real: TypeAlias = "NDArray[np.float64]"
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


def is_rounded(info: NodeInfo) -> bool:
    """Whether a node computes something that a runtime rounds, and not its nodes inside."""
    return not (info.exact or info.composite or info.node.op_type in _EXACT)


def size_of(op: str, info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """How large the rounding of a node's result ``y`` is."""
    rule = _RULES.get(op)
    return Size(*rule(info, inputs, y)) if rule is not None else Size(ONE, 0.0)


def _conv(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    x, w = inputs[0], inputs[1]
    group = int(attribute(info, "group", 1))
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
    # One channel alone is no matrix product: kernels add its window up in one accumulator. Windows of 40,000 elements,
    # in onnxruntime 1.31 (optimised) and torch 2.13: 9 times the error of blocks.
    chain = n if per_group == 1 else terms(n)
    q = q.reshape(q.shape + (1,) * (y.ndim - 2))
    return _with_equal_terms(sum_size(n, q, chain=chain), n, q, y)


def _matmul(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    a, b = np.asarray(inputs[0]), np.asarray(inputs[1])
    if info.node.op_type in ("Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul"):
        a = a.swapaxes(-1, -2) if attribute(info, "transA", 0) else a
        b = b.swapaxes(-1, -2) if attribute(info, "transB", 0) else b
    if a.ndim < 2 or b.ndim < 2 or y.ndim < 2:
        return sum_size(a.shape[-1], float(np.mean(np.square(a)) * np.mean(np.square(b)) * a.shape[-1]))
    # q[m,n] = sum_k a[m,k]^2 b[k,n]^2, as an average row's columns times each row's relative power: one
    # pass over each operand in place of a second product.
    power = np.einsum("...mk,...mk->...m", a, a)[..., None]
    profile = np.einsum("...mk,...mk->...k", a, a)[..., None, :] / a.shape[-2]
    columns = np.matmul(profile, np.square(b))
    mean = power.mean(-2, keepdims=True)
    # A product with one row or column streams through memory in a vector's accumulators: over 100,000 terms torch 2.13
    # makes 6 times the error of blocks.
    n = a.shape[-1]
    alone = min(a.shape[-2], b.shape[-1]) == 1
    chain = max(terms(n), n / LANES**2) if alone else terms(n)
    relative, across, _ = sum_size(n, columns, chain=chain)
    across = np.sqrt(power / np.where(mean > 0, mean, 1.0)) * across
    return _with_equal_terms(Size(relative, across), n, np.square(across) * (6 / chain), y)


_NARROW = 1024
"""Terms that a product with few columns sums in one accumulator, as its blocks are long where they are narrow: 4,096
equal terms in 16 columns are 157 u off in onnxruntime 1.31, and a quarter of an ulp for each of 1,024 makes 300."""


def _with_equal_terms(size: Size, n: float, q: Real, y: Real) -> Size:
    """The same, and where all terms are equal what each addition loses: a part of an ulp, always the same.

    They are when the variance of a block, ``BLOCK * (q/n - (y/n)^2)``, is less than the square of an ulp of their sum,
    ``y*2^-23``. Random roundings of 4,096 terms in blocks would give 4 u.
    """
    if n < BLOCK:
        return size
    squares = np.square(y)
    least = np.multiply(q, n * (1 - min(0.5, (n * 2.0**-23) ** 2 / BLOCK)))
    if not squares.size or float(squares.max()) < float(np.min(least)):
        return size
    equal = (squares >= least) & (y != 0)
    chain = min(n, _NARROW) + n / _NARROW
    return Size(size.relative, np.hypot(size.absolute, np.where(equal, np.abs(y) * (ONE / 2 * chain), 0.0)))


def _einsum(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    total = float(np.prod([float(v.size) for v in inputs]))
    n = max(1.0, (total / max(1.0, float(y.size))) ** 0.5)
    scale = float(np.prod([np.mean(np.square(v)) for v in inputs]))
    return sum_size(n, scale * n)


def _batch_norm(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Kernels compute ``x*a + b``; both terms round, however much of them cancels."""
    if y.ndim < 2 or y.shape != inputs[0].shape:
        return Size(ONE, 0.0)
    x, scale, bias, mean, variance = inputs[:5]
    channel = (1, -1) + (1,) * (x.ndim - 2)
    a = (scale / np.sqrt(variance + float(attribute(info, "epsilon", 1e-5)))).reshape(channel)
    b = bias.reshape(channel) - mean.reshape(channel) * a
    rms = np.sqrt(np.mean(np.square(x), axis=tuple(i for i in range(x.ndim) if i != 1), keepdims=True))
    return Size(ONE, ONE * np.sqrt(np.square(rms * a) + np.square(b)))


def _bounded(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Functions that kernels approximate to a few units in the last place."""
    return Size(2 * ONE, 0.0)


def _elu(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``a*(exp(x) - 1)``: near zero the difference cancels, its error is that of the exponential."""
    x = inputs[0]
    op = info.node.op_type
    a = float(attribute(info, "alpha", 1.6732632 if op == "Selu" else 1.0))
    argument = x / a if op == "Celu" else x
    scale = a * (float(attribute(info, "gamma", 1.0507010)) if op == "Selu" else 1.0)
    return Size(2 * ONE, np.where(x < 0, 2 * ONE * abs(scale) * np.exp(np.minimum(argument, 0)), 0.0))


def _sigmoid(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Kernels approximate it as ``1/2`` and an odd function, so that far below zero the error stays a rounding of 1."""
    return Size(2 * ONE, 2 * ONE * np.where(inputs[0] < 0, 1.0, 0.0))


def _gelu(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x*(1 + erf(..))/2``: the bracket cancels for negative ``x``, its error is of the size of ``x``."""
    return Size(2 * ONE, ONE * np.abs(inputs[0]))


def _hard_swish(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x*(x/6 + 1/2)`` between -3 and 3: near -3 the bracket cancels, its error is a rounding of 1/2."""
    x = inputs[0]
    return Size(2 * ONE, np.where(np.abs(x) < 3, ONE / 2 * np.abs(x), 0.0))


def _lrn(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x * s^-beta``: kernels slide the sum ``s`` along the channels, so that what leaves it leaves its rounding."""
    size, beta = int(attribute(info, "size", 1)), float(attribute(info, "beta", 0.75))
    squares = np.square(inputs[0]) * (float(attribute(info, "alpha", 1e-4)) / size)
    sums = np.cumsum(np.pad(squares, [(0, 0), (size, size)] + [(0, 0)] * (y.ndim - 2)), axis=1)
    last = size + size // 2  # of the first channel's window
    window = sums[:, last : last + y.shape[1]] - sums[:, last - size : last - size + y.shape[1]]
    total = float(attribute(info, "bias", 1.0)) + window
    slid = np.sqrt(np.cumsum(np.square(total), axis=1)) / total
    return Size(ONE * (2 + abs(beta) * (slid + np.abs(np.log(total)))), 0.0)


def _interpolation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Coordinates are float32 as well: an error of ``u*size`` pixels moves along the local slope."""
    default = b"nearest" if info.node.op_type in ("Resize", "Upsample") else b"linear"
    if attribute(info, "mode", default) == b"nearest":
        return Size(0.0, 0.0)
    x = inputs[0]
    slope = max(
        (float(np.sqrt(np.mean(np.square(np.diff(x, axis=a))))) for a in range(2, x.ndim) if x.shape[a] > 1),
        default=0.0,
    )
    # A cubic's outer coefficients are differences of terms up to 4.5, made in float32. The values of a constant
    # image are 7 u off in onnxruntime 1.31, and 4.6 u in torch 2.13.
    cubic = attribute(info, "mode", default) in (b"cubic", b"bicubic")
    own = 8 * ONE * float(np.sqrt(np.mean(np.square(x)))) if cubic else 0.0
    return Size(2 * ONE, np.hypot(own, slope * max(x.shape[2:], default=1)))


def _variadic(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Every partial sum rounds, also one whose terms cancel later."""
    partial = np.zeros(y.shape)
    squares = np.zeros(y.shape)
    for index, value in enumerate(inputs):
        partial = partial + value
        if index:
            squares += np.square(partial)
    return Size(ONE, ONE * np.sqrt(squares) / (len(inputs) if info.node.op_type == "Mean" else 1))


def _scatter(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """With a reduction, each of an element's ``h`` updates rounds what was gathered so far; else nothing does."""
    how = attribute(info, "reduction", b"none")
    if how not in (b"add", b"mul"):
        return Size(0.0, 0.0)
    data, indices, updates = (np.asarray(v) for v in inputs)
    if info.node.op_type == "ScatterND":
        flat = indices.reshape(-1, indices.shape[-1]).T
        where: tuple[Any, ...] = tuple(flat)
        updates = updates.reshape(flat.shape[1], *updates.shape[indices.ndim - 1 :])
    else:
        axis = int(attribute(info, "axis", 0)) % data.ndim
        grid: list[Any] = list(np.indices(indices.shape, sparse=True))
        grid[axis] = indices
        where = tuple(grid)
    hits, squares = np.zeros(data.shape), np.square(data)
    np.add.at(hits, where, 1.0)
    np.add.at(squares, where, np.square(updates))
    if how == b"mul":
        return Size(ONE * np.sqrt(hits), 0.0)
    return Size(0.0, ONE * np.sqrt(hits * squares))


def _recurrent(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """Gates are dot products over the input and the hidden state; their error is carried along the sequence."""
    n = inputs[1].shape[-1] + inputs[2].shape[-1]
    chain = terms(n)
    # The gates' functions are made from the exponential: where they are near zero their error is a rounding of 1.
    return Size(((1 + chain / 3) / 3) ** 0.5, float(np.sqrt(np.mean(np.square(y)) * chain / 6 + 1 / 3)))


_RULES: dict[str, Callable[[NodeInfo, Sequence[Value], Real], Size]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "FusedConv", "DeformConv"), _conv),
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul"), _matmul),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "GlobalAveragePool"), reduction),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "GlobalLpPool"),
        plain_reduction),
    "ReduceProd": product,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "LpNormalization": lp_normalisation,
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization"),
        normalisation),
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization"), rms_normalisation),
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    **dict.fromkeys(
        ("Exp", "Log", "Erf", "Tanh", "Softplus", "Mish", "Pow", "Sin",
         "Cos", "Tan", "Atan", "Asin", "Acos", "Sinh", "Cosh", "Softsign"), _bounded),
    **dict.fromkeys(("Elu", "Selu", "Celu"), _elu),
    **dict.fromkeys(("Gelu", "FastGelu", "BiasGelu", "Swish", "QuickGelu"), _gelu),
    **dict.fromkeys(("Resize", "Upsample", "GridSample", "AffineGrid"), _interpolation),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("ScatterElements", "ScatterND"), _scatter),
    **dict.fromkeys(("Sum", "Mean"), _variadic),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "Inverse", "Det", "DFT", "STFT"), by_draws(longest)),
    **dict.fromkeys(("EmbedLayerNormalization", "RoiAlign"), by_draws(once)),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), skip_normalisation),
    "Sigmoid": _sigmoid,
    "HardSwish": _hard_swish,
    "LRN": _lrn,
    "Einsum": _einsum,
    "CumSum": cumsum,
    "BatchNormalization": _batch_norm,
}  # fmt: skip
"""How large an operator's rounding is; what is not listed rounds its result once."""
