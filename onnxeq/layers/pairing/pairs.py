"""Which value of one graph is which of another, told from the graphs alone.

The surest evidence comes first, and each find is followed to its neighbours before weaker evidence is looked at:

1. Values that are computed alike from the graph's inputs (equal forward hashes) are the same. Behind a fault nothing
   is computed alike, but what becomes of a value up to the outputs is (equal backward hashes).
2. Next to a pair, in the same place: the same operator with the same attributes and constants; then the same operator
   whose result bears the same name.
3. Anywhere: the same operator with weights that no other node has; then the same operator and name in the same
   surroundings. Exporters count names up: where values that are surely the same have other names, names say nothing.
4. Next to a pair, in the same place: the same operator, whatever its attributes and constants. What a tool has folded
   into a node's weights counts as part of it.
5. What one reader takes in one place, made from the same values by other operators; the same node behind one that
   only one graph has.
6. Values that are computed alike in several places, in the order of the graph.

Every step takes the only candidate on either side, and none where there are two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnx

from onnxeq.layers.pairing.content import Content, content_of
from onnxeq.layers.pairing.correspondence import CLEAR, EXACT, EXACT_BEHIND, NAMED, Correspondence, Key, Pair
from onnxeq.layers.pairing.neighbours import far_neighbours, same_operator_neighbours, unchanged_neighbours
from onnxeq.types import PairedBy

__all__ = ["Pair", "pair_graphs"]


def pair_graphs(
    source: onnx.ModelProto,
    target: onnx.ModelProto,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    *,
    source_dir: Path | None = None,
    target_dir: Path | None = None,
    names: Mapping[str, str] | None = None,
) -> dict[str, Pair]:
    """Pairs the values of two main graphs.

    Args:
        source: The graph that is taken as given.
        target: The graph whose values are looked up in it.
        inputs: Target input -> source input, as far as they correspond.
        outputs: Target output -> source output.
        source_dir: The folder of the source's external data.
        target_dir: The same of the target.
        names: Names that values of the target had before a tool renamed them.

    Returns:
        Target value -> its pair, without values that have none; nothing for stored constants. A source value may
        stand for several that are computed alike.

    Raises:
        onnxeq.errors.UnusableModel: A graph has a cycle, or a name is defined twice or never.
    """
    mine = content_of(target, inputs, outputs, target_dir)
    theirs = content_of(source, {n: n for n in inputs.values()}, {n: n for n in outputs.values()}, source_dir)
    found = Correspondence(mine, theirs, names or {})
    for here, there in inputs.items():
        found.value(here, there, PairedBy.NAME, EXACT)
    for here, there in outputs.items():
        _given(found, mine.roots.get(here, here), theirs.roots.get(there, there))
    _search(found)
    return _of_every_name(found, outputs)


def _given(found: Correspondence, here: str, there: str) -> None:
    """Pairs two outputs, and what makes them where that is the same operator."""
    made, other = found.mine.makers.get(here), found.theirs.makers.get(there)
    if here in found.pairs or made is None or other is None:
        return
    if made[1] == other[1] and found.mine.operator(made[0]) == found.theirs.operator(other[0]):
        same = found.mine.forward[made[0]] == found.theirs.forward[other[0]]
        found.link(made[0], other[0], PairedBy.STRUCTURE if same else PairedBy.NAME, EXACT)
    else:
        found.value(here, there, PairedBy.NAME, EXACT)


def _of_every_name(found: Correspondence, outputs: Mapping[str, str]) -> dict[str, Pair]:
    """The pairs of roots as pairs of every name, an alias with the alias of the same name where there is one."""
    mine, theirs = found.mine, found.theirs
    aliases: dict[str, set[str]] = {}
    for alias, root in theirs.roots.items():
        aliases.setdefault(root, set()).add(alias)
    named = dict(found.pairs)
    for alias, root in mine.roots.items():
        if root in found.pairs:
            pair = found.pairs[root]
            same = alias in aliases.get(pair.source, ())
            named[alias] = Pair(alias if same else pair.source, pair.by, pair.confidence)
    for here, there in outputs.items():
        if here in named:
            named[here] = Pair(there, named[here].by, named[here].confidence)
    return named


def _search(found: Correspondence) -> None:
    """Takes steps until none finds anything more; after each find, the surest are tried again."""
    for _ in _by_structure(found):
        pass
    scans = [_by_weights(found), _by_names(found), _used_alike(found), _in_order(found, level=True)]
    steps: list[Callable[[], bool]] = [
        lambda: _near(found, 0, unchanged_neighbours),
        lambda: next(scans[0], False),
        lambda: next(scans[1], False),
        lambda: _near(found, 1, same_operator_neighbours),
        lambda: next(scans[2], False),
        lambda: _near(found, 2, far_neighbours),
        lambda: next(scans[3], False),
    ]
    while any(step() for step in steps):
        pass
    scans[3] = _in_order(found, level=False)
    found.tell_all()
    while any(step() for step in steps):
        pass


def _near(found: Correspondence, queue: int, look: Callable[[Correspondence, str | int], bool]) -> bool:
    """Looks around news until something is found."""
    news = found.news[queue]
    while news:
        if look(found, news.popleft()):
            return True
    return False


# Step 1.


def _by_structure(found: Correspondence) -> Iterator[bool]:
    mine, theirs = found.mine, found.theirs
    sure = PairedBy.STRUCTURE
    yield found.unique(*found.both_free(), lambda c, n: c.forward[n], sure, EXACT)
    yield found.unique(*found.both_free(), lambda c, n: (c.forward[n], c.backward[n]), sure, EXACT)
    free = found.both_free()
    kept = [n for n in free[0] if mine.data(n)], [n for n in free[1] if theirs.data(n)]
    same: Key = lambda c, n: (c.backward[n], c.labels[n], c.sides[n])  # noqa: E731 - one of several keys
    yield found.unique(*kept, same, sure, EXACT_BEHIND)
    yield found.unique(*kept, lambda c, n: (c.backward[n], c.operator(n)), sure, EXACT_BEHIND)


def _used_alike(found: Correspondence) -> Iterator[bool]:
    """Equal backward hashes, whatever made the values."""
    free = found.both_free()
    kept = [n for n in free[0] if found.mine.data(n)], [n for n in free[1] if found.theirs.data(n)]
    for here, there in found.only(*kept, lambda c, n: c.backward[n]):
        if found.free(here) and found.free_there(there) and _one_result(found, here, there):
            found.value(found.mine.outputs[here][0], found.theirs.outputs[there][0], PairedBy.STRUCTURE, EXACT_BEHIND)
            yield True


def _one_result(found: Correspondence, here: int, there: int) -> bool:
    return len(found.mine.outputs[here]) == len(found.theirs.outputs[there]) == 1


# Step 3.


def _by_weights(found: Correspondence) -> Iterator[bool]:
    mine = [n for n, weights in enumerate(found.mine.weights) if weights]
    theirs = [n for n, weights in enumerate(found.theirs.weights) if weights]
    for here, there in _only_ones(found, mine, theirs, lambda c, n: (c.operator(n), c.weights[n])):
        if found.fits(here, there):
            found.link(here, there, PairedBy.CONTEXT, CLEAR)
            yield True


def _only_ones(found: Correspondence, mine: list[int], theirs: list[int], key: Key) -> list[tuple[int, int]]:
    """Nodes that are the only ones with some key among all, free or not."""
    here: dict[object, list[int]] = {}
    there: dict[object, list[int]] = {}
    for content, nodes, table in ((found.mine, mine, here), (found.theirs, theirs, there)):
        for node in nodes:
            table.setdefault(key(content, node), []).append(node)
    return [(n[0], there[k][0]) for k, n in here.items() if len(n) == 1 and len(there.get(k, ())) == 1]


def _by_names(found: Correspondence) -> Iterator[bool]:
    if not found.trusted():
        return
    own: dict[object, int] = {}
    for weights in found.mine.weights:
        own[weights] = own.get(weights, 0) + 1
    homes: dict[object, list[int]] = {}
    for node, weights in enumerate(found.theirs.weights):
        homes.setdefault(weights, []).append(node)
    for here, there in found.only(*found.both_free(), lambda c, n: (c.operator(n), found.title(c, n))):
        weights = found.mine.weights[here]
        elsewhere = bool(weights) and own[weights] == 1 and weights in homes and there not in homes[weights]
        if not elsewhere and _surroundings(found, here, there) and found.fits(here, there):
            found.link(here, there, PairedBy.NAME, NAMED)
            yield True


def _surroundings(found: Correspondence, here: int, there: int) -> bool:
    """Whether two nodes have the same attributes and constants, or the same operators around them."""
    if (found.mine.labels[here], found.mine.sides[here]) == (found.theirs.labels[there], found.theirs.sides[there]):
        return True
    return _around(found.mine, here) == _around(found.theirs, there)


def _around(content: Content, node: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    before = [content.operator(content.makers[n][0]) for n in content.data(node) if n in content.makers]
    return before, content.behind(node)


# Step 6.


def _in_order(found: Correspondence, *, level: bool) -> Iterator[bool]:
    """Values that are computed alike, in the graph's order; ``level``: where both graphs have as many of them."""
    mine: dict[bytes, list[int]] = {}
    theirs: dict[bytes, list[int]] = {}
    for content, table in ((found.mine, mine), (found.theirs, theirs)):
        for node, forward in enumerate(content.forward):
            table.setdefault(forward, []).append(node)
    for forward, nodes in mine.items():
        here = [n for n in nodes if found.free(n)]
        there = [n for n in theirs.get(forward, ()) if found.free_there(n)]
        if not here or forward not in theirs or (level and len(here) != len(there)):
            continue
        for a, b in zip(here, there, strict=False):
            found.link(a, b, PairedBy.STRUCTURE, EXACT)
        if not level:
            _several_for_one(found, here[len(there) :], theirs[forward][-1])
        yield True


def _several_for_one(found: Correspondence, here: list[int], there: int) -> None:
    """What the target computes more often than the source."""
    for node in here:
        for mine, theirs in zip(found.mine.outputs[node], found.theirs.outputs[there], strict=False):
            if mine and theirs and mine not in found.pairs:
                found.value(mine, theirs, PairedBy.STRUCTURE, EXACT)
