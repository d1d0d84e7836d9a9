"""A group of nodes with differences taken back: does the departure go away?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxeq.errors import OnnxeqError
from onnxeq.layers.faults.differences import Edit, EditKind, Groups, edits, twice, widened
from onnxeq.layers.likeness import LIMIT, arrange, distance
from onnxeq.layers.program import reads_of
from onnxeq.layers.walking.alignment import Alignment, Departure
from onnxeq.referee.frames import Kind
from onnxeq.types import Array

__all__ = ["Explanation", "explain"]

_MOST_EDITS = 40


@dataclass(frozen=True)
class Explanation:
    """Which differences make a departure.

    Attributes:
        edits: Those that have to be taken back; more than one when none explains it alone.
        left: How far the result is from the reference's then, in units (:func:`onnxeq.layers.likeness.distance`).
        proven: Whether that is nothing.
    """

    edits: tuple[Edit, ...]
    left: float
    proven: bool


def explain(found: Alignment, departure: Departure, groups: Groups) -> Explanation:
    """The smallest set of differences that makes a departure, found by taking them back.

    One alone if one does; else all parameters together, less those that make no difference. Where nothing explains
    it, the difference that brings the result nearest.
    """
    candidates = sorted(
        itertools.islice(edits(found, departure, groups), _MOST_EDITS), key=lambda e: (e.kind, e.position)
    )
    if departure.counterpart is None or not candidates:
        return Explanation((), departure.units, False)
    inner = [e for e in candidates if e.kind is EditKind.OPERAND and _made_within(found, groups, e)]
    candidates = [e for e in candidates if e not in inner] or inner
    tried = [(edit, _left(found, departure, edit.nodes, [edit])) for edit in candidates]
    for edit, left in tried:
        if left <= LIMIT and edit.kind is not EditKind.NODE:
            return _deeper(found, departure, groups, edit) or Explanation((edit,), left, True)
    joint = _joint(found, departure, groups, candidates)
    if joint is not None:
        return joint
    whole = next((row for row in tried if row[1] <= LIMIT), None)  # what cannot be taken back piece by piece
    if whole is not None:
        return Explanation((whole[0],), whole[1], True)
    nearest = min(tried, key=lambda row: row[1])
    helped = nearest[1] < departure.units
    return Explanation((nearest[0],) if helped else (), min(nearest[1], departure.units), False)


def _made_within(found: Alignment, groups: Groups, edit: Edit) -> bool:
    """Whether an operand that is another value is made by the group itself: what is wrong is then its maker.

    A mask or an index, which each exporter makes its own way, is looked into by itself.
    """
    makers = found.artifact.makers
    return all(makers.get(n) in groups.mine and found.values[n].kind is Kind.DATA for n in edit.mine)


def _deeper(found: Alignment, departure: Departure, groups: Groups, edit: Edit) -> Explanation | None:
    """What is wrong with the node that makes an operand, where it is one of the kind that the reference has there."""
    wider = widened(found, groups, edit) if edit.kind is EditKind.OPERAND else None
    if wider is None:
        return None
    new = set(wider.mine) - set(groups.mine)
    kinds = [EditKind.ATTRIBUTE, EditKind.CONSTANT, EditKind.OPERATOR]
    if all(twice(found, name) for name in edit.mine):  # the operand is no other's value: what made it read another one
        kinds.append(EditKind.OPERAND)
    candidates = [e for e in itertools.islice(edits(found, departure, wider), _MOST_EDITS) if e.position in new]
    candidates = [e for e in candidates if e.kind in kinds]
    for candidate in candidates:
        left = _left(found, departure, candidate.nodes, [candidate])
        if left <= LIMIT:
            further = _deeper(found, departure, wider, candidate) if candidate.kind is EditKind.OPERAND else None
            return further or Explanation((candidate,), left, True)
    return _joint(found, departure, wider, candidates) if candidates else None


def _joint(found: Alignment, departure: Departure, groups: Groups, candidates: Sequence[Edit]) -> Explanation | None:
    """All parameters and operators taken back together, then each put in again that is not needed."""
    chosen = [e for e in candidates if e.kind in (EditKind.ATTRIBUTE, EditKind.CONSTANT, EditKind.OPERAND)]
    chosen = [e for i, e in enumerate(chosen) if not _overlaps(e, chosen[:i])]
    if len(chosen) < 2:
        return None
    left = _left(found, departure, _merged(found, groups, chosen), chosen)
    if left > LIMIT:
        return None
    for edit in list(chosen):
        rest = [e for e in chosen if e is not edit]
        if rest and (without := _left(found, departure, _merged(found, groups, rest), rest)) <= LIMIT:
            chosen, left = rest, without
    return Explanation(tuple(chosen), left, True)


def _overlaps(edit: Edit, others: Sequence[Edit]) -> bool:
    """Whether another edit is about the same thing."""
    names = set(edit.name.split(", "))
    return any(o.position == edit.position and names & set(o.name.split(", ")) for o in others)


def _merged(found: Alignment, groups: Groups, chosen: Sequence[Edit]) -> tuple[onnx.NodeProto, ...]:
    """The group with several edits of different things."""
    nodes = []
    for position in groups.mine:
        base = found.artifact.nodes[position]
        copy = onnx.NodeProto()
        copy.CopyFrom(base)
        index = groups.mine.index(position)
        for edit in (e for e in chosen if e.position == position):
            edited = edit.nodes[index]
            for i, name in enumerate(edited.input):
                if i >= len(base.input) or name != base.input[i]:
                    while len(copy.input) <= i:
                        copy.input.append("")
                    copy.input[i] = name
            if edit.kind is EditKind.ATTRIBUTE:
                kept = [a for a in copy.attribute if a.name != edit.name]
                kept += [a for a in edited.attribute if a.name == edit.name]
                del copy.attribute[:]
                copy.attribute.extend(kept)
        nodes.append(copy)
    return tuple(nodes)


def _left(found: Alignment, departure: Departure, nodes: Sequence[onnx.NodeProto], chosen: Sequence[Edit]) -> float:
    """The distance that is left when a group of nodes takes the place of the artifact's."""
    if departure.counterpart is None:
        return np.inf
    result = _result(found, departure.value, nodes, chosen)
    if result is None:
        return np.inf
    theirs = arrange(found.theirs[departure.counterpart.name].value, departure.counterpart.layout)
    return distance(result, theirs, _slack(departure, result))


def _slack(departure: Departure, result: Array) -> Array | None:
    """Slack as far as the departure's own result is uncertain: half a float32 ulp of what it sums up."""
    if departure.slack is not None and departure.slack.shape == result.shape:
        return departure.slack
    return None


def _result(found: Alignment, value: str, nodes: Sequence[onnx.NodeProto], chosen: Sequence[Edit]) -> Array | None:
    known = {name: entry for edit in chosen for name, entry in edit.given.items()}
    made = {name for node in nodes for name in node.output}
    for node in nodes:
        for name in reads_of(node):
            if name not in made and name not in known:
                entry = found.values.get(name)
                if entry is None:
                    return None
                known[name] = entry
    try:
        entries = found.artifact.executor(nodes).run_entries({}, outputs=[value], known=known)
    except OnnxeqError:
        return None
    return np.asarray(entries[value].value)
