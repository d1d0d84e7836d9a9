"""Faults in how nodes are put together: operators exchanged, missing, superfluous, joined in another order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from .edit import (
    Place,
    add_initializer,
    bypass,
    constant,
    fresh,
    insert_after,
    node,
    opset,
    place_of,
    put,
    readers,
    replace_node,
)
from .faults import Fault, Subject, kind
from .graph_faults import each

__all__: list[str] = []

_ACTIVATIONS = (
    "Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Gelu",
    "Mish", "PRelu", "Clip", "Softmax", "LogSoftmax",
)  # fmt: skip


def _retyped(output: str, new: str, text: str, **attributes: object) -> Fault:
    """A fault that makes another operator of a node; of its inputs the first stays."""

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        found = node(model, output)
        found.op_type = new
        del found.input[1:], found.attribute[:]
        for name, value in attributes.items():
            put(found, name, value)
        return place_of([found])

    return Fault(f"{output}->{new}", apply, f"{text} at {output}: {new}")


@kind("relu-leaky", "graph")
def _relu(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Relu"):
        yield _retyped(found.output[0], "LeakyRelu", "Relu leaks", alpha=0.01)


_OTHER: dict[str, tuple[str, ...]] = {
    "Relu": ("Elu", "Softplus", "Abs"),
    "Elu": ("Selu", "Relu"),
    "Selu": ("Elu",),
    "Celu": ("Relu", "Elu"),
    "Sigmoid": ("HardSigmoid", "Tanh"),
    "HardSigmoid": ("Sigmoid",),
    "HardSwish": ("Mish", "Relu"),
    "Tanh": ("Softsign", "Sigmoid"),
    "Softplus": ("Relu",),
    "Gelu": ("Relu", "Mish"),
    "Mish": ("Softplus", "HardSwish"),
    "LeakyRelu": ("Relu",),
    "PRelu": ("Relu",),
    "LogSoftmax": ("Softmax",),
    "Softmax": ("Sigmoid", "Hardmax"),
}


@kind("activation-swapped", "graph")
def _swapped(subject: Subject) -> Iterator[Fault]:
    version = opset(subject.model)
    for found in each(subject, *_OTHER):
        for other in _OTHER[found.op_type]:
            if version >= {"Mish": 18, "HardSwish": 14}.get(other, 0):
                yield _retyped(found.output[0], other, f"was {found.op_type}")


@kind("activation-missing", "graph")
def _missing(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, *_ACTIVATIONS):
        yield _bypassed(found, 0, f"{found.op_type} is missing")


def _bypassed(found: onnx.NodeProto, index: int, text: str) -> Fault:
    output, kept = found.output[0], place_of([found])

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        return place_of(bypass(model, output, index)) | kept

    return Fault(f"{output}:{index}", apply, f"{text} at {output}")


@kind("node-missing", "graph")
def _skipped(subject: Subject) -> Iterator[Fault]:
    """A skip connection, a normalisation, a scale, a bias is not there."""
    for found in each(
        subject, "Add", "Mul", "Div", "Sub", "BatchNormalization", "LayerNormalization", "Where", "MaxPool"
    ):
        for index, name in enumerate(found.input[:3]):
            alike = subject.is_float(name) and subject.shape(name) == subject.shape(found.output[0])
            if alike and constant(subject.model, name) is None:
                yield _bypassed(found, index, f"{found.op_type} is left out, its input {index} goes on")


@kind("activation-extra", "graph")
def _extra(subject: Subject) -> Iterator[Fault]:
    for index, found in enumerate(
        each(subject, "Conv", "Gemm", "MatMul", "Add", "ConvTranspose", "BatchNormalization")
    ):
        name = ("Relu", "Tanh", "Sigmoid")[index % 3]
        followed = any(n.op_type in _ACTIVATIONS for n in readers(subject.model, found.output[0]))
        if not (name == "Relu" and followed):
            yield inserted(found.output[0], name, f"an extra {name}")


def inserted(value: str, op: str, text: str, *constants: object, **attributes: object) -> Fault:
    """A node put behind a value; it counts as found when it, or who made the value, or who reads it, is named."""

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        around = [n for n in model.graph.node if value in n.output] + readers(model, value)
        extra = [add_initializer(model, f"{value}_c", np.asarray(c)) for c in constants]
        added = insert_after(model, value, op, *extra, **attributes)
        return place_of([added, *around], extra)

    return Fault(f"{value}+{op}", apply, f"{text} behind {value}")


def floats(subject: Subject) -> list[str]:
    """Float values inside the graph that hold batches."""
    outputs = {v.name for v in subject.model.graph.output}
    return [
        n.output[0]
        for n in subject.model.graph.node
        if n.output and subject.is_float(n.output[0]) and n.output[0] not in outputs
        and (subject.shape(n.output[0]) or (0,))[0] == 2 and constant(subject.model, n.output[0]) is None
    ]  # fmt: skip


@kind("add-wrong-operand", "graph")
def _operand(subject: Subject) -> Iterator[Fault]:
    """A residual reads another value of the same shape that exists already."""
    made = [n.output[0] for n in subject.model.graph.node if n.output]
    for found in each(subject, "Add", "Concat", "Mul"):
        for index, name in enumerate(found.input[:2]):
            if not subject.is_float(name) or constant(subject.model, name) is not None:
                continue
            before = made[: made.index(found.output[0])]
            shape = subject.shape(name)
            others = [v for v in before if v != name and v not in found.input and subject.is_float(v)]
            alike = [v for v in others if subject.shape(v) == shape]
            if alike:
                yield _redirected(found, index, alike[-1])


def _redirected(found: onnx.NodeProto, index: int, other: str) -> Fault:
    output = found.output[0]

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        reader = node(model, output)
        reader.input[index] = other
        return place_of([reader])

    return Fault(f"{output}[{index}]={other}", apply, f"{output} reads {other} in place of {found.input[index]}")


@kind("operands-swapped", "graph")
def _operands(subject: Subject) -> Iterator[Fault]:
    """``b - a``, ``b / a``, Where the wrong way round, Concat and Split in another order."""
    for found in each(subject, "Sub", "Div", "Pow", "Where", "Greater", "Less"):
        a, b = (1, 2) if found.op_type == "Where" else (0, 1)
        yield _exchanged(found, a, b)


@kind("concat-order", "graph")
def _concat(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Concat"):
        for a in range(len(found.input) - 1):
            same = subject.is_float(found.input[a]) and found.input[a] != found.input[a + 1]
            if same and len(subject.shape(found.output[0]) or ()) > 1:
                yield _exchanged(found, a, a + 1)


def _exchanged(found: onnx.NodeProto, a: int, b: int) -> Fault:
    output = found.output[0]

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        reader = node(model, output)
        reader.input[a], reader.input[b] = reader.input[b], reader.input[a]
        return place_of([reader])

    return Fault(f"{output}:{a}~{b}", apply, f"inputs {a} and {b} of {output} exchanged")


@kind("split-order", "graph")
def _split(subject: Subject) -> Iterator[Fault]:
    def fault(output: str, count: int) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            found = node(model, output)
            names = list(found.output)
            found.output[0], found.output[count - 1] = names[count - 1], names[0]
            around = [n for name in (names[0], names[count - 1]) for n in readers(model, name)]
            return place_of([found, *around])

        return Fault(output, apply, f"first and last result of {output} exchanged")

    for found in each(subject, "Split"):
        if len({subject.shape(o) for o in found.output}) == 1:
            yield fault(found.output[0], len(found.output))


@kind("pool-kind", "graph")
def _pool(subject: Subject) -> Iterator[Fault]:
    def fault(output: str, new: str) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            found = node(model, output)
            found.op_type = new
            for name in ("count_include_pad", "storage_order", "dilations"):
                put(found, name, None)
            return place_of([found])

        return Fault(f"{output}->{new}", apply, f"{output} pools by {new}")

    for found in each(subject, *_POOLS):
        yield fault(found.output[0], _POOLS[found.op_type])


_POOLS = {
    "AveragePool": "MaxPool", "MaxPool": "AveragePool", "GlobalAveragePool": "GlobalMaxPool",
    "GlobalMaxPool": "GlobalAveragePool", "ReduceMean": "ReduceMax", "ReduceMax": "ReduceMean",
    "ReduceSum": "ReduceMean", "ReduceL2": "ReduceL1", "ReduceMin": "ReduceMax", "ReduceLogSumExp": "ReduceMax",
    "ArgMax": "ArgMin",
}  # fmt: skip


@kind("average-divisor", "graph")
def _divisor(subject: Subject) -> Iterator[Fault]:
    """As ``divisor_override``: the average of a window by another count."""
    for found in each(subject, "AveragePool"):
        yield inserted(found.output[0], "Mul", "another divisor", np.float32(4 / 3))


@kind("axes-mixed", "graph")
def _mixed(subject: Subject) -> Iterator[Fault]:
    """A Reshape does the work of a Transpose, or two axes of equal size are exchanged before one."""

    def reshaped(output: str, shape: tuple[int, ...]) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            old = node(model, output)
            sizes = add_initializer(model, f"{output}_sizes", np.asarray([-1, *shape[1:]], np.int64))
            made = helper.make_node(
                "Reshape", [old.input[0], sizes], [output], name=old.name or fresh(model, "reshape")
            )
            return place_of(replace_node(model, output, [made]), [sizes])

        return Fault(output, apply, f"Reshape in the place of Transpose {output}")

    for found in each(subject, "Transpose"):
        shape = subject.shape(found.output[0])
        if subject.is_float(found.output[0]) and shape is not None and shape[0] == 2:
            yield reshaped(found.output[0], shape)
    for found in each(subject, "Reshape", "Flatten"):
        shape = subject.shape(found.input[0])
        if shape is not None and len(shape) == 4 and shape[2] == shape[3] > 1 and subject.is_float(found.input[0]):
            yield inserted(found.input[0], "Transpose", "height and width exchanged", perm=[0, 1, 3, 2])


@kind("cast-reduced", "graph")
def _cast(subject: Subject) -> Iterator[Fault]:
    """A value goes through float16 and back, as by a wrong Cast; or through an integer."""

    def fault(value: str, kind_: int) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            around = [n for n in model.graph.node if value in n.output] + readers(model, value)
            there = insert_after(model, value, "Cast", to=kind_)
            back = insert_after(model, there.output[0], "Cast", to=TensorProto.FLOAT)
            return place_of([there, back, *around])

        return Fault(f"{value}:{kind_}", apply, f"{value} cast to {TensorProto.DataType.Name(kind_)} and back")

    for index, value in enumerate(floats(subject)):
        if subject.values[value].dtype == np.float32:
            yield fault(value, TensorProto.INT32 if index % 3 == 0 else TensorProto.FLOAT16)


@kind("cancellation", "graph")
def _cancellation(subject: Subject) -> Iterator[Fault]:
    """A large number added and taken away again: right in exact arithmetic, poor in float32."""

    def fault(value: str) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            around = [n for n in model.graph.node if value in n.output] + readers(model, value)
            large = add_initializer(model, f"{value}_large", np.float32(2.0**16))
            first = insert_after(model, value, "Add", large)
            second = insert_after(model, first.output[0], "Sub", large)
            return place_of([first, second, *around], [large])

        return Fault(value, apply, f"2^16 added to {value} and subtracted")

    for value in floats(subject)[::3]:
        if subject.values[value].dtype == np.float32:
            yield fault(value)
