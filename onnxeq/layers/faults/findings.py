"""Each fault of an artifact against its reference: the cause, the place, the proof, and what it does to the outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxeq.errors import OnnxeqError
from onnxeq.layers.faults.counterfact import Explanation, explain
from onnxeq.layers.faults.crossed import crossing
from onnxeq.layers.faults.differences import Edit, EditKind, attributes_apart, groups_of
from onnxeq.layers.faults.repairs import repair
from onnxeq.layers.faults.wording import array_change, attribute_text, few
from onnxeq.layers.likeness import arrange
from onnxeq.layers.program import Program, label, native_name
from onnxeq.layers.walking.alignment import Alignment, Departure, State
from onnxeq.referee.frames import Entry, Kind
from onnxeq.types import Array, CauseKind, Where

__all__ = ["Finding", "findings"]


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        cause: ``weights`` or ``graph``.
        where: Its place in the artifact.
        text: What differs, in words, with the proof.
        proven: Whether the departure goes away when the difference is taken back.
        effect: Output of the artifact -> what this fault alone adds to it.
    """

    cause: CauseKind
    where: Where
    text: str
    proven: bool
    effect: Mapping[str, Array]


def findings(found: Alignment, parameters: Collection[str] = ()) -> tuple[Finding, ...]:
    """Explains every departure of an alignment.

    Args:
        found: The finished walk.
        parameters: Names of the reference's initializers that are a framework's parameters; without any, what looks
            like one is taken for one.
    """
    told: list[list[Finding]] = []
    alone: list[Edit | None] = []
    for departure in _in_their_own_right(found):
        explanation = explain(found, departure, groups_of(found, departure))
        effect = _effect(found, departure)
        rows = [_told(found, departure, edit, explanation, parameters) for edit in explanation.edits]
        told.append([replace(one, effect=effect) for one in rows or [_unexplained(found, departure)]])
        alone.append(explanation.edits[0] if explanation.proven and len(explanation.edits) == 1 else None)
    while (pair := crossing(found, alone)) is not None:
        first, second, fork = pair
        told[first] = [_forked(found, told[first][0], told[second][0], fork)]
        told[second], alone[first], alone[second] = [], None, None
    rows = [row for part in told for row in part]
    return _merged([*rows, *_exchanged(found)])


def _in_their_own_right(found: Alignment) -> list[Departure]:
    """The departures, without nodes that fail on a value that was put in the place of one of another shape."""
    misshapen = {
        d.position for d in found.departures
        if d.own is not None and d.counterpart is not None and d.own.shape != found.values[d.value].value.shape
    }  # fmt: skip

    def consequence(departure: Departure) -> bool:
        before = set(found.artifact.ancestors(departure.value)) - {departure.position}
        return bool(departure.problem and misshapen & before)

    return [d for d in found.departures if not consequence(d)]


def _forked(found: Alignment, one: Finding, two: Finding, fork: int) -> Finding:
    """Both as one: the results of a node were exchanged."""
    where = _at(one.where, found.artifact.nodes[fork])
    text = f"its results are exchanged: {one.text}; {two.text}"
    return Finding(
        one.cause, where, f"node {where.node} ({where.op_type}): {text}", True, _added(one.effect, two.effect)
    )


def _added(one: Mapping[str, Array], two: Mapping[str, Array]) -> dict[str, Array]:
    return {
        n: one[n] + two[n] if n in one and n in two else one.get(n, two.get(n, np.zeros(()))) for n in {**one, **two}
    }


def _merged(rows: Sequence[Finding]) -> tuple[Finding, ...]:
    """One finding where several departures are one fault: a node that is missing before each of its readers."""
    kept: dict[tuple[CauseKind, Where], Finding] = {}
    for row in rows:
        key = (row.cause, replace(row.where, value="") if row.where.initializer else row.where)
        if key in kept:
            kept[key] = replace(kept[key], effect=_added(kept[key].effect, row.effect))
        else:
            kept[key] = row
    return tuple(kept.values())


