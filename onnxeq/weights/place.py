"""Which constant stands in the place of which: the skeletons of two graphs compared.

A skeleton has a node for each operator that takes a weight and an edge where a value flows from one to the next,
whatever lies between. Two nodes correspond when what lies before them and what lies behind them is the same, down to
the sizes of the weights and nothing of their values. Names and the order of the file do not matter, nor do operators
that simplifiers remove, move or fuse; nodes with equal surroundings are left out, since nothing tells them apart.
Other nodes that read a constant (a normalisation, a recurrent layer, an embedding) hang on the skeleton: they
correspond when they read equally large constants at the same input, between the same nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from onnxeq.weights.inventory import LINEAR, Inventory, Stored

__all__ = ["places"]

_Key: TypeAlias = int


@dataclass(frozen=True)
class _Site:
    """A linear node: its number, its weight, and what it adds."""

    index: int
    weight: str
    bias: str


def places(artifact: Inventory, reference: Inventory, owner: Mapping[str, str]) -> dict[str, str]:
    """Constant of the artifact -> native tensor that belongs in its place.

    Args:
        artifact: The model that is judged.
        reference: The model whose constants are native tensors.
        owner: The reference's constants -> native names.
    """
    mine, theirs = _unique(artifact), _unique(reference)
    found: dict[str, set[str]] = {}
    for key, ours in mine.items():
        its = theirs.get(key, "")
        if its in owner:
            found.setdefault(ours, set()).add(owner[its])
    # A constant that belongs in several places at once is looked at where it is read, by other means.
    return {name: next(iter(natives)) for name, natives in found.items() if len(natives) == 1}


def _unique(graph: Inventory) -> dict[object, str]:
    """The constants whose surroundings occur once."""
    sites = _sites(graph)
    before, behind, sources, sinks = _flow(graph, sites)
    found: list[tuple[object, str]] = []
    for index, site in sites.items():
        found.append((("weight", before[index], behind[index]), site.weight))
        if site.bias:
            found.append((("bias", before[index], behind[index]), site.bias))
    claimed = {name for _, name in found}
    for index, node in enumerate(graph.nodes):
        if index in sites or node.op_type in _HANDING:
            continue
        reached = frozenset().union(*(sources.get(name, frozenset()) for name in node.input))
        leading = frozenset().union(*(sinks.get(name, frozenset()) for name in node.output))
        for slot, name in enumerate(node.input):
            held = _root(graph, name) if name else None
            if held is not None and held.name not in claimed and held.size > 1:
                where = -1 if node.op_type in ("Add", "Mul") else slot
                found.append(((node.op_type, where, held.size, reached, leading), held.name))
    counts = Counter(key for key, _ in found)
    return {key: name for key, name in found if counts[key] == 1}


_HANDING = frozenset(
    {"Transpose", "Reshape", "Identity", "Cast", "DequantizeLinear", "Squeeze", "Unsqueeze", "Constant"}
)


def _sites(graph: Inventory) -> dict[int, _Site]:
    sites = {}
    for index, node in enumerate(graph.nodes):
        slot = LINEAR.get(node.op_type)
        if slot is None or len(node.input) <= slot:
            continue
        roots = [_root(graph, node.input[s]) for s in ((slot, 0) if "MatMul" in node.op_type else (slot,))]
        weight = next((r for r in roots if r is not None), None)
        if weight is not None:
            sites[index] = _Site(index, weight.name, _bias(graph, index))
    return sites


def _root(graph: Inventory, name: str) -> Stored | None:
    """The constant behind nodes that only hand it on."""
    for _ in range(6):
        if name in graph.stored:
            return graph.stored[name]
        index = graph.makers.get(name)
        if index is None or graph.nodes[index].op_type not in _HANDING or not graph.nodes[index].input:
            return None
        name = graph.nodes[index].input[0]
    return None


def _bias(graph: Inventory, index: int) -> str:
    node = graph.nodes[index]
    if "MatMul" not in node.op_type and len(node.input) > 2 and node.input[2]:
        held = _root(graph, node.input[2])
        return held.name if held is not None else ""
    behind = graph.behind(index)
    if len(behind) == 1 and graph.nodes[behind[0]].op_type == "Add":
        held = next((r for r in (_root(graph, n) for n in graph.nodes[behind[0]].input) if r is not None), None)
        return held.name if held is not None else ""
    return ""


def _label(graph: Inventory, site: _Site) -> tuple[str, int]:
    op = graph.nodes[site.index].op_type
    family = "matrix" if "Gemm" in op or "MatMul" in op else "conv" if "Conv" in op and "Transpose" not in op else op
    return family, graph.stored[site.weight].size


_Reach: TypeAlias = Mapping[str, frozenset[tuple[_Key, int]]]


def _flow(
    graph: Inventory, sites: Mapping[int, _Site]
) -> tuple[dict[int, _Key], dict[int, _Key], _Reach, Mapping[str, frozenset[_Key]]]:
    """What lies before and behind each site, and each value, as keys."""
    sources: dict[str, frozenset[tuple[_Key, int]]] = {}
    before: dict[int, _Key] = {}
    products = {i for i, n in enumerate(graph.nodes) if n.op_type in LINEAR and i not in sites}
    order = range(len(graph.nodes))
    for index in order:
        node = graph.nodes[index]
        if index in sites or index in products:
            ordered = index in products  # which operand of a product of two computed values it is
            reached = frozenset(
                (key, slot if ordered else 0)
                for slot, name in enumerate(node.input) for key, _ in sources.get(name, frozenset())
            )  # fmt: skip
            label: object = _label(graph, sites[index]) if index in sites else "product"
            before[index] = hash(("before", label, tuple(sorted(reached))))
            made = frozenset({(before[index], 0)})
        else:
            made = frozenset().union(*(sources.get(name, frozenset()) for name in node.input))
        for name in node.output:
            sources[name] = made
    behind, sinks = _behind(graph, sites, products)
    return before, behind, sources, sinks


def _behind(
    graph: Inventory, sites: Mapping[int, _Site], products: set[int]
) -> tuple[dict[int, _Key], dict[str, frozenset[_Key]]]:
    sinks: dict[str, frozenset[_Key]] = {}
    behind: dict[int, _Key] = {}
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        made = frozenset().union(*(sinks.get(name, frozenset()) for name in node.output))
        own: frozenset[_Key] | None = None
        if index in sites or index in products:
            label: object = _label(graph, sites[index]) if index in sites else "product"
            behind[index] = hash(("behind", label, tuple(sorted(made))))
            own = frozenset({behind[index]})
        for slot, name in enumerate(node.input):
            if not name:
                continue
            mine = made if own is None else own
            if index in products:
                mine = frozenset({hash((behind[index], slot))})
            sinks[name] = sinks.get(name, frozenset()) | mine
    return behind, sinks
