"""The executor: order, scopes, functions, lifting, exact shapes, hooks, storage and errors."""

from __future__ import annotations

import itertools
import tracemalloc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from onnxeq.errors import BadInputs, CannotRun, UnusableModel
from onnxeq.referee import Executor, NodeInfo
from onnxeq.referee.frames import owned_inputs

F32 = TensorProto.FLOAT


def _model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18, "local" : 1]>\n{text}')


def _graph(nodes: Sequence[onnx.NodeProto], initializers: Sequence[TensorProto] = ()) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", F32, ["N"])
    y = helper.make_tensor_value_info("y", F32, None)
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], initializers), opset_imports=[helper.make_opsetid("", 18)]
    )


class Recorder:
    """A hook that writes down what it is shown and changes nothing."""

    def __init__(self) -> None:
        self.constants: list[tuple[str, Any, str]] = []
        self.nodes: list[tuple[NodeInfo, list[Any]]] = []

    def constant(self, name: str, value: Any, dtype: str) -> Any:
        """Records the constant."""
        self.constants.append((name, value.copy(), dtype))
        return value

    def node(self, info: NodeInfo, inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
        """Records the node."""
        assert len(inputs) == len(info.node.input)
        self.nodes.append((info, list(outputs)))
        return outputs


class Doubling(Recorder):
    """A hook that doubles every float constant: a fault nobody can overlook."""

    def constant(self, name: str, value: Any, dtype: str) -> Any:
        """Twice the constant."""
        super().constant(name, value, dtype)
        return value * 2


X = np.float32([1, 2, 3])


def test_values_are_float64() -> None:
    """0.1 stored in float32, times three, is the float64 product: nothing is rounded to float32."""
    model = _model("g (float[N] x) => (float[N] y) <float c = {0.1}> { y = Mul(x, c) }")
    got = Executor(model).run({"x": X})["y"]
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, X.astype(np.float64) * float(np.float32(0.1)))


def test_integers_keep_their_type() -> None:
    """int32 stays int32."""
    model = _model("g (int32[N] x) => (int32[N] y) { y = Add(x, x) }")
    assert Executor(model).run({"x": np.int32([1, 2])})["y"].dtype == np.int32


def test_intermediates_can_be_asked_for() -> None:
    """Any value of the main graph; what does not contribute is not run."""
    model = _model("g (float[N] x) => (float[N] y) { a = Neg(x)  b = Exp(a)  y = Abs(b) }")
    hook = Recorder()
    assert list(Executor(model).run({"x": X}, outputs=["a"], hook=hook)) == ["a"]
    assert [info.node.op_type for info, _ in hook.nodes] == ["Neg"]


def test_an_output_may_be_an_input_or_an_initializer() -> None:
    """Graphs that only pass something through."""
    model = _model("g (float[N] x) => (float[N] x, float[1] c) <float[1] c = {2}> { }")
    got = Executor(model).run({"x": X})
    np.testing.assert_array_equal(got["x"], X)
    np.testing.assert_array_equal(got["c"], [2.0])


def test_an_initializer_can_be_overridden_by_an_input() -> None:
    """An input with an initializer is optional."""
    c = numpy_helper.from_array(np.float32([10]), "c")
    model = _graph([helper.make_node("Add", ["x", "c"], ["y"])], [c])
    model.graph.input.append(helper.make_tensor_value_info("c", F32, [1]))
    executor = Executor(model)
    assert [spec.name for spec in executor.inputs] == ["x"]
    np.testing.assert_array_equal(executor.run({"x": X})["y"], X + 10)
    np.testing.assert_array_equal(executor.run({"x": X, "c": np.float32([1])})["y"], X + 1)


