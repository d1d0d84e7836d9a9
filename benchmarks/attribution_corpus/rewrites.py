"""Benign variants that rewrite operators: the same function in other nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper

from .edit import (
    add_initializer,
    attribute,
    constant,
    fresh,
    insert_after,
    node,
    opset,
    put,
    replace_node,
)
from .faults import Subject

__all__ = ["BENIGN", "Rewrite", "benign"]

Rewrite: TypeAlias = Callable[[onnx.ModelProto, Subject, np.random.Generator], onnx.ModelProto | None]
"""Takes a copy of the model, which it may change; gives the variant, or ``None`` where there is nothing to rewrite."""

BENIGN: dict[str, Rewrite] = {}
"""Every benign rewrite by name, filled by :func:`benign`."""


def benign(name: str) -> Callable[[Rewrite], Rewrite]:
    """Enters a rewrite into :data:`BENIGN`."""

    def enter(rewrite: Rewrite) -> Rewrite:
        BENIGN[name] = rewrite
        return rewrite

    return enter


def float_nodes(model: onnx.ModelProto, subject: Subject, *kinds: str) -> list[str]:
    """First outputs of nodes of these types that compute in float32."""
    return [
        n.output[0] for n in model.graph.node
        if n.op_type in kinds and n.output[0] in subject.values and subject.values[n.output[0]].dtype == np.float32
    ]  # fmt: skip


@benign("gemm-as-matmul")
def _gemm(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """``Gemm`` taken apart, its weight stored transposed."""
    done = False
    for output in float_nodes(model, subject, "Gemm"):
        old = node(model, output)
        weight = constant(model, old.input[1])
        plain = attribute(old, "alpha", 1.0) == attribute(old, "beta", 1.0) == 1.0 and not attribute(old, "transA", 0)
        if weight is None or len(old.input) < 3 or not plain:
            continue
        stored = weight.T if attribute(old, "transB", 0) else weight
        name, product = add_initializer(model, f"{old.input[1]}_t", stored.copy()), fresh(model, f"{output}_product")
        made = [
            helper.make_node("MatMul", [old.input[0], name], [product], name=fresh(model, f"{output}_matmul")),
            helper.make_node("Add", [product, old.input[2]], [output], name=fresh(model, f"{output}_add")),
        ]
        replace_node(model, output, made)
        done = True
    return swept(model) if done else None


@benign("matmul-as-gemm")
def _matmul(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """A product of tokens and matrix as Gemm over flattened tokens, the bias joined where there is one."""
    for output in float_nodes(model, subject, "MatMul"):
        old = node(model, output)
        weight, shape = constant(model, old.input[1]), subject.shape(old.input[0])
        if weight is None or weight.ndim != 2 or shape is None or len(shape) < 2:
            continue
        flat, flat_out = fresh(model, f"{output}_flat"), fresh(model, f"{output}_rows")
        rows = add_initializer(model, f"{output}_rows_shape", np.asarray([-1, shape[-1]], np.int64))
        back = add_initializer(model, f"{output}_shape", np.asarray([-1, *shape[1:-1], weight.shape[1]], np.int64))
        turned = add_initializer(model, f"{old.input[1]}_turned", weight.T.copy())
        made = [
            helper.make_node("Reshape", [old.input[0], rows], [flat], name=f"{output}_in"),
            helper.make_node("Gemm", [flat, turned], [flat_out], name=f"{output}_gemm", transB=1),
            helper.make_node("Reshape", [flat_out, back], [output], name=f"{output}_out"),
        ]
        replace_node(model, output, made)
        return swept(model)
    return None


@benign("pointwise-as-matmul")
def _pointwise(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """A 1x1 convolution as a product over channels-last pixels."""
    done = False
    for output in float_nodes(model, subject, "Conv"):
        old = node(model, output)
        weight = constant(model, old.input[1])
        plain = attribute(old, "group", 1) == 1 and set(attribute(old, "strides", [1])) == {1}
        if weight is None or weight.shape[2:] != (1, 1) or not plain or any(attribute(old, "pads", [0])) or done:
            continue
        matrix = add_initializer(model, f"{old.input[1]}_matrix", weight[:, :, 0, 0].T.copy())
        last, product, biased = (fresh(model, f"{output}_{k}") for k in ("last", "product", "biased"))
        made = [
            helper.make_node("Transpose", [old.input[0]], [last], name=f"{output}_to_last", perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", [last, matrix], [product], name=f"{output}_mm"),
        ]
        if len(old.input) > 2:
            made.append(helper.make_node("Add", [product, old.input[2]], [biased], name=f"{output}_b"))
        source = biased if len(old.input) > 2 else product
        made.append(helper.make_node("Transpose", [source], [output], name=f"{output}_to_first", perm=[0, 3, 1, 2]))
        replace_node(model, output, made)
        done = True
    return swept(model) if done else None


@benign("reciprocal")
def _reciprocal(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Division by a constant as multiplication."""
    done = False
    for output in float_nodes(model, subject, "Div"):
        old = node(model, output)
        value = constant(model, old.input[1])
        if value is not None and value.dtype == np.float32 and (value != 0).all():
            inverse = add_initializer(model, f"{output}_inverse", (1 / value.astype(np.float64)).astype(np.float32))
            replace_node(model, output, [helper.make_node("Mul", [old.input[0], inverse], [output], name=old.name)])
            done = True
    return swept(model) if done else None


