"""What the nodes behind a departure do not have in common with the reference's, as edits that can be taken back.

An edit turns the artifact's group of nodes into one that has one thing from the reference: a parameter, an operand,
an operator, one node less. Whether it explains the departure is not asked here but tried
(:mod:`onnxeq.layers.faults.counterfact`).
"""

from __future__ import annotations

import difflib
import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnxeq.layers.faults.bodies import InnerEdit, inner_edits
from onnxeq.layers.faults.parameters import (
    array_of,
    constant_value,
    data_inputs,
    described,
    formal_name,
    same_parameter,
    shown,
    with_parameter,
)
from onnxeq.layers.likeness import LIMIT, distance
from onnxeq.layers.program import Program, label
from onnxeq.layers.walking.alignment import Alignment, Departure
from onnxeq.referee.frames import Entry
from onnxeq.types import Array

__all__ = ["Edit", "EditKind", "Groups", "attributes_apart", "edits", "groups_of", "twice", "widened"]


class EditKind(enum.IntEnum):
    """What an edit takes back; of two that explain the same, the one with the smaller number is told."""

    ATTRIBUTE = 0
    CONSTANT = 1
    BYPASS = 2
    OPERATOR = 3
    OPERAND = 4
    NODE = 5


@dataclass(frozen=True)
class Groups:
    """The nodes between what both sides have in common and a departure.

    Attributes:
        mine: Positions in the artifact.
        theirs: Positions in the reference.
    """

    mine: tuple[int, ...]
    theirs: tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """One difference, taken back.

    Attributes:
        kind: What it is about.
        position: The artifact's node that it is at.
        other: The reference's node, if there is one.
        name: The parameter's or operand's name in the operator's schema.
        nodes: The group with the edit.
        given: Values that its nodes read besides the artifact's.
        mine: What the artifact has: a value's name, or an attribute's value.
        theirs: What the reference has.
        arrays: Both sides' content where it is an array.
        inner: Where it is inside of a body, what it is there.
    """

    kind: EditKind
    position: int
    other: int | None
    name: str
    nodes: tuple[onnx.NodeProto, ...]
    given: Mapping[str, Entry] = field(default_factory=dict)
    mine: Any = None
    theirs: Any = None
    arrays: tuple[Array | None, Array | None] = (None, None)
    inner: InnerEdit | None = None


def groups_of(found: Alignment, departure: Departure) -> Groups:
    """The nodes that make a departing value from settled ones, on both sides."""
    artifact, reference = found.artifact, found.reference
    settled = {n for n in found.values if found.settled(n) and n != departure.value}
    mine = [p for p in artifact.ancestors(departure.value, settled) if not _constant(artifact, p)]
    theirs: list[int] = []
    if departure.counterpart is not None and departure.counterpart.name in reference.makers:
        known = {c.name for n, c in found.counterparts.items() if n != departure.value and found.settled(n)}
        before = {n for p in artifact.ancestors(departure.value) for n in artifact.reads(p)}
        if any(n in before and c.name == departure.counterpart.name for n, c in found.counterparts.items()):
            return Groups(tuple(mine), ())  # what belongs in the place is there already: too much was made of it
        known -= {departure.counterpart.name}
        theirs = [
            p
            for p in reference.ancestors(departure.counterpart.name, known | set(reference.inputs))
            if not _constant(reference, p)
        ]
    return Groups(tuple(mine), tuple(theirs))


def widened(found: Alignment, groups: Groups, edit: Edit) -> Groups | None:
    """The groups with the makers of an operand that is another one, where both are of one operator."""
    added: list[tuple[int, int]] = []
    for mine, theirs in zip(edit.mine, edit.theirs, strict=True):
        one, two = found.artifact.makers.get(mine), found.reference.makers.get(theirs)
        if one is None or two is None or one in groups.mine:
            return None
        a, r = found.artifact.nodes[one], found.reference.nodes[two]
        if _constant(found.artifact, one) or _constant(found.reference, two):
            return None
        if a.op_type != r.op_type and not (twice(found, mine) and _read_alike(found, one, two)):
            return None
        if list(a.output).index(mine) != list(r.output).index(theirs):
            return None
        added.append((one, two))
    if not _in_one_order(added):
        return None
    return Groups(
        tuple(sorted({*groups.mine, *(a for a, _ in added)})), tuple(sorted({*groups.theirs, *(r for _, r in added)}))
    )


def twice(found: Alignment, name: str) -> bool:
    """Whether the artifact has a value of the reference in two places: one of them should be another."""
    held = found.counterparts.get(name)
    return held is not None and sum(c == held for c in found.counterparts.values()) > 1


def _read_alike(found: Alignment, one: int, two: int) -> bool:
    """Whether two nodes read the same values."""
    mine = [found.values[n].value for n in found.artifact.operands(one) if n in found.values]
    theirs = [found.theirs[n].value for n in found.reference.operands(two) if n in found.theirs]
    return len(mine) == len(theirs) and all(
        isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and distance(a, b) <= LIMIT
        for a, b in zip(mine, theirs, strict=True)
    )


