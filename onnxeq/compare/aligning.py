"""Which layer of one graph stands where which layer of the other stands.

Both graphs are brought into one order (:mod:`onnxeq.compare.ordering`) and aligned like two texts: a layer is paired
with one of its family at a cost that says how unlike they are, or left alone at a cost that says how much is missing, a
run of layers at less than each by itself (Gotoh 1982, affine gaps). The costs only choose between alignments; what is
reported is what is different in the chosen one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher

from onnxeq.compare.kinds import family
from onnxeq.compare.ordering import in_order
from onnxeq.compare.sameness import signature, telling
from onnxeq.compare.values import Graph, Layer

__all__ = ["Pairing", "align"]

Pairing = list[tuple[int | None, int | None]]
"""Positions in the left and the right graph; ``None`` where one has nothing there."""

_OPENING = 0.8
"""What it costs to begin a run of layers that only one side has."""

_ALONE = {
    "convolution": 2.5, "dense": 2.5, "normalisation": 0.8, "activation": 0.6, "pooling": 1.5, "sum": 1.5,
    "product": 1.5, "concatenation": 1.5, "input": 9.0, "attention": 2.5, "recurrent": 2.5,
}  # fmt: skip
"""What it costs to leave a layer of a family alone; 1 for others."""

_OTHER_KIND = {"convolution": 2.0, "normalisation": 0.6, "activation": 0.4, "pooling": 0.8, "recurrent": 2.0}
_ATTRIBUTES = {
    "kernel": 1.5, "out": 1.0, "groups": 0.8, "strides": 0.5, "dilations": 0.5, "in": 0.3, "read": 0.15, "bias": 0.05,
    "channels": 0.3, "epsilon": 0.05, "sizes": 0.3, "by": 0.2,
}  # fmt: skip
"""What it costs that an attribute is another; 0.3 for others."""

_MOST_CELLS = 4_000_000


def align(left: Graph, right: Graph) -> Pairing:
    """Pairs the layers of two graphs, in order; each layer stands in the result once."""
    ours, theirs = in_order(left), in_order(right)
    a, b = [left.layers[i] for i in ours], [right.layers[i] for i in theirs]
    return [
        (None if i is None else ours[i], None if j is None else theirs[j])
        for i, j in _sequences(a, b, _signatures(a), _signatures(b))
    ]


def _signatures(layers: Sequence[Layer]) -> list[tuple[object, ...]]:
    return [signature(layer) for layer in layers]


def _sequences(
    a: Sequence[Layer], b: Sequence[Layer], own: Sequence[tuple[object, ...]], other: Sequence[tuple[object, ...]]
) -> Pairing:
    """Aligns what lies between a common beginning and a common end."""
    head = 0
    while head < min(len(a), len(b)) and own[head] == other[head]:
        head += 1
    tail = 0
    while tail < min(len(a), len(b)) - head and own[-1 - tail] == other[-1 - tail]:
        tail += 1
    middle = _middle(a, b, own, other, range(head, len(a) - tail), range(head, len(b) - tail))
    ends = [(len(a) - tail + i, len(b) - tail + i) for i in range(tail)]
    return [*((i, i) for i in range(head)), *middle, *ends]


def _middle(
    a: Sequence[Layer],
    b: Sequence[Layer],
    own: Sequence[tuple[object, ...]],
    other: Sequence[tuple[object, ...]],
    rows: range,
    columns: range,
) -> Pairing:
    """The best alignment; where that is too much to look at, only between the longest runs that are the same."""
    if len(rows) * len(columns) <= _MOST_CELLS:
        return _best(a, b, own, other, rows, columns)
    match = SequenceMatcher(None, [own[i] for i in rows], [other[j] for j in columns], autojunk=False)
    found: Pairing = []
    for tag, i1, i2, j1, j2 in match.get_opcodes():
        mine, yours = rows[i1:i2], columns[j1:j2]
        if tag == "equal":
            found += list(zip(mine, yours, strict=True))
        elif len(mine) * len(yours) <= _MOST_CELLS:
            found += _best(a, b, own, other, mine, yours)
        else:
            found += [*((i, None) for i in mine), *((None, j) for j in yours)]
    return found


_PAIRED, _LEFT, _RIGHT = 0, 1, 2


def _best(
    a: Sequence[Layer],
    b: Sequence[Layer],
    own: Sequence[tuple[object, ...]],
    other: Sequence[tuple[object, ...]],
    rows: range,
    columns: range,
) -> Pairing:
    """Three tables of least costs: the last two are paired, the last left one is alone, the last right one is."""
    ours, mine = _numbered([own[i] for i in rows])
    theirs, yours = _numbered([other[j] for j in columns])
    costs = [[_unlike(a[rows[i]], b[columns[j]]) for j in yours] for i in mine]
    alone = [_ALONE.get(family(b[j].kind), 1.0) for j in columns]
    width = len(columns) + 1
    paired, left, right = [0.0, *[math.inf] * (width - 1)], [math.inf] * width, [math.inf] * width
    for j in range(1, width):
        right[j] = alone[j - 1] + (right[j - 1] if j > 1 else _OPENING)
    came = [bytes([_code(_RIGHT, _RIGHT, _RIGHT)] * width)]
    for i, number in zip(rows, ours, strict=True):
        single, row = _ALONE.get(family(a[i].kind), 1.0), costs[number]
        now_p, now_l, now_r = [math.inf], [min(paired[0] + _OPENING, left[0]) + single], [math.inf]
        from_ = bytearray([_code(_LEFT, _LEFT if left[0] <= paired[0] + _OPENING else _PAIRED, _LEFT)])
        last_p, last_l, last_r = paired[0], left[0], right[0]  # of the row above, one column before
        for j, other_number in enumerate(theirs, 1):
            p, opened = _least(last_p, last_l, last_r)
            last_p, last_l, last_r = paired[j], left[j], right[j]
            down, ended = _least(last_p + _OPENING, last_l, last_r + _OPENING)
            along, went = _least(now_p[-1] + _OPENING, now_l[-1] + _OPENING, now_r[-1])
            now_p.append(p + row[other_number])
            now_l.append(down + single)
            now_r.append(along + alone[j - 1])
            from_.append(_code(opened, ended, went))
        came.append(bytes(from_))
        paired, left, right = now_p, now_l, now_r
    return _traced(came, rows, columns, _least(paired[-1], left[-1], right[-1])[1])


def _least(p: float, left: float, right: float) -> tuple[float, int]:
    """The least of three costs and which it is; of equal ones the first."""
    if p <= left:
        return (p, _PAIRED) if p <= right else (right, _RIGHT)
    return (left, _LEFT) if left <= right else (right, _RIGHT)


def _numbered(signatures: Sequence[tuple[object, ...]]) -> tuple[list[int], list[int]]:
    """A number for each signature, and where each number occurs first."""
    numbers: dict[tuple[object, ...], int] = {}
    first: list[int] = []
    found = []
    for position, held in enumerate(signatures):
        if held not in numbers:
            numbers[held] = len(first)
            first.append(position)
        found.append(numbers[held])
    return found, first


def _code(paired: int, left: int, right: int) -> int:
    """Where each of the three states of a cell came from, in one byte."""
    return paired + 3 * left + 9 * right


def _traced(came: list[bytes], rows: range, columns: range, state: int) -> Pairing:
    i, j = len(rows), len(columns)
    found: Pairing = []
    while i or j:
        before = came[i][j] // 3**state % 3
        if i == 0:
            state = _RIGHT
        elif j == 0:
            state = _LEFT
        if state == _PAIRED:
            i, j = i - 1, j - 1
            found.append((rows[i], columns[j]))
        elif state == _LEFT:
            i -= 1
            found.append((rows[i], None))
        else:
            j -= 1
            found.append((None, columns[j]))
        state = before
    return found[::-1]


def _unlike(a: Layer, b: Layer) -> float:
    """What it costs to pair two layers; infinite where they cannot stand in each other's place."""
    kin = family(a.kind)
    if kin != family(b.kind):
        return math.inf
    cost = _OTHER_KIND.get(kin, 0.3) if a.kind != b.kind else 0.0
    mine, theirs = telling(a), telling(b)
    for name in {*mine, *theirs}:
        if mine.get(name) != theirs.get(name):
            cost += _ATTRIBUTES.get(name, 0.3)
    return cost
