"""How large the rounding of operators is that divide a group of elements by what they have in common: one rule each.

An error of a group's mean, deviation or sum moves all of its elements alike. It does not average out when they are
added up, as errors do that each element makes for itself; so the two are told apart (``Size.shared``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxeq.accumulation import LANES, ONE, Error, Size, accumulate
from onnxeq.rounding_sums import attribute

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["log_softmax", "lp_normalisation", "normalisation", "rms_normalisation", "skip_normalisation", "softmax"]

Real: TypeAlias = "NDArray[np.float64]"

_TREE = 64
"""Accumulators whose error the mean of a LayerNormalization has: kernels sum it as a tree or update it as they go. Over
65,536 elements with a mean of 100 to 300 deviations it is off by 0.4 u in onnxruntime 1.31 and by 0.7 u in torch 2.13;
64 accumulators err by 1.3 u, :data:`onnxeq.accumulation.LANES` of them by 21 u."""


def normalisation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``(x - mean) / deviation * scale + bias``: what each element's own arithmetic rounds, and what all share.

    An error of the mean shifts a whole group, in units of its deviation; one of the variance stretches it, before the
    bias is added. Kernels that compute ``x*a + b`` round each product, which is larger than the result by the mean in
    deviations. Measured on onnxruntime 1.31 over 65,536 elements, beside a sum in 8 accumulators: elements from 0.999
    to 1.001 are shifted by 1620 u (1580 u), normal deviates stretched by 3.6 u (4.0 u) in InstanceNormalization and by
    3.9 u in LayerNormalization.
    """
    x = np.asarray(inputs[0])
    if y.shape != x.shape or x.size == 0:
        return Size(ONE, 0.0)
    view, axes = _groups(info, x)
    scale, bias = (np.broadcast_to(v, x.shape).reshape(view) for v in _affine(info, inputs, x))
    grouped = x.reshape(view)
    mean = grouped.mean(axes, keepdims=True)
    rows = _rows(grouped, axes)
    width = rows.shape[1]
    centred = rows - rows.mean(1, keepdims=True)
    # Instances of few or equal elements have no deviation of their own; the epsilon is what they are divided by.
    epsilon = 1e-18 if info.node.op_type == "MeanVarianceNormalization" else float(attribute(info, "epsilon", 1e-5))
    inverse = 1 / np.sqrt(np.mean(np.square(centred), axis=1) + epsilon)
    lift = np.abs(mean) * inverse.reshape(mean.shape)
    lanes = _TREE if info.node.op_type == "LayerNormalization" else LANES
    shift = accumulate(rows, lanes).scaled(inverse / width)
    # ``b = bias - mean*a`` is rounded twice, once for a whole group.
    shift = Error(np.hypot(shift.random, ONE * 2**0.5 * lift.ravel()), shift.alike)
    if info.node.op_type == "GroupNormalization":
        stretch = _as_difference(rows, inverse, shift)
    else:
        stretch = accumulate(np.square(centred), LANES).scaled(np.square(inverse) / (2 * width))
    pattern = y.reshape(view) - bias
    own = ONE * np.sqrt(np.square(pattern) + np.square(scale * lift)).reshape(y.shape)
    return Size(ONE, own, (*shift.shared(mean.shape, scale), *stretch.shared(mean.shape, pattern)))


def _as_difference(rows: Real, inverse: Real, shift: Error) -> Error:
    """Half the relative error of a variance that is ``mean(x^2) - mean(x)^2``.

    That is how the standard defines GroupNormalization, and onnxruntime 1.31 runs the definition: where the mean is 100
    deviations, the group of 65,536 elements is stretched by 9.7e4 u, and one from 0.999 to 1.001 by 6.1e5 u.
    """
    lift = rows.mean(1) * inverse
    squares = accumulate(np.square(rows), LANES).scaled(np.square(inverse) / (2 * rows.shape[1]))
    means = shift.scaled(lift)
    ends = ONE * np.square(lift)  # both squares round
    random = np.sqrt(np.square(squares.random) + np.square(means.random) + np.square(ends))
    return Error(random, squares.alike - means.alike)


