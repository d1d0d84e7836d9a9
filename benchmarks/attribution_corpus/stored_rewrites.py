"""Benign variants that keep weights another way: folded, turned, split, scaled, in another type."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from .edit import add_initializer, attribute, constant, fresh, node, readers, replace_node, rewire, set_initializer
from .faults import Subject, tensors
from .rewrites import benign, drop_inputs, float_nodes, swept

__all__: list[str] = []


@benign("batch-norm-as-affine")
def _affine(model: onnx.ModelProto, subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    """Batch normalisation as Mul and Add, folded in float64 or in float32."""
    dtype = np.float64 if rng.integers(2) else np.float32
    done = False
    for output in float_nodes(model, subject, "BatchNormalization"):
        old = node(model, output)
        held = [constant(model, n) for n in old.input[1:]]
        rank = len(subject.shape(output) or ())
        if any(h is None for h in held) or rank < 2:
            continue
        scale, shift, mean, var = (h.astype(dtype) for h in held if h is not None)
        factor = scale / np.sqrt(var + dtype(attribute(old, "epsilon", 1e-5)))
        shape = (1, -1, *(1,) * (rank - 2))
        a = add_initializer(model, f"{output}_a", factor.astype(np.float32).reshape(shape))
        b = add_initializer(model, f"{output}_b", (shift - mean * factor).astype(np.float32).reshape(shape))
        scaled = fresh(model, f"{output}_scaled")
        made = [
            helper.make_node("Mul", [old.input[0], a], [scaled], name=f"{output}_mul"),
            helper.make_node("Add", [scaled, b], [output], name=f"{output}_add"),
        ]
        replace_node(model, output, made)
        done = True
    return swept(model) if done else None


@benign("batch-norm-folded")
def _fold(model: onnx.ModelProto, subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    """Batch normalisation folded into the convolution in front of it, by another hand than an exporter's."""
    dtype = np.float64 if rng.integers(2) else np.float32
    done = False
    for output in float_nodes(model, subject, "BatchNormalization"):
        norm = node(model, output)
        conv = next((n for n in model.graph.node if norm.input[0] in n.output), None)
        held = [constant(model, n) for n in norm.input[1:]]
        if (
            conv is None
            or conv.op_type != "Conv"
            or len(readers(model, norm.input[0])) > 1
            or any(h is None for h in held)
        ):
            continue
        weight = constant(model, conv.input[1])
        bias = constant(model, conv.input[2]) if len(conv.input) > 2 else np.zeros(held[0].shape)  # type: ignore[union-attr]
        if weight is None or bias is None:
            continue
        scale, shift, mean, var = (h.astype(dtype) for h in held if h is not None)
        factor = scale / np.sqrt(var + dtype(attribute(norm, "epsilon", 1e-5)))
        folded = (weight.astype(dtype) * factor.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.float32)
        moved = ((bias.astype(dtype) - mean) * factor + shift).astype(np.float32)
        names = [add_initializer(model, f"{output}_w", folded), add_initializer(model, f"{output}_b", moved)]
        made = helper.make_node("Conv", [conv.input[0], *names], [output], name=conv.name)
        made.attribute.extend(conv.attribute)
        inner = conv.output[0]
        replace_node(model, output, [made])
        model.graph.node.remove(node(model, inner))
        done = True
    return swept(model) if done else None


@benign("weights-turned")
def _turned(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Weights stored in another layout, with a Transpose behind them."""
    found = [t for t in tensors(subject, "conv", "gemm", "matmul") if t.value.ndim in (2, 4)]
    for tensor in found:
        perm = [2, 3, 1, 0] if tensor.value.ndim == 4 else [1, 0]
        back = [int(k) for k in np.argsort(perm)]
        set_initializer(model, tensor.name, tensor.value.transpose(perm))
        rewire(model, tensor.name, f"{tensor.name}_back")
        added = helper.make_node(
            "Transpose", [tensor.name], [f"{tensor.name}_back"], name=f"{tensor.name}_T", perm=back
        )
        model.graph.node.insert(0, added)
    drop_inputs(model)
    return model if found else None


@benign("weights-as-double")
def _double(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Weights stored in float64 and cast: exact."""
    found = [t for t in tensors(subject, "conv", "gemm", "matmul", "bias") if t.value.dtype == np.float32]
    for tensor in found:
        set_initializer(model, tensor.name, tensor.value.astype(np.float64))
        rewire(model, tensor.name, f"{tensor.name}_f32")
        name = f"{tensor.name}_cast"
        added = helper.make_node("Cast", [tensor.name], [f"{tensor.name}_f32"], name=name, to=TensorProto.FLOAT)
        model.graph.node.insert(0, added)
    drop_inputs(model)
    return model if found else None


@benign("linear-in-two-parts")
def _parts(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """A convolution or a product as two over half of its output channels each."""
    for output in float_nodes(model, subject, "Conv", "MatMul"):
        old = node(model, output)
        weight = constant(model, old.input[1])
        if weight is None or attribute(old, "group", 1) != 1 or (old.op_type == "MatMul" and weight.ndim != 2):
            continue
        bias = constant(model, old.input[2]) if len(old.input) > 2 else None
        axis = 0 if old.op_type == "Conv" else 1
        made, results = [], []
        for k, half in enumerate(np.array_split(weight, 2, axis)):
            given = [old.input[0], add_initializer(model, f"{old.input[1]}_part{k}", half)]
            if bias is not None:
                given.append(add_initializer(model, f"{old.input[2]}_part{k}", np.array_split(bias, 2)[k]))
            results.append(fresh(model, f"{output}_part{k}"))
            made.append(helper.make_node(old.op_type, given, [results[-1]], name=results[-1]))
            made[-1].attribute.extend(old.attribute)
        joined = 1 if old.op_type == "Conv" else -1
        made.append(helper.make_node("Concat", results, [output], name=f"{output}_joined", axis=joined))
        replace_node(model, output, made)
        return swept(model)
    return None


@benign("scale-moved")
def _equalised(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """A power of two moved from one convolution through a Relu into the next: exact, as equalisation before
    quantisation does it.
    """
    for output in float_nodes(model, subject, "Conv"):
        conv = node(model, output)
        after = readers(model, output)
        behind = readers(model, after[0].output[0]) if len(after) == 1 and after[0].op_type == "Relu" else []
        if len(behind) != 1 or behind[0].op_type != "Conv" or len(conv.input) < 3:
            continue
        names = [conv.input[1], conv.input[2], behind[0].input[1]]
        held = [constant(model, n) for n in names]
        alone = all(len(readers(model, n)) == 1 for n in names)
        if alone and all(h is not None for h in held):
            for name, value, factor in zip(names, held, (2, 2, 0.5), strict=True):
                set_initializer(model, name, value * np.float32(factor))  # type: ignore[operator]
            return model
    return None