def _in_one_order(pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether nodes stand in the same order on both sides: then what they read was exchanged, not the nodes."""
    rows = sorted(pairs)
    return all(a[1] <= b[1] for a, b in itertools.pairwise(rows))


def _constant(program: Program, position: int) -> bool:
    return all(name in program.constant for name in program.nodes[position].output if name)


def edits(found: Alignment, departure: Departure, groups: Groups) -> Iterator[Edit]:
    """Every difference between the two groups that can be taken back on its own."""
    mine = [found.artifact.nodes[p] for p in groups.mine]
    for left, right in _paired(found, groups):
        if left is not None and right is not None:
            a, r = found.artifact.nodes[left], found.reference.nodes[right]
            if (a.op_type, a.domain) == (r.op_type, r.domain):
                yield from _bodies(found, mine, left, right)
                yield from _parameters(found, mine, left, right)
            yield from _operator(found, mine, left, right)
            yield from _operands(found, mine, left, right)
        elif left is not None:
            yield from _bypass(found, mine, left, departure)


def _paired(found: Alignment, groups: Groups) -> Iterator[tuple[int | None, int | None]]:
    """The artifact's nodes with the reference's, by operator and order; what has no partner stands alone.

    Both groups are read from their ends, since the last nodes make the value that departs.
    """
    mine, theirs = groups.mine[::-1], groups.theirs[::-1]
    left = [found.artifact.nodes[p].op_type for p in mine]
    right = [found.reference.nodes[p].op_type for p in theirs]
    ends = int(bool(left and right) and left[0] == right[0])
    if ends:
        yield mine[0], theirs[0]
    matcher = difflib.SequenceMatcher(None, left[ends:], right[ends:], autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag in ("equal", "replace"):
            ours, others = mine[a + ends : b + ends], theirs[c + ends : d + ends]
            yield from itertools.zip_longest(ours, others)
        elif tag == "delete":
            yield from ((p, None) for p in mine[a + ends : b + ends])


def _bodies(found: Alignment, mine: Sequence[onnx.NodeProto], left: int, right: int) -> Iterator[Edit]:
    """What differs inside of the bodies of two loops, branches or scans."""
    a, r = found.artifact.nodes[left], found.reference.nodes[right]
    outer = tuple(
        {n: e.value for n, e in side.stored.items() if isinstance(e.value, np.ndarray)}
        for side in (found.artifact, found.reference)
    )
    names = {c.name: n for n, c in found.counterparts.items() if c.layout is None}
    for inner in inner_edits(a, r, (outer[0], outer[1]), names):
        kind = EditKind.CONSTANT if inner.formal >= 0 and inner.arrays[0] is not None else EditKind.ATTRIBUTE
        yield Edit(kind, left, right, inner.text, _replaced(mine, a, [inner.whole]), arrays=inner.arrays, inner=inner)


def _parameters(found: Alignment, mine: Sequence[onnx.NodeProto], left: int, right: int) -> Iterator[Edit]:
    """Attributes and constant inputs that differ."""
    order = _matched_inputs(found, left, right)
    ours = described(found.artifact, left)
    theirs = described(found.reference, right, order)
    node = found.artifact.nodes[left]
    data = data_inputs(found.artifact, left) | data_inputs(found.reference, right, order)
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(name), theirs.get(name)
        if name in data:  # computed on one side: an operand
            continue
        if a is not None and b is not None and same_parameter(a.value, b.value):
            continue
        edited = with_parameter(node, name, a, b)
        if edited is None:
            continue
        copy, given = edited
        held = a or b
        attribute = held is not None and held.source == "" and (b is None or b.source == "")
        kind = EditKind.ATTRIBUTE if attribute else EditKind.CONSTANT
        if held is not None and isinstance(held.value, onnx.GraphProto):
            kind = EditKind.NODE  # a whole body says less than what is in it
        yield Edit(
            kind, left, right, name, _replaced(mine, node, [copy]),
            given, shown(a), shown(b), (array_of(a), array_of(b)),
        )  # fmt: skip


def _replaced(
    group: Sequence[onnx.NodeProto], node: onnx.NodeProto, by: Sequence[onnx.NodeProto]
) -> tuple[onnx.NodeProto, ...]:
    return tuple(n for old in group for n in (by if old is node else [old]))


_COMMUTATIVE = frozenset("Add Mul And Or Xor Equal Max Min Sum Mean BitwiseAnd BitwiseOr BitwiseXor".split())


def _matched_inputs(found: Alignment, left: int, right: int) -> list[str]:
    """The reference's inputs in the artifact's order: where order means nothing, each beside the one that it equals."""
    a, r = found.artifact.nodes[left], found.reference.nodes[right]
    theirs = list(r.input)
    if a.op_type not in _COMMUTATIVE or a.op_type != r.op_type or len(a.input) != len(theirs):
        return theirs
    placed: list[str | None] = [None] * len(theirs)
    for equal in (True, False):  # first what is the same, then what is of one kind, then the rest
        for index, mine in enumerate(a.input):
            if placed[index] is None:
                fits = _is_it if equal else _of_one_kind
                placed[index] = next((name for name in theirs if fits(found, mine, name)), None)
                if placed[index] is not None:
                    theirs.remove(str(placed[index]))
    return [name if name is not None else theirs.pop(0) for name in placed]


def _is_it(found: Alignment, mine: str, theirs: str) -> bool:
    if mine in found.counterparts:
        return found.counterparts[mine].name == theirs
    if mine not in found.artifact.constant or theirs not in found.reference.constant:
        return False
    one, two = constant_value(found.artifact, mine), constant_value(found.reference, theirs)
    return one is not None and two is not None and same_parameter(one.value, two.value)


def _of_one_kind(found: Alignment, mine: str, theirs: str) -> bool:
    return (mine in found.artifact.constant) == (theirs in found.reference.constant)


def _operands(found: Alignment, mine: Sequence[onnx.NodeProto], left: int, right: int) -> Iterator[Edit]:
    """Inputs at the same place that are other values."""
    a, r = found.artifact.nodes[left], found.reference.nodes[right]
    changes: list[tuple[int, str, Entry]] = []
    inputs = _matched_inputs(found, left, right)
    for index in range(min(len(a.input), len(r.input))):
        ours, theirs = a.input[index], inputs[index]
        if not ours or not theirs or (ours in found.artifact.constant and theirs in found.reference.constant):
            continue
        entry = _value_there(found, theirs)
        held = found.values.get(ours) or (
            constant_value(found.artifact, ours) if ours in found.artifact.constant else None
        )
        if entry is None or held is None or not isinstance(held.value, np.ndarray):
            continue
        if isinstance(entry.value, np.ndarray) and distance(held.value, entry.value, found.slacks.get(ours)) > LIMIT:
            changes.append((index, theirs, entry))
    for chosen in [[c] for c in changes] + ([changes] if len(changes) > 1 else []):
        copy = onnx.NodeProto()
        copy.CopyFrom(a)
        given = {}
        for index, name, entry in chosen:
            copy.input[index] = f"{name} of the reference"
            given[copy.input[index]] = entry
        first = chosen[0]
        yield Edit(
            EditKind.OPERAND, left, right, ", ".join(formal_name(found.artifact, a, c[0]) for c in chosen),
            _replaced(mine, a, [copy]), given, tuple(a.input[c[0]] for c in chosen), tuple(c[1] for c in chosen),
            (found.values[a.input[first[0]]].value if a.input[first[0]] in found.values else None, first[2].value),
        )  # fmt: skip


def _value_there(found: Alignment, name: str) -> Entry | None:
    entry = found.theirs.get(name)
    return constant_value(found.reference, name) if entry is None and name in found.reference.constant else entry


def _operator(found: Alignment, mine: Sequence[onnx.NodeProto], left: int, right: int) -> Iterator[Edit]:
    """The reference's operator, with the artifact's data operands and the reference's constants."""
    a, r = found.artifact.nodes[left], found.reference.nodes[right]
    data = [n for n in a.input if n and n not in found.artifact.constant]
    slots = [i for i, n in enumerate(r.input) if n and n not in found.reference.constant]
    if len(data) != len(slots):
        return
    copy = onnx.NodeProto()
    copy.CopyFrom(r)
    given = {}
    for index, name in enumerate(copy.input):
        if name in found.reference.constant and (entry := constant_value(found.reference, name)) is not None:
            copy.input[index] = f"{name} of the reference"
            given[copy.input[index]] = entry
    for slot, name in zip(slots, data, strict=True):
        copy.input[slot] = name
    del copy.output[:]
    copy.output.extend(list(a.output)[: len(r.output)])  # a training mode has results of its own
    kind = EditKind.OPERATOR if a.op_type != r.op_type else EditKind.NODE
    yield Edit(kind, left, right, "", _replaced(mine, a, [copy]), given, a.op_type, r.op_type)


def attributes_apart(found: Alignment, edit: Edit) -> list[tuple[str, Any, Any]]:
    """Names and values of the attributes in which two nodes of one operator differ."""
    if edit.other is None:
        return []
    ours, theirs = described(found.artifact, edit.position), described(found.reference, edit.other)
    rows = []
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(name), theirs.get(name)
        if (a is not None and a.source) or (b is not None and b.source):
            continue
        if a is None or b is None or not same_parameter(a.value, b.value):
            rows.append((name, shown(a), shown(b)))
    return rows


def _bypass(found: Alignment, mine: Sequence[onnx.NodeProto], left: int, departure: Departure) -> Iterator[Edit]:
    """The group without a node that the reference does not have."""
    node = found.artifact.nodes[left]
    for source in (n for n in node.input if n and n not in found.artifact.constant):
        rest = []
        for other in mine:
            if other is not node:
                copy = onnx.NodeProto()
                copy.CopyFrom(other)
                copy.input[:] = [source if n == node.output[0] else n for n in copy.input]
                rest.append(copy)
        if node.output[0] == departure.value:
            rest.append(onnx.helper.make_node("Identity", [source], [departure.value]))
        yield Edit(EditKind.BYPASS, left, None, "", tuple(rest), {}, label(node), None)
