"""BatchNormalization folded into the linear operator before it.

With ``s = scale / sqrt(var + epsilon)`` per output channel::

    BN(L(x; W, b)) = L(x; s*W, s*(b - mean) + bias)        L: Conv, ConvTranspose, Gemm, MatMul

computed in float64 from the stored values and rounded once to the stored type. Rules:

1. inference only (no training outputs, no ``training_mode``, ``is_test`` before opset 7);
2. all parameters are constants; an initializer that the caller may override is none;
3. the linear operator's output has no other reader, in this graph or a sub-graph, and is no output;
4. a weight with another reader is copied for this use, the other keeps the stored one;
5. MatMul and Gemm only in two dimensions, where the last axis is BatchNormalization's channel axis 1;
6. nothing is folded that the stored type cannot hold: an overflow, or a channel whose weights would fall
   into the subnormal range (float16: below 6e-5) where their rounding is coarser than that of the channel's
   largest weight or bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxeq.graph.edit import (
    FLOATS,
    attribute,
    bypass,
    constant,
    is_standard,
    names,
    new_constant,
    normal_opset,
    rank,
    reads_alone,
    wide,
)
from onnxeq.graph.frame import Options, Outcome, Pass, graphs
from onnxeq.types import Array

__all__ = ["FOLD_BATCH_NORM"]

Wide: TypeAlias = NDArray[np.float64]

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class _Affine:
    """``y = factor * x + shift`` per channel, float64."""

    factor: Wide
    shift: Wide


def _affine(node: ir.Node, opset: int) -> _Affine | None:
    """What an inference-mode BatchNormalization computes; ``None`` when a rule forbids folding it."""
    if opset >= 14:
        training = bool(attribute(node, "training_mode", 0))
    else:
        training = opset < 7 and not attribute(node, "is_test", 0)
    extra = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    if training or extra or attribute(node, "spatial", 1) != 1 or len(node.inputs) < 5:
        return None
    scale, bias, mean, var = (wide(v) for v in node.inputs[1:5])
    if scale is None or bias is None or mean is None or var is None:
        return None
    epsilon = float(np.float32(attribute(node, "epsilon", 1e-5)))
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + epsilon)
        return _Affine(factor, bias - mean * factor)


def _weight(node: ir.Node, weight: Wide, affine: _Affine) -> Wide | None:
    """The folded weight, float64, or ``None`` when shapes do not fit."""
    channels = affine.factor.size
    if node.op_type == "Conv":
        if weight.ndim < 3 or weight.shape[0] != channels:
            return None
        return weight * affine.factor.reshape(-1, *[1] * (weight.ndim - 1))
    if node.op_type == "ConvTranspose":
        group = int(attribute(node, "group", 1))
        if weight.ndim < 3 or weight.shape[1] * group != channels or weight.shape[0] % group:
            return None
        grouped = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        factor = affine.factor.reshape(group, 1, -1, *[1] * (weight.ndim - 2))
        return (grouped * factor).reshape(weight.shape)
    if weight.ndim != 2:
        return None
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        factor = affine.factor[:, None]
        return weight * factor * attribute(node, "alpha", 1.0) if len(weight) == channels else None
    alpha = attribute(node, "alpha", 1.0) if node.op_type == "Gemm" else 1.0
    return weight * affine.factor * alpha if weight.shape[1] == channels else None


def _bias(node: ir.Node, affine: _Affine) -> Wide | None:
    """The folded bias ``float64[C]``; ``None`` when the present one is no constant per channel."""
    channels = affine.factor.size
    held = node.inputs[2] if len(node.inputs) > 2 else None
    if held is None:
        return affine.shift
    bias = wide(held)
    if bias is None or bias.size not in (1, channels) or (bias.ndim and bias.shape[-1] != bias.size):
        return None
    if node.op_type == "Gemm":
        bias = bias * attribute(node, "beta", 1.0)
    return bias.reshape(-1) * affine.factor + affine.shift


def _stored(weight: Wide, bias: Wide, dtype: ir.DataType, axis: int) -> tuple[Array, Array] | None:
    """Weight and bias in the stored type; ``None`` when rule 6 forbids it.

    ``axis`` is the weight's axis that runs over the bias' elements.
    """
    info = np.finfo(dtype.numpy())
    with np.errstate(all="ignore"):
        stored = weight.astype(dtype.numpy()), bias.astype(dtype.numpy())
    if not all(np.isfinite(array).all() for array in stored):
        return None
    others = tuple(a for a in range(weight.ndim) if a != axis)
    error = np.abs(stored[0].astype(np.float64) - weight).max(axis=others, initial=0.0)
    scale = np.maximum(np.abs(weight).max(axis=others, initial=0.0), np.abs(bias).reshape(-1)[: error.size])
    return stored if bool((error <= float(info.eps) * scale).all()) else None


def _channel_axis(node: ir.Node) -> int:
    """The weight's axis of output channels (of a grouped ConvTranspose: within the first group)."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return 0 if node.op_type == "Conv" else 1
    return 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1


def _fold(norm: ir.Node, opset: int, taken: set[str]) -> bool:
    source = norm.inputs[0]
    linear = source.producer() if source is not None else None
    if source is None or linear is None or not is_standard(linear, *_LINEAR):
        return False
    if not reads_alone(norm, source) or linear.graph is not norm.graph or linear.graph is None:
        return False
    affine, held = _affine(norm, opset), constant(linear.inputs[1])
    if affine is None or held is None or held.dtype not in FLOATS:
        return False
    dense = linear.op_type in ("Gemm", "MatMul")
    if dense and (opset < 7 or any(rank(v) != 2 for v in linear.inputs[:2])):
        return False
    old = linear.inputs[1]
    exact_weight, exact_bias = _weight(linear, held.numpy().astype(np.float64), affine), _bias(linear, affine)
    if exact_weight is None or exact_bias is None:
        return False
    stored = _stored(exact_weight, exact_bias, held.dtype, _channel_axis(linear))
    if stored is None or not bypass(norm, source):
        return False
    stem = linear.name or source.name or linear.op_type
    old_bias = linear.inputs[2] if len(linear.inputs) > 2 else None
    new_weight = new_constant(linear.graph, old, f"{stem}.weight", stored[0], taken)
    new_bias = new_constant(linear.graph, old_bias, f"{stem}.bias", stored[1], taken)
    linear.resize_inputs(3)
    linear.replace_input_with(1, new_weight)
    linear.replace_input_with(2, new_bias)
    if dense:
        linear.op_type = "Gemm"
        for name in ("alpha", "beta"):
            linear.attributes.pop(name, None)
    return True


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    opset, taken, changes = normal_opset(model), names(model), 0
    for graph in graphs(model):
        for node in list(graph):
            if is_standard(node, "BatchNormalization"):
                changes += _fold(node, opset, taken)
    return Outcome(changes)


FOLD_BATCH_NORM = Pass(
    name="fold-batch-norm",
    does="Folds inference BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it, "
    "in float64, rounded once.",
    run=_run,
    adds=frozenset({"Gemm"}),
    removes=frozenset({"BatchNormalization", "MatMul"}),
)
