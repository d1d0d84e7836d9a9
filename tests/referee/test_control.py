"""Loops, scans and sequences: zero iterations, both forms of Scan, positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxeq.errors import OnnxeqError
from onnxeq.referee.executor import Executor

Run = Callable[..., list[Any]]
FLOAT = TensorProto.FLOAT


def _value(name: str, elem: int, shape: list[int] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem, shape)


def _loop(limit: float) -> onnx.ModelProto:
    """Doubles both values while the larger is below ``limit``; stacks the values before doubling."""
    bound = helper.make_tensor("bound", FLOAT, [], [limit])
    two = helper.make_tensor("two", FLOAT, [], [2.0])
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["v", "two"], ["v_out"]),
            helper.make_node("ReduceMax", ["v_out"], ["largest"], keepdims=0),
            helper.make_node("Less", ["largest", "bound"], ["go_out"]),
            helper.make_node("Identity", ["v"], ["seen"]),
        ],
        "body",
        [_value("i", TensorProto.INT64, []), _value("go", TensorProto.BOOL, []), _value("v", FLOAT, [2])],
        [_value("go_out", TensorProto.BOOL, []), _value("v_out", FLOAT, [2]), _value("seen", FLOAT, [2])],
        [two],
    )
    node = helper.make_node("Loop", ["trips", "go", "x"], ["last", "stack"], body=body)
    inputs = [
        _value("trips", TensorProto.INT64, []),
        _value("go", TensorProto.BOOL, []),
        _value("x", FLOAT, [2]),
    ]
    outputs = [_value("last", FLOAT, [2]), _value("stack", FLOAT, None)]
    graph = helper.make_graph([node], "g", inputs, outputs, [bound])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(("trips", "go", "steps"), [(10, True, 3), (2, True, 2), (0, True, 0), (10, False, 0)])
def test_loop_stops(trips: int, go: bool, steps: int) -> None:
    """1 doubles to 8 (not below 8) in three steps; the trip count or a false condition stops earlier."""
    feed = {"trips": np.array(trips), "go": np.array(go), "x": np.array([1, 0.5], np.float32)}
    got = Executor(_loop(8.0)).run(feed)
    np.testing.assert_array_equal(got["last"], np.array([1, 0.5]) * 2**steps)
    expected = np.array([[1, 0.5]]) * 2.0 ** np.arange(steps)[:, None]
    np.testing.assert_array_equal(got["stack"], expected.reshape(-1, 2))


def _scan(opset: int, **attributes: Any) -> onnx.ModelProto:
    """Running sums: state + item, stacked."""
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "x"], ["s_out"]), helper.make_node("Identity", ["s_out"], ["y"])],
        "body",
        [_value("s", FLOAT, []), _value("x", FLOAT, [])],
        [_value("s_out", FLOAT, []), _value("y", FLOAT, [])],
    )
    lens = ["lens"] if opset == 8 else []
    node = helper.make_node("Scan", [*lens, "s0", "xs"], ["s", "ys"], body=body, num_scan_inputs=1, **attributes)
    shape = [2] if opset == 8 else []
    inputs = [_value("s0", FLOAT, shape), _value("xs", FLOAT, [*shape, 3])]
    if lens:
        inputs.insert(0, _value("lens", TensorProto.INT64, [2]))
    outputs = [_value("s", FLOAT, shape), _value("ys", FLOAT, [*shape, 3])]
    graph = helper.make_graph([node], "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_scan_directions() -> None:
    """Reading backwards sums from the end; writing backwards puts the first result last."""
    feed = {"s0": np.array(0, np.float32), "xs": np.array([1, 2, 3], np.float32)}
    got = Executor(_scan(11, scan_input_directions=[1], scan_output_directions=[1])).run(feed)
    np.testing.assert_array_equal(got["ys"], [6, 5, 3])
    assert got["s"] == 6


def test_batched_scan_respects_lengths() -> None:
    """At opset 8 each sample has its own length; its state is that of its own last step."""
    xs = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    feed = {"lens": np.array([3, 2]), "s0": np.array([0, 10], np.float32), "xs": xs}
    got = Executor(_scan(8)).run(feed)
    np.testing.assert_array_equal(got["s"], [6, 19])
    np.testing.assert_array_equal(got["ys"][0], [1, 3, 6])
    np.testing.assert_array_equal(got["ys"][1, :2], [14, 19])


def _sequence(position: int) -> onnx.ModelProto:
    at = helper.make_tensor("at", TensorProto.INT64, [], [position])
    nodes = [
        helper.make_node("SequenceConstruct", ["a", "b"], ["s"]),
        helper.make_node("SequenceAt", ["s", "at"], ["y"]),
    ]
    inputs = [_value("a", FLOAT, [1]), _value("b", FLOAT, [1])]
    graph = helper.make_graph(nodes, "g", inputs, [_value("y", FLOAT, [1])], [at])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(("position", "expected"), [(0, 1.0), (-1, 2.0), (-2, 1.0)])
def test_sequence_positions(position: int, expected: float) -> None:
    """Positions count from the front, negative ones from the end."""
    feed = {"a": np.ones(1, np.float32), "b": np.full(1, 2, np.float32)}
    assert Executor(_sequence(position)).run(feed)["y"][0] == expected


def test_sequence_position_outside() -> None:
    """A position outside the sequence is an error that names the bounds."""
    feed = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    with pytest.raises(OnnxeqError, match=r"position 2 is outside \[-2, 1\]"):
        Executor(_sequence(2)).run(feed)


@pytest.mark.parametrize(("split", "sizes"), [(np.array(2), [2, 2, 1]), (np.array([1, 4]), [1, 4])])
def test_split_to_sequence(run_node: Run, split: Any, sizes: list[int]) -> None:
    """A scalar is the size of every part but the last; a vector gives the sizes."""
    (parts,) = run_node("SplitToSequence", 11, (np.arange(5, dtype=np.float32), split))
    assert [p.size for p in parts] == sizes
