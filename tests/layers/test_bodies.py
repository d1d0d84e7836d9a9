"""Faults inside the bodies of loops, branches and scans: the inner node is named, and its repair is the proof."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.layers.faults.findings import findings
from onnxeq.types import CauseKind
from tests.layers.conftest import Walk, renamed

Edit = Callable[[onnx.GraphProto], None]

WEIGHT = np.random.default_rng(4).standard_normal((3, 3)).astype(np.float32)


def _info(name: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (2, 3)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _loop() -> onnx.ModelProto:
    """Four times ``s = tanh(s . w - x)``."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["s", "w"], ["p"], name="product"),
            helper.make_node("Sub", ["p", "x"], ["d"], name="difference"),
            helper.make_node("LeakyRelu", ["d"], ["t"], name="active", alpha=0.1),
            helper.make_node("Identity", ["c"], ["again"], name="again"),
        ],
        "body",
        [_info("i", TensorProto.INT64, ()), _info("c", TensorProto.BOOL, ()), _info("s")],
        [_info("again", TensorProto.BOOL, ()), _info("t")],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return _model([helper.make_node("Loop", ["n", "on", "x"], ["y"], name="loop", body=body)],
                  {"n": np.int64(4), "on": np.asarray(True)})  # fmt: skip


def _branch() -> onnx.ModelProto:
    """``x + x . w`` where the condition holds, else ``x``."""
    taken = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
            helper.make_node("Add", ["p", "x"], ["t"], name="difference"),
            helper.make_node("LeakyRelu", ["t"], ["z"], name="active", alpha=0.1),
        ],
        "then", [], [_info("z")], [numpy_helper.from_array(WEIGHT, "w")],
    )  # fmt: skip
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["o"], name="pass")], "else", [], [_info("o")])
    node = helper.make_node("If", ["on"], ["y"], name="branch", then_branch=taken, else_branch=other)
    return _model([node], {"on": np.asarray(True)})


def _model(nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray]) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()]
    graph = helper.make_graph(nodes, "g", [_info("x")], [_info("y")], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _inner(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    return next(n for n in graph.node if n.name == name)


def other_operator(body: onnx.GraphProto) -> None:
    node = _inner(body, "active")
    node.op_type = "Elu"
    del node.attribute[:]


def other_slope(body: onnx.GraphProto) -> None:
    _inner(body, "active").attribute[0].f = 0.2


def other_weight(body: onnx.GraphProto) -> None:
    value = WEIGHT.copy()
    value[1] *= np.float32(1.01)
    body.initializer[0].CopyFrom(numpy_helper.from_array(value, "w"))


def other_operand(body: onnx.GraphProto) -> None:
    _inner(body, "active").input[0] = "p"


def extra_node(body: onnx.GraphProto) -> None:
    body.node.insert(2, helper.make_node("Sigmoid", [_inner(body, "active").input[0]], ["extra_value"], name="extra"))
    _inner(body, "active").input[0] = "extra_value"


FAULTS: tuple[tuple[Edit, str, CauseKind, str], ...] = (
    (other_operator, "active", CauseKind.GRAPH, "it is Elu, the reference has LeakyRelu"),
    (other_slope, "active", CauseKind.GRAPH, "attribute alpha is 0.2, the reference has 0.1"),
    (other_weight, "product", CauseKind.WEIGHTS, "1.01 times it in index 1 of axis 0"),
    (other_operand, "active", CauseKind.GRAPH, "the reference reads what is"),
    (extra_node, "extra", CauseKind.GRAPH, "the reference has no such node there"),
)


@pytest.mark.parametrize("make", [_loop, _branch], ids=["loop", "branch"])
@pytest.mark.parametrize(("edit", "node", "cause", "said"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_the_inner_node_is_named(
    walk: Walk, make: Callable[[], onnx.ModelProto], edit: Edit, node: str, cause: CauseKind, said: str
) -> None:
    """One finding at the node inside of the body, proven by taking that difference back alone."""
    broken = make()
    (body,) = [a.g for a in broken.graph.node[0].attribute if a.name in ("body", "then_branch")]
    edit(body)
    (found,) = findings(walk(broken, make()))
    assert (found.where.node, found.cause, found.proven) == (node, cause, True)
    assert said in found.text
    assert f"inside of {broken.graph.node[0].name}" in found.text


@pytest.mark.parametrize("make", [_loop, _branch], ids=["loop", "branch"])
def test_a_body_read_through_other_names_is_no_difference(walk: Walk, make: Callable[[], onnx.ModelProto]) -> None:
    """Inner names of another exporter say nothing; neither do outer ones that a body reads."""
    model = make()
    for inner in (n for a in model.graph.node[0].attribute if a.HasField("g") for n in a.g.node):
        inner.name = f"{inner.name}/other"
    assert findings(walk(renamed(model), make())) == ()


def test_a_condition_that_was_computed_wrongly_is_told_at_its_node(walk: Walk) -> None:
    """The exchanged operands of a constant comparison in front of a loop, and not the loop."""

    def net(a: str, b: str) -> onnx.ModelProto:
        model = _loop()
        model.graph.node.insert(0, helper.make_node("Less", [a, b], ["go"], name="less"))
        model.graph.node[1].input[1] = "go"
        model.graph.initializer.extend([numpy_helper.from_array(np.int64(k), f"k{k}") for k in (0, 4)])
        return model

    (found,) = findings(walk(net("k4", "k0"), net("k0", "k4")))
    assert found.where.node == "less"
    assert "operands exchanged" in found.text
