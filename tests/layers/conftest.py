"""What the tests of aligned graphs share: a walk over two models, and a model under other names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxeq.layers.program import take_apart
from onnxeq.layers.walking.alignment import Alignment
from onnxeq.layers.walking.expansion import expanded
from onnxeq.layers.walking.walk import align

Walk = Callable[[onnx.ModelProto, onnx.ModelProto], Alignment]


@pytest.fixture(scope="session")
def walk() -> Walk:
    """Holds a model against a reference on one random feed; inputs and outputs correspond by position."""

    def run(artifact: onnx.ModelProto, reference: onnx.ModelProto) -> Alignment:
        mine, theirs = take_apart(artifact), take_apart(reference)
        rng = np.random.default_rng(0)
        feed = {}
        for value in reference.graph.input:
            shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
            feed[value.name] = rng.standard_normal(shape).astype(np.float32)
        theirs = expanded(theirs, mine, theirs.run(feed))
        inputs = dict(zip(mine.inputs, feed.values(), strict=True))
        return align(
            mine, theirs, theirs.run(feed), mine.entries_of(inputs), dict(zip(mine.inputs, theirs.inputs, strict=True)),
            dict(zip(mine.outputs, theirs.outputs, strict=True)),
        )  # fmt: skip

    return run


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with other names for its nodes, inner values and constants: nothing tells what is what."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = {v.name for v in (*copy.graph.input, *copy.graph.output)}
    names: dict[str, str] = {}

    def new(name: str) -> str:
        return name if name in kept or not name else names.setdefault(name, f"v{len(names)}")

    for index, node in enumerate(copy.graph.node):
        node.name = f"n{index}"
        node.input[:] = [new(n) for n in node.input]
        node.output[:] = [new(n) for n in node.output]
    for tensor in copy.graph.initializer:
        tensor.name = new(tensor.name)
    return copy
