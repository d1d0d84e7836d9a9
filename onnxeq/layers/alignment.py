"""An artifact run beside its reference, node by node, and corrected wherever it departs.

Each node of the artifact is computed from its operands. If the result is a value of the reference, to float64
rounding or to what rounding of constants explains, the artifact goes on with the reference's. If it is not, although
the operands were, the node departs: the fault is noted, and the artifact goes on with the value that the reference has
in that place. So each node is judged by what it does itself, and any number of faults is found in one walk.

Which value belongs in a place is told by name where the two graphs share their names, and by content elsewhere. In
the second case a departure has no counterpart by itself: candidates are tried, and the one counts with which what
follows agrees again.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from onnxeq.errors import OnnxeqError
from onnxeq.layers.likeness import LIMIT, Digest, Layout, Pool, arrange, digest, distance, layouts, resemblance
from onnxeq.layers.program import Program
from onnxeq.noise import ConstantFloor
from onnxeq.perturbation import Signs
from onnxeq.referee.frames import Entry, Kind
from onnxeq.types import Array

__all__ = ["Alignment", "Counterpart", "Departure", "State", "align", "shares_names"]


class State(enum.Enum):
    """What is known of a value of the artifact."""

    SAME = "same"
    """It is a value of the reference."""
    WRONG = "wrong"
    """Its operands are the reference's, it is not; the reference's took its place."""
    OPEN = "open"
    """The reference has no such value, or none was found."""


@dataclass(frozen=True)
class Counterpart:
    """The reference's value for one of the artifact; ``layout`` says how it lies in the artifact."""

    name: str
    layout: Layout | None = None


@dataclass(frozen=True)
class Departure:
    """A value that is not what the reference has in its place.

    Attributes:
        value: Its name in the artifact.
        position: The node that makes it.
        counterpart: What the reference has; ``None`` when that was not found, and then nothing behind it is judged.
        own: What the artifact computes from the reference's operands.
        units: How far that is from the counterpart, see :func:`onnxeq.layers.likeness.distance`.
        problem: Why it could not be computed, if it could not.
        slack: What rounding of constants does to the value.
    """

    value: str
    position: int
    counterpart: Counterpart | None
    own: Array | None
    units: float
    problem: str = ""
    slack: Array | None = None


@dataclass
class Alignment:
    """The state of a walk: grows as nodes are computed.

    Attributes:
        artifact: What is judged.
        reference: What it is held against.
        theirs: The reference's values.
        values: The artifact's, corrected.
        states: What is known of each.
        counterparts: Value of the artifact -> the reference's.
        departures: The faults, in the order in which they were found.
        by_name: Whether the two graphs share their names.
    """

    artifact: Program
    reference: Program
    theirs: Mapping[str, Entry]
    values: dict[str, Entry]
    by_name: bool
    states: dict[str, State] = field(default_factory=dict)
    counterparts: dict[str, Counterpart] = field(default_factory=dict)
    departures: list[Departure] = field(default_factory=list)
    slacks: dict[str, Array] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Array] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    pool: Pool = field(default_factory=lambda: Pool({}))
    weights: Pool = field(default_factory=lambda: Pool({}))
    exact: frozenset[Digest] = frozenset()
    free_layout: bool = False

    @property
    def share(self) -> float:
        """The share of the values made from the inputs that the reference has, too."""
        made = [n for n in self.artifact.makers if n not in self.artifact.constant]
        return sum(self.states.get(n) is State.SAME for n in made) / max(1, len(made))

    def settled(self, name: str) -> bool:
        """Whether a value is the reference's, by itself or by correction."""
        return name in self.artifact.constant or self.states.get(name) in (State.SAME, State.WRONG)


def shares_names(artifact: Program, reference: Program) -> bool:
    """Whether the names of values mean the same in both: most are there, made by the same operators."""
    common = [name for name in artifact.makers if name in reference.makers]
    if len(common) < 0.6 * len(artifact.makers) or not common:
        return False
    same = sum(
        artifact.nodes[artifact.makers[n]].op_type == reference.nodes[reference.makers[n]].op_type for n in common
    )
    return same >= 0.75 * len(common)


_MOST_DEPARTURES = 24


