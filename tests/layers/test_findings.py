"""Faults of a graph against its reference: cause, place and proof, whether or not the two share their names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxeq.layers.faults.findings import Finding, findings
from onnxeq.types import CauseKind
from tests.layers.conftest import Walk, renamed

MakeConvNet = Callable[..., onnx.ModelProto]
Edit = Callable[[onnx.ModelProto], None]


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def _weight(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], None]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    change(array)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def scaled(model: onnx.ModelProto) -> None:
    def change(w: np.ndarray) -> None:
        w[3] *= np.float32(1.002)

    _weight(model, "w2", change)


def shifted_bias(model: onnx.ModelProto) -> None:
    """One element of a bias by a hundred units in its last place: far below what rounding all weights would do."""

    def change(b: np.ndarray) -> None:
        b[2] = np.float32(b[2]) + 100 * np.spacing(b[2])

    _weight(model, "b1", change)


def swapped(model: onnx.ModelProto) -> None:
    def change(w: np.ndarray) -> None:
        w[[0, 1]] = w[[1, 0]]

    _weight(model, "w1", change)


def moved_pads(model: onnx.ModelProto) -> None:
    (pads,) = [a for a in _node(model, "conv1").attribute if a.name == "pads"]
    pads.ints[:] = [0, 1, 2, 1]


def other_operator(model: onnx.ModelProto) -> None:
    node = _node(model, "relu1")
    node.op_type = "Elu"


def extra_node(model: onnx.ModelProto) -> None:
    model.graph.node.insert(4, helper.make_node("Tanh", ["r2"], ["t"], name="extra"))
    _node(model, "pool").input[0] = "t"


def missing_node(model: onnx.ModelProto) -> None:
    _node(model, "conv2").input[0] = "c1"
    model.graph.node.remove(_node(model, "relu1"))


FAULTS: tuple[tuple[Edit, CauseKind, int, str], ...] = (
    (scaled, CauseKind.WEIGHTS, 2, "1.002 times it in index 3 of axis 0"),
    (shifted_bias, CauseKind.WEIGHTS, 0, "at 1 of 16 elements"),
    (swapped, CauseKind.WEIGHTS, 0, "input W"),
    (moved_pads, CauseKind.GRAPH, 0, "attribute pads is [0, 1, 2, 1], the reference has [1, 1, 1, 1]"),
    (other_operator, CauseKind.GRAPH, 1, "it is Elu, the reference has Relu"),
    (extra_node, CauseKind.GRAPH, 4, "the reference has no such node there"),
    (missing_node, CauseKind.GRAPH, 1, "Relu (relu1 in the reference) is missing between"),
)
"""Edit, cause, position of the node to be named in the edited file, what is said."""


@pytest.mark.parametrize("names", ["shared", "other"])
@pytest.mark.parametrize(("edit", "cause", "position", "said"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_fault_is_named_with_cause_place_and_proof(
    conv_net: MakeConvNet, walk: Walk, edit: Edit, cause: CauseKind, position: int, said: str, names: str
) -> None:
    """One finding, at the node that was edited, of the right class; taking the difference back ends the departure."""
    model = conv_net()
    edit(model)
    model = renamed(model) if names == "other" else model
    (found,) = findings(walk(model, conv_net()))
    assert found.cause is cause
    assert found.where.node == model.graph.node[position].name
    assert said in found.text
    assert found.proven
    if cause is CauseKind.WEIGHTS:
        assert found.where.initializer in model.graph.node[position].input


@pytest.mark.parametrize("names", ["shared", "other"])
def test_a_healthy_copy_has_no_findings(conv_net: MakeConvNet, walk: Walk, names: str) -> None:
    """Nothing departs where nothing differs but names."""
    model = conv_net() if names == "shared" else renamed(conv_net())
    aligned = walk(model, conv_net())
    assert aligned.departures == []
    assert aligned.share == 1.0


@pytest.mark.parametrize("names", ["shared", "other"])
def test_several_faults_are_named_each_with_its_own_effect(conv_net: MakeConvNet, walk: Walk, names: str) -> None:
    """A large fault in front does not hide a small one behind it, and two at one node are told apart."""
    model = conv_net()
    for edit in (moved_pads, scaled, other_operator):
        edit(model)
    _weight(model, "w1", lambda w: w.__setitem__((0, 0, 0, 0), w[0, 0, 0, 0] + np.float32(0.5)))
    model = renamed(model) if names == "other" else model
    found = findings(walk(model, conv_net()))
    named = {(f.cause, f.where.node, bool(f.where.initializer)) for f in found}
    nodes = [n.name for n in model.graph.node]
    assert named == {
        (CauseKind.GRAPH, nodes[0], False),
        (CauseKind.WEIGHTS, nodes[0], True),
        (CauseKind.GRAPH, nodes[1], False),
        (CauseKind.WEIGHTS, nodes[2], True),
    }
    small = next(f for f in found if f.where.node == nodes[2])
    large = next(f for f in found if f.where.node == nodes[1])
    assert 0 < float(small.effect["logits"].max()) < float(large.effect["logits"].max()) / 10


def test_the_effect_is_what_the_fault_alone_does(conv_net: MakeConvNet, walk: Walk) -> None:
    """Of two faults, the effect of one equals the difference that a model with that one alone makes."""
    both, one = conv_net(), conv_net()
    scaled(both)
    other_operator(both)
    scaled(one)
    of_two = next(f for f in findings(walk(both, conv_net())) if f.where.initializer == "w2")
    (alone,) = findings(walk(one, conv_net()))
    assert np.allclose(of_two.effect["logits"], alone.effect["logits"], rtol=1e-6, atol=0)


def _gelu(parts: bool, half: float = 0.5) -> onnx.ModelProto:
    """``y = W . gelu(x)``, gelu as one operator or written out."""
    rng = np.random.default_rng(1)
    constants = {"w": rng.standard_normal((8, 4)), "root": np.sqrt(2.0), "one": 1.0, "half": half}
    if parts:
        nodes = [
            helper.make_node("Div", ["x", "root"], ["d"], name="div"),
            helper.make_node("Erf", ["d"], ["e"], name="erf"),
            helper.make_node("Add", ["e", "one"], ["s"], name="add"),
            helper.make_node("Mul", ["x", "s"], ["m"], name="mul"),
            helper.make_node("Mul", ["m", "half"], ["g"], name="halve"),
        ]
    else:
        nodes = [helper.make_node("Gelu", ["x"], ["g"], name="gelu")]
    nodes.append(helper.make_node("MatMul", ["g", "w"], ["y"], name="head"))
    used = {n for node in nodes for n in node.input}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [6, 8])], [helper.make_tensor_value_info("y", 1, [6, 4])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items() if k in used],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def _named(found: tuple[Finding, ...]) -> list[str]:
    return [f.where.node for f in found]


def test_an_operator_written_out_is_compared_part_by_part(walk: Walk) -> None:
    """Gelu in five parts has no findings against Gelu; Erf exchanged for Tanh among the parts is named."""
    assert findings(walk(_gelu(parts=True), _gelu(parts=False))) == ()
    broken = _gelu(parts=True)
    _node(broken, "erf").op_type = "Tanh"
    assert _named(findings(walk(broken, _gelu(parts=False)))) == ["erf"]


def test_a_scalar_is_the_graph_s_fault_and_a_matrix_the_weights(walk: Walk) -> None:
    """A wrong factor is no parameter of a model; a wrong matrix is."""
    (factor,) = findings(walk(_gelu(parts=True, half=0.6), _gelu(parts=True)))
    assert (factor.cause, factor.where.initializer) == (CauseKind.GRAPH, "half")
    assert "is 0.6, the reference has 0.5" in factor.text
    other = _gelu(parts=True)
    _weight(other, "w", lambda w: w.__setitem__((1, 1), w[1, 1] * np.float32(2)))
    (matrix,) = findings(walk(other, _gelu(parts=True)))
    assert (matrix.cause, matrix.where.initializer) == (CauseKind.WEIGHTS, "w")


def test_channels_last_is_another_layout_and_no_fault(walk: Walk, conv_net: MakeConvNet) -> None:
    """An elementwise part that runs channels-last between transposes has no findings; a fault in it is named."""

    def turned(operator: str) -> onnx.ModelProto:
        model = renamed(conv_net())
        relu = model.graph.node[1]
        source, target = relu.input[0], relu.output[0]
        at = list(model.graph.node).index(relu)
        model.graph.node.remove(relu)
        chain = [
            helper.make_node("Transpose", [source], ["nhwc"], name="to", perm=[0, 2, 3, 1]),
            helper.make_node(operator, ["nhwc"], ["active"], name="act"),
            helper.make_node("Transpose", ["active"], [target], name="back", perm=[0, 3, 1, 2]),
        ]
        for offset, node in enumerate(chain):
            model.graph.node.insert(at + offset, node)
        return model

    assert findings(walk(turned("Relu"), conv_net())) == ()
    assert _named(findings(walk(turned("Elu"), conv_net()))) == ["act"]


def test_outputs_that_are_exchanged_are_named(walk: Walk) -> None:
    """Two outputs of one shape that carry each other's values."""

    def net(first: str, second: str) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Sigmoid", ["x"], [first], name="one"),
            helper.make_node("Tanh", ["x"], [second], name="two"),
        ]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", 1, [2, 3])],
            [helper.make_tensor_value_info(n, 1, [2, 3]) for n in ("a", "b")],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    found = findings(walk(net("b", "a"), net("a", "b")))
    assert {f.where.value for f in found} == {"a", "b"}
    assert all(f.cause is CauseKind.GRAPH for f in found)


