"""Model-local functions: who calls whom, and how much that is when it is written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import NodeProto

from onnxeq.errors import UnusableModel
from onnxeq.referee.plan import FunctionKey, function_key, graphs_of

__all__ = ["MOST_CALLS", "MOST_NODES", "check_calls"]

MOST_NODES = 1 << 20
"""Nodes when each call is written out, as runtimes do."""

MOST_CALLS = 50
"""Functions within functions: each takes some frames of the interpreter's stack, which has a thousand."""


def check_calls(model: onnx.ModelProto) -> None:
    """Makes sure that calls come to an end, and soon.

    Raises:
        onnxeq.errors.UnusableModel: A function is defined twice or calls itself, functions are nested deeper than
            :data:`MOST_CALLS`, or written out the model has more than :data:`MOST_NODES` nodes.
    """
    if not model.functions:
        return
    bodies: dict[FunctionKey, Iterable[NodeProto]] = {}
    for function in model.functions:
        key = function_key(function)
        if key in bodies:
            raise UnusableModel(f"function {_name(key)} is defined twice")
        bodies[key] = function.node
    called = {key: _called(nodes, bodies) for key, nodes in bodies.items()}
    sizes: dict[FunctionKey, int] = {}
    depths: dict[FunctionKey, int] = {}
    for key in _inner_first(called):
        callees = called[key][1]
        sizes[key] = called[key][0] + sum(count * sizes[callee] for callee, count in callees.items())
        depths[key] = 1 + max((depths[callee] for callee in callees), default=0)
    own, calls = _called(model.graph.node, bodies)
    depth = max((depths[key] for key in calls), default=0)
    if depth > MOST_CALLS:
        raise UnusableModel(f"functions are nested {depth} deep, {MOST_CALLS} are allowed")
    total = own + sum(count * sizes[key] for key, count in calls.items())
    if total > MOST_NODES:
        shown = total if total < 10**15 else f"{total:.1e}"
        raise UnusableModel(f"the model has {shown} nodes when its functions are written out, {MOST_NODES} are allowed")


def _name(key: FunctionKey) -> str:
    return repr("::".join(part for part in key[:2] if part))


def _called(
    nodes: Iterable[NodeProto], bodies: Mapping[FunctionKey, Iterable[NodeProto]]
) -> tuple[int, dict[FunctionKey, int]]:
    """How many nodes there are, sub-graphs included, and how often each function is called."""
    count, calls = 0, dict[FunctionKey, int]()
    for node in _all_nodes(nodes):
        count += 1
        key = function_key(node)
        if key in bodies:
            calls[key] = calls.get(key, 0) + 1
    return count, calls


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    pending = [nodes]
    while pending:
        for node in pending.pop():
            yield node
            pending += [graph.node for graph in graphs_of(node)]


def _inner_first(called: Mapping[FunctionKey, tuple[int, Mapping[FunctionKey, int]]]) -> list[FunctionKey]:
    """The functions, each behind those that it calls."""
    order: list[FunctionKey] = []
    done: set[FunctionKey] = set()
    for first in called:
        path = [(first, iter(called[first][1]))] if first not in done else []
        open_ = {first}
        while path:
            key, callees = path[-1]
            following = next(callees, None)
            if following is None:
                path.pop()
                open_.discard(key)
                done.add(key)
                order.append(key)
            elif following in open_:
                raise UnusableModel(f"function {_name(following)} calls itself")
            elif following not in done:
                open_.add(following)
                path.append((following, iter(called[following][1])))
    return order