def align(
    artifact: Program,
    reference: Program,
    theirs: Mapping[str, Entry],
    inputs: Mapping[str, Entry],
    input_pairs: Mapping[str, str],
    output_pairs: Mapping[str, str],
) -> Alignment:
    """Walks the artifact beside the reference.

    Args:
        artifact: What is judged.
        reference: What it is held against.
        theirs: All values of a run of the reference.
        inputs: The artifact's inputs in the same run.
        input_pairs: Artifact's input -> the reference's.
        output_pairs: Artifact's output -> the reference's.
    """
    arrays = {
        name: entry.value
        for name, entry in theirs.items()
        if isinstance(entry.value, np.ndarray) and name not in reference.constant and entry.value.size
    }
    weights = {n: theirs[n].value for n in reference.constant if n in theirs and _weighty(theirs[n].value)}
    fresh = Alignment(
        artifact, reference, theirs, dict(artifact.stored) | dict(inputs), shares_names(artifact, reference),
        outputs=output_pairs, pool=Pool(arrays), weights=Pool(weights),
        exact=frozenset(digest(theirs[n].value) for n in reference.constant if n in theirs),
    )  # fmt: skip
    for name in inputs:
        fresh.states[name] = State.SAME
        fresh.counterparts[name] = Counterpart(input_pairs.get(name, name))
    plain = _aligned(_copied(fresh))
    if plain.by_name or plain.share >= _MOST_IN_PLACE:
        return plain
    # Another convention (channels last): the same values, with their axes in another order.
    return max(plain, _aligned(replace(_copied(fresh), free_layout=True)), key=lambda a: a.share)


_MOST_IN_PLACE = 0.5
"""Share of the artifact's values that the reference has, from which on both keep their axes in one order."""


def _weighty(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size >= _WEIGHTY


def _copied(found: Alignment) -> Alignment:
    return replace(
        found, values=dict(found.values), states=dict(found.states), counterparts=dict(found.counterparts),
        departures=[], slacks=dict(found.slacks),
    )  # fmt: skip


def _aligned(found: Alignment) -> Alignment:
    """Walks, corrects the first departure that has no counterpart by name, and walks on from there."""
    artifact = found.artifact
    _walk(found, range(len(artifact.nodes)))
    given_up: set[str] = set()
    while len(found.departures) < _MOST_DEPARTURES:
        lost = next((name for name in _frontier(found) if name not in given_up), None)
        if lost is None:
            break
        departure = _hypothesis(found, lost)
        found.departures.append(departure)
        if departure.counterpart is None:
            given_up.add(lost)
            continue
        _correct(found, lost, departure.counterpart)
        _walk(found, _downstream(artifact, lost))
    return found


def _walk(found: Alignment, positions: Sequence[int] | range) -> None:
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
                _settle(found, position, name, made[name])


def _cannot(found: Alignment, position: int, problem: str) -> None:
    """A node that fails on the reference's operands departs, too."""
    program = found.artifact
    name = next(n for n in program.nodes[position].output if n)
    if not found.by_name and not all(found.settled(n) or _steers(found, n) for n in program.reads(position)):
        return
    found.values.pop(name, None)
    ours = _expected(found, name)
    if ours is not None:
        found.departures.append(Departure(name, position, ours, None, np.inf, problem))
        _correct(found, name, ours)
    else:
        found.states[name] = State.OPEN
        found.problems[name] = problem


def _expected(found: Alignment, name: str) -> Counterpart | None:
    """What belongs in a place by its name alone: in the reference, or as one of the outputs."""
    if name in found.outputs and found.outputs[name] in found.theirs:
        return Counterpart(found.outputs[name])
    if found.by_name and name in found.theirs and name not in found.reference.constant:
        return Counterpart(name)
    return None


def _settle(found: Alignment, position: int, name: str, entry: Entry) -> None:
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
        units = distance(value, found.theirs[expected.name].value, slack)
        found.departures.append(Departure(name, position, expected, value, units, slack=slack))
        _correct(found, name, expected)
        return
    found.states[name] = State.OPEN
    if slack is not None:
        found.slacks[name] = slack


def _all_settled(found: Alignment, position: int) -> bool:
    return all(found.settled(n) for n in found.artifact.reads(position))


def _matched(
    found: Alignment, position: int, name: str, value: Array, expected: Counterpart | None
) -> tuple[Counterpart | None, Array | None]:
    """The reference's value that a value is, and the value's slack where that was needed."""
    candidates = [expected] if expected is not None else list(_candidates(found, position, value))
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


def _candidates(found: Alignment, position: int, value: Array) -> Iterator[Counterpart]:
    """Values of the reference with the same content in any layout, those of the same operator first."""
    operator = found.artifact.nodes[position].op_type
    names = found.pool.near(value) if value.dtype.kind == "f" else found.pool.of_size(value.size)
    names.sort(key=lambda n: n not in found.reference.makers or _maker(found, n).op_type != operator)
    for name in names:
        theirs = found.theirs[name].value
        if theirs.dtype.kind != value.dtype.kind:
            continue
        for layout in layouts(value.shape, theirs.shape):
            if layout is None or found.free_layout:
                yield Counterpart(name, layout)


def _maker(found: Alignment, name: str) -> onnx.NodeProto:
    return found.reference.nodes[found.reference.makers[name]]


def _correct(found: Alignment, name: str, counterpart: Counterpart) -> None:
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


def _downstream(program: Program, name: str) -> list[int]:
    """Positions of everything that depends on a value, in order."""
    found: set[int] = set()
    pending = [name]
    while pending:
        for position in program.readers.get(pending.pop(), ()):
            if position not in found:
                found.add(position)
                pending += [n for n in program.nodes[position].output if n]
    return sorted(found)


def _frontier(found: Alignment) -> list[str]:
    """Open values whose operands are settled, and behind which nothing agrees with the reference again."""
    program = found.artifact
    explained: set[str] = set()
    for position in reversed(range(len(program.nodes))):
        for name in program.nodes[position].output:
            if found.states.get(name) is not State.OPEN:
                continue
            behind = [n for p in program.readers.get(name, ()) for n in program.nodes[p].output if n]
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
        and not _steers(found, name)
        and all(found.settled(n) or n in explained or _steers(found, n) for n in program.reads(position))
    ]