@benign("operands-commuted")
def _commuted(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """``b + a`` for ``a + b``."""
    found = float_nodes(model, subject, "Add", "Mul")
    for output in found:
        both = node(model, output)
        both.input[0], both.input[1] = both.input[1], both.input[0]
    return model if found else None


@benign("concat-nested")
def _nested(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """One Concat as a Concat of Concats."""
    for output in float_nodes(model, subject, "Concat"):
        old = node(model, output)
        if len(old.input) > 2:
            inner, axis = fresh(model, f"{output}_first"), attribute(old, "axis")
            made = [
                helper.make_node("Concat", list(old.input[:2]), [inner], name=f"{output}_inner", axis=axis),
                helper.make_node("Concat", [inner, *old.input[2:]], [output], name=old.name, axis=axis),
            ]
            replace_node(model, output, made)
            return model
    return None


def _written_out(
    model: onnx.ModelProto, output: str, steps: list[tuple[str, list[str], str, dict[str, object]]]
) -> None:
    made = [helper.make_node(kind, list(i), [o], name=fresh(model, f"{o}_{kind}"), **a) for kind, i, o, a in steps]
    replace_node(model, output, made)


@benign("activations-written-out")
def _activations(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Relu as Max, HardSwish by HardSigmoid, LeakyRelu by its two sides, Gelu by Erf or Tanh."""
    done = False
    for output in float_nodes(model, subject, "Relu", "HardSwish", "LeakyRelu", "Gelu", "Clip"):
        old = node(model, output)
        x = old.input[0]

        def c(value: float) -> str:
            return add_initializer(model, "c", np.float32(value))

        names = [fresh(model, f"{output}_step{k}") for k in range(4)]
        if old.op_type == "Relu":
            steps = [("Max", [x, c(0.0)], output, {})]
        elif old.op_type == "HardSwish":
            steps = [("HardSigmoid", [x], names[0], {"alpha": 1 / 6, "beta": 0.5}), ("Mul", [x, names[0]], output, {})]
        elif old.op_type == "LeakyRelu":
            slope = attribute(old, "alpha", 0.01)
            steps = [("PRelu", [x, c(slope)], output, {})]
        elif old.op_type == "Gelu" and attribute(old, "approximate", b"none") == b"none":
            steps = [
                ("Mul", [x, c(2**-0.5)], names[0], {}), ("Erf", [names[0]], names[1], {}),
                ("Add", [names[1], c(1.0)], names[2], {}), ("Mul", [names[2], c(0.5)], names[3], {}),
                ("Mul", [x, names[3]], output, {}),
            ]  # fmt: skip
        elif old.op_type == "Clip" and len(old.input) == 3:
            steps = [("Max", [x, old.input[1]], names[0], {}), ("Min", [names[0], old.input[2]], output, {})]
        else:
            continue
        _written_out(model, output, steps)  # type: ignore[arg-type]
        done = True
    return model if done else None


@benign("pooling-as-reduction")
def _reduction(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Global pooling as ReduceMean and the other way round, Flatten as Reshape."""
    done = False
    for output in float_nodes(model, subject, "GlobalAveragePool", "ReduceMean", "Flatten", "GlobalMaxPool"):
        old, shape = node(model, output), subject.shape(output)
        source = subject.shape(node(model, output).input[0]) or ()
        if shape is None:
            continue
        if old.op_type in ("GlobalAveragePool", "GlobalMaxPool") and len(source) == 4:
            new = "ReduceMean" if old.op_type == "GlobalAveragePool" else "ReduceMax"
            late = opset(model) >= 18
            given = [add_initializer(model, f"{output}_axes", np.asarray([2, 3], np.int64))] if late else []
            made = helper.make_node(
                new, [old.input[0], *given], [output], name=old.name, **({} if late else {"axes": [2, 3]})
            )
        elif old.op_type == "Flatten" and attribute(old, "axis", 1) == 1 and len(shape) == 2:
            sizes = add_initializer(model, f"{output}_sizes", np.asarray([-1, shape[1]], np.int64))
            made = helper.make_node("Reshape", [old.input[0], sizes], [output], name=old.name)
        elif old.op_type == "ReduceMean" and len(source) == 4 and shape[2:] == (1, 1) and shape[1] == source[1]:
            made = helper.make_node("GlobalAveragePool", [old.input[0]], [output], name=old.name)
        else:
            continue
        replace_node(model, output, [made])
        done = True
    return swept(model) if done else None


@benign("padding-explicit")
def _padding(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """The padding of convolutions as Pad nodes."""
    done = False
    for output in float_nodes(model, subject, "Conv"):
        conv = node(model, output)
        pads, rank = list(attribute(conv, "pads", [])), len(subject.shape(output) or ())
        if not any(pads) or opset(model) < 11:
            continue
        half = len(pads) // 2
        full = [0, 0, *pads[:half], 0, 0, *pads[half:]]
        sizes = add_initializer(model, f"{output}_pads", np.asarray(full, np.int64))
        padded = fresh(model, f"{output}_padded")
        added = helper.make_node("Pad", [conv.input[0], sizes], [padded], name=f"{output}_pad", mode="constant")
        index = next(k for k, n in enumerate(model.graph.node) if output in n.output)
        model.graph.node.insert(index, added)
        conv = node(model, output)
        conv.input[0] = padded
        put(conv, "pads", [0] * (2 * (rank - 2)))
        done = True
    return model if done else None


@benign("layout-round-trip")
def _layout(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Activations between a Transpose to channels last and one back."""
    done = 0
    for output in float_nodes(model, subject, "Relu", "Sigmoid", "HardSwish", "Add", "Clip", "LeakyRelu", "Elu"):
        there = node(model, output)
        shapes = [subject.shape(i) for i in there.input if constant(model, i) is None]
        same = all(s is not None and len(s) == 4 and s == subject.shape(output) for s in shapes)
        if not same or len(shapes) < (2 if there.op_type == "Add" else 1) or done > 3:
            continue
        for index, name in enumerate(list(there.input)):
            if subject.shape(name) == subject.shape(output):
                turned = fresh(model, f"{name}_nhwc")
                added = helper.make_node("Transpose", [name], [turned], name=turned, perm=[0, 2, 3, 1])
                at = next(k for k, n in enumerate(model.graph.node) if output in n.output)
                model.graph.node.insert(at, added)
                node(model, output).input[index] = turned
        insert_after(model, output, "Transpose", perm=[0, 3, 1, 2])
        done += 1
    return model if done else None


def drop_inputs(model: onnx.ModelProto) -> None:
    """Takes initializers off the list of inputs, where old files have them."""
    held = {t.name for t in model.graph.initializer}
    kept = [v for v in model.graph.input if v.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def swept(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without initializers that nobody reads any more."""
    read = {i for n in model.graph.node for i in n.input}
    kept = [t for t in model.graph.initializer if t.name in read]
    gone = {t.name for t in model.graph.initializer} - read
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    inputs = [v for v in model.graph.input if v.name not in gone]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model