def _told(
    found: Alignment, departure: Departure, edit: Edit, explanation: Explanation, parameters: Collection[str]
) -> Finding:
    """A difference in words."""
    artifact, reference = found.artifact, found.reference
    node = artifact.nodes[edit.position]
    other = reference.nodes[edit.other] if edit.other is not None else None
    native = native_name(other) if other is not None else native_name(node)
    where = Where(label(node), node.op_type, next((n for n in node.output if n), ""), native)
    cause, text = CauseKind.GRAPH, ""
    if edit.inner is not None:
        inner = edit.inner.node
        where = Where(label(inner), inner.op_type, next((n for n in inner.output if n), ""), native)
        cause = CauseKind.WEIGHTS if _is_matrix(edit.arrays) else CauseKind.GRAPH
        text = f"inside of {label(node)}, {edit.inner.text}"
    elif edit.kind is EditKind.ATTRIBUTE:
        text = attribute_text(edit.name, edit.mine, edit.theirs)
    elif edit.kind is EditKind.CONSTANT:
        source = edit.mine if isinstance(edit.mine, str) and edit.mine in artifact.constant else ""
        theirs = edit.theirs if isinstance(edit.theirs, str) and edit.theirs in reference.constant else ""
        root = few(artifact.roots(source)) if source else ""
        if _is_parameter(reference, theirs, edit, parameters):
            cause = CauseKind.WEIGHTS
        where = replace(where, initializer=root)
        if cause is CauseKind.GRAPH and source in artifact.makers and (mended := _mended(found, edit, source, where)):
            where, text = mended
        else:
            text = f"its input {edit.name}{f' ({root})' if root else ''} {array_change(*edit.arrays)}"
    elif edit.kind is EditKind.BYPASS:
        text = "the reference has no such node there"
    elif edit.kind is EditKind.NODE:
        rows = [attribute_text(*row) for row in attributes_apart(found, edit)]
        text = few(rows) if rows else f"it is another {edit.mine} than the reference's"
    elif edit.kind is EditKind.OPERATOR:
        text = f"it is {edit.mine}, the reference has {edit.theirs}"
    else:
        where, text = _operand(found, edit, where)
    named = f"node {where.node} ({where.op_type}): {text}"
    return Finding(cause, where, f"{named}; {_proof(departure, explanation)}", explanation.proven, {})


def _proof(departure: Departure, explanation: Explanation) -> str:
    """What taking the difference back does."""
    if not explanation.proven:
        return "with that taken back its result is nearer to the reference's, not equal"
    joint = f" together with {len(explanation.edits) - 1} more" if len(explanation.edits) > 1 else ""
    return f"with that taken back{joint}, '{departure.value}' agrees with the reference"


def _operand(found: Alignment, edit: Edit, where: Where) -> tuple[Where, str]:
    """Another value is read: a node is missing in between, an operand is another one, or two are exchanged."""
    artifact, reference = found.artifact, found.reference
    mine, theirs = tuple(edit.mine), tuple(edit.theirs)
    held = tuple(found.counterparts[n].name if n in found.counterparts else n for n in mine)
    if len(mine) > 1 and sorted(held) == sorted(theirs):
        return where, f"it reads its operands {edit.name} in another order than the reference"
    initializer = few([r for n in mine if n in artifact.constant for r in artifact.roots(n)])
    if initializer:
        where = replace(where, initializer=initializer)
    maker = reference.makers.get(theirs[0])
    if maker is not None and held[0] in reference.nodes[maker].input and theirs[0] not in _held(found):
        missing = reference.nodes[maker]
        return (
            replace(where, native=native_name(missing) or where.native),
            f"{missing.op_type} ({label(missing)} in the reference) is missing between '{mine[0]}' and it",
        )
    steering = artifact.makers.get(mine[0])
    if steering is not None and found.values[mine[0]].kind is not Kind.DATA:
        return _steering(found, edit, steering, where)
    twin = next((n for n, c in found.counterparts.items() if c.name == theirs[0]), theirs[0])
    return where, f"its input {edit.name} is '{mine[0]}', the reference reads what is '{twin}' here"


