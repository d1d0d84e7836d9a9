"""Why a golden does not hold any more: what changed, told from the provenance and proven by executions.

The golden's own float64 values decide. They carry no rounding, so that today's float64 values are theirs exactly as
long as the model computes the same function:

1. They moved, and the model is another one by its digests: the weights, the graph, or what exported it.
2. They moved, and the model is the same: if today's executions agree with each other, the golden is suspect.
3. They did not move: each float32 execution that is further from them than rounding explains is at fault itself, the
   framework's own run or the runtime's; if none is, and the golden's own values are, the golden is suspect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnxeq.golden.building import distance, marks_of
from onnxeq.golden.findings import Cause, CauseKind, Change, Distance
from onnxeq.golden.identity import Marks, compare_graphs, compare_weights
from onnxeq.golden.judging import agrees, golden_trace, referee_distance
from onnxeq.golden.measured import Measured
from onnxeq.golden.today import RUNTIME_PACKAGES, Ran, Today
from onnxeq.golden.values import Golden, Identity, Origin, Role, Verdict
from onnxeq.types import Array

__all__ = ["Finding", "explain", "suggested"]

_KEYS: Mapping[CauseKind, frozenset[str]] = {
    CauseKind.EXPORTER: frozenset(
        {"exporter", "exporter_version", "tf2onnx", "onnxscript", "onnx-ir", "onnx", "producer", "opset"}
    ),
    CauseKind.PROVIDER: frozenset({"provider", "device"}),
    CauseKind.MACHINE: frozenset({"cpu", "platform"}),
    CauseKind.RUNTIME: frozenset({"runtime", *RUNTIME_PACKAGES}),
}
_NOBODY = frozenset({"numpy", "python", "onnxeq"})
"""Versions of what makes inputs and judges; the outputs are none of theirs."""


@dataclass(frozen=True)
class Finding:
    """What :func:`explain` concludes.

    Attributes:
        verdict: Changed, or a suspect golden.
        causes: The surest first.
        moved: Whether the float64 values are other ones.
    """

    verdict: Verdict
    causes: tuple[Cause, ...]
    moved: bool


@dataclass(frozen=True)
class _Case:
    """All that is known of one golden that does not hold."""

    golden: Golden
    arrays: Mapping[str, Array]
    today: Today
    measured: Measured
    identity: Identity
    marks: Marks
    distances: tuple[Distance, ...]
    changes: tuple[Change, ...]
    recognise: Callable[[Ran], str]

    @property
    def same_model(self) -> bool:
        before, now = self.golden.identity, self.identity
        return (before.graph, before.weights, before.native) == (now.graph, now.weights, now.native)

    def changed(self, kind: CauseKind) -> str:
        """The provenance lines of one kind that changed, as text."""
        return ", ".join(c.text() for c in self.changes if _kind_of(c.key) is kind)


def _kind_of(key: str) -> CauseKind | None:
    """What a line of the provenance is about; what nobody else claims was said by the framework."""
    for kind, keys in _KEYS.items():
        if key in keys:
            return kind
    if key in _NOBODY or key.endswith("_sha256"):
        return None
    return CauseKind.RUNTIME if key.startswith("runtime ") else CauseKind.FRAMEWORK


def suggested(
    changes: Sequence[Change], before: Marks | None = None, now: Marks | None = None, *, native: bool = False
) -> tuple[Cause, ...]:
    """What the provenance alone suggests, where nothing needs to be proven.

    Args:
        changes: Of the provenance.
        before: The golden's weights and nodes, to say which changed.
        now: Today's.
        native: Whether a framework's own weights are known: an exporter may store the same ones otherwise.
    """
    told: dict[CauseKind, list[str]] = {}
    for change in changes:
        kind = _kind_of(change.key)
        if change.key in ("native_weights_sha256", "weights_sha256"):
            kind = CauseKind.WEIGHTS
        elif change.key == "graph_sha256":
            kind = CauseKind.GRAPH
        if kind is not None:
            told.setdefault(kind, []).append(change.text())
    if CauseKind.EXPORTER in told:
        told.pop(CauseKind.GRAPH, None)  # another exporter writes another graph
        if native and all(c.key != "native_weights_sha256" for c in changes):
            told.pop(CauseKind.WEIGHTS, None)
    where = dict[CauseKind, str]()
    if before is not None and now is not None:
        where = {CauseKind.WEIGHTS: compare_weights(before, now), CauseKind.GRAPH: compare_graphs(before, now)}
    return tuple(Cause(kind, ", ".join(lines), False, where.get(kind, "")) for kind, lines in told.items())


def explain(
    golden: Golden,
    arrays: Mapping[str, Array],
    today: Today,
    measured: Measured,
    identity: Identity,
    marks: Marks,
    distances: tuple[Distance, ...],
    changes: tuple[Change, ...],
    recognise: Callable[[Ran], str],
) -> Finding:
    """The verdict and the causes of a golden that does not hold.

    Args:
        golden: The accepted golden.
        arrays: Its arrays.
        today: Today's executions, their traces whole.
        measured: Today's referee.
        identity: What the model is today.
        marks: Its weights and nodes.
        distances: Of the executions from the golden's.
        changes: Of the provenance.
        recognise: Says which reduced precision an execution's error is the size of; empty text for none.
    """
    case = _Case(golden, arrays, today, measured, identity, marks, distances, changes, recognise)
    if not measured.trace:
        causes = suggested(changes) or (_unknown(f"the referee could not run: {measured.missing}"),)
        return Finding(Verdict.CHANGED, causes, False)
    if golden.origin is Origin.IMPORTED:
        return _imported(case)
    referee = referee_distance(golden, arrays, measured)
    if referee is None:
        return Finding(Verdict.CHANGED, suggested(changes) or (_unknown("it has no float64 values"),), False)
    if referee.passed:
        return _same_function(case)
    if case.same_model:
        return _other_values(case, referee)
    return Finding(Verdict.CHANGED, (*_of_model(case, referee), *_departing(case)), True)


def _imported(case: _Case) -> Finding:
    """Who made the arrays is not known: today's executions are held against each other."""
    if not case.same_model:
        return Finding(Verdict.CHANGED, _of_model(case, None), True)
    if departing := _departing(case):
        return Finding(Verdict.CHANGED, departing, False)
    worst = max(case.distances, key=lambda d: d.ratio)
    said = (
        f"today's executions agree within {case.golden.bar.limit:g}x rounding noise, the import is {_far(worst)} away"
    )
    return Finding(Verdict.SUSPECT, (Cause(CauseKind.GOLDEN, said, True),), False)


