"""Faults at a model's ends and in its mode: inputs, outputs, what is left on from training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from .edit import (
    Place,
    add_initializer,
    attribute,
    constant,
    fresh,
    insert_after,
    node,
    opset,
    place_of,
    readers,
    replace_node,
)
from .faults import Fault, Subject, kind
from .graph_faults import each
from .wiring_faults import floats, inserted

__all__: list[str] = []


@kind("outputs", "graph")
def _outputs(subject: Subject) -> Iterator[Fault]:
    """An output dropped, one too many, two in each other's place."""
    outputs = [v.name for v in subject.model.graph.output]
    makers = {o: n for n in subject.model.graph.node for o in n.output}

    def dropped(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        del model.graph.output[-1]
        return place_of([makers[outputs[-1]]])

    def exchanged(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        values = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in model.graph.output]
        del model.graph.output[:]
        model.graph.output.extend([values[1], values[0], *values[2:]])
        return place_of([makers[outputs[0]], makers[outputs[1]]])

    def extra(value: str) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
            return place_of([makers[value]])

        return Fault(f"+{value}", apply, f"{value} is an output, too")

    if len(outputs) > 1:
        yield Fault("dropped", dropped, f"the output {outputs[-1]} is gone")
        if subject.positional:
            yield Fault("exchanged", exchanged, f"the outputs {outputs[0]} and {outputs[1]} in each other's place")
    for value in floats(subject)[-2:-1]:
        yield extra(value)


@kind("dropout-left-on", "nondeterminism", also=("graph",))
def _dropout(subject: Subject) -> Iterator[Fault]:
    for value in floats(subject)[1::4]:
        version = opset(subject.model)
        if version >= 12 and subject.values[value].dtype == np.float32:
            yield inserted(value, "Dropout", "training dropout", np.float32(0.1), np.asarray(True))


@kind("batch-statistics", "graph", also=("nondeterminism",))
def _training(subject: Subject) -> Iterator[Fault]:
    """Batch normalisation in training mode: by the batch's own statistics, written out."""

    def fault(output: str, rank: int) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            old = node(model, output)
            x, scale, shift = old.input[:3]
            held = {n: constant(model, n) for n in (scale, shift)}
            shape = (1, -1, *(1,) * (rank - 2))
            g, b = (add_initializer(model, f"{n}_cast", np.reshape(held[n], shape)) for n in (scale, shift))
            eps = add_initializer(model, f"{output}_eps", np.float32(attribute(old, "epsilon", 1e-5)))
            axes = [a for a in range(rank) if a != 1]
            names = [
                fresh(model, f"{output}_{k}") for k in ("mean", "off", "square", "var", "safe", "root", "unit", "big")
            ]
            mean, off, square, var, safe, root, unit, big = names
            version = opset(model)
            given = [add_initializer(model, f"{output}_axes", np.asarray(axes, np.int64))] if version >= 18 else []
            extra = {} if given else {"axes": axes}
            steps = [
                ("ReduceMean", [x, *given], mean, extra), ("Sub", [x, mean], off, {}), ("Mul", [off, off], square, {}),
                ("ReduceMean", [square, *given], var, extra), ("Add", [var, eps], safe, {}), ("Sqrt", [safe], root, {}),
                ("Div", [off, root], unit, {}), ("Mul", [unit, g], big, {}), ("Add", [big, b], output, {}),
            ]  # fmt: skip
            made = [helper.make_node(k, i, [o], name=f"{o}_training", **a) for k, i, o, a in steps]
            return place_of([old, *replace_node(model, output, made)])

        return Fault(output, apply, f"{output} normalises by the batch's own statistics")

    for found in each(subject, "BatchNormalization"):
        shape = subject.shape(found.output[0])
        if shape and all(constant(subject.model, n) is not None for n in found.input[1:3]):
            yield fault(found.output[0], len(shape))


@kind("input-altered", "graph", also=("preprocessing",))
def _input(subject: Subject) -> Iterator[Fault]:
    """The input scaled, shifted, or its channels reversed (RGB for BGR) before anything else."""
    held = {t.name for t in subject.model.graph.initializer}
    for value in (v.name for v in subject.model.graph.input if v.name not in held):
        found = subject.values[value]
        if found.dtype == np.float32:
            yield inserted(value, "Mul", "the input scaled", np.float32(1 / 0.98))
            yield inserted(value, "Sub", "the input shifted", np.float32(0.01))
        if found.ndim == 4 and found.shape[1] == 3:
            yield _reversed(value)


def _reversed(value: str) -> Fault:
    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        around = readers(model, value)
        order = add_initializer(model, "channel_order", np.asarray([2, 1, 0], np.int64))
        return place_of([insert_after(model, value, "Gather", order, axis=1), *around], [order])

    return Fault(f"{value}:bgr", apply, f"the channels of {value} reversed")
