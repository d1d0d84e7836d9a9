"""Whether two canonical graphs are one graph, weights aside.

A layer's *signature* is all that decides its result but its weights and inputs. Each layer gets a digest of its
signature and its inputs' digests; that two graphs have the same ones is not yet proof, since a layer that is there
twice and one that is read twice look alike from behind. So the layers are paired one by one from the outputs on, and
the graphs are the same only if that is one to one, and every pair has one signature and paired inputs.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from onnxeq.compare.kinds import COMMUTATIVE
from onnxeq.compare.values import Attribute, Graph, Layer

__all__ = ["digests", "one_to_one", "signature", "telling"]

_UNTOLD = frozenset({"terms", "rounded up"})


def telling(layer: Layer) -> dict[str, Attribute]:
    """The attributes that decide the result: of padding what is read, not what is declared."""
    found = {name: value for name, value in layer.attributes.items() if name not in _UNTOLD}
    if "read" in found:
        found.pop("pads", None)
    return found


def signature(layer: Layer) -> tuple[object, ...]:
    """All that decides a layer's result but its weights and inputs."""
    return (layer.kind, *sorted(telling(layer).items()))


def digests(graph: Graph) -> list[str]:
    """Of each layer and all that it depends on; the order of what is added or multiplied does not count."""
    found: list[str] = []
    for layer in graph.layers:
        read = [found[i] for i in layer.inputs]
        if layer.kind in COMMUTATIVE:
            read.sort()
        found.append(hashlib.sha256(repr((signature(layer), read)).encode()).hexdigest()[:24])
    return found


def one_to_one(left: Graph, right: Graph) -> dict[int, int] | None:
    """The right layer of each left one if the graphs are the same, else ``None``."""
    if len(left.layers) != len(right.layers) or len(left.outputs) != len(right.outputs):
        return None
    ours, theirs = digests(left), digests(right)
    if Counter(ours) != Counter(theirs):
        return None
    pairs: dict[int, int] = {}
    back: dict[int, int] = {}
    pending = list(zip(left.outputs, right.outputs, strict=True))
    inputs = [[i for i, layer in enumerate(g.layers) if layer.kind == "input"] for g in (left, right)]
    pending += list(zip(*inputs, strict=True)) if len(inputs[0]) == len(inputs[1]) else []
    while pending:
        a, b = pending.pop()
        if a in pairs or b in back:
            if pairs.get(a) != b:
                return None
            continue
        if ours[a] != theirs[b]:
            return None
        pairs[a], back[b] = b, a
        reads = _matched(left.layers[a], right.layers[b], ours, theirs, pairs)
        if reads is None:
            return None
        pending += reads
    return pairs if len(pairs) == len(left.layers) else None


def _matched(
    a: Layer, b: Layer, ours: list[str], theirs: list[str], pairs: dict[int, int]
) -> list[tuple[int, int]] | None:
    """The inputs of two layers in pairs; for a commutative one by digest, first those that are paired already."""
    if a.kind not in COMMUTATIVE:
        return list(zip(a.inputs, b.inputs, strict=True)) if len(a.inputs) == len(b.inputs) else None
    left, found = list(b.inputs), []
    for mine in sorted(a.inputs, key=lambda i: i not in pairs):
        fitting = [other for other in left if theirs[other] == ours[mine]]
        known = pairs.get(mine)
        chosen = known if known in fitting else next((o for o in fitting if o not in pairs.values()), None)
        if chosen is None:
            return None
        left.remove(chosen)
        found.append((mine, chosen))
    return found
