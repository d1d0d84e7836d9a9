"""Weights and graph have digests of their own, and marks say which of them changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.golden.identity import Marks, compare_graphs, compare_weights, describe
from onnxeq.golden.values import Identity


def model(
    weight: float = 1.0, to: int = 2, attribute: float = 0.1, inner: str = "h", name: str = "w", constant: bool = False
) -> onnx.ModelProto:
    """``y = reshape(leaky_relu(x * w))``, the weight as an initializer or as a Constant node."""
    tensor = numpy_helper.from_array(np.full(4, weight, np.float32), name)
    nodes = [
        *([helper.make_node("Constant", [], [name], name="held", value=tensor)] if constant else []),
        helper.make_node("Mul", ["x", name], [inner], name="mul"),
        helper.make_node("LeakyRelu", [inner], [f"{inner}r"], name="act", alpha=attribute),
        helper.make_node("Reshape", [f"{inner}r", "to"], ["y"], name="reshape"),
    ]
    stored = [numpy_helper.from_array(np.array([to, -1]), "to"), *([] if constant else [tensor])]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


Describe = Callable[[onnx.ModelProto], tuple[Identity, Marks]]


@pytest.fixture
def described(tmp_path: Path) -> Describe:
    def run(made: onnx.ModelProto) -> tuple[Identity, Marks]:
        onnx.save(made, tmp_path / "net.onnx")
        return describe(tmp_path / "net.onnx")

    return run


def test_a_weight_is_no_graph(described: Describe) -> None:
    """Another weight changes its digest alone, and the mark with its name and shape."""
    (before, marks), (now, others) = described(model()), described(model(weight=1.0 + 2**-23))
    assert before.graph == now.graph
    assert before.weights != now.weights
    assert compare_weights(marks, others) == "1 of 1 weights changed: 'w' float32[4]"
    assert compare_graphs(marks, others) == ""


@pytest.mark.parametrize("edit", [{"to": 1}, {"attribute": 0.2}])
def test_shapes_and_attributes_are_the_graph(described: Describe, edit: dict[str, float]) -> None:
    """A stored shape or an attribute changes the graph's digest alone."""
    (before, _), (now, _) = described(model()), described(model(**edit))  # type: ignore[arg-type]
    assert before.graph != now.graph
    assert before.weights == now.weights


def test_the_attribute_is_named(described: Describe) -> None:
    """With the node, its operator, and the values before and now."""
    (_, marks), (_, others) = described(model()), described(model(attribute=0.25))
    assert "node act (LeakyRelu): attribute alpha is 0.25, it was 0.1" in compare_graphs(marks, others)


def test_inner_names_do_not_matter(described: Describe) -> None:
    """Values and weights under other names are the same model; an output's name is asked for by users."""
    (before, marks), (now, others) = described(model()), described(model(inner="other", name="weight"))
    assert (before.graph, before.weights) == (now.graph, now.weights)
    assert before.onnx != now.onnx
    assert compare_weights(marks, others) == ""
    renamed = model()
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "z"
    assert described(renamed)[0].graph != before.graph


def test_a_weight_in_a_constant_is_a_weight(described: Describe) -> None:
    """Where it is stored is the graph's, what it is the weights'."""
    held, moved = described(model())[0], described(model(constant=True))[0]
    assert held.weights == moved.weights
    assert held.graph != moved.graph
    assert described(model(constant=True, weight=2.0))[0].graph == moved.graph


def test_nodes_that_come_and_go_are_counted() -> None:
    """One of two is gone, one is new, and the operator of a kept name changed."""
    before = Marks({"w": ("float32[1]", "a")}, [("a", "Conv", "", "1"), ("b", "Relu", "", "2")])
    now = Marks({"v": ("float32[2]", "b")}, [("a", "MatMul", "", "1"), ("c", "Relu", "", "2")])
    assert compare_graphs(before, now) == (
        "node a is MatMul, it was Conv; 1 of 2 nodes are gone, b (Relu) first; 1 of 2 nodes are new, c (Relu) first"
    )
    assert compare_weights(before, now) == "1 are gone, 1 are new: 'v' float32[2]"
