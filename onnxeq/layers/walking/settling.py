"""Nodes computed one by one, and each result settled: a value of the reference, a departure from it, or open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxeq.errors import OnnxeqError
from onnxeq.layers.likeness import LIMIT, arrange, digest, distance, layouts, resemblance
from onnxeq.layers.pairing.folded import AFFINE
from onnxeq.layers.program import Program
from onnxeq.layers.walking.alignment import Alignment, Counterpart, Departure, State
from onnxeq.layers.walking.twins import twins
from onnxeq.noise import ConstantFloor
from onnxeq.perturbation import Signs
from onnxeq.referee.frames import Entry, Kind
from onnxeq.types import Array

__all__ = ["copied", "correct", "downstream", "settle", "steers", "walk"]


def copied(found: Alignment) -> Alignment:
    """A state that can be gone on from without changing the other."""
    return replace(
        found, values=dict(found.values), states=dict(found.states), counterparts=dict(found.counterparts),
        departures=[], slacks=dict(found.slacks),
    )  # fmt: skip


def walk(found: Alignment, positions: Sequence[int] | range) -> None:
    """Computes nodes in order, settling each value that can be."""
    program = found.artifact
    for position in positions:
        node = program.nodes[position]
        names = [name for name in node.output if name]
        if all(found.states.get(name) is State.WRONG for name in names):
            continue  # corrected before
        if not all(name in found.values for name in program.reads(position)):
            continue  # behind one that could not be computed
        try:
            made = program.compute(position, found.values)
        except OnnxeqError as error:
            _cannot(found, position, error.line())
            continue
        for name in names:
            if found.states.get(name) is not State.WRONG:
                settle(found, position, name, made[name])


def _cannot(found: Alignment, position: int, problem: str) -> None:
    """A node that fails on the reference's operands departs, too."""
    program = found.artifact
    name = next(n for n in program.nodes[position].output if n)
    if not found.by_name and not all(found.settled(n) or steers(found, n) for n in program.reads(position)):
        return
    found.values.pop(name, None)
    ours = _expected(found, name)
    if ours is not None:
        found.departures.append(Departure(name, position, ours, None, np.inf, problem))
        correct(found, name, ours)
    else:
        found.states[name] = State.OPEN
        found.problems[name] = problem


def steers(found: Alignment, name: str) -> bool:
    """Whether a value is made of shapes: each exporter computes those its own way, and they show in what they steer."""
    entry = found.values.get(name)
    return not found.by_name and entry is not None and entry.kind is not Kind.DATA


def _expected(found: Alignment, name: str) -> Counterpart | None:
    """What belongs in a place by its name alone: in the reference, or as one of the outputs.

    A name is not believed where the weights are another node's: exporters number their nodes, each run its own way.
    """
    if name in found.outputs and found.outputs[name] in found.theirs:
        return Counterpart(found.outputs[name])
    if found.by_name and name in found.theirs and name not in found.reference.constant:
        known = twins(found, found.artifact.makers[name]) if name in found.artifact.makers else frozenset()
        if not known or name in known:
            return Counterpart(name)
    return None


def settle(found: Alignment, position: int, name: str, entry: Entry) -> None:
    """Notes a computed value, and what it is in the reference."""
    found.values[name] = entry
    found.slacks.pop(name, None)
    found.states.pop(name, None)
    value = entry.value
    if name in found.artifact.constant or not isinstance(value, np.ndarray):
        return
    expected = _expected(found, name)
    matched, slack = _matched(found, position, name, value, expected)
    if matched is not None:
        found.states[name] = State.SAME
        found.counterparts[name] = matched
        if entry.kind is Kind.DATA:
            found.values[name] = replace(entry, value=arrange(found.theirs[matched.name].value, matched.layout))
        return
    sure = found.by_name or name in found.outputs
    if expected is not None and sure and (found.by_name or _all_settled(found, position)):
        meant = [expected, *_behind_a_fold(found, name, expected)]
        expected = max(meant, key=lambda c: resemblance(value, found.theirs[c.name].value))
        units = distance(value, found.theirs[expected.name].value, slack)
        found.departures.append(Departure(name, position, expected, value, units, slack=slack))
        correct(found, name, expected)
        return
    certain = None if expected is not None else _same_but_for_settings(found, position, name)
    if certain is not None:
        units = distance(value, found.theirs[certain.name].value, slack)
        found.departures.append(Departure(name, position, certain, value, units, slack=slack))
        correct(found, name, certain)
        return
    found.states[name] = State.OPEN
    if slack is not None:
        found.slacks[name] = slack


def _same_but_for_settings(found: Alignment, position: int, name: str) -> Counterpart | None:
    """The reference's result of the same operator with the same weights on the same operands, where there is one.

    What such a node gives is this value, whatever follows agrees with: a faint fault may be lost behind it.
    """
    node, index = found.artifact.nodes[position], list(found.artifact.nodes[position].output).index(name)
    operands = found.artifact.operands(position)
    if not all(found.states.get(n) is State.SAME and found.counterparts[n].layout is None for n in operands):
        return None
    wanted = {found.counterparts[n].name for n in operands}
    fitting = []
    for other in twins(found, position):
        maker = found.reference.makers[other]
        theirs = found.reference.nodes[maker]
        same = theirs.op_type == node.op_type and set(found.reference.operands(maker)) == wanted
        if same and list(theirs.output).index(other) == index and other in found.theirs:
            fitting.append(other)
    return Counterpart(fitting[0]) if len(fitting) == 1 else None


