"""A graph taken apart: its nodes in order, who makes and who reads each value, and each node computed on its own.

Everything here runs in float64 through the referee. A node is computed for whatever inputs it is given, which is
what makes a *local* error: the node's own, with nothing passed on to it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner

from onnxeq.errors import CannotRun
from onnxeq.graph.inspect import load
from onnxeq.referee import Executor
from onnxeq.referee.constants import sparse_array, tensor_array
from onnxeq.referee.elements import lift
from onnxeq.referee.frames import Entry, Kind, constant_entry
from onnxeq.referee.plan import Library, captured_by, node_label, opset_map, plan_graph
from onnxeq.types import Array, Feed

__all__ = ["Program", "native_name", "open_program", "reads_of", "take_apart"]


@dataclass(frozen=True)
class Program:
    """A model whose nodes can be computed one by one.

    Attributes:
        model: The model, its functions inlined.
        nodes: Those that contribute to the outputs, each after what it reads.
        inputs: Names of what a caller must give.
        outputs: Names of what it gives.
        makers: Value -> position of the node that makes it.
        readers: Value -> positions of the nodes that read it, sub-graphs included.
        constant: Values that follow from stored constants alone.
        stored: Initializers, and outputs of Constant nodes, by name.
        base_dir: The folder of the model's file.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    makers: Mapping[str, int]
    readers: Mapping[str, tuple[int, ...]]
    constant: frozenset[str]
    stored: Mapping[str, Entry]
    base_dir: Path | None = None
    _executors: dict[int, Executor] = field(default_factory=dict, repr=False)

    def reads(self, position: int) -> list[str]:
        """The values that a node reads, those inside its sub-graphs included."""
        return reads_of(self.nodes[position])

    def operands(self, position: int) -> list[str]:
        """What a node reads that is no constant."""
        return [name for name in self.reads(position) if name not in self.constant]

    @functools.cached_property
    def opsets(self) -> Mapping[str, int]:
        """Version by domain."""
        return opset_map(self.model.opset_import)

    def compute(self, position: int, values: Mapping[str, Entry]) -> dict[str, Entry]:
        """The outputs of one node for these inputs; ``values`` may hold more than it reads.

        Raises:
            onnxeq.errors.CannotRun: It fails on them.
            onnxeq.errors.UnsupportedOperator: The referee lacks the operator.
        """
        if position not in self._executors:
            self._executors[position] = self.executor([self.nodes[position]])
        names = [name for name in self.nodes[position].output if name]
        known = {name: values[name] for name in self.reads(position)}
        return self._executors[position].run_entries({}, outputs=names, known=known)

    def executor(self, nodes: Iterable[onnx.NodeProto]) -> Executor:
        """An executor of these nodes alone, in which everything that they read is known."""
        model = onnx.ModelProto(ir_version=self.model.ir_version)
        model.opset_import.extend(self.model.opset_import)
        model.graph.node.extend(nodes)
        made = [name for node in model.graph.node for name in node.output if name]
        read = dict.fromkeys(name for node in model.graph.node for name in reads_of(node))
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
        model.graph.input.extend(onnx.ValueInfoProto(name=name) for name in read if name not in made)
        return _Bare(model)

    def run(self, feed: Feed) -> dict[str, Entry]:
        """Every value, by name."""
        values = dict(self.stored) | self.entries_of(feed)
        for position in range(len(self.nodes)):
            values |= self.compute(position, values)
        return values

    def entries_of(self, feed: Feed) -> dict[str, Entry]:
        """A feed as the values of the graph's inputs."""
        kinds = {i.name: i.type.tensor_type.elem_type for i in self.model.graph.input}
        return {
            name: Entry(lift(np.asarray(value)), _kind_name(kinds.get(name, 1)), Kind.DATA)
            for name, value in feed.items()
        }

    def ancestors(self, name: str, stop: Iterable[str] = ()) -> list[int]:
        """Positions of the nodes that ``name`` is made by, in order, not looking behind the values in ``stop``."""
        barrier = set(stop)
        found: set[int] = set()
        pending = [name]
        while pending:
            position = self.makers.get(pending.pop())
            if position is not None and position not in found:
                found.add(position)
                pending += [n for n in self.reads(position) if n not in barrier]
        return sorted(found)

    def roots(self, name: str) -> list[str]:
        """The stored constants that a constant value is made of; itself if it is one."""
        if name in self.stored:
            return [name]
        found = [n for p in self.ancestors(name) for n in self.reads(p) if n in self.stored]
        return list(dict.fromkeys(found))


class _Bare(Executor):
    """Everything comes in as known values, so there is nothing to check a feed against."""

    def _check_feed(self, feed: Feed) -> None:
        del feed


def open_program(path: Path) -> Program:
    """Takes a model file apart.

    Raises:
        onnxeq.errors.UnusableModel: The graph has a cycle, or a name is defined twice or never.
    """
    return take_apart(load(path), path.parent)


def take_apart(model: onnx.ModelProto, base_dir: Path | None = None) -> Program:
    """A model in memory taken apart; see :func:`open_program`."""
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model, convert_version=True)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise CannotRun(f"the model's functions cannot be inlined: {reason}") from error
    library = Library({}, base_dir)
    plan = plan_graph(model.graph, opset_map(model.opset_import), library)
    stored = {name: constant_entry(_raw(tensor, base_dir)) for name, tensor in plan.initializers.items()}
    nodes: list[onnx.NodeProto] = []
    for step in plan.steps:
        nodes.append(step.node)
        if step.node.op_type == "Constant" and step.node.domain in ("", "ai.onnx"):
            nodes.pop()
            stored |= _value_of(step.node, model)
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    readers: dict[str, list[int]] = {}
    constant = set(stored)
    for i, node in enumerate(nodes):
        reads = reads_of(node)
        for name in reads:
            readers.setdefault(name, []).append(i)
        if reads and all(name in constant for name in reads) and node.op_type not in _RANDOM:
            constant.update(name for name in node.output if name)
    given = tuple(i.name for i in model.graph.input if i.name not in stored)
    outputs = tuple(o.name for o in model.graph.output)
    return Program(
        model, tuple(nodes), given, outputs, makers, {k: tuple(v) for k, v in readers.items()}, frozenset(constant),
        stored, base_dir,
    )  # fmt: skip


_RANDOM = frozenset("Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split())


def _raw(tensor: onnx.TensorProto | onnx.SparseTensorProto, base_dir: Path | None) -> Array:
    if isinstance(tensor, onnx.SparseTensorProto):
        return sparse_array(tensor, base_dir)
    return tensor_array(tensor, base_dir)


def _value_of(node: onnx.NodeProto, model: onnx.ModelProto) -> dict[str, Entry]:
    alone = onnx.ModelProto(ir_version=model.ir_version)
    alone.opset_import.extend(model.opset_import)
    alone.graph.node.append(node)
    alone.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    return Executor(alone).run_entries({})


def reads_of(node: onnx.NodeProto) -> list[str]:
    """What a node reads, its sub-graphs included."""
    return list(dict.fromkeys([*(n for n in node.input if n), *sorted(captured_by(node))]))


def _kind_name(elem_type: int) -> str:
    from onnxeq.referee.elements import element_name

    return element_name(elem_type) if elem_type else "float32"


def native_name(node: onnx.NodeProto) -> str:
    """The framework's name for what a node comes from, where the exporter has noted it."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    try:
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
    except (SyntaxError, ValueError):
        return ""
    return next((str(scope) for scope in reversed(scopes) if scope), "") if isinstance(scopes, list) else ""


def label(node: onnx.NodeProto) -> str:
    """How a report names a node."""
    return node_label(node)
