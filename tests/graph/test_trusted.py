"""The door for ONNX files lets in what is sound; what it keeps out stands in ``tests/hostile``."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx import helper as h

from onnxeq import memory
from onnxeq.errors import CannotRun, UnusableModel
from onnxeq.graph import calls
from onnxeq.graph.inspect import inspect
from onnxeq.graph.skim import Skimmed
from onnxeq.graph.trusted import check_tensor, examine


def _typed(kind: int, dims: tuple[int, ...], **fields: object) -> TensorProto:
    made = TensorProto(name="w", data_type=kind, **fields)
    made.dims.extend(dims)
    return made


@pytest.mark.parametrize(
    ("tensor", "size"),
    [
        (_typed(TensorProto.FLOAT, (), float_data=[1.0]), 4),
        (_typed(TensorProto.FLOAT, (0, 7)), 0),
        (_typed(TensorProto.INT4, (3,), raw_data=b"\x21\x03"), 2),
        (_typed(TensorProto.UINT4, (3,), int32_data=[0x21, 0x03]), 2),
        (_typed(TensorProto.FLOAT16, (2,), int32_data=[1, 2]), 4),
        (_typed(TensorProto.COMPLEX64, (2,), float_data=[1.0, 0.0, 2.0, 0.0]), 16),
        (_typed(TensorProto.BOOL, (2,), int32_data=[0, 1]), 2),
        (_typed(TensorProto.STRING, (2,), string_data=[b"a", b"long"]), 2),
        (_typed(TensorProto.BFLOAT16, (2,), raw_data=bytes(4)), 4),
    ],
)
def test_each_way_of_storing_is_measured(tensor: TensorProto, size: int) -> None:
    """The bytes that a tensor needs, from its type and shape; one element more is refused."""
    assert check_tensor(tensor) == size
    tensor.dims.append(2)
    if size:
        with pytest.raises(UnusableModel, match="needed"):
            check_tensor(tensor)


def test_shadowing_and_optional_names_are_no_faults() -> None:
    """A branch may read and shadow outer names, inputs and outputs may be left out, an initializer may be an input."""
    branch = h.make_graph(
        [h.make_node("Clip", ["x", "", "w"], ["t"])], "b", [], [h.make_tensor_value_info("t", 1, [2])]
    )
    nodes = [
        h.make_node("Dropout", ["x"], ["d", ""]),
        h.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    inputs = [h.make_tensor_value_info("x", 1, [2]), h.make_tensor_value_info("c", TensorProto.BOOL, [])]
    inputs.append(h.make_tensor_value_info("w", 1, []))
    outputs = [h.make_tensor_value_info("y", 1, [2]), h.make_tensor_value_info("d", 1, [2])]
    stored = [numpy_helper.from_array(np.array(1, np.float32), "w")]
    model = h.make_model(h.make_graph(nodes, "g", inputs, outputs, stored), opset_imports=[h.make_opsetid("", 17)])
    examine(Skimmed(model, {}), ())


def test_nodes_may_stand_in_any_order() -> None:
    """A node before the one that it reads is no cycle."""
    nodes = [h.make_node("Relu", ["a"], ["y"]), h.make_node("Neg", ["x"], ["a"])]
    values = [h.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    model = h.make_model(h.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=[h.make_opsetid("", 17)])
    examine(Skimmed(model, {}), ())


def _doubling(levels: int) -> onnx.ModelProto:
    """Functions that each call the next twice; the last holds one node, each other three."""
    functions = []
    for i in range(levels):
        called = [f"F{i + 1}"] * 2 if i + 1 < levels else []
        names = ["a", *(f"t{k}" for k in range(len(called)))]
        nodes = [h.make_node(f, [names[k]], [names[k + 1]], domain="own") for k, f in enumerate(called)]
        nodes.append(h.make_node("Identity", [names[-1]], ["b"]))
        functions.append(h.make_function("own", f"F{i}", ["a"], ["b"], nodes, [h.make_opsetid("", 17)]))
    values = [h.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    graph = h.make_graph([h.make_node("F0", ["x"], ["y"], domain="own")], "g", values[:1], values[1:])
    return h.make_model(graph, functions=functions, opset_imports=[h.make_opsetid("", 17), h.make_opsetid("own", 1)])


def test_calls_are_counted_as_they_are_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three levels: the call, 3 nodes, twice 3, four times 1: 1 + 3 + 6 + 4 = 14 nodes."""
    monkeypatch.setattr(calls, "MOST_NODES", 14)
    calls.check_calls(_doubling(3))
    monkeypatch.setattr(calls, "MOST_NODES", 13)
    with pytest.raises(UnusableModel, match="has 14 nodes when its functions are written out, 13 are allowed"):
        calls.check_calls(_doubling(3))


def test_what_external_tensors_need_is_held_against_the_memory(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tensors of 400 bytes that share their bytes need 800, though the file has 400."""
    (tmp_path / "w.bin").write_bytes(bytes(400))
    stored = []
    for name in ("v", "w"):
        made = TensorProto(name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        made.dims.append(100)
        made.external_data.add(key="location", value="w.bin")
        stored.append(made)
    values = [h.make_tensor_value_info(name, 1, [100]) for name in "xy"]
    graph = h.make_graph([h.make_node("Sum", ["x", "v", "w"], ["y"])], "g", values[:1], values[1:], stored)
    path = tmp_path / "m.onnx"
    path.write_bytes(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)]).SerializeToString())
    monkeypatch.setattr(memory, "total", lambda: 800)
    assert inspect(path).parameter_bytes == 800
    monkeypatch.setattr(memory, "total", lambda: 799)
    with pytest.raises(CannotRun, match="the tensors need 800 bytes, this machine has 799 bytes of memory"):
        inspect(path)
