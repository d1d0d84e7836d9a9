"""A departure whose counterpart no name tells: candidates of the reference are tried in its place.

The one counts with which what follows agrees again.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from onnxeq.errors import OnnxeqError
from onnxeq.layers.likeness import arrange, distance, layouts, resemblance
from onnxeq.layers.program import Program
from onnxeq.layers.walking.alignment import Alignment, Counterpart, Departure, State
from onnxeq.layers.walking.settling import copied, downstream, settle, steers
from onnxeq.layers.walking.twins import twins
from onnxeq.referee.frames import Entry, Kind
from onnxeq.types import Array

__all__ = ["frontier", "hypothesis"]


def frontier(found: Alignment) -> list[str]:
    """Open values whose operands are settled, and behind which nothing agrees with the reference again."""
    program = found.artifact
    explained: set[str] = set()
    for position in reversed(range(len(program.nodes))):
        for name in program.nodes[position].output:
            if found.states.get(name) is not State.OPEN:
                continue
            behind = [n for p in program.readers.get(name, ()) for n in program.nodes[p].output if n]
            behind = [n for n in behind if n not in found.values or found.values[n].kind is Kind.DATA]  # no sizes
            if any(found.states.get(n) is State.SAME or n in explained for n in behind):
                explained.add(name)
            elif found.by_name and any(found.states.get(n) is State.WRONG for n in behind):
                explained.add(name)  # it belongs to the departure behind it
    told = {departure.position for departure in found.departures}  # a node's other results say nothing new
    return [
        name
        for position, node in enumerate(program.nodes)
        for name in node.output
        if found.states.get(name) is State.OPEN
        and name not in explained
        and position not in told
        and (name in program.readers or name in program.outputs)
        and not steers(found, name)
        and all(found.settled(n) or n in explained or steers(found, n) for n in program.reads(position))
    ]


_MOST_TRIED = 32

_NEAR = 5
"""Nodes of the reference between an operand and the value that belongs in the result's place, at most."""


def hypothesis(found: Alignment, name: str) -> Departure:
    """The value of the reference with which what follows agrees again; a departure without one if there is none."""
    program = found.artifact
    position = program.makers[name]
    own = found.values[name].value if name in found.values else None
    problem = found.problems.get(name, "")
    best: tuple[float, float, Counterpart] | None = None
    ranked = _ranked(found, position, name, own)[:_MOST_TRIED]
    for candidate, merit in ranked:
        agreed = _agreement(found, name, candidate)
        if agreed > 0 and (best is None or (agreed, merit) > best[:2]):
            best = (agreed, merit, candidate)
            if agreed == 1.0 and merit > _SURE:
                break
    if best is None and ranked and ranked[0][1] >= _ALIKE:
        best = (0.0, ranked[0][1], ranked[0][0])  # what follows it is at fault itself
    if best is None:
        return Departure(name, position, None, own, np.inf, problem)
    chosen = best[2]
    theirs = arrange(found.theirs[chosen.name].value, chosen.layout)
    slack = found.slacks.get(name)
    units = np.inf if own is None else distance(own, theirs, slack)
    return Departure(name, position, chosen, own, units, problem, slack)


_ALIKE = 0.95
"""Merit of a candidate made from a shared operand by the same operator, or with the same content for the most part."""

_SURE = 1.5
"""Merit of a candidate made by the same operator from a shared operand, and resembling the value."""


def _ranked(found: Alignment, position: int, name: str, own: Array | None) -> list[tuple[Counterpart, float]]:
    """Candidates for a place, the likeliest first: by operator, shared operands, resemblance and shape."""
    reference = found.reference
    operator = found.artifact.nodes[position].op_type
    shared = {found.counterparts[n].name for n in found.artifact.reads(position) if n in found.counterparts}
    taken = Counter(c.name for n, c in found.counterparts.items() if found.states.get(n) is State.SAME)
    same = twins(found, position)
    near = _behind(reference, shared) | shared | same
    if own is not None and own.dtype.kind == "f":
        near |= {n for n in found.pool.near(own, 0.05) if n not in taken}
    seen = {c.layout.axes for c in found.counterparts.values() if c.layout is not None}
    rows = []
    for other in near:
        entry = found.theirs.get(other)
        if entry is None or not isinstance(entry.value, np.ndarray) or other in reference.constant:
            continue
        maker = reference.nodes[reference.makers[other]] if other in reference.makers else None
        merit = 0.0
        if maker is not None:
            merit += 0.5 * (maker.op_type == operator) + 0.5 * bool(shared & set(maker.input))
        merit += _SURE * (other in same and maker is not None and maker.op_type == operator)
        merit -= 0.3 * (other in taken)
        if own is not None:
            merit += resemblance(own, entry.value) - 0.2 * (entry.value.shape != own.shape)
        if name in found.outputs and found.outputs[name] == other:
            merit += 3.0
        options = (
            [v for v in layouts(own.shape, entry.value.shape) if v is None or v.axes in seen] if own is not None else []
        )
        rows += [(Counterpart(other, layout), merit - 0.1 * (layout is not None)) for layout in options or [None]]
    return sorted(rows, key=lambda row: -row[1])


def _behind(program: Program, names: set[str]) -> set[str]:
    """Values at most :data:`_NEAR` nodes behind some of ``names``."""
    found: set[str] = set()
    edge = set(names)
    for _ in range(_NEAR):
        edge = {o for n in edge for p in program.readers.get(n, ()) for o in program.nodes[p].output if o} - found
        found |= edge
    return found


_MOST_READERS = 12


def _agreement(found: Alignment, name: str, candidate: Counterpart) -> float:
    """The share of the nodes right behind a place that agree with the reference when a candidate stands there.

    A result counts only if the reference makes it from the candidate. The place itself counts as one when it is the
    artifact's output and the candidate is the reference's.
    """
    program, reference = found.artifact, found.reference
    if found.outputs.get(name) == candidate.name:
        return 1.0
    follows = {o for p in downstream(reference, candidate.name) for o in reference.nodes[p].output if o}
    behind = {o for p in downstream(program, name) for o in program.nodes[p].output if o}
    before = {n for p in program.ancestors(name) for n in program.reads(p)}
    if any(n in before and c.name == candidate.name for n, c in found.counterparts.items()):
        # It stands earlier in the artifact, too, and what follows it there says nothing about this place.
        follows -= {c.name for n, c in found.counterparts.items() if n not in behind}
    trial = copied(found)
    trial.slacks.pop(name, None)
    theirs = found.theirs[candidate.name]
    dtype = found.values[name].dtype if name in found.values else theirs.dtype
    trial.values[name] = Entry(arrange(theirs.value, candidate.layout), dtype, Kind.DATA)
    trial.states[name] = State.WRONG
    asked, agreed = 0, 0
    direct = set(program.readers.get(name, ()))
    for position in downstream(program, name)[:_MOST_READERS]:
        node = program.nodes[position]
        if not all(n in trial.values for n in program.reads(position)):
            continue
        try:
            made = program.compute(position, trial.values)
        except OnnxeqError:
            asked += position in direct
            continue
        for output in (n for n in node.output if n):
            settle(trial, position, output, made[output])
        ours = [trial.counterparts.get(n) for n in node.output if trial.states.get(n) is State.SAME]
        good = any(c is not None and c.name in follows for c in ours)
        asked += position in direct
        agreed += good and (position in direct or agreed == 0)
        if asked == len(direct) and agreed:
            break
    return min(1.0, agreed / asked) if asked else 0.0
