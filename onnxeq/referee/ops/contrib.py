"""Operators of the domain com.microsoft that quantised models carry."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxeq.referee.elements import is_float
from onnxeq.referee.ops.quant import dequantize, dynamic_quantize, quantize, standard
from onnxeq.referee.ops.tensors import declared, normal_axis, unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []

MICROSOFT = "com.microsoft"


@op("QLinearAdd", "QLinearMul", domain=MICROSOFT, witnesses=("onnxruntime",))
def qlinear_binary(
    call: Call,
    A: Any,
    a_scale: Any,
    a_zero: Any,
    B: Any,
    b_scale: Any,
    b_zero: Any,
    c_scale: Any,
    c_zero: Any = None,
) -> Any:
    """Dequantised operands combined and quantised again."""
    combine = np.add if call.node.op_type == "QLinearAdd" else np.multiply
    real = combine(dequantize(A, a_scale, a_zero), dequantize(B, b_scale, b_zero))
    return quantize(real, c_scale, c_zero, declared(call, 0, A))


@op("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT, witnesses=("onnxruntime",))
def qlinear_unary(call: Call, X: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None) -> Any:
    """The function of the dequantised input, quantised again."""
    real = dequantize(X, x_scale, x_zero)
    if call.node.op_type == "QLinearSigmoid":
        real = 0.5 * (1 + np.tanh(0.5 * real))
    else:
        real = np.where(real >= 0, real, call.get("alpha", float(np.float32(0.01))) * real)
    return quantize(real, y_scale, y_zero, declared(call, 0, X))


@op("QLinearSoftmax", domain=MICROSOFT, witnesses=("onnxruntime",))
def qlinear_softmax(call: Call, X: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any) -> Any:
    """Softmax of the dequantised input along ``axis`` (of all axes from it on before opset 13)."""
    real = dequantize(X, x_scale, x_zero)
    axis = normal_axis(call.get("axis", -1), X.ndim)
    over = (axis,) if call.get("opset", 13) >= 13 else tuple(range(axis, X.ndim))
    raised = np.exp(real - real.max(axis=over, keepdims=True))
    return quantize(raised / raised.sum(axis=over, keepdims=True), y_scale, y_zero, declared(call, 0, X))


@op("QLinearAveragePool", "QLinearGlobalAveragePool", domain=MICROSOFT, witnesses=("onnxruntime",))
def qlinear_pool(call: Call, X: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None) -> Any:
    """The mean of the dequantised input, quantised again; channels may come last."""
    real = dequantize(X, x_scale, x_zero)
    last = bool(call.get("channels_last", 0))
    real = np.moveaxis(real, -1, 1) if last else real
    if call.node.op_type == "QLinearGlobalAveragePool":
        real = real.mean(axis=tuple(range(2, real.ndim)), keepdims=True)
    else:
        real = standard("AveragePool", 11, call)(real)
    real = np.moveaxis(real, 1, -1) if last else real
    return quantize(real, y_scale, y_zero, declared(call, 0, X))


@op("QLinearConcat", domain=MICROSOFT, witnesses=("onnxruntime",))
def qlinear_concat(call: Call, y_scale: Any, y_zero: Any, *triples: Any) -> Any:
    """Inputs come as (tensor, scale, zero point); each is brought to the output's quantisation."""
    real = [dequantize(*triples[i : i + 3]) for i in range(0, len(triples), 3)]
    return quantize(np.concatenate(real, axis=call.get("axis")), y_scale, y_zero, declared(call, 1, y_zero))


def _integer_product(A: Any, a_scale: Any, a_zero: Any, B: Any, b_scale: Any, b_zero: Any, bias: Any) -> Any:
    exact = np.matmul(dequantize(A, 1.0, a_zero), dequantize(B, 1.0, b_zero))
    real = exact * a_scale * b_scale
    return real if bias is None else real + bias


@op("MatMulIntegerToFloat", domain=MICROSOFT, witnesses=("onnxruntime",))
def matmul_integer_to_float(
    call: Call,
    A: Any,
    B: Any,
    a_scale: Any,
    b_scale: Any,
    a_zero: Any = None,
    b_zero: Any = None,
    bias: Any = None,
) -> Any:
    """The integer product times both scales, plus a bias."""
    return _integer_product(A, a_scale, a_zero, B, b_scale, b_zero, bias)


@op("DynamicQuantizeMatMul", domain=MICROSOFT, witnesses=("onnxruntime",))
def dynamic_quantize_matmul(call: Call, A: Any, B: Any, b_scale: Any, b_zero: Any = None, bias: Any = None) -> Any:
    """``A`` quantised to uint8 by its own range, then the integer product."""
    quantised, scale, zero = dynamic_quantize(A)
    return _integer_product(quantised, scale, zero, B, b_scale, b_zero, bias)


def _unpack(packed: Any, bits: int) -> Any:
    """Values of ``bits`` bits from bytes along the last axis, lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)


@op("MatMulNBits", domain=MICROSOFT, witnesses=("onnxruntime", "spec"))
def matmul_n_bits(
    call: Call,
    A: Any,
    B: Any,
    scales: Any,
    zero_points: Any = None,
    g_idx: Any = None,
    bias: Any = None,
) -> Any:
    """``A @ dequantised(B)^T``: B is ``[N, blocks, bytes]``, quantised per block of its K columns."""
    K, N, bits, block = (int(call.get(n)) for n in ("K", "N", "bits", "block_size"))
    if bits not in (2, 4, 8):
        raise unsupported(call, f"{bits} bits")
    blocks = -(-K // block)
    codes = _unpack(B.reshape(N, blocks, -1), bits).reshape(N, blocks * block)[:, :K].astype(np.float64)
    group = np.arange(K) // block if g_idx is None else g_idx[:K].astype(np.int64)
    scale = scales.reshape(N, blocks)[:, group]
    if zero_points is None:
        zero: Any = float(1 << (bits - 1))
    elif is_float(declared(call, 3, zero_points)):
        zero = zero_points.reshape(N, blocks)[:, group]
    else:
        zero = _unpack(zero_points.reshape(N, -1), bits)[:, :blocks].astype(np.float64)[:, group]
    out = np.matmul(A, ((codes - zero) * scale).T)
    return out if bias is None else out + bias


@op("Inverse", domain=MICROSOFT, witnesses=("onnxruntime", "torch"))
def inverse(call: Call, X: Any) -> Any:
    """The inverse of each matrix in the last two dimensions."""
    return np.linalg.inv(X)
