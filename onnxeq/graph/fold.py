"""Constant folding in float64, rounded once, independent of every runtime.

1. A node folds when all its inputs are constants, or come from nodes that fold with it, and its output is
   read by other nodes only. A whole region of such nodes is evaluated in float64 by the referee, and what
   leaves it is rounded once to its declared type.
2. An operator that is discontinuous in a float (Floor, a comparison, Cast to an integer) starts a new
   region: its input is rounded to its type first, as every runtime does, so no index can be off by one.
3. Never folded: random operators, control flow, operators of other domains, quantisation (its structure
   is what it is for), recurrent operators, values that are no tensors, results that the type cannot hold.
4. A value is at most :data:`LARGEST_BYTES`, unless it is no larger than the constants it is made of. The
   size must be known beforehand, so that nothing huge is computed to be thrown away.
5. ``Shape`` of what has static sizes is a constant, also when a Gather or Slice picks static sizes only
   out of a shape with dynamic ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from onnxeq.errors import CannotRun
from onnxeq.graph.edit import (
    array,
    attribute,
    constant,
    is_standard,
    names,
    new_constant,
    normal_opset,
    prune,
    static_shape,
)
from onnxeq.graph.frame import ANY, Options, Outcome, Pass, graphs
from onnxeq.types import Array

__all__ = ["FOLD_CONSTANTS", "LARGEST_BYTES"]

LARGEST_BYTES = 2**20
"""Attention masks and position grids of vision models are at most 0.6 MiB; weights do not grow."""

_NEVER = frozenset(
    {"Bernoulli", "Constant", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "GRU", "If",
     "LSTM", "Loop", "Multinomial", "QuantizeLinear", "RNN", "RandomNormal", "RandomNormalLike",
     "RandomUniform", "RandomUniformLike", "Scan", "BatchNormalization", "ImageDecoder",
     "StringNormalizer", "SequenceMap"}
)  # fmt: skip
_DISCONTINUOUS = frozenset(
    {"ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf",
     "IsNaN", "Less", "LessOrEqual", "Mod", "NonMaxSuppression", "Not", "Range", "Resize", "Round",
     "Sign", "TopK", "Trunc", "Unique", "Upsample"}
)  # fmt: skip
_FLOATING = frozenset({ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})
_WHOLE = frozenset(
    {ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64,
     ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64}
)  # fmt: skip


@dataclass
class _Region:
    """Nodes of one graph that are evaluated together."""

    nodes: dict[ir.Node, None] = field(default_factory=dict)
    sources: dict[str, ir.Value] = field(default_factory=dict)


def _bytes(value: ir.Value) -> int | None:
    shape, dtype = static_shape(value), value.dtype
    if shape is None or dtype not in _FLOATING | _WHOLE:
        return None
    return math.prod(shape) * int(dtype.itemsize)


def _splits(node: ir.Node) -> bool:
    """Rule 2: whether the node turns a float difference into a jump."""
    if node.op_type == "Cast":
        return attribute(node, "to") in [d.value for d in _WHOLE]
    return node.op_type in _DISCONTINUOUS


def _joins(node: ir.Node, region: _Region, opset: int) -> bool:
    """Whether the node can be evaluated with the region (rules 1 to 4)."""
    from onnxeq.referee import ops  # noqa: F401  (registers the implementations; loaded when folding only)
    from onnxeq.referee.registry import find

    if node.domain not in ("", "ai.onnx") or node.op_type in _NEVER or find("", node.op_type, opset) is None:
        return False
    if any(a.is_ref() for a in node.attributes.values()) or not node.inputs:
        return False
    total = 0
    for value in node.inputs:
        if value is None:
            continue
        inside = value.producer() in region.nodes
        if not inside and constant(value) is None:
            return False
        if inside and value.dtype in _FLOATING and _splits(node):
            return False
        size = _bytes(value)
        if size is None:
            return False
        total += size
    for value in node.outputs:
        size = _bytes(value)
        if value.is_graph_output() or size is None or size > max(LARGEST_BYTES, total):
            return False
    return True


def _region(graph: ir.Graph, opset: int) -> _Region:
    region = _Region()
    for node in graph:
        if _joins(node, region, opset):
            region.nodes[node] = None
            for value in node.inputs:
                if value is not None and value.producer() not in region.nodes and value.name:
                    region.sources[value.name] = value
    return region


def _leaving(region: _Region) -> list[ir.Value]:
    """What is read outside the region."""
    made = [v for node in region.nodes for v in node.outputs]
    return [v for v in made if any(use.node not in region.nodes for use in v.uses())]


def _move(graph: ir.Graph, taken: set[str]) -> int:
    """Transposes of constants, in the stored type: moving elements needs no arithmetic."""
    changes = 0
    for node in list(graph):
        held = array(node.inputs[0]) if is_standard(node, "Transpose") else None
        if held is None or node.outputs[0].is_graph_output():
            continue
        moved = np.ascontiguousarray(held.transpose(attribute(node, "perm")))
        fresh = new_constant(graph, None, f"{node.outputs[0].name}.folded", moved, taken)
        ir.convenience.replace_all_uses_with(node.outputs[0], fresh)
        graph.remove(node, safe=True)
        changes += 1
    return changes


def _evaluate(region: _Region, wanted: list[ir.Value], opset: int) -> dict[str, Array]:
    """The region's values in float64, by the referee."""
    from onnxeq.referee.executor import Executor  # heavy, and only folding needs it

    tensors = []
    for name, value in region.sources.items():
        tensor = constant(value)
        if tensor is not None:
            proto = ir.serde.serialize_tensor(tensor)
            proto.name = name
            tensors.append(proto)
    outputs = [
        onnx.helper.make_tensor_value_info(str(v.name), v.dtype.value, static_shape(v))
        for v in wanted
        if v.dtype is not None
    ]
    nodes = [ir.serde.serialize_node(node) for node in region.nodes]
    graph = onnx.helper.make_graph(nodes, "constants", [], outputs, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return {name: np.asarray(value) for name, value in Executor(model).run({}).items()}


def _rounded(exact: Array, value: ir.Value) -> Array | None:
    """``exact`` in the declared type, or ``None`` when that cannot hold it or the shape is another."""
    if value.dtype is None or exact.shape != static_shape(value):
        return None
    with np.errstate(all="ignore"):
        result = exact.astype(value.dtype.numpy())
    if value.dtype in _FLOATING and not np.array_equal(np.isfinite(result), np.isfinite(exact)):
        return None
    return result


def _fold(graph: ir.Graph, opset: int, taken: set[str]) -> tuple[int, str]:
    """Folds one region; returns how many values became constants, and a note."""
    region = _region(graph, opset)
    wanted = _leaving(region)
    if not wanted:
        return 0, ""
    try:
        results = _evaluate(region, wanted, opset)
    except CannotRun as error:
        return 0, f"not folded: {error.message}"
    folded = 0
    for value in wanted:
        data = _rounded(results[str(value.name)], value)
        if data is None:
            continue
        fresh = new_constant(graph, None, f"{value.name}.folded", data, taken)
        # Only outside readers: what is not read any more inside dies below.
        for use in list(value.uses()):
            if use.node not in region.nodes:
                use.node.replace_input_with(use.idx, fresh)
        folded += 1
    if folded:
        prune(list(reversed(region.nodes)))
    return folded, ""


def _picked(reader: ir.Node, sizes: list[int | None], opset: int) -> Array | None:
    """Rule 5: the sizes that a Gather or Slice takes out of a shape, if all are static."""
    indices: list[int] = list(range(len(sizes)))
    if is_standard(reader, "Gather"):
        held = array(reader.inputs[1])
        if held is None or attribute(reader, "axis", 0) != 0 or held.ndim > 1:
            return None
        if any(not -len(sizes) <= int(i) < len(sizes) for i in held.reshape(-1)):
            return None
        chosen = [sizes[int(i)] for i in held.reshape(-1)]
        return None if None in chosen else np.array(chosen, dtype=np.int64).reshape(held.shape)
    if not is_standard(reader, "Slice") or opset < 10:
        return None
    parts = [array(v) for v in reader.inputs[1:]]
    if any(p is None or p.size != 1 for p in parts) or len(parts) < 2:
        return None
    start, stop, *rest = (int(p.reshape(())) for p in parts if p is not None)
    if rest and rest[0] not in (0, -1):
        return None
    step = rest[1] if len(rest) > 1 else 1
    chosen = [sizes[i] for i in indices[start:stop:step]] if step > 0 else [None]
    return None if None in chosen else np.array(chosen, dtype=np.int64)


def _shapes(graph: ir.Graph, opset: int, taken: set[str]) -> int:
    changes = 0
    for node in list(graph):
        if not is_standard(node, "Shape") or node.inputs[0] is None or node.inputs[0].shape is None:
            continue
        dims: list[int | None] = [d if isinstance(d, int) else None for d in node.inputs[0].shape]
        sizes = dims[slice(attribute(node, "start", 0), attribute(node, "end"))]
        output = node.outputs[0]
        readers: list[tuple[ir.Value, Array]] = []
        if None not in sizes:
            readers = [(output, np.array(sizes, dtype=np.int64))]
        else:
            for use in output.uses():
                picked = _picked(use.node, sizes, opset) if use.idx == 0 else None
                if picked is not None:
                    readers.append((use.node.outputs[0], picked))
        for value, data in readers:
            if value.uses() and not value.is_graph_output() and value.graph is graph:
                fresh = new_constant(graph, None, f"{value.name}.folded", data, taken)
                ir.convenience.replace_all_uses_with(value, fresh)
                changes += 1
    return changes


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    opset, taken, changes, notes = normal_opset(model), names(model), 0, []
    for graph in graphs(model):
        changes += _shapes(graph, opset, taken) + _move(graph, taken)
        folded, note = _fold(graph, opset, taken)
        changes += folded
        notes += [note] if note else []
    return Outcome(changes, "; ".join(notes))


FOLD_CONSTANTS = Pass(
    name="fold-constants",
    does="Computes what depends on constants and static shapes only, in float64, rounded once.",
    run=_run,
    removes=ANY,
)