def _steers(found: Alignment, name: str) -> bool:
    """Whether a value is made of shapes: each exporter computes those its own way, and they show in what they steer."""
    entry = found.values.get(name)
    return not found.by_name and entry is not None and entry.kind is not Kind.DATA


_MOST_TRIED = 32
_NEAR = 5
"""Nodes of the reference between an operand and the value that belongs in the result's place, at most."""


def _hypothesis(found: Alignment, name: str) -> Departure:
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
    twins = _of_these_weights(found, position)
    near = _behind(reference, shared) | shared | twins
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
        merit += _SURE * (other in twins and maker is not None and maker.op_type == operator)
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


_WEIGHTY = 8
"""Elements from which on a constant is a weight that tells which node it belongs to."""

_SAME_WEIGHTS = 1e-5
"""Relative difference of moments up to which weights are the same: exporters fold them each in its own way."""


def _of_these_weights(found: Alignment, position: int) -> set[str]:
    """Values that the reference makes with the weights that a node of the artifact reads."""
    reference = found.reference
    made: list[set[str]] = []
    for name in found.artifact.reads(position):
        value = found.values[name].value if name in found.artifact.constant and name in found.values else None
        if not isinstance(value, np.ndarray) or not _weighty(value):
            continue
        alike = found.weights.near(value, _SAME_WEIGHTS)
        readers = {p for other in alike for p in reference.readers.get(other, ())}
        made.append({o for p in readers for o in reference.nodes[p].output if o and o not in reference.constant})
    return set.intersection(*made) if made else set()


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
    follows = {o for p in _downstream(reference, candidate.name) for o in reference.nodes[p].output if o}
    behind = {o for p in _downstream(program, name) for o in program.nodes[p].output if o}
    before = {n for p in program.ancestors(name) for n in program.reads(p)}
    if any(n in before and c.name == candidate.name for n, c in found.counterparts.items()):
        # It stands earlier in the artifact, too, and what follows it there says nothing about this place.
        follows -= {c.name for n, c in found.counterparts.items() if n not in behind}
    trial = _copied(found)
    trial.slacks.pop(name, None)
    theirs = found.theirs[candidate.name]
    dtype = found.values[name].dtype if name in found.values else theirs.dtype
    trial.values[name] = Entry(arrange(theirs.value, candidate.layout), dtype, Kind.DATA)
    trial.states[name] = State.WRONG
    asked, agreed = 0, 0
    direct = set(program.readers.get(name, ()))
    for position in _downstream(program, name)[:_MOST_READERS]:
        node = program.nodes[position]
        if not all(n in trial.values for n in program.reads(position)):
            continue
        try:
            made = program.compute(position, trial.values)
        except OnnxeqError:
            asked += position in direct
            continue
        for output in (n for n in node.output if n):
            _settle(trial, position, output, made[output])
        ours = [trial.counterparts.get(n) for n in node.output if trial.states.get(n) is State.SAME]
        good = any(c is not None and c.name in follows for c in ours)
        asked += position in direct
        agreed += good and (position in direct or agreed == 0)
        if asked == len(direct) and agreed:
            break
    return min(1.0, agreed / asked) if asked else 0.0
