"""Initializers with the same type, shape and bytes, merged. Inputs and outputs are left alone."""

from __future__ import annotations

import hashlib

import onnx_ir as ir

from onnxeq.graph.edit import constant
from onnxeq.graph.frame import Options, Outcome, Pass, graphs

__all__ = ["MERGE_DUPLICATES"]


def _mergeable(value: ir.Value) -> ir.TensorProtocol | None:
    tensor = constant(value)
    if tensor is None or value.is_graph_output() or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor


def _merge(graph: ir.Graph) -> int:
    """Merges within one graph: a sub-graph's initializer may be shadowed, so scopes are not mixed."""
    alike: dict[tuple[object, ...], list[ir.Value]] = {}
    for value in graph.initializers.values():
        if (tensor := _mergeable(value)) is not None:
            head = tensor.numpy().reshape(-1)[:64].tobytes()
            key = (tensor.dtype, tuple(int(n) for n in tensor.shape), head)
            alike.setdefault(key, []).append(value)
    changes = 0
    for same in alike.values():
        if len(same) < 2:  # nothing to hash: the first elements of most large weights differ
            continue
        first: dict[bytes, ir.Value] = {}
        for value in same:
            tensor = constant(value)
            if tensor is None or value.name is None:
                continue
            kept = first.setdefault(hashlib.sha256(tensor.tobytes()).digest(), value)
            if kept is not value:
                ir.convenience.replace_all_uses_with(value, kept)
                graph.initializers.pop(value.name)
                changes += 1
    return changes


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    return Outcome(sum(_merge(graph) for graph in graphs(model)))


MERGE_DUPLICATES = Pass(
    name="merge-duplicates",
    does="Merges initializers that have the same type, shape and bytes.",
    run=_run,
)
