"""Pairs of values of two graphs while they are being found: what is taken, and what speaks against a further pair."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnxeq.layers.pairing.content import Content
from onnxeq.layers.pairing.folded import fold_end
from onnxeq.types import PairedBy

__all__ = ["CLEAR", "EXACT", "EXACT_BEHIND", "LIKELY", "NAMED", "REPLACED", "Correspondence", "Key", "Pair"]

EXACT, EXACT_BEHIND, NAMED, CLEAR, LIKELY, REPLACED = 1.0, 0.99, 0.95, 0.9, 0.8, 0.7
"""How sure a pair is: computed alike; used alike; the name, too; next to a pair and unchanged; next to one and of the
same operator; of different operators."""

_TRUST = 0.5
"""Share of the structurally paired values that bear the same name on both sides from which on names are believed."""

_HOPS = 16
"""Nodes that are looked through for whether one value is made from another."""

_MOVES = frozenset("Reshape Transpose Squeeze Unsqueeze Flatten Split Slice Gather Concat Expand Tile".split())
"""Operators that move elements and compute nothing."""

Key: TypeAlias = Callable[[Content, int], Hashable]


@dataclass(frozen=True)
class Pair:
    """The source's value for one of the target, how it was found, and how sure that is (0 to 1)."""

    source: str
    by: PairedBy
    confidence: float


