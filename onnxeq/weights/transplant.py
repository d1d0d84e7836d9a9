"""The artifact with its native weights put back: every near miss replaced by what its native tensors give."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx
from onnx import numpy_helper

from onnxeq.graph.files import with_data
from onnxeq.graph.tensors import all_graphs
from onnxeq.types import Array
from onnxeq.weights.match import match
from onnxeq.weights.types import Ledger

__all__ = ["transplant", "with_values"]


def transplant(
    artifact: onnx.ModelProto,
    ledger: Ledger,
    native: Mapping[str, Array],
    base_dir: Path | None = None,
    *,
    only: Collection[str] | None = None,
) -> onnx.ModelProto:
    """A copy of a model in which near misses hold what their native tensors give.

    What was folded is derived anew in float64 and rounded once, unless the artifact's own float32 recipe is known,
    which then gives every element but the faulty ones bit for bit.

    Args:
        artifact: The model; it is not changed.
        ledger: Its ledger.
        native: The native tensors, to derive what a ledger read from JSON does not carry.
        base_dir: Where external data lies.
        only: Names of the constants to put back; by default all near misses.

    Raises:
        onnxeq.errors.UnusableModel: External data is missing or outside ``base_dir``.
    """
    misses = [e for e in ledger.near_misses if only is None or e.initializer in only]
    values = {e.initializer: e.expected for e in misses if e.expected is not None}
    if len(values) < len(misses):
        again = match(native, artifact, base_dir).near_misses
        values = {**{e.initializer: e.expected for e in again if e.expected is not None}, **values}
    chosen = {e.initializer for e in misses}
    known = {name: value for name, value in values.items() if name in chosen}
    return with_values(with_data(artifact, base_dir), known)


def with_values(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy of a model in which constants, by name, hold other values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in all_graphs(copy.graph):
        for tensor in graph.initializer:
            _put(tensor, tensor.name, values)
        for node in graph.node:
            if node.op_type == "Constant" and node.output:
                for attribute in node.attribute:
                    if attribute.HasField("t"):
                        _put(attribute.t, node.output[0], values)
    return copy


def _put(tensor: onnx.TensorProto, name: str, values: Mapping[str, Array]) -> None:
    if (value := values.get(name)) is not None:
        held = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(value, held))
