"""onnxruntime's fused operators as the standard ones that they stand for.

The last of the new nodes makes what the fused one made; what lies between gets the fused value's name and a suffix:
``y/conv``, ``y/sum``, ``y/matmul``. What has no exact standard form stays as it is: the referee knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto

from onnxeq.layers.optimized.sheet import Sheet, attributes_of

__all__ = ["activated", "convolved", "gemms_of_matmuls", "unfused"]

MICROSOFT = "com.microsoft"

_ALPHA_BETA = {"LeakyRelu": ("alpha",), "Elu": ("alpha",), "HardSigmoid": ("alpha", "beta")}


def activated(
    sheet: Sheet, node: NodeProto, value: str, result: str, activation: str, parameters: Sequence[float]
) -> None:
    """The activation that a fused node carries, from ``value`` to ``result``."""
    if activation == "Clip" and sheet.opset >= 11:
        bounds = [
            sheet.constant(f"{result}/{end}", np.array(bound, dtype=np.float32))
            for end, bound in zip(("min", "max"), parameters, strict=True)
        ]
        sheet.node("Clip", [value, *bounds], result, node)
        return
    names = ("min", "max") if activation == "Clip" else _ALPHA_BETA.get(activation, ())
    given: dict[str, Any] = dict(zip(names, map(float, parameters), strict=False))
    sheet.node(activation, [value], result, node, **given)


def unfused(sheet: Sheet, node: NodeProto) -> bool:
    """Adds what a node of onnxruntime's own domain stands for; ``False`` where it has to stay as it is."""
    rewrite = _REWRITES.get(node.op_type) if node.domain == MICROSOFT else None
    return rewrite is not None and rewrite(sheet, node, attributes_of(node))


def _given(node: NodeProto, place: int) -> str:
    return node.input[place] if len(node.input) > place else ""


def convolved(sheet: Sheet, node: NodeProto, inputs: list[str], addend: str, attributes: dict[str, Any]) -> None:
    """A Conv, then a sum, then an activation, as far as the node has them."""
    result = node.output[0]
    activation = attributes.pop("activation", "")
    parameters = attributes.pop("activation_params", ())
    kept = {k: v for k, v in attributes.items() if k in _CONV}
    last = result if not (addend or activation) else f"{result}/conv"
    value = sheet.node("Conv", inputs, last, node, **kept)
    if addend:
        value = sheet.node("Add", [value, addend], f"{result}/sum" if activation else result, node)
    if activation:
        activated(sheet, node, value, result, activation, parameters)


_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _conv(sheet: Sheet, node: NodeProto, attributes: dict[str, Any]) -> bool:
    inputs = list(node.input[:3])
    while not inputs[-1]:
        inputs.pop()
    convolved(sheet, node, inputs, _given(node, 3), attributes)
    return True


def _gemm(sheet: Sheet, node: NodeProto, attributes: dict[str, Any]) -> bool:
    result = node.output[0]
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    parameters = [attributes.pop(name) for name in names if name in attributes]
    activation = attributes.pop("activation", "")
    value = sheet.node("Gemm", list(node.input), f"{result}/gemm" if activation else result, node, **attributes)
    if activation:
        activated(sheet, node, value, result, activation, parameters)
    return True


def _matmul(sheet: Sheet, node: NodeProto, attributes: dict[str, Any]) -> bool:
    result = node.output[0]
    operands = []
    for name, side in zip(node.input, "AB", strict=True):
        inner, batch = bool(attributes.get(f"trans{side}")), bool(attributes.get(f"transBatch{side}"))
        rank = sheet.rank(name)
        if (inner or batch) and rank < 2:
            return False  # unknown, or a vector
        axes = list(range(rank))
        if batch and rank > 2:
            axes = [*axes[1:-1], axes[0], axes[-1]]
        if inner:
            axes[-2:] = [axes[-1], axes[-2]]
        operands.append((name, axes))
    read = [
        name if axes == sorted(axes) else sheet.node("Transpose", [name], f"{result}/{side}", node, perm=axes)
        for (name, axes), side in zip(operands, "ab", strict=True)
    ]
    alpha = float(attributes.get("alpha", 1.0))
    value = sheet.node("MatMul", read, result if alpha == 1 else f"{result}/matmul", node)
    if alpha != 1:
        scale = sheet.constant(f"{result}/alpha", np.array(alpha, dtype=np.float32))
        sheet.node("Mul", [value, scale], result, node)
    return True