def _steering(found: Alignment, edit: Edit, maker: int, where: Where) -> tuple[Where, str]:
    """A mask, an index or a shape is another one: by which node, if one alone can be mended, else where it ends."""
    mended = _mended(found, edit, edit.mine[0], where)
    if mended is not None:
        return mended
    return _at(where, found.artifact.nodes[maker]), (
        f"the {edit.name} that it gives to node {where.node} {array_change(*edit.arrays)}"
    )


def _mended(found: Alignment, edit: Edit, name: str, where: Where) -> tuple[Where, str] | None:
    """The node behind an operand that was computed wrongly, with the change that makes the operand right."""
    goal = edit.arrays[1]
    done = None if goal is None or goal.size > _NO_WEIGHT else repair(found, name, goal)
    if done is None:
        return None
    there = replace(_at(where, found.artifact.nodes[done.position]), initializer=done.initializer)
    return there, f"{done.text} the {edit.name} of node {where.node} is the reference's"


_NO_WEIGHT = 1 << 16
"""Elements up to which an operand may be a mask, an index or a shape; what is larger takes long to compute anew."""


def _at(where: Where, node: onnx.NodeProto) -> Where:
    return replace(where, node=label(node), op_type=node.op_type, value=next((n for n in node.output if n), ""))


def _held(found: Alignment) -> set[str]:
    """Values of the reference that the artifact has, too."""
    return {c.name for n, c in found.counterparts.items() if found.states.get(n) is State.SAME}


_PARAMETER_INPUTS = {
    "Conv": {"W", "B"}, "ConvTranspose": {"W", "B"}, "Gemm": {"B", "C"}, "BatchNormalization": {"scale", "B", "mean",
    "var", "input_mean", "input_var"}, "InstanceNormalization": {"scale", "B"}, "LSTM": {"W", "R", "B", "P"},
    "GRU": {"W", "R", "B"}, "RNN": {"W", "R", "B"}, "PRelu": {"slope"}, "LayerNormalization": {"Scale", "B"},
    "GroupNormalization": {"scale", "bias"}, "QLinearConv": {"w", "B"},
}  # fmt: skip


def _is_parameter(reference: Program, name: str, edit: Edit, parameters: Collection[str]) -> bool:
    """Whether a differing constant is a model's weight, and not a number that the graph's meaning hangs on."""
    roots = reference.roots(name) if name else []
    if any(root in parameters for root in roots):
        return True
    node = reference.nodes[edit.other] if edit.other is not None else None
    if node is not None and edit.name in _PARAMETER_INPUTS.get(node.op_type, ()):
        return True  # folded or renamed by the exporter
    if node is not None and node.op_type == "MatMul" and _is_matrix(edit.arrays):
        return True  # transposed by it
    if parameters and roots:
        return False
    quantised = node is not None and node.op_type == "DequantizeLinear" and edit.name == "x"
    return quantised or _is_matrix(edit.arrays)


def _is_matrix(arrays: tuple[Array | None, Array | None]) -> bool:
    """Whether a constant holds more different numbers than a scalar or a mask does."""
    array = arrays[1] if arrays[1] is not None else arrays[0]
    if array is None or array.size < 2:
        return False
    return bool(array.dtype.kind == "f" and len(np.unique(array[np.isfinite(array)])) > 2)


def _unexplained(found: Alignment, departure: Departure) -> Finding:
    """A departure whose difference could not be taken back: the place, and what is known of it."""
    node = found.artifact.nodes[departure.position]
    where = Where(label(node), node.op_type, departure.value, native_name(node))
    if departure.problem:
        return Finding(CauseKind.GRAPH, where, f"node {where.node} cannot be computed: {departure.problem}", False, {})
    if departure.counterpart is None:
        text = "its operands are the reference's, its result is no value of the reference"
    else:
        own, theirs = departure.own, found.theirs[departure.counterpart.name].value
        if own is not None and own.shape != theirs.shape:
            text = f"it gives {list(own.shape)}, the reference has {list(theirs.shape)} in its place"
        else:
            change = array_change(own, arrange(theirs, departure.counterpart.layout))
            text = f"its operands are the reference's, its result {change}"
    return Finding(CauseKind.GRAPH, where, f"node {where.node} ({where.op_type}): {text}", False, {})


