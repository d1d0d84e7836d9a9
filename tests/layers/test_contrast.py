"""What two graphs have differently at one layer, in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxeq.layers.judging.contrast import Part, contrasts
from onnxeq.types import CauseKind


def net(body: str, weight: np.ndarray | None = None) -> onnx.ModelProto:
    model = parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2,3] x) => (float[2,4] y) {{
            {body}
        }}""")
    held = np.arange(12, dtype=np.float32).reshape(3, 4) if weight is None else weight
    model.graph.initializer.append(numpy_helper.from_array(held, "w"))
    return model


def told(mine: onnx.ModelProto, theirs: onnx.ModelProto, value: str = "y") -> list[tuple[CauseKind, str, str]]:
    known = {"x", "m"} - {value}
    rows = contrasts(Part(mine, Path(), value, known), Part(theirs, Path(), value, known))
    return [(row.kind, row.node or row.op_type, row.words) for row in rows]


CHAIN = "[mul] m = MatMul(x, w) [act] y = LeakyRelu<alpha: float = 0.1>(m)"


def test_equal_layers_have_no_contrast() -> None:
    """The same nodes with the same constants, a default written out or not."""
    assert told(net(CHAIN), net(CHAIN)) == []
    short, long = ("[act] y = LeakyRelu(m)", "[act] y = LeakyRelu<alpha: float = 0.01>(m)")
    assert told(net(f"m = MatMul(x, w) {short}"), net(f"m = MatMul(x, w) {long}")) == []


def test_an_attribute() -> None:
    """Both values, the judged graph's first."""
    (row,) = told(net(CHAIN), net(CHAIN.replace("0.1", "0.2")))
    assert row == (CauseKind.GRAPH, "act", "attribute alpha is 0.1, the reference has 0.2")


def test_a_weight() -> None:
    """The initializer, how many elements, and the factor of the one row that is wrong."""
    other = np.arange(12, dtype=np.float32).reshape(3, 4)
    other[1] *= 2
    ((kind, node, words),) = told(net(CHAIN), net(CHAIN, other), "m")
    assert (kind, node) == (CauseKind.WEIGHTS, "mul")
    assert words.startswith("B 'w' differs from the reference's at 4 of 12 elements by up to 7")
    assert words.endswith("0.5 times it in index 1 of axis 0")


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        ("m = MatMul(x, w) [act] y = Relu(m)", "act (Relu) where the source has act (LeakyRelu)"),
        (
            "m = MatMul(x, w) [n] z = Neg(m) [act] y = LeakyRelu<alpha: float = 0.1>(z)",
            "the source has no n (Neg) here",
        ),
    ],
)
def test_other_nodes(mine: str, words: str) -> None:
    """An operator in another's place; a node that only one side has."""
    ((kind, _, said),) = told(net(mine), net(CHAIN))
    assert kind is CauseKind.GRAPH
    assert said == words
