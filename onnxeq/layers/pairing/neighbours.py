"""What stands next to a pair of values or nodes, and may be a pair for that reason.

News are a name, for a pair of values, whose readers are looked at; or a number, for a pair of nodes of which the makers
of the operands are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from onnxeq.layers.pairing.content import Content
from onnxeq.layers.pairing.correspondence import CLEAR, EXACT, LIKELY, NAMED, REPLACED, Correspondence, Key
from onnxeq.layers.pairing.folded import fold_start
from onnxeq.types import PairedBy

__all__ = ["far_neighbours", "same_operator_neighbours", "unchanged_neighbours"]

# In the same place.


def unchanged_neighbours(found: Correspondence, what: str | int) -> bool:
    """The same operator with the same attributes and constants, or with the same name."""
    context = PairedBy.CONTEXT
    hit = _beside(found, what, lambda c, n: c.forward[n], PairedBy.STRUCTURE, EXACT)
    hit |= _beside(found, what, lambda c, n: (c.labels[n], c.sides[n]), context, CLEAR)
    if found.trusted():
        hit |= _beside(found, what, lambda c, n: (c.labels[n], c.sides[n], found.title(c, n)), PairedBy.NAME, NAMED)
        hit |= _beside(found, what, lambda c, n: (c.operator(n), found.title(c, n)), PairedBy.NAME, NAMED)
    return hit


def same_operator_neighbours(found: Correspondence, what: str | int) -> bool:
    """The same operator, the more alike the better: attributes, shapes of constants, number of operands."""
    keys: list[Key] = [
        lambda c, n: (c.labels[n], c.forms[n]),
        lambda c, n: (c.operator(n), c.forms[n]),
        lambda c, n: (c.labels[n], len(c.operands[n])),
        lambda c, n: c.operator(n),
    ]
    return any(_beside(found, what, key, PairedBy.CONTEXT, LIKELY) for key in keys)


def _beside(found: Correspondence, what: str | int, key: Key, by: PairedBy, confidence: float) -> bool:
    """Links the readers of a paired value, or the makers of a paired node's operands."""
    if isinstance(what, str):
        mine, theirs = _reading(found, what)
        if not mine or not theirs:
            return False
        return _link(found, list(mine), list(theirs), _placed(found, mine, theirs, key), by, confidence)
    hit = False
    for here, there in _making(found, what):
        hit |= _link(found, here, there, key, by, confidence)
    return hit


def _link(found: Correspondence, mine: list[int], theirs: list[int], key: Key, by: PairedBy, confidence: float) -> bool:
    """Links the only ones; what is next to a pair is surer when all its operands are paired."""
    hit = False
    for here, there in found.only(mine, theirs, key):
        if found.fits(here, there):
            faint = by is PairedBy.CONTEXT and confidence < CLEAR
            found.link(here, there, by, _context(found, here, there) if faint else confidence)
            hit = True
    return hit


def _context(found: Correspondence, here: int, there: int) -> float:
    """How sure it is that two nodes of one operator are a pair: surer when all their operands are paired."""
    operands = found.mine.data(here)
    known = [found.pairs[name].source for name in operands if name in found.pairs]
    return CLEAR if len(known) == len(operands) and sorted(known) == sorted(found.theirs.data(there)) else LIKELY


