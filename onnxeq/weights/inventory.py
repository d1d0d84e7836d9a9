"""What an ONNX model stores: every constant, who reads it, and whether that reaches an output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from onnxeq.graph.files import with_data
from onnxeq.types import Array

__all__ = ["LINEAR", "Inventory", "Reader", "Stored", "inventory", "transparent"]

LINEAR = {"Conv": 1, "ConvTranspose": 1, "FusedConv": 1, "NhwcConv": 1, "Gemm": 1, "FusedGemm": 1, "MatMul": 1,
          "FusedMatMul": 1, "ConvInteger": 1, "MatMulInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
"""Operators that multiply by a weight, and where they take it."""

transparent = frozenset(
    {"Identity", "Cast", "CastLike", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Slice", "Split",
     "DequantizeLinear", "QuantizeLinear"}
)  # fmt: skip
"""Operators that hand a constant on to the node that uses it."""


@dataclass(frozen=True)
class Reader:
    """A node that reads a constant.

    Attributes:
        node: Its name, or its operator and number where it has none.
        op_type: Its operator.
        index: Its number, in the order of the file.
        slot: At which input.
        live: Whether it reaches an output.
    """

    node: str
    op_type: str
    index: int
    slot: int
    live: bool


@dataclass(frozen=True)
class Stored:
    """A constant of the model.

    Attributes:
        name: The value's name.
        tensor: What is stored.
        readers: The nodes that read it.
        user: The node that uses it, behind those that only hand it on; ``None`` when nobody reads it.
        is_output: Whether it is itself an output of the graph.
        blocked: Whether its user takes it in a blocked layout of its own (onnxruntime's NCHWc operators), padded and
            interleaved: nothing can be said of its elements' places.
    """

    name: str
    tensor: onnx.TensorProto
    readers: tuple[Reader, ...]
    user: Reader | None
    is_output: bool
    blocked: bool = False

    @cached_property
    def array(self) -> Array:
        """Its value."""
        if self.tensor.data_type == onnx.TensorProto.FLOAT and self.tensor.HasField("raw_data"):
            return np.frombuffer(self.tensor.raw_data, "<f4").reshape(self.shape)  # to_array copies once more
        return numpy_helper.to_array(self.tensor)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.tensor.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.dims)

    @property
    def live(self) -> bool:
        """Whether some reader reaches an output."""
        return self.is_output or any(r.live for r in self.readers)


@dataclass(frozen=True)
class Inventory:
    """All constants, by name and in order, and the nodes of all graphs."""

    stored: Mapping[str, Stored]
    nodes: tuple[onnx.NodeProto, ...]
    readers: Mapping[str, tuple[tuple[int, int], ...]]

    @cached_property
    def makers(self) -> Mapping[str, int]:
        """Which node computes a value."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.output if name}

    def label(self, index: int) -> str:
        """A node's name, or its operator and number."""
        node = self.nodes[index]
        return node.name or f"{node.op_type} {index}"

    def behind(self, index: int) -> tuple[int, ...]:
        """The nodes that read a node's first output."""
        return tuple(i for i, _ in self.readers.get(self.nodes[index].output[0], ()))


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each after what it reads: runtimes take them in any order."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[n] for n in _needs(node) if n in makers} for node in graph.node]
    if all(source < i for i, sources in enumerate(needs) for source in sources):
        return list(graph.node)
    try:
        order = list(TopologicalSorter(dict(enumerate(needs))).static_order())
    except CycleError:  # nothing will run it, and its weights can be looked at all the same
        order = list(range(len(graph.node)))
    return [graph.node[i] for i in order]


def _walk(graph: onnx.GraphProto) -> Iterator[tuple[onnx.GraphProto, onnx.NodeProto]]:
    for node in _in_order(graph):
        yield graph, node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _walk(inner)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node; numbers and lists are small, and are not weights."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    return next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _needs(node: onnx.NodeProto) -> set[str]:
    """What a node reads, sub-graphs included."""
    found = {name for name in node.input if name}
    for graph in _inner_graphs(node):
        found.update(o.name for o in graph.output)
        for inner in graph.node:
            found |= _needs(inner)
    return found


def _live(model: onnx.ModelProto) -> set[str]:
    """Values that an output of the graph depends on; a sub-graph counts with its node."""
    wanted = {o.name for o in model.graph.output}
    for node in reversed(_in_order(model.graph)):
        if any(name in wanted for name in node.output):
            wanted |= _needs(node)
            for _, inner in (pair for graph in _inner_graphs(node) for pair in _walk(graph)):
                wanted.update(inner.output)
    return wanted


def inventory(model: onnx.ModelProto, base_dir: Path | None = None) -> Inventory:
    """Every constant of a model: initializers of all graphs and the tensors of Constant nodes.

    Raises:
        onnxeq.errors.UnusableModel: External data is missing or outside ``base_dir``.
    """
    model = with_data(model, base_dir)
    nodes = tuple(node for _, node in _walk(model.graph)) + tuple(n for f in model.functions for n in f.node)
    tensors: dict[str, onnx.TensorProto] = {}
    outputs = {o.name for o in model.graph.output}
    graphs = [model.graph, *(g for _, node in _walk(model.graph) for g in _inner_graphs(node))]
    for graph in graphs:
        for tensor in graph.initializer:
            tensors.setdefault(tensor.name, tensor)
    for node in nodes:
        if (held := _constant(node)) is not None:
            tensors.setdefault(node.output[0], held)
    readers: dict[str, list[tuple[int, int]]] = {}
    for index, node in enumerate(nodes):
        for slot, name in enumerate(node.input):
            if name:
                readers.setdefault(name, []).append((index, slot))
    live = _live(model) | {name for f in model.functions for n in f.node for name in n.output}
    frozen = {name: tuple(rows) for name, rows in readers.items()}
    whole = Inventory({}, nodes, frozen)
    stored = {name: _stored(name, tensor, whole, live, name in outputs) for name, tensor in tensors.items()
              if tensor.data_type not in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED)}  # fmt: skip
    return Inventory(stored, nodes, frozen)


def _stored(name: str, tensor: onnx.TensorProto, whole: Inventory, live: set[str], is_output: bool) -> Stored:
    readers = tuple(_reader(whole, i, s, live) for i, s in whole.readers.get(name, ()))
    user = _user(whole, name, live)
    blocked = any(whole.nodes[r.index].domain == "com.microsoft.nchwc" for r in (*readers, *([user] if user else ())))
    return Stored(name, tensor, readers, user, is_output, blocked)


def _reader(whole: Inventory, index: int, slot: int, live: set[str]) -> Reader:
    node = whole.nodes[index]
    return Reader(whole.label(index), node.op_type, index, slot, any(name in live for name in node.output))


def _user(whole: Inventory, name: str, live: set[str]) -> Reader | None:
    """The first node that does more than hand the constant on."""
    found: Reader | None = None
    for _ in range(8):
        rows = whole.readers.get(name, ())
        if not rows:
            break
        index, slot = rows[0]
        found = _reader(whole, index, slot, live)
        if whole.nodes[index].op_type not in transparent or slot != 0 or not whole.nodes[index].output:
            break
        name = whole.nodes[index].output[0]
    return found