def _groups(info: NodeInfo, x: Real) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape in which each group is spanned by whole axes, and those axes."""
    op = info.node.op_type
    if op == "GroupNormalization":
        groups = int(attribute(info, "num_groups", 1))
        return (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), tuple(range(2, x.ndim + 1))
    if op == "InstanceNormalization":
        return x.shape, tuple(range(2, x.ndim))
    if op == "MeanVarianceNormalization":
        return x.shape, tuple(sorted(int(a) % x.ndim for a in attribute(info, "axes", (0, 2, 3))))
    return x.shape, tuple(range(int(attribute(info, "axis", -1)) % x.ndim, x.ndim))


def _affine(info: NodeInfo, inputs: Sequence[Value], x: Real) -> tuple[Real, Real]:
    """Scale and bias, to be broadcast to ``x``."""
    given = [np.asarray(v) for v in inputs[1:3] if v is not None]
    scale, bias = (given + [np.ones(1), np.zeros(1)][len(given) :])[:2]
    if info.node.op_type not in ("GroupNormalization", "InstanceNormalization"):
        return scale, bias
    channel = (-1, *(1,) * (x.ndim - 2))
    repeat = max(1, x.shape[1] // max(1, scale.size))  # before opset 21 a group has one of each
    return np.repeat(scale, repeat).reshape(channel), np.repeat(bias, repeat).reshape(channel)


def _rows(x: Real, axes: Sequence[int]) -> Real:
    """The elements of each group, in memory order."""
    kept = [a for a in range(x.ndim) if a not in axes]
    width = int(np.prod([x.shape[a] for a in axes]))
    rows: Real = np.transpose(x, [*kept, *axes]).reshape(-1, max(1, width))
    return rows


def rms_normalisation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x / sqrt(mean(x^2) + e) * scale``: nothing is subtracted, so that a mean far from zero costs nothing.

    The root and the products round; the sum of squares enters by its root. On onnxruntime 1.31 the error of 65,536
    equal elements is that of a sum in 8 accumulators: 650 u, and 2 u to 5 u where they differ.
    """
    x = np.asarray(inputs[0])
    axis = int(attribute(info, "axis", -1)) % x.ndim
    if y.shape != x.shape or x.size == 0:
        return Size(ONE, 0.0)
    rows = _rows(np.square(x), range(axis, x.ndim))
    squares = rows.sum(1) + rows.shape[1] * float(attribute(info, "epsilon", 1e-5))
    stretch = accumulate(rows, LANES).scaled(_inverse(2 * squares))
    return Size(ONE * 3**0.5, 0.0, stretch.shared((*x.shape[:axis], *(1,) * (x.ndim - axis)), y))


def skip_normalisation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """A normalisation of ``x + skip + bias``, and that sum, which is another output.

    The sum is rounded before it is normalised. onnxruntime 1.31 adds it up, and the squares of what is left of it
    without its mean, in one accumulator each: 768 normal deviates are stretched by 3.9 u (4.6 u); 4,096 whose mean is
    21 deviations are shifted by 250 u (460 u) and stretched by 8.4 u (10.8 u).
    """
    simplified = info.node.op_type == "SkipSimplifiedLayerNormalization"
    first, skip, scale, *others = [None if v is None else np.asarray(v) for v in inputs]
    others += [None, None]
    offset, bias = (None, others[0]) if simplified else others[:2]
    if first is None or skip is None or scale is None or y.size == 0:
        return Size(ONE, 0.0)
    x = first + skip
    rounded = np.abs(x)  # what each addition rounds
    if bias is not None:
        x = x + bias
        rounded = np.hypot(rounded, x)
    if y.shape != x.shape:
        return Size(ONE, 0.0)
    if np.allclose(y, x, rtol=1e-12, atol=1e-12 * float(np.abs(x).max())):
        return Size(0.0, ONE * np.hypot(rounded, np.hypot(first, skip) if bias is not None else 0.0))
    rows, group = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], 1)
    mean = np.zeros(len(rows)) if simplified else rows.mean(1)
    squares = np.square(rows - mean[:, None])
    inverse = 1 / np.sqrt(squares.mean(1) + float(attribute(info, "epsilon", 1e-12)))
    pattern = y if offset is None else y - offset
    own = ONE * np.hypot(2**0.5 * pattern, scale * rounded * inverse.reshape(group))
    stretch = accumulate(squares, 1).scaled(np.square(inverse) / (2 * rows.shape[1]))
    if simplified:
        return Size(ONE, own, stretch.shared(group, pattern))
    lift = np.abs(mean) * inverse
    shift = accumulate(rows, 1).scaled(inverse / rows.shape[1])
    shift = Error(np.hypot(shift.random, ONE * 2**0.5 * lift), shift.alike)
    return Size(ONE, own, (*shift.shared(group, scale), *stretch.shared(group, pattern)))