def _reading(found: Correspondence, name: str) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The free nodes that read a paired value, on both sides, with the places of the operand."""
    mine = _places(found.mine, name, found.free)
    return mine, _places(found.theirs, found.pairs[name].source, found.free_there) if mine else {}


def _places(content: Content, name: str, free: Callable[[int], bool]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for node, place in content.readers.get(name, ()):
        if free(node):
            places.setdefault(node, []).append(-1 if content.commutes(node) else place)
    return places


def _placed(found: Correspondence, mine: Mapping[int, list[int]], theirs: Mapping[int, list[int]], key: Key) -> Key:
    """The key together with the place in which a node reads a value."""
    return lambda c, n: (*(mine if c is found.mine else theirs)[n], key(c, n))


def _making(found: Correspondence, node: int) -> Iterator[tuple[list[int], list[int]]]:
    """The nodes that make the operands of a pair of nodes, place by place, or all where places do not count."""
    mine = [found.mine.makers.get(n, (-1, 0)) for n in found.mine.operands[node]]
    theirs = [found.theirs.makers.get(n, (-1, 0)) for n in found.theirs.operands[found.nodes[node]]]
    if found.mine.commutes(node):
        yield [n for n, _ in mine if n >= 0], [n for n, _ in theirs if n >= 0]
        return
    for here, there in zip(mine, theirs, strict=False):
        if here[0] >= 0 and there[0] >= 0 and here[1] == there[1]:
            yield [here[0]], [there[0]]


# In another place, or of another operator.


def far_neighbours(found: Correspondence, what: str | int) -> bool:
    """Another operator in the same place, or the same one behind or before another."""
    if isinstance(what, int):
        return _same_region(found, what) or _before_another(found, what)
    return _other_makers(found, what) or _behind_another(found, what)


def _same_region(found: Correspondence, node: int) -> bool:
    """What a pair of nodes reads in one place, made by whatever from the same values."""
    other = found.nodes[node]
    mine, theirs = list(found.mine.operands[node]), list(found.theirs.operands[other])
    if found.mine.commutes(node):
        mine = [name for name in found.mine.data(node) if name not in found.pairs]
        theirs = [name for name in found.theirs.data(other) if name not in found.back]
        if len(mine) != 1 or len(theirs) != 1:
            return False
    hit = False
    for here, there in zip(mine, theirs, strict=False):
        if here not in found.mine.makers or there not in found.theirs.makers:
            continue
        if here in found.pairs or there in found.back or here in found.mine.constant or there in found.theirs.constant:
            continue
        frontier = found.frontier(here)
        if frontier and frontier == found.frontier_there(there):
            found.value(here, there, PairedBy.CONTEXT, REPLACED)
            hit = True
    return hit


def _other_makers(found: Correspondence, name: str) -> bool:
    """The nodes that a pair of values of different operators comes from, where one has been folded into the other."""
    here, there = found.mine.makers.get(name), found.theirs.makers.get(found.pairs[name].source)
    if here is None or there is None:
        return False
    start, other = fold_start(found.mine, here[0]), fold_start(found.theirs, there[0])
    if start is None or other is None or start in found.nodes or not found.free_there(other):
        return False
    if (start, other) == (here[0], there[0]) or found.mine.operator(start) != found.theirs.operator(other):
        return False
    found.join(start, other)
    return True


def _behind_another(found: Correspondence, name: str) -> bool:
    """The same node behind one that was put in, left out or replaced."""
    mine, theirs = _reading(found, name)
    if not mine and not theirs:
        return False
    near, far = list(mine), _next(found.mine, list(mine), found.free)
    their_near = list(_places(found.theirs, found.pairs[name].source, found.free_there))
    their_far = _next(found.theirs, their_near, found.free_there)
    return any(_only_alike(found, a, b) for a, b in ((near, their_far), (far, their_near), (far, their_far)))


def _next(content: Content, nodes: list[int], free: Callable[[int], bool]) -> list[int]:
    """The free readers of nodes that take one operand."""
    single = [n for n in nodes if len(content.data(n)) == 1]
    found = [r for n in single for name in content.outputs[n] for r, _ in content.readers.get(name, ())]
    return [n for n in dict.fromkeys(found) if free(n)]


def _before_another(found: Correspondence, node: int) -> bool:
    """The same node before one that was put in, left out or replaced."""
    other = found.nodes[node]
    for a, b in zip(found.mine.operands[node], found.theirs.operands[other], strict=False):
        near, far = _previous(found.mine, a, found.free)
        their_near, their_far = _previous(found.theirs, b, found.free_there)
        pairs = ((near, their_far), (far, their_near), (far, their_far))
        if any(_only_alike(found, x, y) for x, y in pairs):
            return True
    return False


def _previous(content: Content, name: str, free: Callable[[int], bool]) -> tuple[list[int], list[int]]:
    """The free maker of a value, and the free maker of its only operand."""
    node = content.makers.get(name, (-1, 0))[0]
    if node < 0 or not free(node):
        return [], []
    reads = content.data(node)
    before = content.makers.get(reads[0], (-1, 0))[0] if len(reads) == 1 else -1
    return [node], [before] if before >= 0 and free(before) else []


def _only_alike(found: Correspondence, mine: list[int], theirs: list[int]) -> bool:
    if not mine or not theirs:
        return False
    keys: list[Key] = [
        lambda c, n: (c.labels[n], c.sides[n]),
        lambda c, n: (c.operator(n), c.forms[n]),
        lambda c, n: c.operator(n),
    ]
    return any(_link(found, mine, theirs, key, PairedBy.CONTEXT, LIKELY) for key in keys)
