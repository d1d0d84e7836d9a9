"""Which values of two graphs are the same by construction: value numbering over both.

Two values are the same when the same operator, of the same version and with the same attributes, makes them from
the same values. Inputs and initializers are the same when name and content are. What this cannot tell (renamed
constants, sub-graphs, model-local functions, randomness) counts as different, so that sameness is never wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["same_values", "values_to_take_over"]

_RANDOM = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Dropout".split()
)
_Key = tuple[object, ...]


def same_values(first: onnx.ModelProto, second: onnx.ModelProto) -> dict[str, str]:
    """Values of ``second`` that are values of ``first`` -> their name there."""
    stored = {tensor.name: tensor for tensor in first.graph.initializer}
    shared = {tensor.name for tensor in second.graph.initializer if stored.get(tensor.name) == tensor}
    numbers: dict[_Key, int] = {}
    there = {number: name for name, number in _numbered(first, shared, numbers, 0)}
    return {name: there[number] for name, number in _numbered(second, shared, numbers, 1) if number in there}


def _numbered(
    model: onnx.ModelProto, shared: set[str], numbers: dict[_Key, int], which: int
) -> Iterator[tuple[str, int]]:
    """Each value of the main graph with its number; ``which`` keeps what cannot be compared apart."""

    def number(key: _Key) -> int:
        return numbers.setdefault(key, len(numbers))

    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    functions = {(f.domain, f.name) for f in model.functions}
    known: dict[str, int] = {}
    for value in model.graph.input:
        known[value.name] = number(("input", value.name))
    for tensor in model.graph.initializer:
        key: _Key = ("constant", tensor.name) if tensor.name in shared else ("constant", tensor.name, which)
        # An initializer that bears an input's name is that input's default.
        known.setdefault(tensor.name, number(key))
    yield from known.items()
    for position, node in enumerate(model.graph.node):
        domain = "" if node.domain == "ai.onnx" else node.domain
        opaque = (
            (domain, node.op_type) in functions
            or node.op_type in _RANDOM
            or any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)
            or any(name and name not in known for name in node.input)
        )
        if opaque:
            head: _Key = ("node", which, position)
        else:
            attributes = tuple(sorted(a.SerializeToString(deterministic=True) for a in node.attribute))
            inputs = tuple(known[name] if name else -1 for name in node.input)
            wanted = tuple(bool(name) for name in node.output)
            head = (domain, node.op_type, opsets.get(domain), attributes, inputs, wanted)
        for index, name in enumerate(node.output):
            if name:
                known[name] = number((*head, index))
                yield name, known[name]


def values_to_take_over(first: onnx.ModelProto, second: onnx.ModelProto) -> tuple[dict[str, str], int]:
    """What to take from a run of ``first`` so that a run of ``second`` computes only what differs.

    Returns:
        Values of ``second`` -> names in ``first``, the last common ones on each path; and how many nodes of
        ``second`` remain to be computed.
    """
    same = same_values(first, second)
    makers = {name: node for node in second.graph.node for name in node.output if name}
    take: dict[str, str] = {}
    remaining: set[int] = set()
    pending = [value.name for value in second.graph.output]
    while pending:
        name = pending.pop()
        node = makers.get(name)
        if node is None or id(node) in remaining:
            continue
        if name in same:
            take[name] = same[name]
            continue
        remaining.add(id(node))
        pending += [n for n in _reads(node) if n]
    return take, len(remaining)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, and may read inside its sub-graphs."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == attribute.GRAPH else attribute.graphs:
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _reads(inner)