class Correspondence:
    """Pairs found so far.

    Args:
        mine: The target's graph.
        theirs: The source's.
        names: Names that values of the target had before a tool renamed them.
    """

    def __init__(self, mine: Content, theirs: Content, names: Mapping[str, str]) -> None:
        self.mine, self.theirs = mine, theirs
        self.pairs: dict[str, Pair] = {}
        self.back: dict[str, str] = {}
        self.nodes: dict[int, int] = {}
        self.news: tuple[deque[str | int], ...] = (deque(), deque(), deque())
        self._taken: set[int] = set()
        self._names = names
        self._trust: bool | None = None
        self._alike: dict[bytes, list[int]] = {}
        for node, forward in enumerate(theirs.forward):
            self._alike.setdefault(forward, []).append(node)

    def value(self, here: str, there: str, by: PairedBy, confidence: float) -> None:
        """Pairs two values, whatever made them."""
        self.pairs[here] = Pair(there, by, confidence)
        self.back.setdefault(there, here)
        self._tell(here)

    def join(self, here: int, there: int) -> None:
        """Pairs two nodes, but not what they make: one goes on where the other ends."""
        self.nodes[here] = there
        self._taken.add(there)
        self._tell(here)
        for name in self.mine.operands[here]:
            if name in self.pairs:
                self._tell(name)

    def link(self, here: int, there: int, by: PairedBy, confidence: float) -> None:
        """Pairs two nodes and what they make; a context in which the name is the same is a name.

        Where something was folded into the weights of one of them, it is what comes out behind that in the other
        that is the same, whatever the names say.
        """
        ends = fold_end(self.mine, here, self.theirs, there)
        if ends is not None:
            self.join(here, there)
            if ends[0] not in self.pairs and ends[1] not in self.back:
                self.value(*ends, PairedBy.CONTEXT, min(confidence, LIKELY))
            return
        if self.mine.forward[here] == self.theirs.forward[there]:
            by, confidence = PairedBy.STRUCTURE, EXACT
        elif by is PairedBy.CONTEXT and confidence >= CLEAR and self.trusted() and self.same_title(here, there):
            by, confidence = PairedBy.NAME, NAMED
        for mine, theirs in zip(self.mine.outputs[here], self.theirs.outputs[there], strict=False):
            if mine and theirs and mine not in self.pairs:
                self.value(mine, theirs, by, confidence)
        self.join(here, there)

    def _tell(self, what: str | int) -> None:
        for queue in self.news:
            queue.append(what)

    def tell_all(self) -> None:
        """Every pair is news again: what it was compared with may be settled by now."""
        for queue in self.news:
            queue.extend([*self.pairs, *self.nodes])

    def free(self, here: int) -> bool:
        """Whether a node of the target has no pair."""
        return here not in self.nodes and not any(n in self.pairs for n in self.mine.outputs[here] if n)

    def free_there(self, there: int) -> bool:
        """Whether a node of the source has none."""
        return there not in self._taken and not any(n in self.back for n in self.theirs.outputs[there] if n)

    def both_free(self) -> tuple[list[int], list[int]]:
        """The nodes without pairs, in the graphs' order."""
        mine = [node for node in range(len(self.mine.nodes)) if self.free(node)]
        return mine, [node for node in range(len(self.theirs.nodes)) if self.free_there(node)]

    def title(self, content: Content, node: int) -> str:
        """The name of a node's first result, as it was before a tool renamed it."""
        name = content.outputs[node][0]
        return self._names.get(name, name) if content is self.mine else name

    def same_title(self, here: int, there: int) -> bool:
        """Whether what two nodes make bears the same name."""
        name = self.title(self.mine, here)
        return bool(name) and name == self.title(self.theirs, there)

    def trusted(self) -> bool:
        """Whether names are the same where values surely are; so where no value is sure. Asked once."""
        if self._trust is None:
            sure = [
                self._names.get(name, name) == pair.source
                for name, pair in self.pairs.items()
                if pair.by is PairedBy.STRUCTURE and name not in self.mine.constant
            ]
            self._trust = sum(sure) >= _TRUST * len(sure)
        return self._trust

    def fits(self, here: int, there: int) -> bool:
        """Whether two nodes may be a pair: free, of one operator, and nothing speaks against it."""
        if not (self.free(here) and self.free_there(there)):
            return False
        if self.mine.operator(here) != self.theirs.operator(there):
            return False
        forward = self.mine.forward[here]
        if forward != self.theirs.forward[there] and any(map(self.free_there, self._alike.get(forward, ()))):
            return False  # another one is computed alike
        return not self._contradicted(here, there) and not self._moved(here, there)

    def _moved(self, here: int, there: int) -> bool:
        """Whether two nodes move elements in different ways for different readers: one layout may be had by many."""
        mine, theirs = self.mine, self.theirs
        if mine.nodes[here].op_type not in _MOVES or (self.trusted() and self.same_title(here, there)):
            return False
        if (mine.labels[here], mine.sides[here]) == (theirs.labels[there], theirs.sides[there]):
            return False
        return mine.behind(here) != theirs.behind(there)

    def _contradicted(self, here: int, there: int) -> bool:
        """Whether paired operands say that two nodes are no pair."""
        a, b = self.mine.operands[here], self.theirs.operands[there]
        if self.mine.commutes(here):
            a, b = tuple(self.mine.data(here)), tuple(self.theirs.data(there))
            partners = {self.pairs[name].source for name in a if name in self.pairs}
            known = {name for name in b if name in self.back}
            whole = len(partners) == len(set(a)) and len(known) == len(set(b))
            return whole and not partners & known
        return any(self._apart(x, y) for x, y in zip(a, b, strict=False) if x and y)

    def _apart(self, here: str, there: str) -> bool:
        """Whether two operands cannot be one value: one is paired with something that the other is not made from."""
        if here in self.mine.constant or there in self.theirs.constant:
            return False
        if here in self.pairs:
            partner = self.pairs[here].source
            if partner == there or self.mine.hashes[here] == self.theirs.hashes[there]:
                return False
            return there in self.back or not made_from(self.theirs, there, partner)
        return there in self.back and not made_from(self.mine, here, self.back[there])

    def unique(self, mine: Iterable[int], theirs: Iterable[int], key: Key, by: PairedBy, confidence: float) -> bool:
        """Links nodes that are the only ones on either side with some key."""
        found = False
        for here, there in self.only(mine, theirs, key):
            if self.fits(here, there):
                self.link(here, there, by, confidence)
                found = True
        return found

    def only(self, mine: Iterable[int], theirs: Iterable[int], key: Key) -> list[tuple[int, int]]:
        """Free nodes that are the only ones on either side with some key."""
        here = _buckets(self.mine, filter(self.free, mine), key)
        there = _buckets(self.theirs, filter(self.free_there, theirs), key)
        return [(nodes[0], there[k][0]) for k, nodes in here.items() if len(nodes) == len(there.get(k, ())) == 1]

    def frontier(self, value: str) -> set[str]:
        """The paired values that an unpaired one of the target is made from, as the source's."""
        found = _nearest(self.mine, value, self.pairs)
        return {self.pairs[name].source for name in found}

    def frontier_there(self, value: str) -> set[str]:
        """The paired values that an unpaired one of the source is made from."""
        return _nearest(self.theirs, value, self.back)


def _buckets(content: Content, nodes: Iterable[int], key: Key) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for node in dict.fromkeys(nodes):
        found.setdefault(key(content, node), []).append(node)
    return found


def made_from(content: Content, value: str, origin: str) -> bool:
    """Whether a few operators without weights make ``value`` of ``origin``."""
    pending: Sequence[str] = [value]
    for _ in range(_HOPS):
        if not pending:
            return False
        name, *pending = pending
        node = content.makers.get(name, (-1, 0))[0]
        if node >= 0 and not content.weights[node]:
            reads = content.data(node)
            if origin in reads:
                return True
            pending = [*pending, *reads]
    return False


def _nearest(content: Content, value: str, known: Mapping[str, object]) -> set[str]:
    """The known values nearest behind ``value``; what has more than a few nodes before it has none."""
    found: set[str] = set()
    seen: set[str] = set()
    pending = [value]
    while pending:
        name = pending.pop()
        node = content.makers.get(name, (-1, 0))[0]
        if node < 0 or name in seen:
            continue
        seen.add(name)
        if len(seen) > 2 * _HOPS:
            return set()
        for read in content.data(node):
            if read in known:
                found.add(read)
            else:
                pending.append(read)
    return found