def _other_values(case: _Case, referee: Distance) -> Finding:
    """The same model by its digests has other float64 values than the golden says."""
    departing = _departing(case)
    own = next((c.text() for c in case.changes if c.key == "onnxeq"), "")
    told = f"; the referee itself may be another one: {own}" if own else ""
    names = ", ".join(["referee/f64", *(r.name for r in case.today.executions.values())])
    if not departing:
        said = (
            f"{names} agree with each other within {case.golden.bar.limit:g}x rounding noise, and weights, graph and"
            f" inputs are those of the golden; its float64 values are {_far(referee)} away{told}"
        )
        return Finding(Verdict.SUSPECT, (Cause(CauseKind.GOLDEN, said, True),), True)
    said = f"its float64 values are {_far(referee)} away from those of the same model{told}"
    return Finding(Verdict.CHANGED, (*departing, Cause(CauseKind.GOLDEN, said, True)), True)


def _same_function(case: _Case) -> Finding:
    """The float64 values are the golden's: whatever departs from them is at fault itself."""
    if departing := _departing(case):
        return Finding(Verdict.CHANGED, departing, False)
    for born in case.golden.executions:
        if born.role in (Role.REFEREE, Role.IMPORTED):
            continue
        own = golden_trace(case.golden, case.arrays, born.role.value)
        exact = golden_trace(case.golden, case.arrays, Role.REFEREE.value)
        apart = distance(exact, own, golden_trace(case.golden, case.arrays, "unit"))
        if apart.ratio > case.golden.bar.limit or apart.problem:
            disputed = any(a.ratio > case.golden.bar.limit for a in case.golden.agreement)
            said = f"the golden's {born.name} is {apart.ratio:.3g}x rounding noise from its own float64 values"
            if disputed:
                said += ", as it was when it was recorded; today's executions agree"
            return Finding(Verdict.SUSPECT, (Cause(CauseKind.GOLDEN, said, True),), False)
    return Finding(Verdict.CHANGED, suggested(case.changes) or (_unknown("both are near the referee"),), False)


