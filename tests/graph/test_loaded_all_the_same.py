"""Files that break the letter of the specification and that every runtime loads."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

import onnxeq
from onnxeq.types import Verdict


def shuffled(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


def without_output_shape(model: onnx.ModelProto) -> None:
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


@pytest.mark.parametrize("spoil", [shuffled, without_output_shape])
def test_the_normaliser_takes_what_runtimes_take(
    conv_net: Callable[..., onnx.ModelProto], spoil: Callable[[onnx.ModelProto], None]
) -> None:
    """Nodes out of order and outputs without a shape are no reason to give no verdict."""
    model = conv_net()
    spoil(model)
    assert onnxeq.check(conv_net(), model).verdict is Verdict.EQUIVALENT
