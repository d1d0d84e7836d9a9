"""The smallest sub-graph: what it keeps, what it leaves, and what it says of its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.errors import CannotRun, UnusableModel
from onnxeq.referee import Executor
from onnxeq.repro import cut
from tests.repro.conftest import WEIGHT, chain, feed, model_of


def names(model: onnx.ModelProto) -> dict[str, list[str]]:
    graph = model.graph
    return {
        "nodes": [n.name for n in graph.node],
        "inputs": [i.name for i in graph.input],
        "outputs": [o.name for o in graph.output],
        "stored": sorted(t.name for t in graph.initializer),
    }


def test_only_what_is_needed_stays() -> None:
    """Nodes before the inputs and behind the output go, with the constants that only they read."""
    small = cut(chain(), None, ["p"], ["e"])
    assert names(small) == {
        "nodes": ["scale", "exponential"], "inputs": ["p"], "outputs": ["e"], "stored": ["tenth"]
    }  # fmt: skip
    assert small.opset_import[0].version == 17
    assert small.ir_version == 8


def test_inputs_that_nothing_reads_are_left_out() -> None:
    """The cut has exactly the inputs that it reads, whatever was offered."""
    assert names(cut(chain(), None, ["x", "s"], ["y"]))["inputs"] == ["s"]


def test_types_and_sizes_come_from_the_arrays() -> None:
    """``float32[4,6] -> float32[4,5]``, where the model itself says nothing of either."""
    small = cut(chain(), None, ["x"], ["p"], {**feed(), "p": np.zeros((4, 5), np.float32)})
    for value, shape in ((small.graph.input[0], [4, 6]), (small.graph.output[0], [4, 5])):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert [d.dim_value for d in value.type.tensor_type.shape.dim] == shape
    onnx.checker.check_model(small, full_check=True)


def test_what_follows_from_constants_alone_is_kept() -> None:
    """``y = x + 2*c`` with ``c`` from a Constant node: the node and what it is multiplied by come along."""
    nodes = [
        helper.make_node("Constant", [], ["c"], name="c", value_float=3.0),
        helper.make_node("Constant", [], ["other"], name="other", value_float=4.0),
        helper.make_node("Mul", ["c", "two"], ["cc"], name="double"),
        helper.make_node("Neg", ["x"], ["n"], name="neg"),
        helper.make_node("Add", ["n", "cc"], ["y"], name="add"),
        helper.make_node("Add", ["y", "other"], ["z"], name="more"),
    ]
    small = cut(model_of(nodes, {"x": [2]}, ["z"], {"two": np.float32([2.0])}), None, ["n"], ["y"])
    assert names(small)["nodes"] == ["c", "double", "add"]
    assert names(small)["stored"] == ["two"]
    given = cut(small, None, ["n"], ["y"], {"n": np.float32([1, 2])})
    np.testing.assert_array_equal(Executor(given).run({"n": np.float32([1, 2])})["y"], [7, 8])


def if_model() -> onnx.ModelProto:
    """``y = x > 0 ? a*w : b`` where the branches read ``a``, ``b`` and ``w`` from outside."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["a", "w"], ["t"])], "then", [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["o"])], "else", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], name="a"),
        helper.make_node("Abs", ["x"], ["b"], name="b"),
        helper.make_node("ReduceSum", ["x"], ["total"], name="total", keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"], name="positive"),
        helper.make_node("If", ["positive"], ["y"], name="if", then_branch=then, else_branch=other),
    ]
    stored = {"w": np.float32([2, 3, 4]), "zero": np.float32(0), "unread": np.float32(5)}
    return model_of(nodes, {"x": [3]}, ["y"], stored)


def test_what_an_if_captures_becomes_an_input_or_stays_stored() -> None:
    """Captured values that are given are inputs, a captured constant is kept, ``y = a*w`` when the condition holds."""
    given = {"positive": np.array(True), "a": np.float32([1, 2, 3]), "b": np.float32([0, 0, 0])}
    small = cut(if_model(), None, list(given), ["y"], given)
    assert names(small) == {
        "nodes": ["if"], "inputs": ["positive", "a", "b"], "outputs": ["y"], "stored": ["w"]
    }  # fmt: skip
    np.testing.assert_array_equal(Executor(small).run(given)["y"], [2, 6, 12])


