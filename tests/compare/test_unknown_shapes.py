"""What the reading does where a file does not tell how many axes a tensor has, or how long they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from .conftest import Net, Read

_MORE = {
    "Slice": [[0], [1], [1]], "Squeeze": [[0]], "Unsqueeze": [[0]], "Gather": [0], "Pad": [[0, 0, 1, 1], np.float32(0)],
    "Reshape": [[-1, 2]], "Concat": [np.ones((2, 3), np.float32)], "MatMul": [np.ones((3, 2), np.float32)],
    "Add": [np.ones(3, np.float32)], "PRelu": [np.ones(3, np.float32)], "Gemm": [np.ones((3, 2), np.float32)],
    "Conv": [np.ones((2, 3, 1, 1), np.float32)], "Expand": [[2, 3]], "Tile": [[1, 2]],
}  # fmt: skip
"""Operator -> what it reads besides the tensor."""

_OPERATORS = [
    *_MORE, "Softmax", "LogSoftmax", "ReduceMean", "Transpose", "Split", "Flatten", "Relu", "GlobalAveragePool",
    "Identity",
]  # fmt: skip


def _behind(net: Net, x: str, op_type: str) -> onnx.ModelProto:
    more = []
    for value in _MORE.get(op_type, []):
        held = np.asarray(value)
        more.append(net.store(f"more{len(more)}", held.astype(np.int64) if held.dtype.kind == "i" else held))
    attributes = {"axis": 0} if op_type == "Concat" else {}
    model = net.model(net.node(op_type, [x, *more], **attributes))
    model.opset_import.append(helper.make_opsetid("of.somebody", 1))
    return model


@pytest.mark.parametrize("op_type", _OPERATORS)
def test_a_tensor_of_unknown_rank_stops_no_reading(op_type: str, read: Read) -> None:
    """Behind an operator that nobody knows the shape is unknown: what follows is read, as a layer of its own kind where
    its meaning depends on the shape.
    """
    net = Net(1, 4, 6, opset=13)
    net.nodes.append(helper.make_node("Unheard", ["x"], ["y"], domain="of.somebody"))
    kinds = [layer.kind for layer in read(_behind(net, "y", op_type)).layers]
    assert kinds[:2] == ["input", "of.somebody::Unheard"]
    if op_type in ("Slice", "Squeeze", "Softmax", "ReduceMean", "Transpose", "Gather", "Split", "Concat"):
        assert kinds[2:] == [op_type]


@pytest.mark.parametrize("op_type", _OPERATORS)
def test_an_axis_of_unknown_length_stops_no_reading(op_type: str, read: Read) -> None:
    """How many elements are not zero is known when the file runs: what follows is read all the same."""
    net = Net(3, 4, opset=13)
    found = net.node("Transpose", [net.node("Cast", [net.node("NonZero", ["x"])], to=1)])
    kinds = [layer.kind for layer in read(_behind(net, found, op_type)).layers]
    assert kinds[:2] == ["input", "NonZero"]
