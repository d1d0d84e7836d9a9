"""The nodes of a graph that may answer differently when they are asked again: found by reading, not by running.

1. *Random* operators draw numbers in each run, whatever their ``seed`` says: it fixes the first run of a session only.
2. *Dropout* with ``training_mode`` true and a ratio above 0 drops at random.
3. *BatchNormalization* in training mode normalises by the statistics of the batch that it is given, so that an item's
   result depends on what else is in its batch.

A node in a sub-graph or a function is named by the node of the main graph that runs it and its own name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx

from onnxeq.referee.plan import node_label
from onnxeq.types import Array

__all__ = ["Unsteady", "Why", "find_unsteady", "small_constants"]


class Why(enum.Enum):
    """Why a node is unsteady."""

    RANDOM = "draws random numbers in each run"
    DROPOUT = "was exported in training mode: it drops elements at random"
    STATISTICS = "was exported in training mode: it normalises by the statistics of whatever batch it is given"


@dataclass(frozen=True)
class Unsteady:
    """A node that may answer differently.

    Attributes:
        node: Its label.
        op_type: Its operator.
        value: Its first output.
        why: Why.
        runs_in: The node of the main graph that runs it: itself, or the one with its sub-graph or function.
    """

    node: str
    op_type: str
    value: str
    why: Why
    runs_in: str


_RANDOM = frozenset("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial".split())
_STANDARD = ("", "ai.onnx")
_KNOWN_DOMAINS = (*_STANDARD, "com.microsoft")
_DROPOUT_TAKES_A_MODE = 12
_NORM_HAS_A_MODE = 14

_Lookup: TypeAlias = Callable[[str], Array | None]


def find_unsteady(model: onnx.ModelProto) -> tuple[Unsteady, ...]:
    """Every unsteady node, in the order of the main graph."""
    opset = max((int(o.version) for o in model.opset_import if o.domain in _STANDARD), default=1)
    functions = {(f.domain, f.name): f for f in model.functions}
    return tuple(_in_nodes(model.graph.node, small_constants(model.graph), opset, functions, ""))


def small_constants(graph: onnx.GraphProto | onnx.FunctionProto) -> dict[str, Array]:
    """The stored values of a graph that are small enough to say a mode, a shape or an axis."""
    stored = [(t.name, t) for t in getattr(graph, "initializer", ())]
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _STANDARD:
            stored += [(node.output[0], a.t) for a in node.attribute if a.name == "value"]
    found = {
        name: onnx.numpy_helper.to_array(tensor)
        for name, tensor in stored
        if np.prod(tensor.dims) <= _SMALL and tensor.data_location != onnx.TensorProto.EXTERNAL
    }
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _STANDARD and node.output[0] not in found:
            plain = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            for key in ("value_int", "value_ints", "value_float", "value_floats"):
                if key in plain:
                    found[node.output[0]] = np.asarray(plain[key])
    return found


_SMALL = 64


def _in_nodes(
    nodes: Iterable[onnx.NodeProto],
    constants: dict[str, Array],
    opset: int,
    functions: dict[tuple[str, str], onnx.FunctionProto],
    outer: str,
    within: Sequence[tuple[str, str]] = (),
) -> Iterator[Unsteady]:
    for node in nodes:
        label = node_label(node)
        runs_in = outer or label
        why = _why(node, opset, constants.get)
        if why is not None:
            value = next((name for name in node.output if name), "")
            yield Unsteady(label, node.op_type, value, why, runs_in)
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _in_nodes(graph.node, constants | small_constants(graph), opset, functions, runs_in, within)
        key = (node.domain, node.op_type)
        if key in functions and key not in within:
            function = functions[key]
            version = max((int(o.version) for o in function.opset_import if o.domain in _STANDARD), default=opset)
            yield from _in_nodes(function.node, small_constants(function), version, functions, runs_in, (*within, key))


def _why(node: onnx.NodeProto, opset: int, constant: _Lookup) -> Why | None:
    if node.domain not in _KNOWN_DOMAINS:
        return None
    if node.op_type in _RANDOM:
        return Why.RANDOM
    if node.domain not in _STANDARD:
        return None
    if node.op_type == "Dropout" and opset >= _DROPOUT_TAKES_A_MODE:
        ratio, mode = (constant(name) if name else None for name in [*node.input[1:3], "", ""][:2])
        on = mode is not None and bool(np.any(mode))
        return Why.DROPOUT if on and (ratio is None or bool(np.any(ratio != 0))) else None
    if node.op_type == "BatchNormalization":
        mode_on = any(a.name == "training_mode" and a.i for a in node.attribute)
        before = opset < _NORM_HAS_A_MODE and sum(bool(name) for name in node.output) > 1
        return Why.STATISTICS if mode_on or before else None
    return None