def _exchanged(found: Alignment) -> list[Finding]:
    """Outputs that carry another value of the reference than the one of their name."""
    rows = []
    for mine, theirs in found.outputs.items():
        held = found.counterparts.get(mine)
        if held is None or found.states.get(mine) is not State.SAME or held.name == theirs:
            continue
        a, b = found.theirs.get(held.name), found.theirs.get(theirs)
        if a is None or b is None or (np.shape(a.value) == np.shape(b.value) and np.array_equal(a.value, b.value)):
            continue
        position = found.artifact.makers.get(mine)
        node = found.artifact.nodes[position] if position is not None else None
        where = Where(label(node) if node is not None else "", node.op_type if node is not None else "", mine)
        text = f"output '{mine}' carries what is '{held.name}' in the reference, not '{theirs}'"
        rows.append(Finding(CauseKind.GRAPH, where, text, True, {}))
    return rows


def _effect(found: Alignment, departure: Departure) -> dict[str, Array]:
    """What a departure alone adds to each output: everything else is as in the reference.

    Other departures on the way are corrected by what they are off at the reference's operands.
    """
    program = found.artifact
    if departure.own is None or departure.own.shape != np.shape(found.values[departure.value].value):
        return _immeasurable(found, departure.position)
    other = {d.value: d for d in found.departures if d.value != departure.value}
    values = dict(found.values)
    values[departure.value] = replace(found.values[departure.value], value=departure.own)
    dirty = {departure.value}
    for position in range(departure.position + 1, len(program.nodes)):
        if not dirty & set(program.reads(position)) or not all(n in values for n in program.reads(position)):
            continue
        try:
            made = program.compute(position, values)
        except OnnxeqError:
            return _immeasurable(found, position)
        for name, entry in made.items():
            values[name] = _corrected(found, other.get(name), entry)
            dirty.add(name)
    return {name: _change(found, name, values) for name in program.outputs if name in dirty}


def _immeasurable(found: Alignment, position: int) -> dict[str, Array]:
    """The change of the outputs behind a node that cannot be computed."""
    behind = [n for n in found.artifact.outputs if position in found.artifact.ancestors(n)]
    shapes = {n: np.shape(found.values[n].value) for n in behind if n in found.values}
    return {n: np.full(shapes.get(n) or (1,), np.inf) for n in behind}


def _corrected(found: Alignment, departure: Departure | None, entry: Entry) -> Entry:
    if departure is None or departure.counterpart is None or departure.own is None:
        return entry
    theirs = found.theirs[departure.counterpart.name].value
    theirs = arrange(theirs, departure.counterpart.layout)
    value = entry.value
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or departure.own.shape != theirs.shape:
        return replace(entry, value=theirs)
    if value.shape != theirs.shape:
        return entry
    with np.errstate(invalid="ignore"):
        return replace(entry, value=value + np.nan_to_num(theirs - departure.own))


def _change(found: Alignment, name: str, values: Mapping[str, Entry]) -> Array:
    """How far an output moves from the reference's."""
    now, usual = values[name].value, found.values[name].value if name in found.values else None
    if usual is None:
        return np.full((1,), np.inf)
    if not isinstance(now, np.ndarray) or now.shape != np.shape(usual) or now.dtype.kind not in "fiub":
        return np.full(np.shape(usual) or (1,), np.inf)
    with np.errstate(invalid="ignore"):
        moved: Array = np.nan_to_num(np.abs(now.astype(np.float64) - usual.astype(np.float64)))
    return moved