def _all_settled(found: Alignment, position: int) -> bool:
    return all(found.settled(n) for n in found.artifact.reads(position))


def _matched(
    found: Alignment, position: int, name: str, value: Array, expected: Counterpart | None
) -> tuple[Counterpart | None, Array | None]:
    """The reference's value that a value is, and the value's slack where that was needed."""
    if expected is not None:
        candidates = [expected, *_behind_a_fold(found, name, expected)]
    else:
        candidates = list(_candidates(found, position, value))
    for candidate in candidates:
        if distance(value, arrange(found.theirs[candidate.name].value, candidate.layout)) <= LIMIT:
            return candidate, None
    if not candidates and expected is None and value.dtype.kind != "f":
        return None, None
    slack = _slack(found, position, name)
    for candidate in candidates:
        if distance(value, arrange(found.theirs[candidate.name].value, candidate.layout), slack) <= LIMIT:
            return candidate, slack
    return None, slack


def _behind_a_fold(found: Alignment, name: str, expected: Counterpart) -> Iterator[Counterpart]:
    """What the reference makes of an expected value by constants alone, where the artifact has nothing of that name.

    It went into the weights of the node that kept its name: the name is that of a value that is there no more.
    """
    reference = found.reference
    last = expected.name
    while found.by_name and name == expected.name:
        readers = reference.readers.get(last, ())
        if len(readers) != 1 or last in reference.outputs or not _goes_into_weights(reference, readers[0]):
            return
        last = reference.nodes[readers[0]].output[0]
        if last in found.artifact.makers or last not in found.theirs:
            return
        yield Counterpart(last)


def _candidates(found: Alignment, position: int, value: Array) -> Iterator[Counterpart]:
    """Values of the reference with the same content in any layout, those of the same operator first."""
    operator = found.artifact.nodes[position].op_type
    names = found.pool.near(value) if value.dtype.kind == "f" else found.pool.of_size(value.size)
    names.sort(
        key=lambda n: (
            n not in found.reference.makers or found.reference.nodes[found.reference.makers[n]].op_type != operator
        )
    )
    for name in names:
        theirs = found.theirs[name].value
        if theirs.dtype.kind != value.dtype.kind:
            continue
        for layout in layouts(value.shape, theirs.shape):
            if layout is None or found.free_layout:
                yield Counterpart(name, layout)


def correct(found: Alignment, name: str, counterpart: Counterpart) -> None:
    """The artifact goes on with the reference's value."""
    theirs = found.theirs[counterpart.name]
    mine = found.values.get(name)
    dtype = theirs.dtype if mine is None else mine.dtype
    found.values[name] = Entry(arrange(theirs.value, counterpart.layout), dtype, Kind.DATA)
    found.states[name] = State.WRONG
    found.counterparts[name] = counterpart
    found.slacks.pop(name, None)


def _slack(found: Alignment, position: int, name: str) -> Array | None:
    """What rounding of the constants that a node reads does to its result, and what came in with open operands."""
    program = found.artifact
    base = found.values[name].value
    if base.dtype.kind != "f":
        return None
    draws = 6 if base.size < 256 else 2
    total = np.zeros(base.shape)
    for draw in range(draws):
        hook, signs = ConstantFloor(draw), Signs(draw)
        moved = dict(found.values)
        for read in program.reads(position):
            entry = found.values[read]
            if not isinstance(entry.value, np.ndarray) or entry.value.dtype.kind != "f":
                continue
            if read in program.constant:
                if digest(entry.value) in found.exact:
                    continue  # the reference holds the very same numbers: nothing was rounded
                value = hook.constant(read, entry.value, entry.dtype)
                moved[read] = replace(entry, value=np.where(_kept(found, read), entry.value, value), exact=None)
            elif read in found.slacks:
                moved[read] = replace(entry, value=entry.value + signs(entry.value.shape) * found.slacks[read])
        try:
            other = program.compute(position, moved)[name].value
        except OnnxeqError:
            return None
        if other.shape != base.shape:
            return None
        with np.errstate(invalid="ignore"):
            total += np.nan_to_num(np.square(other - base)) / draws
    return np.sqrt(total)


def _kept(found: Alignment, name: str) -> Array:
    """The elements of a constant that a constant of the reference holds bit by bit, where those are most of it."""
    if name not in found.kept:
        value = found.values[name].value
        best = np.zeros(value.shape, dtype=bool)
        for other in found.reference.constant:
            theirs = found.theirs[other].value if other in found.theirs else None
            if isinstance(theirs, np.ndarray) and theirs.shape == value.shape and theirs.dtype == value.dtype:
                same = theirs == value
                best = same if same.sum() > max(best.sum(), value.size / 2) else best
        found.kept[name] = best
    return found.kept[name]


def _goes_into_weights(program: Program, position: int) -> bool:
    """Whether a node scales and shifts its one operand by constants, as a fold into the weights before it can."""
    return program.nodes[position].op_type in AFFINE and len(program.operands(position)) == 1


def downstream(program: Program, name: str) -> list[int]:
    """Positions of everything that depends on a value, in order."""
    found: set[int] = set()
    pending = [name]
    while pending:
        for position in program.readers.get(pending.pop(), ()):
            if position not in found:
                found.add(position)
                pending += [n for n in program.nodes[position].output if n]
    return sorted(found)
