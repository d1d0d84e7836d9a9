"""The frame around every pass: what a pass declares, and the check that it kept to it.

A pass is a value: a name, one sentence, a function, and a declaration of which operators it may add
and remove. :func:`apply` runs it and verifies the declaration on the result:

1. inputs and outputs keep their names, order, types and shapes;
2. an operator became more frequent only if the pass declares that it adds it, and less frequent only
   if it declares that it removes it;
3. a pass that reports no change made none;
4. every value is defined before it is read, in the scope that reads it;
5. the opset imports changed only if declared.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from onnxeq.errors import CannotRun

__all__ = [
    "ANY",
    "Options",
    "Outcome",
    "Pass",
    "PassViolation",
    "Step",
    "apply",
    "graphs",
    "inner_graphs",
    "interface",
]

ANY = frozenset({"*"})
"""Stands for every operator in :attr:`Pass.adds` and :attr:`Pass.removes`."""


class PassViolation(CannotRun):
    """A pass did something that it does not declare: a fault of this package, not of the model."""


@dataclass(frozen=True)
class Options:
    """What passes may be told.

    Attributes:
        opset: The version of the standard domain to convert to; ``None`` keeps the model's own.
    """

    opset: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a pass did.

    Attributes:
        changes: How many rewrites were made; 0 says that the model is untouched.
        note: One sentence when there is something to know (why nothing could be done).
        model: The new model, when the pass could not work in place.
    """

    changes: int
    note: str = ""
    model: ir.Model | None = None


@dataclass(frozen=True)
class Pass:
    """One transformation that keeps what the model computes.

    Attributes:
        name: What the user types.
        does: One sentence.
        run: Changes the model in place (or returns another in its outcome).
        adds: Operators that may become more frequent.
        removes: Operators that may become less frequent.
        changes_opsets: Whether the opset imports may change.
        by_default: Whether it runs when the user names no passes.
    """

    name: str
    does: str
    run: Callable[[ir.Model, Options], Outcome]
    adds: frozenset[str] = frozenset()
    removes: frozenset[str] = frozenset()
    changes_opsets: bool = False
    by_default: bool = True


@dataclass(frozen=True)
class Step:
    """One run of one pass: nodes are counted in the main graph and all sub-graphs."""

    name: str
    nodes_before: int
    nodes_after: int
    modified: bool
    seconds: float
    note: str


_Ports = tuple[tuple[str, str, str], ...]
_Trace = tuple[tuple[object, ...], ...]


def inner_graphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs in the node's own attributes."""
    found: list[ir.Graph] = []
    for held in node.attributes.values():
        if held.type == ir.AttributeType.GRAPH and not held.is_ref():
            found.append(held.as_graph())
        elif held.type == ir.AttributeType.GRAPHS and not held.is_ref():
            found.extend(held.as_graphs())
    return found


def graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and every sub-graph in it (bodies of model-local functions excluded)."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        pending.extend(inner for node in graph for inner in inner_graphs(node))


def interface(model: ir.Model) -> tuple[_Ports, _Ports]:
    """Names, types and shapes of the inputs and outputs, in order."""

    def ports(values: list[ir.Value]) -> _Ports:
        return tuple((str(v.name), str(v.type), str(v.shape)) for v in values)

    return ports(list(model.graph.inputs)), ports(list(model.graph.outputs))


def _operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for graph in graphs(model) for node in graph)


def _trace(model: ir.Model) -> _Trace:
    """Everything that a pass can change, as far as it is cheap to look at (no tensor bytes)."""
    rows: list[tuple[object, ...]] = []
    for graph in graphs(model):
        rows.extend((name, id(value.const_value)) for name, value in graph.initializers.items())
        for node in graph:
            attributes = tuple((a.name, id(a.value)) for a in node.attributes.values())
            names = tuple(None if v is None else v.name for v in (*node.inputs, *node.outputs))
            rows.append((node.op_type, attributes, names))
    return tuple(rows)


def _misplaced(graph: ir.Graph, outer: frozenset[int]) -> str:
    """The first value that is read before it is defined, or an empty string."""
    known = {id(v) for v in (*graph.inputs, *graph.initializers.values())} | outer
    for node in graph:
        for value in node.inputs:
            if value is not None and id(value) not in known:
                return f"{value.name} at node {node.name or node.op_type}"
        for inner in inner_graphs(node):
            if found := _misplaced(inner, frozenset(known)):
                return found
        known.update(id(v) for v in node.outputs)
    return next((str(v.name) for v in graph.outputs if id(v) not in known), "")


def _undeclared(declared: frozenset[str], changed: Counter[str]) -> list[str]:
    return [] if declared == ANY else sorted(op for op in changed if op not in declared)


def apply(item: Pass, model: ir.Model, options: Options) -> tuple[ir.Model, Step]:
    """Runs one pass and verifies its declaration.

    Raises:
        PassViolation: The pass did something that it does not declare.
    """
    ports, operators = interface(model), _operators(model)
    opsets, trace = dict(model.opset_imports), _trace(model)
    start = time.perf_counter()
    outcome = item.run(model, options)
    seconds = time.perf_counter() - start
    result = outcome.model or model
    after = _operators(result)
    broken = ""
    if interface(result) != ports:
        broken = "changed the model's inputs or outputs"
    elif added := _undeclared(item.adds, after - operators):
        broken = f"added {', '.join(added)}, allowed {', '.join(sorted(item.adds)) or 'none'}"
    elif removed := _undeclared(item.removes, operators - after):
        broken = f"removed {', '.join(removed)}, allowed {', '.join(sorted(item.removes)) or 'none'}"
    elif not item.changes_opsets and dict(result.opset_imports) != opsets:
        broken = "changed the opset imports"
    elif not outcome.changes and _trace(result) != trace:
        broken = "changed the graph and reported no change"
    elif misplaced := _misplaced(result.graph, frozenset()):
        broken = f"left a value that is read before it is defined: {misplaced}"
    if broken:
        raise PassViolation(f"pass {item.name}: {broken}", hint="Leave it out (--passes) and report the model.")
    step = Step(item.name, operators.total(), after.total(), bool(outcome.changes), seconds, outcome.note)
    return result, step
