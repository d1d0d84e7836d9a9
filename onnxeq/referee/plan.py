"""A graph made ready to run: nodes in order, implementations chosen, last uses known, errors found.

Everything that can be said without values is said here, so that a run only computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import FunctionProto, GraphProto, NodeProto

from onnxeq.errors import UnusableModel
from onnxeq.referee.attributes import decode_all, references
from onnxeq.referee.registry import Operator, find
from onnxeq.referee.schemas import has_body, schema_of

__all__ = [
    "FunctionKey",
    "Library",
    "Plan",
    "Step",
    "captured_by",
    "function_key",
    "graphs_of",
    "node_label",
    "opset_map",
    "plan_function",
    "plan_graph",
]

FunctionKey = tuple[str, str, str]
"""Domain, name and overload of a model-local function."""


@dataclass(frozen=True)
class Library:
    """What a plan needs to know of the model: its functions and the folder of its external data."""

    functions: Mapping[FunctionKey, FunctionProto]
    base_dir: Path | None


@dataclass(frozen=True)
class Step:
    """One node, ready to run.

    Attributes:
        node: The node.
        opset: Version of its domain.
        attributes: Decoded, but for those that the enclosing function's call supplies.
        references: Those: ``(name, the function's attribute)``.
        operator: The implementation, if there is one.
        function: The model-local function, if it names one.
        fixed: For each input, whether the schema fixes it to ``tensor(float)``: such inputs steer (scales
            of a Resize) and are not perturbed.
        release: Values that nobody reads after this node.
        plans: The sub-graphs' plans, by the identity of the graph in ``attributes``.
    """

    node: NodeProto
    opset: int
    attributes: Mapping[str, Any]
    references: tuple[tuple[str, str], ...]
    operator: Operator | None
    function: FunctionProto | None
    fixed: tuple[bool, ...]
    release: tuple[str, ...]
    plans: Mapping[int, Plan]

    @property
    def label(self) -> str:
        """How a message names this node."""
        return node_label(self.node)

    @property
    def operator_name(self) -> str:
        """Operator and version, ``Conv (version 11)`` or ``com.microsoft::Gelu (version 1)``."""
        domain = f"{self.node.domain}::" if self.node.domain not in ("", "ai.onnx") else ""
        return f"{domain}{self.node.op_type} (version {self.opset})"


@dataclass(frozen=True)
class Plan:
    """A graph or function body in the order in which it runs.

    An empty output name stands for one that is not wanted. ``outer`` names
    the values that it takes from the scopes around it.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_types: Mapping[str, int]
    initializers: Mapping[str, onnx.TensorProto | onnx.SparseTensorProto]
    steps: tuple[Step, ...]
    opsets: Mapping[str, int]
    outer: frozenset[str] = field(default_factory=frozenset)


def node_label(node: NodeProto) -> str:
    """How a message names a node: by its name, or by what it makes."""
    first = next((name for name in node.output if name), "?")
    return node.name or f"making {first!r}"


def function_key(node: NodeProto | FunctionProto) -> FunctionKey:
    """The key of a function, or of the function that a node would call."""
    name = node.name if isinstance(node, FunctionProto) else node.op_type
    return (node.domain, name, getattr(node, "overload", ""))


def opset_map(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Version by domain; the standard domain is the empty string."""
    return {("" if i.domain == "ai.onnx" else i.domain): int(i.version) for i in imports}


def plan_graph(
    graph: GraphProto,
    opsets: Mapping[str, int],
    library: Library,
    *,
    outer: frozenset[str] = frozenset(),
    keep: Sequence[str] | None = None,
    known: frozenset[str] = frozenset(),
) -> Plan:
    """Plans a graph.

    Args:
        graph: The graph or sub-graph.
        opsets: Version by domain.
        library: The model's functions and folder.
        outer: Names that are visible from the scopes around it.
        keep: The values to compute; nodes that do not contribute are left out. Default: its outputs.
        known: Values that need not be computed, because the caller has them.

    Raises:
        UnusableModel: A name is given twice or never, or the nodes form a cycle.
    """
    initializers: dict[str, onnx.TensorProto | onnx.SparseTensorProto] = {}
    for tensor in graph.initializer:
        _define(initializers, tensor.name, tensor, "initializer")
    for sparse in graph.sparse_initializer:
        _define(initializers, sparse.values.name, sparse, "initializer")
    inputs = tuple(value.name for value in graph.input)
    types = {
        value.name: value.type.tensor_type.elem_type for value in graph.input if value.type.HasField("tensor_type")
    }
    outputs = tuple(value.name for value in graph.output) if keep is None else tuple(keep)
    return _plan(graph.node, inputs, outputs, types, initializers, opsets, library, outer, known)


def plan_function(
    function: FunctionProto, opsets: Mapping[str, int], library: Library, wanted: Sequence[str] | None = None
) -> Plan:
    """Plans a function body with its own opset imports, or the caller's where it has none.

    ``wanted`` are the calling node's outputs: those that it leaves out are not computed, and their name in
    the plan's ``outputs`` is empty.
    """
    own = {**opsets, **opset_map(function.opset_import)}
    names = list(function.output)
    if wanted is not None:
        names = [name if used else "" for name, used in zip(names, wanted, strict=False)]
    return _plan(function.node, tuple(function.input), tuple(names), {}, {}, own, library, frozenset())


def _define(table: dict[str, Any], name: str, value: Any, what: str) -> None:
    if name in table:
        raise UnusableModel(f"{what} {name!r} is defined twice")
    table[name] = value


def _plan(
    nodes: Sequence[NodeProto],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    types: Mapping[str, int],
    initializers: Mapping[str, Any],
    opsets: Mapping[str, int],
    library: Library,
    outer: frozenset[str],
    known: frozenset[str] = frozenset(),
) -> Plan:
    given = set(inputs) | set(initializers)
    if len(set(inputs)) != len(inputs):
        twice = next(name for name, count in Counter(inputs).items() if count > 1)
        raise UnusableModel(f"input {twice!r} is defined twice")
    makers = {name: i for name, i in _makers(nodes, given).items() if name not in known}
    given |= known
    captured = [captured_by(node) for node in nodes]
    reads = [[name for name in node.input if name] + sorted(captured[i]) for i, node in enumerate(nodes)]
    _check_defined(nodes, reads, outputs, given | outer | set(makers))
    order = _order(nodes, reads, makers, outputs)
    visible = frozenset(outer | given | set(makers))
    last: dict[str, int] = {}
    for position, i in enumerate(order):
        for name in [*reads[i], *nodes[i].output]:
            last[name] = position
    steps = []
    for position, i in enumerate(order):
        candidates = dict.fromkeys([*reads[i], *nodes[i].output])
        release = tuple(
            name
            for name in candidates
            if name and last[name] == position and name not in outputs and (name in given or name in makers)
        )
        steps.append(_step(nodes[i], opsets, library, visible, release))
    used = {name for i in order for name in reads[i]} | (set(outputs) - {""})
    free = frozenset(name for name in used if name not in given and name not in makers)
    return Plan(inputs, outputs, types, initializers, tuple(steps), opsets, free)


def _makers(nodes: Sequence[NodeProto], given: set[str]) -> dict[str, int]:
    makers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in node.output:
            if not name:
                continue
            if name in makers or name in given:
                raise UnusableModel(
                    f"value {name!r} is defined twice: node {node.name or i} ({node.op_type}) makes it again"
                )
            makers[name] = i
    return makers


def captured_by(node: NodeProto) -> set[str]:
    """The outer values that the sub-graphs of ``node`` read; iterative, since graphs may nest deeply."""
    found: set[str] = set()
    pending = [(graph, frozenset[str]()) for graph in graphs_of(node)]
    while pending:
        graph, above = pending.pop()
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {sparse.values.name for sparse in graph.sparse_initializer}
        own |= {name for inner in graph.node for name in inner.output}
        known = above | own
        found |= {name for inner in graph.node for name in inner.input if name and name not in known}
        found |= {value.name for value in graph.output if value.name not in known}
        pending += [(inner_graph, known) for inner in graph.node for inner_graph in graphs_of(inner)]
    return found


def graphs_of(node: NodeProto) -> list[GraphProto]:
    """The sub-graphs in a node's attributes."""
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            found.extend(attribute.graphs)
    return found


def _check_defined(
    nodes: Sequence[NodeProto], reads: Sequence[Sequence[str]], outputs: Sequence[str], known: set[str]
) -> None:
    for i, names in enumerate(reads):
        for name in names:
            if name not in known:
                raise UnusableModel(
                    f"node {nodes[i].name or i} ({nodes[i].op_type}) reads {name!r}, which nothing defines"
                )
    for name in outputs:
        if name and name not in known:
            raise UnusableModel(f"output {name!r} is defined by no node, input or initializer")


def _order(
    nodes: Sequence[NodeProto],
    reads: Sequence[Sequence[str]],
    makers: Mapping[str, int],
    outputs: Sequence[str],
) -> list[int]:
    """The needed nodes, each after what it reads, otherwise in the file's order."""
    needed: set[int] = set()
    pending = [makers[name] for name in outputs if name in makers]
    while pending:
        i = pending.pop()
        if i not in needed:
            needed.add(i)
            pending += [makers[name] for name in reads[i] if name in makers]
    waiting = {i: {makers[name] for name in reads[i] if name in makers} for i in needed}
    readers: dict[int, list[int]] = {}
    for i, sources in waiting.items():
        for source in sources:
            readers.setdefault(source, []).append(i)
    if all(source < i for i, sources in waiting.items() for source in sources):
        return sorted(needed)
    ready = sorted((i for i in needed if not waiting[i]), reverse=True)
    order: list[int] = []
    while ready:
        i = ready.pop()
        order.append(i)
        for reader in sorted(readers.get(i, ()), reverse=True):
            waiting[reader].discard(i)
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(needed):
        stuck = sorted(needed - set(order))
        names = ", ".join(f"{nodes[i].name or i} ({nodes[i].op_type})" for i in stuck[:3])
        raise UnusableModel(f"the graph has a cycle through {len(stuck)} nodes: {names}")
    return order


def _step(
    node: NodeProto,
    opsets: Mapping[str, int],
    library: Library,
    visible: frozenset[str],
    release: tuple[str, ...],
) -> Step:
    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = opsets.get(domain, 1)
    function = library.functions.get(function_key(node))
    attributes = decode_all(node.attribute, library.base_dir)
    plans: dict[int, Plan] = {}
    for value in attributes.values():
        for graph in value if isinstance(value, list) else [value]:
            if isinstance(graph, GraphProto):
                plans[id(graph)] = plan_graph(graph, opsets, library, outer=visible)
    schema = schema_of(domain, node.op_type, opset)
    fixed = [False] * len(node.input)
    if schema is not None and schema.inputs and function is None:
        for i in range(len(node.input)):
            formal = schema.inputs[min(i, len(schema.inputs) - 1)]
            fixed[i] = formal.type_str == "tensor(float)"
    return Step(
        node=node,
        opset=opset,
        attributes=attributes,
        references=references(node.attribute),
        operator=None if function is not None else find(domain, node.op_type, opset),
        function=function,
        fixed=tuple(fixed),
        release=release,
        plans=plans,
    )


def missing(plan: Plan, library: Library) -> tuple[str, ...]:
    """The operators of a plan that nothing implements, sub-graphs and functions included."""
    found: dict[str, None] = {}
    seen: set[FunctionKey] = set()
    pending: list[tuple[Plan, str]] = [(plan, "")]
    while pending:
        current, where = pending.pop()
        for step in current.steps:
            pending += [(inner, f"{where}{step.label}/") for inner in step.plans.values()]
            if step.function is not None:
                key = function_key(step.function)
                if key not in seen:
                    seen.add(key)
                    body = plan_function(step.function, current.opsets, library)
                    pending.append((body, f"{where}{step.label}/"))
            elif step.operator is None and step.node.op_type != "Constant" and not has_body(step.node, step.opset):
                found[f"{step.operator_name} at node {where}{step.label}"] = None
    return tuple(found)