def test_what_an_if_captures_is_made_where_it_is_not_given() -> None:
    """Captured values between the inputs and the output are made by their nodes."""
    assert names(cut(if_model(), None, ["x"], ["y"]))["nodes"] == ["a", "b", "total", "positive", "if"]


def test_a_given_value_of_a_needed_node_is_not_made_twice() -> None:
    """``y = first + last`` with ``first`` given: Split still makes ``last``, and its ``first`` bears another name."""
    nodes = [
        helper.make_node("Split", ["x"], ["first", "last"], name="split", axis=0),
        helper.make_node("Add", ["first", "last"], ["y"], name="add"),
    ]
    given = {"first": np.float32([10]), "x": np.float32([1, 2])}
    typed = {**given, "y": np.float32([12])}
    small = cut(model_of(nodes, {"x": [2]}, ["y"], {}), None, list(given), ["y"], typed)
    onnx.checker.check_model(small)
    np.testing.assert_array_equal(Executor(small).run(given)["y"], [12])


def test_functions_stay_when_they_are_used() -> None:
    """A function that a kept node calls stays with the one that it calls; the third goes."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "Inner", ["v"], ["r"], [helper.make_node("Neg", ["v"], ["r"])], opsets[:1])
    outer = helper.make_function(
        "own", "Outer", ["v"], ["r"], [helper.make_node("Inner", ["v"], ["r"], domain="own")], opsets
    )  # fmt: skip
    unused = helper.make_function("own", "Unused", ["v"], ["r"], [helper.make_node("Abs", ["v"], ["r"])], opsets[:1])
    nodes = [
        helper.make_node("Unused", ["x"], ["u"], domain="own"), helper.make_node("Outer", ["u"], ["y"], domain="own")
    ]  # fmt: skip
    model = model_of(nodes, {"x": [2]}, ["y"], {})
    model.opset_import.append(opsets[1])
    model.functions.extend([inner, outer, unused])
    given = {"u": np.float32([1, -2])}
    small = cut(model, None, ["u"], ["y"], given)
    assert [f.name for f in small.functions] == ["Inner", "Outer"]
    np.testing.assert_array_equal(Executor(small).run(given)["y"], [-1, 2])


def test_external_data_is_read_in(tmp_path: Path) -> None:
    """The cut of a model with external data holds its weights itself, and only those that it needs are looked for."""
    path = tmp_path / "net.onnx"
    onnx.save_model(chain(), path, save_as_external_data=True, size_threshold=0, location="net.data")
    model = onnx.load(path, load_external_data=False)
    small = cut(model, tmp_path, ["x"], ["p"])
    np.testing.assert_array_equal(numpy_helper.to_array(small.graph.initializer[0]), WEIGHT)
    assert model.graph.initializer[0].data_location == TensorProto.EXTERNAL
    (tmp_path / "net.data").unlink()
    assert names(cut(model, tmp_path, ["y"], ["out"]))["stored"] == []
    with pytest.raises(UnusableModel, match=r"net\.data"):
        cut(model, tmp_path, ["x"], ["p"])


def test_an_overridable_initializer_stays_overridable() -> None:
    """An initializer that is also an input of its name is declared as one in the cut, so that it is folded no more."""
    model = chain()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 5]))
    assert names(cut(model, None, ["x"], ["p"]))["inputs"] == ["x", "w"]
    assert names(cut(model, None, ["p"], ["s"]))["inputs"] == ["p"]


def test_remarks_go_and_scopes_stay() -> None:
    """Stack traces in doc strings and metadata, of inner nodes too, are not carried along; a layer's scopes are."""
    model = if_model()
    trace = 'File "/home/somebody/net.py", line 3'
    node = model.graph.node[-1]
    inner = node.attribute[0].g.node[0]
    for held in (node, inner, model.graph.input[0], model.graph.initializer[0], model):
        held.doc_string = trace
        held.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['block', 'fc']")
    small = cut(model, None, ["x"], ["y"])
    assert b"somebody" not in small.SerializeToString()
    assert [p.key for p in small.graph.node[-1].metadata_props] == ["pkg.torch.onnx.name_scopes"]


def test_what_is_lacking_is_named() -> None:
    """An output that needs an input which is not given, and one that is itself given, are refused."""
    with pytest.raises(CannotRun, match="also needs 'raw'"):
        cut(chain(), None, ["s"], ["y", "p"])
    with pytest.raises(CannotRun, match="'s' is both an input and an output"):
        cut(chain(), None, ["s"], ["s"])