def test_a_training_mode_is_one_finding_with_its_attribute(walk: Walk) -> None:
    """Training mode gives further results, which the reference lacks; they are no further faults."""

    def net(*, training: bool) -> onnx.ModelProto:
        rng = np.random.default_rng(2)
        outputs = ["n", "m", "v"] if training else ["n"]
        options = {"training_mode": 1} if training else {}
        nodes = [
            helper.make_node("BatchNormalization", ["x", "s", "b", "mean", "var"], outputs, name="norm", **options),
            helper.make_node("Tanh", ["n"], ["y"], name="tanh"),
        ]
        values = {k: rng.uniform(0.5, 2, 3).astype(np.float32) for k in ("s", "b", "mean", "var")}
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", 1, [4, 3])],
            [helper.make_tensor_value_info("y", 1, [4, 3])],
            [numpy_helper.from_array(v, k) for k, v in values.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    (found,) = findings(walk(net(training=True), net(training=False)))
    assert (found.cause, found.where.node, found.proven) == (CauseKind.GRAPH, "norm", True)
    assert "attribute training_mode is 1" in found.text


def _masked(mask: list[onnx.NodeProto], stored: dict[str, np.ndarray]) -> onnx.ModelProto:
    nodes = [*mask, helper.make_node("Where", ["m", "low", "x"], ["v"], name="where"),
             helper.make_node("Softmax", ["v"], ["y"], name="softmax")]  # fmt: skip
    values = {"low": np.float32(-9.0), **stored}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [5, 5])], [helper.make_tensor_value_info("y", 1, [5, 5])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize(
    ("upper", "diagonal", "node", "said"),
    [(0, 1, "trilu", "attribute upper is 0; with 1"), (1, 2, "trilu", "its input k (k) is 2; with 1")],
)
def test_a_mask_is_mended_where_it_is_wrong(walk: Walk, upper: int, diagonal: int, node: str, said: str) -> None:
    """The reference stores its mask; the node of a computed one is named by the change that makes them equal."""
    chain = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Expand", ["one", "shape"], ["ones"], name="expand"),
        helper.make_node("Trilu", ["ones", "k"], ["tri"], name="trilu", upper=upper),
        helper.make_node("Cast", ["tri"], ["m"], name="cast", to=9),
    ]
    artifact = _masked(chain, {"one": np.float32(1.0), "k": np.int64(diagonal)})
    reference = _masked([], {"m": np.triu(np.ones((5, 5), bool), 1)})
    (found,) = findings(walk(artifact, reference))
    assert (found.where.node, found.cause) == (node, CauseKind.GRAPH)
    assert said in found.text


def test_a_bias_that_the_exporter_has_folded_is_a_weight(walk: Walk, conv_net: MakeConvNet) -> None:
    """It bears no parameter's name, but stands where only parameters stand."""
    model = conv_net()
    shifted_bias(model)
    (found,) = findings(walk(model, conv_net()), frozenset({"w1", "w2"}))
    assert (found.cause, found.where.initializer) == (CauseKind.WEIGHTS, "b1")


def test_a_node_that_fails_moves_the_outputs_beyond_measure(walk: Walk, conv_net: MakeConvNet) -> None:
    """An axis that does not exist: the node is named, and what it does to the output has no size."""
    broken = conv_net()
    _node(broken, "conv2").attribute.append(helper.make_attribute("group", 3))
    (found,) = findings(walk(broken, conv_net()))
    assert found.where.node == "conv2"
    assert found.effect
    assert all(np.isinf(change).all() for change in found.effect.values())
