"""Reading a graph for what may answer differently."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.graph.baked import baked_near, failing_node
from onnxeq.graph.unsteady import Why, find_unsteady


def model(nodes: list[onnx.NodeProto], constants: dict[str, Any] | None = None, opset: int = 17, **more: Any) -> Any:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, ["N", 4])],
        [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **more)


def drop(**names: str) -> onnx.NodeProto:
    return helper.make_node("Dropout", ["x", names.get("ratio", ""), names.get("mode", "")], ["y"], name="drop")


HALF, ON, OFF, NONE = np.float32(0.5), np.array(True), np.array(False), np.float32(0)


@pytest.mark.parametrize(
    ("node", "constants", "opset", "why"),
    [
        (drop(mode="m"), {"m": ON}, 17, Why.DROPOUT),  # the default ratio is a half
        (drop(ratio="r", mode="m"), {"m": ON, "r": HALF}, 13, Why.DROPOUT),
        (drop(ratio="r", mode="m"), {"m": ON, "r": NONE}, 17, None),
        (drop(ratio="r", mode="m"), {"m": OFF, "r": HALF}, 17, None),
        (drop(ratio="r"), {"r": HALF}, 17, None),
        (helper.make_node("Dropout", ["x"], ["y"], ratio=0.5), {}, 11, None),
        (helper.make_node("RandomNormalLike", ["x"], ["y"], seed=1.0), {}, 17, Why.RANDOM),
        (helper.make_node("Multinomial", ["x"], ["y"]), {}, 17, Why.RANDOM),
        (helper.make_node("RandomNormalLike", ["x"], ["y"], domain="org.example"), {}, 17, None),
        (helper.make_node("BatchNormalization", list("xabcd"), list("ymv"), training_mode=1), {}, 17, Why.STATISTICS),
        (helper.make_node("BatchNormalization", list("xabcd"), ["y"], training_mode=0), {}, 17, None),
        (helper.make_node("BatchNormalization", list("xabcd"), list("ymvst")), {}, 9, Why.STATISTICS),
        (helper.make_node("BatchNormalization", list("xabcd"), ["y"]), {}, 9, None),
    ],
)
def test_a_mode_is_read_as_its_opset_means_it(
    node: onnx.NodeProto, constants: dict[str, Any], opset: int, why: Why | None
) -> None:
    """Training mode counts where it is on and does something, in the opset's own terms."""
    assert [u.why for u in find_unsteady(model([node], constants, opset))] == ([] if why is None else [why])


def test_a_node_inside_a_function_is_found_with_who_runs_it() -> None:
    """The function's own opset and constants hold inside it."""
    body = [
        helper.make_node("Constant", [], ["on"], value=numpy_helper.from_array(ON)),
        helper.make_node("Dropout", ["a", "", "on"], ["b"], name="inner"),
    ]
    function = helper.make_function("local", "Noisy", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    call = helper.make_node("Noisy", ["x"], ["y"], name="outer", domain="local")
    (found,) = find_unsteady(model([call], functions=[function]))
    assert (found.node, found.runs_in, found.why) == ("inner", "outer", Why.DROPOUT)


REFEREE = "node back: MatMul failed on inputs f [1, 12], w [4, 4]: ValueError: mismatch"
RUNTIME = "Non-zero status code returned while running MatMul node. Name:'back' Status Message: mismatch"


@pytest.mark.parametrize("message", [REFEREE, RUNTIME])
def test_the_failing_node_is_read_from_either_executor(message: str) -> None:
    """Both name the node; a fused node that the graph does not have is not taken for one."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="back")]
    found = failing_node(model(nodes), [message])
    assert found is not None
    assert found.name == "back"
    assert failing_node(model(nodes), [message.replace("back", "fused_1")]) is None


def test_the_nearest_baked_shape_before_a_failure_is_taken() -> None:
    """A Reshape that keeps its batch free is passed by, one that fixes it is not, what lies further is not blamed."""
    nodes = [
        helper.make_node("Reshape", ["x", "far"], ["a"], name="far"),
        helper.make_node("Reshape", ["a", "near"], ["b"], name="near"),
        helper.make_node("Reshape", ["b", "free"], ["c"], name="free"),
        helper.make_node("MatMul", ["c", "w"], ["y"], name="back"),
    ]
    shapes = {"far": [2, -1], "near": [1, -1], "free": [-1, 4], "w": np.zeros((4, 4), np.float32)}
    graph = model(nodes, {k: np.asarray(v, np.int64 if k != "w" else np.float32) for k, v in shapes.items()})
    where = baked_near(graph, graph.graph.node[-1], [1], 0)
    assert (where.node, where.op_type, where.initializer) == ("near", "Reshape", "near")


def test_without_a_baked_shape_the_failing_node_itself_is_named() -> None:
    """A weight whose size happens to be the example's is no table."""
    graph = model([helper.make_node("MatMul", ["x", "w"], ["y"], name="back")], {"w": np.zeros((4, 4), np.float32)})
    where = baked_near(graph, graph.graph.node[0], [4], None)
    assert (where.node, where.initializer) == ("back", "")