def _departing(case: _Case) -> tuple[Cause, ...]:
    """Today's executions that are further from today's referee than rounding explains."""
    found = []
    for ran in case.today.executions.values():
        if not ran.trace:
            continue  # the same bits as the golden's
        apart = agrees(case.measured, ran)
        if apart.passed:
            continue
        kind, lines = _at_fault(case, ran)
        precision = case.recognise(ran)
        said = f"{ran.name} is {_far(apart)} from the float64 values"
        told = [f"{said} ({precision})" if precision else said, *([lines] if lines else ["no version changed"])]
        found.append(Cause(kind, "; ".join(told), True, f"output '{apart.output}'" if apart.output else ""))
    return tuple(found)


def _at_fault(case: _Case, ran: Ran) -> tuple[CauseKind, str]:
    """What an execution that departs is put down to, with the provenance lines that changed."""
    kinds = [CauseKind.FRAMEWORK] if ran.role is Role.NATIVE else [CauseKind.PROVIDER, CauseKind.RUNTIME]
    for kind in kinds:
        if lines := case.changed(kind):
            return kind, lines
    if ran.role is not Role.NATIVE and not case.same_model:
        kind = CauseKind.EXPORTER if _by_exporter(case) else CauseKind.GRAPH
        return kind, case.changed(CauseKind.EXPORTER) or compare_graphs(marks_of(case.arrays), case.marks)
    if lines := case.changed(CauseKind.MACHINE):
        return CauseKind.MACHINE, lines
    at_birth = any(a.ratio > case.golden.bar.limit for a in case.golden.agreement)
    return (kinds[-1] if at_birth else CauseKind.NONDETERMINISM), ""


def _of_model(case: _Case, referee: Distance | None) -> tuple[Cause, ...]:
    """The weights, the graph or the exporter: the model computes another function."""
    moved = "the model is another one"
    if referee is not None:
        moved = referee.problem or f"float64 values moved by {_far(referee)}"
    before, now, old = case.golden.identity, case.identity, marks_of(case.arrays)
    weights, graph = compare_weights(old, case.marks), compare_graphs(old, case.marks)
    if before.native and before.native != now.native:
        said = f"{moved}; the framework's weights are other ones: {weights or now.native[:12]}"
        framework = case.changed(CauseKind.FRAMEWORK)
        return (Cause(CauseKind.WEIGHTS, said + (f" ({framework})" if framework else ""), True),)
    if before.native:
        native = next((d for d in case.distances if d.role is Role.NATIVE), None)
        if native is not None and not native.passed:
            said = f"{moved}, and {native.name} by {_far(native)}, with the same weights"
            if lines := case.changed(CauseKind.FRAMEWORK):
                return (Cause(CauseKind.FRAMEWORK, f"{said}; {lines}", True, graph),)
            return (Cause(CauseKind.GRAPH, f"{said} and the same framework: its program is another one", True, graph),)
        lines = case.changed(CauseKind.EXPORTER) or case.changed(CauseKind.FRAMEWORK)
        said = f"{moved}, the framework's own outputs did not; {lines or 'no version changed'}"
        return (Cause(CauseKind.EXPORTER, said, True, graph or weights),)
    found = []
    if _by_exporter(case) and before.graph != now.graph:
        found.append(Cause(CauseKind.EXPORTER, f"{moved}; {case.changed(CauseKind.EXPORTER)}", True, graph))
    if before.weights != now.weights:
        alone = before.graph == now.graph
        found.append(Cause(CauseKind.WEIGHTS, f"{moved}; {weights or 'stored weights are other ones'}", alone))
    if before.graph != now.graph and not _by_exporter(case):
        alone = before.weights == now.weights
        found.append(Cause(CauseKind.GRAPH, f"{moved}; {graph or 'nodes are connected otherwise'}", alone))
    return tuple(found)


def _by_exporter(case: _Case) -> bool:
    """Whether another exporter, or another version of it, has made the file."""
    return any(c.key in ("producer", "exporter", "exporter_version", "opset", "tf2onnx") for c in case.changes)


def _unknown(why: str) -> Cause:
    return Cause(CauseKind.NONDETERMINISM, f"nothing in the provenance changed ({why})", False)


def _far(apart: Distance) -> str:
    if apart.problem:
        return f"({apart.problem})"
    unit = "the constant floor" if apart.role is Role.REFEREE else "rounding noise"
    return f"{apart.ratio:.3g}x {unit} ({apart.limit:g}x allowed)"
