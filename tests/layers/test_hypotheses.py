"""Which value of the reference belongs in a place, where names do not tell or tell wrongly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxeq.layers.faults.findings import findings
from tests.layers.conftest import Walk, renamed

MakeConvNet = Callable[..., onnx.ModelProto]


def _skip(left_out: bool) -> onnx.ModelProto:
    """``relu(conv(r) + r)`` behind ``r = relu(conv(x))``, then a convolution; the sum may be left out."""
    rng = np.random.default_rng(3)
    weights = {f"w{k}": rng.standard_normal((4, 4, 3, 3)).astype(np.float32) for k in range(3)}
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="conv0", **same),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="conv1", **same),
        helper.make_node("Add", ["c1", "r0"], ["s"], name="sum"),
        helper.make_node("Relu", ["r0" if left_out else "s"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", **same),
        helper.make_node("Add", ["c2", "r1"], ["y"], name="last"),
    ]
    if left_out:
        del nodes[2:4]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [1, 4, 5, 5])],
        [helper.make_tensor_value_info("y", 1, [1, 4, 5, 5])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_what_is_missing_before_an_operator_that_then_does_nothing(walk: Walk) -> None:
    """Relu of a Relu is a value that the reference has elsewhere; still the sum is what is said to be missing.

    The convolution behind it is known by its weights, not by what it reads.
    """
    broken = renamed(_skip(left_out=True))
    (found,) = findings(walk(broken, _skip(left_out=False)))
    assert found.where.node == broken.graph.node[2].name
    assert "Add (sum in the reference) is missing" in found.text
    assert found.proven


def _halves(exchanged: bool) -> onnx.ModelProto:
    """``a . u - b . v`` of the halves of a product, each turned on the way."""
    first, second = ("h1", "h0") if exchanged else ("h0", "h1")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Split", ["p"], [first, second], name="halves", axis=1),
        helper.make_node("Transpose", ["h0"], ["t0"], name="turn0", perm=[1, 0]),
        helper.make_node("Transpose", ["h1"], ["t1"], name="turn1", perm=[1, 0]),
        helper.make_node("MatMul", ["t0", "u"], ["a"], name="one"),
        helper.make_node("MatMul", ["t1", "v"], ["b"], name="two"),
        helper.make_node("Sub", ["a", "b"], ["y"], name="join"),
    ]
    rng = np.random.default_rng(6)
    shapes = {"w": (5, 8), "u": (3, 6), "v": (3, 6)}
    weights = {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [3, 5])], [helper.make_tensor_value_info("y", 1, [4, 6])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_exchanged_results_are_one_fault_at_the_node_that_makes_them(walk: Walk) -> None:
    """Both halves are values of the reference, each where the other belongs: the split is named, once."""
    broken = renamed(_halves(exchanged=True))
    (found,) = findings(walk(broken, _halves(exchanged=False)))
    assert found.where.node == broken.graph.node[1].name
    assert found.text.count("with that taken back") == 2


def test_names_that_were_counted_up_differently_are_not_believed(walk: Walk, conv_net: MakeConvNet) -> None:
    """Two convolutions under each other's names: the weights tell which is which, and nothing is found."""
    model = conv_net()
    first, second = (n.output[0] for n in model.graph.node if n.op_type == "Conv")
    other = {first: second, second: first}
    for node in model.graph.node:
        node.input[:] = [other.get(n, n) for n in node.input]
        node.output[:] = [other.get(n, n) for n in node.output]
    aligned = walk(model, conv_net())
    assert aligned.by_name
    assert findings(aligned) == ()


def test_a_faint_fault_is_not_lost_behind_an_agreement(walk: Walk) -> None:
    """An epsilon one tenth larger, before a saturated function: the same weights on the same input must agree."""

    def net(epsilon: float) -> onnx.ModelProto:
        rng = np.random.default_rng(7)
        nodes = [
            helper.make_node("LayerNormalization", ["x", "s", "b"], ["n"], name="norm", epsilon=epsilon),
            helper.make_node("Sign", ["n"], ["sign"], name="sign"),
            helper.make_node("Mul", ["n", "sign"], ["y"], name="size"),
        ]
        stored = {k: rng.uniform(0.5, 2, 16).astype(np.float32) for k in ("s", "b")}
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", 1, [3, 16])],
            [helper.make_tensor_value_info("y", 1, [3, 16])],
            [numpy_helper.from_array(v, k) for k, v in stored.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    (found,) = findings(walk(renamed(net(1.1e-5)), net(1e-5)))
    assert (found.where.op_type, found.proven) == ("LayerNormalization", True)
    assert "epsilon is 1.1e-05" in found.text
