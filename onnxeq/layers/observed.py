"""Which values of the graph that a runtime runs are values of the model that it was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from onnxeq.types import Array

__all__ = ["Observed", "observed"]


@dataclass(frozen=True)
class Observed:
    """A value of the graph that runs.

    Attributes:
        name: Its name there.
        value: Its name in the model.
    """

    name: str
    value: str

    def plain(self, array: Array) -> Array:
        """The value as the model has it."""
        return array


def observed(model: onnx.ModelProto, ran: onnx.ModelProto) -> Iterator[Observed]:
    """The values that both have, in the order of the graph that runs; constants and optional values are left out."""
    names = {name for node in model.graph.node if node.op_type != "Constant" for name in node.output if name}
    for node in ran.graph.node:
        if "Optional" not in node.op_type:
            for name in node.output:
                if name in names:
                    yield Observed(name, name)