def test_nodes_out_of_order_are_sorted() -> None:
    """Readers before their makers, but no cycle."""
    nodes = [helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Exp", ["x"], ["a"])]
    np.testing.assert_allclose(Executor(_graph(nodes)).run({"x": X})["y"], -np.exp(X.astype(np.float64)))


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([("Add", ["x", "b"], ["a"]), ("Neg", ["a"], ["b"]), ("Neg", ["b"], ["y"])], "cycle through"),
        ([("Neg", ["nowhere"], ["y"])], "reads 'nowhere'"),
        ([("Neg", ["x"], ["y"]), ("Exp", ["x"], ["y"])], "'y' is defined twice"),
        ([("Neg", ["x"], ["x"]), ("Exp", ["x"], ["y"])], "'x' is defined twice"),
        ([("Neg", ["x"], ["z"])], "output 'y' is defined by no node"),
    ],
)
def test_invalid_graphs(nodes: list[tuple[str, list[str], list[str]]], says: str) -> None:
    """Cycles, undefined and twice defined names are said in one line, before anything runs."""
    with pytest.raises(UnusableModel, match=says):
        Executor(_graph([helper.make_node(*node) for node in nodes]))


def test_a_deep_graph_needs_no_recursion() -> None:
    """3000 nodes in a row, given backwards."""
    count = 3000
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [helper.make_node("Neg", [names[i]], [names[i + 1]]) for i in reversed(range(count))]
    np.testing.assert_array_equal(Executor(_graph(nodes)).run({"x": X})["y"], X)


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({}, "'x' is not given"),
        ({"x": X, "z": X}, "no input 'z'"),
        ({"x": np.int32([1])}, r"int32\[1\], the model takes float32\[N\]"),
        ({"x": np.ones((2, 2), np.float32)}, r"float32\[2,2\]"),
    ],
)
def test_bad_feeds(feed: dict[str, Any], says: str) -> None:
    """What was given against what is taken."""
    with pytest.raises(BadInputs, match=says):
        Executor(_graph([helper.make_node("Neg", ["x"], ["y"])])).run(feed)