def _gelu(sheet: Sheet, node: NodeProto, _attributes: dict[str, Any]) -> bool:
    value, result, bias = node.input[0], node.output[0], _given(node, 1)
    tanh = node.op_type == "FastGelu"
    if not bias and sheet.opset < 20:
        return False
    if bias:
        value = sheet.node("Add", [value, bias], f"{result}/sum", node)
    if sheet.opset >= 20:
        sheet.node("Gelu", [value], result, node, approximate="tanh" if tanh else None)
    else:
        sheet.node("FastGelu" if tanh else "Gelu", [value], result, node, MICROSOFT)
    return True


def _quick_gelu(sheet: Sheet, node: NodeProto, attributes: dict[str, Any]) -> bool:
    value, result = node.input[0], node.output[0]
    alpha = float(attributes.get("alpha", np.float32(1.702)))
    scaled = value
    if alpha != 1:
        scale = sheet.constant(f"{result}/alpha", np.array(alpha, dtype=np.float32))
        scaled = sheet.node("Mul", [value, scale], f"{result}/scaled", node)
    gate = sheet.node("Sigmoid", [scaled], f"{result}/sigmoid", node)
    sheet.node("Mul", [value, gate], result, node)
    return True


def _skip_layer_norm(sheet: Sheet, node: NodeProto, attributes: dict[str, Any]) -> bool:
    plain = node.op_type == "SkipLayerNormalization"
    if any(node.output[1:3]) or (plain and sheet.opset < 17):
        return False
    result = node.output[0]
    total = node.output[3] if len(node.output) > 3 and node.output[3] else f"{result}/sum"
    value, skip = node.input[:2]
    scales = [name for name in node.input[2 : 4 if plain else 3] if name]
    bias = _given(node, 4 if plain else 3)
    if bias:
        value = sheet.node("Add", [value, bias], f"{result}/bias", node)
    sheet.node("Add", [value, skip], total, node)
    epsilon = float(attributes.get("epsilon", np.float32(1e-12)))
    kind = "LayerNormalization" if plain else "SimplifiedLayerNormalization"
    sheet.node(kind, [total, *scales], result, node, axis=-1, epsilon=epsilon)
    return True


_REWRITES: dict[str, Callable[[Sheet, NodeProto, dict[str, Any]], bool]] = {
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
    "TransposeMatMul": _matmul,
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "FastGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_layer_norm,
    "SkipSimplifiedLayerNormalization": _skip_layer_norm,
}


def gemms_of_matmuls(sheet: Sheet) -> tuple[dict[int, tuple[str, NodeProto]], set[int]]:
    """Gemm nodes that a MatMul and the Add behind it have become, between the Reshapes around them.

    Returns:
        By the identity of the last node of each: what the MatMul reads, and the Gemm. And the identities of the nodes
        before it, which fall away.
    """
    found: dict[int, tuple[str, NodeProto]] = {}
    gone: set[int] = set()
    for gemm in sheet.graph.node:
        if gemm.op_type != "Gemm" or not gemm.name.endswith("/MatMulAddFusion") or len(gemm.input) < 3:
            continue
        kept = attributes_of(gemm)
        if kept.get("transA") or kept.get("transB") or kept.get("alpha", 1) != 1 or kept.get("beta", 1) != 1:
            continue
        before, behind = sheet.makers.get(gemm.input[0]), sheet.readers.get(gemm.output[0], [])
        if before is None or not before.name.startswith("gemm_input_reshape"):
            found[id(gemm)] = (gemm.input[0], gemm)
        elif len(behind) == 1 and behind[0].op_type == "Reshape" and _same_rows(sheet, before.input[0], behind[0]):
            found[id(behind[0])] = (before.input[0], gemm)
            gone |= {id(gemm)} | ({id(before)} if len(sheet.readers[gemm.input[0]]) == 1 else set())
    return found, gone


def _same_rows(sheet: Sheet, value: str, reshape: NodeProto) -> bool:
    """Whether a Reshape gives the leading sizes back that ``value`` has, as far as both are known."""
    shape, target = sheet.shapes.get(value), sheet.array(reshape.input[1])
    if shape is None or target is None or len(shape) != target.size:
        return False
    rows = zip(shape[:-1], target.tolist()[:-1], strict=True)
    return all(size < 0 or wanted in (size, -1) for size, wanted in rows)