def lp_normalisation(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x / sum(|x|^p)^(1/p)``: the sum has one accumulator in onnxruntime 1.31 (50,000 equal elements: 9e-4 off)."""
    x = np.asarray(inputs[0])
    axis = int(attribute(info, "axis", -1)) % x.ndim
    p = int(attribute(info, "p", 2))
    if y.shape != x.shape or x.size == 0:
        return Size(ONE, 0.0)
    rows = _rows(np.abs(x) ** p, (axis,))
    error = accumulate(rows, 1).scaled(_inverse(p * rows.sum(1)))
    return Size(2 * ONE, 0.0, error.shared(tuple(1 if a == axis else d for a, d in enumerate(x.shape)), y))


def softmax(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``exp(x - max)`` turns the absolute rounding of its argument into a relative error; all share the sum's."""
    x = np.asarray(inputs[0])
    argument = float(np.sqrt(np.mean(np.square(x - np.max(x)))))
    relative = ONE * (3 + min(argument, 100.0))
    if y.shape != x.shape:
        return Size(relative, 0.0)
    axes = _row_axes(info, x.ndim)
    with np.errstate(all="ignore"):
        rows = _rows(np.nan_to_num(y / np.max(y, axis=axes, keepdims=True)), axes)  # exp(x - max) without computing it
    error = accumulate(rows, LANES).scaled(_inverse(rows.sum(1)))
    return Size(relative, 0.0, error.shared(tuple(1 if a in axes else d for a, d in enumerate(x.shape)), y))


def log_softmax(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
    """``x - max - log(sum)``: each difference rounds for itself, and the logarithm of the sum for all of a row.

    The sum is one or more, so that where the result is near zero its rounding is not.
    """
    x = np.asarray(inputs[0])
    if y.shape != x.shape:
        return Size(2 * ONE, ONE)
    error, sums, shape = _exponentials(info, x)
    row = Error(np.hypot(error.random, 2 * ONE * (1 + np.log(sums))), error.alike)
    return Size(2 * ONE, ONE, row.shared(shape))


def _row_axes(info: NodeInfo, rank: int) -> tuple[int, ...]:
    """What a softmax sums over: before opset 13 everything from the axis on."""
    axis = int(attribute(info, "axis", -1 if info.opset >= 13 else 1)) % max(1, rank)
    return tuple(range(rank))[axis : axis + 1 if info.opset >= 13 else rank]


def _exponentials(info: NodeInfo, x: Real) -> tuple[Error, Real, tuple[int, ...]]:
    """The sums of ``exp(x - max)``, their relative errors, and the shape that they have beside ``x``."""
    axes = _row_axes(info, x.ndim)
    with np.errstate(all="ignore"):
        rows = np.nan_to_num(np.exp(x - np.max(x, axis=axes, keepdims=True)))
    rows = _rows(rows, axes) if x.ndim else rows.reshape(1, 1)
    sums = np.maximum(rows.sum(1), 1.0)
    return accumulate(rows, LANES).scaled(1 / sums), sums, tuple(1 if a in axes else d for a, d in enumerate(x.shape))


def _inverse(values: Real) -> Real:
    return np.where(values > 0, 1 / np.where(values > 0, values, 1.0), 0.0)