def test_a_failing_node_is_named_with_its_shapes() -> None:
    """One line: node, operator, inputs with shapes, reason."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    model = _graph([node], [numpy_helper.from_array(np.ones((5, 2), np.float32), "w")])
    with pytest.raises(CannotRun, match=r"node fc: MatMul \(version 18\) failed on inputs x \[3\], w \[5, 2\]"):
        Executor(model).run({"x": X})


_LOOP = """g (int64 n, float[1] x) => (float[1] y) {
    t = Constant <value = bool {1}> ()
    y = Loop(n, t, x) <body = b (int64 i, bool c, float[1] s) => (bool d, float[1] r)
        <float[1] k = {0.1}> { d = Identity(c)  r = Add(s, k) }>
}"""


def test_constants_of_a_loop_body_are_shown_once() -> None:
    """Five iterations read one constant: the hook sees it once, and all use what it gave."""
    hook = Doubling()
    got = Executor(_model(_LOOP)).run({"n": np.array(5), "x": np.float32([0])}, hook=hook)["y"]
    assert [name for name, _, _ in hook.constants] == ["k"]
    np.testing.assert_allclose(got, [10 * float(np.float32(0.1))], rtol=1e-15)


def test_the_hook_sees_inner_nodes_with_their_path() -> None:
    """Nodes of a sub-graph come with the enclosing node; the enclosing node is composite."""
    hook = Recorder()
    Executor(_model(_LOOP)).run({"n": np.array(2), "x": np.float32([0])}, hook=hook)
    inner = [info for info, _ in hook.nodes if info.path]
    assert [info.node.op_type for info in inner] == ["Identity", "Add"] * 2
    assert inner[0].path == ("making 'y'",)
    assert [info.node.op_type for info, _ in hook.nodes if info.composite] == ["Loop"]


def test_every_float_constant_is_shown() -> None:
    """Initializers, Constant nodes and float attributes with their storage type; integers not."""
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=0.5),
        helper.make_node("LeakyRelu", ["x"], ["a"], name="act", alpha=0.25),
        helper.make_node("Mul", ["a", "k"], ["b"]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Reshape", ["d", "shape"], ["e"]),
        helper.make_node("Cast", ["h"], ["h32"], to=F32),
        helper.make_node("Add", ["e", "h32"], ["y"]),
    ]
    model = _graph(nodes, [
        numpy_helper.from_array(np.float32([2]), "c"),
        numpy_helper.from_array(np.array([-1]), "shape"),
        numpy_helper.from_array(np.float16([0.1]), "h"),
    ])  # fmt: skip
    hook = Recorder()
    Executor(model).run({"x": X}, hook=hook)
    shown = {name: (value.tolist(), dtype) for name, value, dtype in hook.constants}
    assert shown == {
        "k": (0.5, "float32"), "act.alpha": (0.25, "float32"), "c": ([2.0], "float32"),
        "h": ([float(np.float16(0.1))], "float16"),
    }  # fmt: skip
    assert len(hook.constants) == 4


def test_the_hook_can_replace_constants_and_values() -> None:
    """What the hook gives is what the run goes on with; the next run is not affected."""

    class Force(Doubling):
        def node(self, info: NodeInfo, inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
            return [np.zeros(3)] if info.node.op_type == "Neg" else outputs

    model = _model("g (float[N] x) => (float[N] y) <float c = {3}> { a = Neg(x)  y = Add(a, c) }")
    executor = Executor(model)
    np.testing.assert_array_equal(executor.run({"x": X}, hook=Force())["y"], [6.0, 6.0, 6.0])
    np.testing.assert_array_equal(executor.run({"x": X})["y"], 3 - X)


def test_shape_arithmetic_is_exact() -> None:
    """``Floor(Cast(10) * 0.7f)`` is 7, as in every runtime: in float64 it would be 6."""
    model = _model("""g (float[N] x) => (int64[1] y, float[1] w) <float[1] s = {0.7}> {
        n = Shape(x)
        f = Cast <to = 1> (n)
        p = Mul(f, s)
        w = Floor(p)
        y = Cast <to = 7> (p)
    }""")
    hook = Doubling()
    got = Executor(model).run({"x": np.zeros(10, np.float32)}, hook=hook)
    assert (got["y"].tolist(), got["w"].tolist()) == ([7], [7.0])  # the hook's doubling does not reach it
    exact = {info.node.op_type: info.exact for info, _ in hook.nodes}
    assert exact["Shape"]
    assert exact["Floor"]
    assert not exact["Mul"]


def test_integers_made_from_constants_are_not_perturbed() -> None:
    """A size stored as a float constant stays that size when the hook moves constants."""
    model = _model("""g (float[N] x) => (float[a,b] y) <float[2] s = {1, 3}> {
        k = Cast <to = 7> (s)
        y = Reshape(x, k)
    }""")
    assert Executor(model).run({"x": X}, hook=Doubling())["y"].shape == (1, 3)


def test_steering_inputs_are_not_perturbed() -> None:
    """Resize's scales have a fixed type: moved by the hook, they would change the output's shape."""
    node = helper.make_node("Resize", ["x", "", "s"], ["y"])
    model = _graph([node], [numpy_helper.from_array(np.float32([2]), "s")])
    assert Executor(model).run({"x": X}, hook=Doubling())["y"].shape == (6,)


def test_floats_made_from_shapes_are_lifted() -> None:
    """A position encoding made from a shape is data: ``cos(position * 0.1f)`` in float64."""
    model = _model("""g (float[N] x) => (float[N] y) <int64 zero = {0}, int64 one = {1}, float s = {0.1}> {
        n = Size(x)
        r = Range(zero, n, one)
        f = Cast <to = 1> (r)
        p = Mul(f, s)
        y = Cos(p)
    }""")
    hook = Recorder()
    got = Executor(model).run({"x": X}, hook=hook)["y"]
    np.testing.assert_array_equal(got, np.cos(np.arange(3) * float(np.float32(0.1))))
    assert not hook.nodes[-1][0].exact


def test_float16_graphs_run_without_rounding_and_say_their_type() -> None:
    """Stored in float16, computed in float64; the hook learns that a runtime would store float16."""
    model = _model("g (float16[N] x) => (float16[N] y) { a = Exp(x)  y = Log(a) }")
    hook = Recorder()
    x = np.float16([0.1, 5.0])
    got = Executor(model).run({"x": x}, hook=hook)["y"]
    np.testing.assert_allclose(got, x.astype(np.float64), rtol=1e-14)
    assert [info.dtypes for info, _ in hook.nodes] == [("float16",), ("float16",)]


def test_casts_that_change_the_type_round() -> None:
    """float32 to float16 rounds; float16 to float16 does not; back to float32 keeps what is left."""
    model = _model("""g (float[N] x) => (float[N] y) {
        a = Cast <to = 10> (x)
        b = Exp(a)
        c = Cast <to = 10> (b)
        y = Cast <to = 1> (c)
    }""")
    got = Executor(model).run({"x": np.float32([0.1])})["y"]
    assert got[0] == np.exp(float(np.float16(0.1)))


def test_inputs_are_never_overwritten() -> None:
    """A float64 feed, a constant, a view and a value with two readers survive in-place operators."""
    model = _model("""g (float[4] x) => (float[4] y, float[2,2] z) <float[4] c = {-1, 2, -3, 4}> {
        a = Neg(x)
        v = Reshape(a, s)
        r = Relu(v)
        p = Relu(c)
        q = Relu(x)
        t = Add(p, q)
        y = Add(a, t)
        z = Add(r, v)
        s = Constant <value = int64[2] {2, 2}> ()
    }""")
    x = np.array([1.0, -2.0, 3.0, -4.0])
    kept = x.copy()
    executor = Executor(model)
    for _ in range(2):
        got = executor.run({"x": x})
        np.testing.assert_array_equal(x, kept)
        relu_c, relu_x = np.array([0.0, 2, 0, 4]), np.maximum(kept, 0)
        np.testing.assert_array_equal(got["y"], -kept + relu_c + relu_x)
        np.testing.assert_array_equal(got["z"].reshape(-1), np.maximum(-kept, 0) - kept)


def test_only_memory_without_other_holders_is_owned() -> None:
    """A view of a shared buffer, a shared array, a broadcast and a read-only array are not owned."""
    shared = np.ones(4)
    frozen = np.ones(4)
    frozen.flags.writeable = False
    values: list[Any] = [np.ones(4), np.ones(4).reshape(2, 2), shared, shared[:2], frozen]
    values += [np.broadcast_to(np.ones(1), (4,)), np.ones(4, np.float32), None]
    del frozen
    assert owned_inputs(values) == frozenset({0, 1})


def test_values_are_freed_after_their_last_use() -> None:
    """In a chain, at most the neighbours of the running node are alive."""
    alive: list[int] = []
    references: list[weakref.ref[Any]] = []

    class Watch(Recorder):
        def node(self, info: NodeInfo, inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
            alive.append(sum(ref() is not None for ref in references))
            references.append(weakref.ref(outputs[0]))
            return outputs

    names = ["x", *(f"v{i}" for i in range(8)), "y"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    Executor(_graph(nodes)).run({"x": X}, hook=Watch())
    assert max(alive) <= 1


def test_optional_outputs_may_be_left_out() -> None:
    """An empty output name in the middle keeps the later ones in place."""
    node = helper.make_node("TopK", ["x", "k"], ["", "y"])
    model = _graph([node], [numpy_helper.from_array(np.array([2]), "k")])
    np.testing.assert_array_equal(Executor(model).run({"x": X})["y"], [2, 1])


def test_interface() -> None:
    """Inputs and outputs in ONNX notation."""
    executor = Executor(_model("g (float[N,3] x) => (int64[2] y) { y = Shape(x) }"))
    assert [spec.text() for spec in executor.inputs] == ["float32[N,3]"]
    assert [spec.text() for spec in executor.outputs] == ["int64[2]"]


def test_large_constants_are_not_held_between_runs() -> None:
    """A weight of 48 MB in float64 is widened anew for each run, so that what is left after it is the stored form."""
    weight = np.ones((1500, 4000), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1500])], [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    tracemalloc.start()
    try:
        for _ in range(2):
            assert executor.run({"x": np.ones((1, 1500), np.float32)})["y"][0, 0] == 1500
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2**22
    assert most > weight.size * 8


def test_an_index_outside_is_told_with_its_node() -> None:
    """In the words of every failing node, so that its place is found."""
    node = helper.make_node("Gather", ["x", "i"], ["y"], name="pick")
    model = _graph([node], [numpy_helper.from_array(np.array([7]), "i")])
    with pytest.raises(BadInputs, match=r"node pick: Gather .* failed on inputs x \[3\], i \[1\]: .*index 7 is"):
        Executor(model).run({"x": X})
