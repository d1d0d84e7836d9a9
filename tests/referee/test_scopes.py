"""Functions, schema bodies and sub-graphs: which names, attributes and opsets hold inside."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee import Executor
from onnxeq.referee.registry import find

X = np.float32([1, 2, 3])


def _model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18, "local" : 1]>\n{text}')


def _graph(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])


def test_missing_operators_are_found_everywhere() -> None:
    """In the graph, in sub-graphs and in functions, each once, with version and node."""
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 18, "local" : 1, "com.microsoft" : 1]>
        g (float[N] x, bool c) => (float[N] y) {
          a = com.microsoft.Nope(x)
          b = local.f(a)
          y = If(c) <then_branch = t () => (float[N] p) { p = com.microsoft.Nay(b) },
                     else_branch = e () => (float[N] q) { q = Neg(b) }>
        }
        <domain: "local", opset_import: ["" : 18, "com.microsoft" : 1]>
        f (u) => (v) { v = com.microsoft.Never(u) }""")
    executor = Executor(model)
    assert sorted(line.split(" at ")[0] for line in executor.missing) == [
        "com.microsoft::Nay (version 1)", "com.microsoft::Never (version 1)", "com.microsoft::Nope (version 1)",
    ]  # fmt: skip
    with pytest.raises(UnsupportedOperator, match=r"com\.microsoft::Nope \(version 1\) at node making 'a'"):
        executor.run({"x": X, "c": np.array(True)})


def test_functions_with_attribute_references() -> None:
    """Attributes of the call, defaults of the function, functions that call functions."""
    model = _model("""g (float[N] x) => (float[N] y) { y = local.outer <slope = 0.5> (x) }
        <domain: "local", opset_import: ["" : 18, "local" : 1]>
        outer <slope> (u) => (v) { v = local.inner <slope: float = @slope> (u) }
        <domain: "local", opset_import: ["" : 18]>
        inner <slope, value_float: float = 3.0> (u) => (v) {
          w = LeakyRelu <alpha: float = @slope> (u)
          k = Constant <value_float: float = @value_float> ()
          v = Mul(w, k)
        }""")
    got = Executor(model).run({"x": np.float32([-2, 2])})["y"]
    np.testing.assert_array_equal(got, [-3.0, 6.0])


def test_overloaded_functions() -> None:
    """The overload is part of a function's name."""
    model = _graph([
        helper.make_node("f", ["x"], ["a"], domain="local", overload="neg"),
        helper.make_node("f", ["a"], ["y"], domain="local", overload="twice"),
    ])  # fmt: skip
    model.opset_import.append(helper.make_opsetid("local", 1))
    imports = [helper.make_opsetid("", 18)]
    for overload, node in (("neg", ("Neg", ["u"], ["v"])), ("twice", ("Add", ["u", "u"], ["v"]))):
        model.functions.append(
            helper.make_function("local", "f", ["u"], ["v"], [helper.make_node(*node)], imports, overload=overload)
        )
    np.testing.assert_array_equal(Executor(model).run({"x": X})["y"], -2 * X)


def test_a_function_has_its_own_opset() -> None:
    """Softmax of opset 12 inside the function (rows of all trailing axes), of opset 18 outside."""
    model = _model("""g (float[2,2,2] x) => (float[2,2,2] y, float[2,2,2] z) {
          y = local.old(x)
          z = Softmax <axis = 1> (x)
        }
        <domain: "local", opset_import: ["" : 12]>
        old (u) => (v) { v = Softmax <axis = 1> (u) }""")
    got = Executor(model).run({"x": np.zeros((2, 2, 2), np.float32)})
    np.testing.assert_allclose(got["y"], np.full((2, 2, 2), 0.25))
    np.testing.assert_allclose(got["z"], np.full((2, 2, 2), 0.5))


def test_schema_bodies_run_what_has_no_implementation() -> None:
    """Shrink has no implementation here and a body in the standard; its defaults come from the schema."""
    assert find("", "Shrink", 18) is None
    executor = Executor(_model("g (float[N] x) => (float[N] y) { y = Shrink <lambd = 1.5> (x) }"))
    assert executor.missing == ()
    np.testing.assert_array_equal(executor.run({"x": np.float32([-2, 1, 3])})["y"], [-2, 0, 3])


def test_schema_bodies_do_not_round_to_their_working_precision() -> None:
    """Attention's body casts for its softmax; in a float16 model that must not round the lifted values."""
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 23]>
        g (float16[1,1,2,4] q, float16[1,1,3,4] k, float16[1,1,3,4] v) => (float16[1,1,2,4] y) {
          y = Attention <softmax_precision = 1> (q, k, v)
        }""")
    rng = np.random.default_rng(0)
    feed = {name: rng.standard_normal((1, 1, 2 if name == "q" else 3, 4)).astype(np.float16) for name in "qkv"}
    q, k, v = (feed[name].astype(np.float64) for name in "qkv")
    scores = np.exp(q @ np.swapaxes(k, -1, -2) / 2)
    expected = scores / scores.sum(axis=-1, keepdims=True) @ v
    np.testing.assert_allclose(Executor(model).run(feed)["y"], expected, rtol=1e-13)


def test_sub_graphs_see_and_keep_outer_values() -> None:
    """A value used by a branch two levels down lives until then, and names may repeat inside."""
    model = _model("""g (float[N] x, bool c) => (float[N] y) {
        a = Neg(x)
        b = Exp(a)
        y = If(c) <
          then_branch = t () => (float[N] r) {
            r = If(c) <then_branch = tt () => (float[N] s) { s = Add(a, b) },
                       else_branch = te () => (float[N] s) { s = Identity(a) }>
          },
          else_branch = e () => (float[N] r) { r = Identity(b) }>
    }""")
    executor = Executor(model)
    wide = X.astype(np.float64)
    np.testing.assert_array_equal(executor.run({"x": X, "c": np.array(True)})["y"], -wide + np.exp(-wide))
    np.testing.assert_array_equal(executor.run({"x": X, "c": np.array(False)})["y"], np.exp(-wide))
