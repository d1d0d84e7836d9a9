from __future__ import annotations

import numpy as np
import onnx

from onnxeq.referee.executor import Executor
from onnxeq_converters.from_tensorflow.naming import name_whole_tensors


def _built() -> onnx.ModelProto:
    """``z = |(1/sqrt(x) - y)^2|`` and ``unequal = (x != y)`` as tf2onnx writes them."""
    helper = onnx.helper
    rows = [
        ("Sqrt", ["x"], "a/Rsqrt:0", "a/Rsqrt"),
        ("Reciprocal", ["a/Rsqrt:0"], "a/Rsqrt__10:0", "a/Rsqrt__10"),
        ("Sub", ["a/Rsqrt__10:0", "y"], "b/SquaredDifference:0", "b/SquaredDifference"),
        ("Mul", ["b/SquaredDifference:0"] * 2, "b/SquaredDifference__7:0", "b/SquaredDifference__7"),
        ("Neg", ["b/SquaredDifference__7:0"], "c/conv:0", "c/conv"),
        ("Identity", ["c/conv:0"], "c/conv__3:0", "c/conv__3"),
        ("Abs", ["c/conv__3:0"], "z", "z"),
        ("Equal", ["x", "y"], "d/NotEqual:0", "d/NotEqual"),
        ("Not", ["d/NotEqual:0"], "unequal", "d/NotEqual__2"),
    ]
    nodes = [helper.make_node(op, given, [made], name=name) for op, given, made, name in rows]
    value = helper.make_tensor_value_info
    inputs = [value(n, onnx.TensorProto.FLOAT, [3]) for n in "xy"]
    outputs = [value("z", onnx.TensorProto.FLOAT, [3]), value("unequal", onnx.TensorProto.BOOL, [3])]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 15)]
    )


def test_a_tensors_name_is_on_the_last_node_that_computes_it() -> None:
    """The reciprocal, the square and no layout change get the names; the outputs keep theirs, and all numbers stay."""
    model, feed = _built(), {"x": np.array([4.0, 9.0, 16.0], np.float32), "y": np.array([4.0, 1.0, 2.0], np.float32)}
    before = Executor(model).run(feed)
    name_whole_tensors(model.graph)
    onnx.checker.check_model(model)
    asked = ["a/Rsqrt:0", "b/SquaredDifference:0", "c/conv:0", "z", "unequal"]
    found = Executor(model).run(feed, outputs=asked)
    rsqrt = 1 / np.sqrt(feed["x"].astype(np.float64))
    square = (rsqrt - feed["y"]) ** 2
    assert np.allclose(found["a/Rsqrt:0"], rsqrt, rtol=1e-15)
    assert np.allclose(found["b/SquaredDifference:0"], square, rtol=1e-15)
    assert np.allclose(found["c/conv:0"], -square, rtol=1e-15)
    assert all(np.array_equal(found[name], before[name]) for name in before)
    assert "d/NotEqual:0" not in {name for node in model.graph.node for name in node.output}
