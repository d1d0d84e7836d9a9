"""Value numbering over two graphs, and a run that takes over what is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.graph.same_values import same_values, values_to_take_over
from onnxeq.referee import Executor, NodeInfo


def _model(nodes: Sequence[onnx.NodeProto], weights: dict[str, Any], opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


WEIGHTS = {"w": [[1, 2, 3], [4, 5, 6], [7, 8, 10]], "b": [0.5, -1, 2]}
CHAIN = [_node("MatMul", "x w", "m"), _node("Add", "m b", "a"), _node("Tanh", "a", "t"), _node("Exp", "t", "y")]


def test_equal_graphs_are_equal_value_by_value() -> None:
    """Renaming a node and its output changes nothing: every value has its counterpart."""
    renamed = [CHAIN[0], _node("Add", "m b", "sum"), _node("Tanh", "sum", "t"), CHAIN[3]]
    same = same_values(_model(CHAIN, WEIGHTS), _model(renamed, WEIGHTS))
    assert same == {"x": "x", "w": "w", "b": "b", "m": "m", "sum": "a", "t": "t", "y": "y"}


@pytest.mark.parametrize(
    ("nodes", "weights", "opset", "different"),
    [
        (CHAIN, WEIGHTS | {"b": [0.5, -1, 2.0000002]}, 17, {"b", "a", "t", "y"}),
        ([CHAIN[0], _node("Sub", "m b", "a"), *CHAIN[2:]], WEIGHTS, 17, {"a", "t", "y"}),
        ([CHAIN[0], _node("Add", "b m", "a"), *CHAIN[2:]], WEIGHTS, 17, {"a", "t", "y"}),
        (CHAIN, WEIGHTS, 18, {"m", "a", "t", "y"}),
        ([*CHAIN[:2], _node("Elu", "a", "t", alpha=0.5), CHAIN[3]], WEIGHTS, 17, {"t", "y"}),
    ],
    ids=["constant", "operator", "order of inputs", "opset", "attribute"],
)
def test_what_differs_makes_everything_behind_it_different(
    nodes: list[onnx.NodeProto], weights: dict[str, Any], opset: int, different: set[str]
) -> None:
    """One changed constant, operator, input order, version or attribute: the values that depend on it, no others."""
    second = _model(nodes, weights, opset)
    named = {"x", "w", "b", "m", "a", "t", "y"}
    assert named - set(same_values(_model(CHAIN, WEIGHTS), second)) == different


def test_an_attribute_alone_tells_values_apart() -> None:
    """The same operator with another attribute is another value."""
    first = _model([*CHAIN[:2], _node("Elu", "a", "t", alpha=1.0), CHAIN[3]], WEIGHTS)
    second = _model([*CHAIN[:2], _node("Elu", "a", "t", alpha=0.5), CHAIN[3]], WEIGHTS)
    assert "t" not in same_values(first, second)


def test_randomness_and_sub_graphs_are_never_the_same() -> None:
    """Two draws are two values, and a sub-graph may hold anything."""
    noise = [_node("RandomNormalLike", "x", "r", seed=1.0), _node("Add", "x r", "y")]
    assert set(same_values(_model(noise, {}), _model(noise, {}))) == {"x"}


class _Count:
    """A hook that counts the nodes that were run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def constant(self, name: str, value: Any, dtype: str) -> Any:
        return value

    def node(self, info: NodeInfo, inputs: Any, outputs: list[Any]) -> list[Any]:
        self.names.append(info.node.name)
        return outputs


def test_a_run_takes_over_what_it_is_given() -> None:
    """With the common values given, only the others are computed, and the outputs have the bits of a full run."""
    first = _model(CHAIN, WEIGHTS)
    second = _model([*CHAIN[:3], _node("Neg", "t", "n"), _node("Exp", "n", "y")], WEIGHTS)
    take, remaining = values_to_take_over(first, second)
    assert (take, remaining) == ({"t": "t"}, 2)
    feed = {"x": np.array([[0.1, -0.2, 0.3]], np.float32)}
    given = Executor(first).run_entries(feed, outputs=["t"])
    count = _Count()
    found = Executor(second).run_entries(feed, known={"t": given["t"]}, hook=count)
    assert count.names == ["n", "y"]
    assert found["y"].value.tobytes() == Executor(second).run(feed)["y"].tobytes()
