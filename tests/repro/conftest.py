"""Faults put in by hand: a chain of three nodes, and a runtime that is wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.referee import Executor
from onnxeq.repro import AtFault, Execute, Fault
from onnxeq.types import Array, Feed, Layer, LayerError, PairedBy, Role

WEIGHT = np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32)


def layer(value: str, node: str, op_type: str, region: tuple[str, ...] = ()) -> Layer:
    """A row of a report about a layer that creates error."""
    error = LayerError(0.25, 1e-7, 1e5)
    return Layer(
        3, node, op_type, value, "block.fc", "theirs", region, PairedBy.NAME, 1.0, "float32", (4, 5), error, error,
        0.5, 1e5, Role.CREATES, 1.0,
    )  # fmt: skip


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], outputs: list[str], stored: dict[str, Array]
) -> onnx.ModelProto:
    """A float32 model of opset 17."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain() -> onnx.ModelProto:
    """``y = relu(exp(0.1 * (x . w)) - 1)``, with a node before and one behind that do not matter."""
    nodes = [
        helper.make_node("Neg", ["raw"], ["x"], name="before"),
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Mul", ["p", "tenth"], ["s"], name="scale"),
        helper.make_node("Exp", ["s"], ["e"], name="exponential"),
        helper.make_node("Sub", ["e", "one"], ["y"], name="shift"),
        helper.make_node("Relu", ["y"], ["out"], name="behind"),
    ]
    stored = {"w": WEIGHT, "tenth": np.float32(0.1) * np.ones(1, np.float32), "one": np.ones(1, np.float32)}
    return model_of(nodes, {"raw": ["N", 6]}, ["out"], stored)


def feed() -> dict[str, Array]:
    return {"x": np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)}


def computed_in(model: onnx.ModelProto, inputs: Feed) -> Array:
    """A runtime without faults: float64, rounded once."""
    return np.asarray(next(iter(Executor(model).run(inputs).values()))).astype(np.float32)


def wrong_at(op_type: str, item: int | None = None) -> Execute:
    """A runtime whose results of one operator are too large by a thousandth, perhaps in one item only."""

    def execute(model: onnx.ModelProto, inputs: Feed) -> Array:
        names = {n for node in model.graph.node if node.op_type == op_type for n in node.output}

        class Wrong:
            def constant(self, _name: str, value: Array, _dtype: str) -> Array:
                return value

            def node(self, info: object, _inputs: object, outputs: list[Array]) -> list[Array]:
                if info.node.output[0] not in names:  # type: ignore[attr-defined]
                    return outputs
                factor = np.ones((len(outputs[0]), 1))
                factor[slice(None) if item is None or len(factor) == 1 else item] = 1.001
                return [outputs[0] * factor]

        return np.asarray(next(iter(Executor(model).run(inputs, hook=Wrong()).values()))).astype(np.float32)

    return execute


def honest_result(model: onnx.ModelProto, inputs: Feed, value: str, cut: Callable[..., onnx.ModelProto]) -> Array:
    return computed_in(cut(model, None, list(inputs), [value], inputs), inputs)


@pytest.fixture
def target_fault() -> Fault:
    """A region of four nodes in which the runtime is wrong."""
    from onnxeq.repro import cut

    model, inputs = chain(), feed()
    right = honest_result(model, inputs, "y", cut)
    found = layer("y", "shift", "Sub", ("product", "scale", "exponential"))
    return Fault(model, None, found, inputs, right, right * np.float32(1.01), None, 8.0, AtFault.TARGET)


@pytest.fixture
def source_fault(target_fault: Fault) -> Fault:
    """The same region with one weight changed: what the source gave comes from the right one."""
    model = onnx.ModelProto()
    model.CopyFrom(target_fault.model)
    changed = WEIGHT.copy()
    changed[2, 3] += np.float32(0.01)
    next(t for t in model.graph.initializer if t.name == "w").CopyFrom(numpy_helper.from_array(changed, "w"))
    return replace(
        target_fault, model=model, side=AtFault.SOURCE, reference="/home/somebody/nets/net.pt2",
        note=f"The weight w is not the one in {Path.cwd() / 'net.pt2'}.",
    )  # fmt: skip
