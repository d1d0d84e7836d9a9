"""The stability rung: what differs when a model is run again, in another session, with other threads, in another batch.

The ladder has compared the plain repeats. This module names the node behind one that broke, compares a batch of other
items, and tells a fault from what the source does as well:

1. What the framework's model itself does at each call is its own, and named as such.
2. A node that gives something else for the same inputs is found by observing every value; reading the graph says
   what kind it is (a random operator, dropout or batch statistics left in training mode).
3. Items that influence one another in the runtime, and not in the float64 run of the same graph, are a fault of the
   runtime, whatever the source does: it may be run by the same runtime.
4. Where the graph itself mixes them, that is its fault only where the source's items do not influence one another.
   Where there is no source to ask, batch statistics in training mode are named, and anything else is a note: axis 0
   may be time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxeq import ladder
from onnxeq.arrays import load_feeds
from onnxeq.artifact import REPEATS
from onnxeq.attribution.places import at_node, near_failure, shapes_of, varied
from onnxeq.attribution.questions import native_repeat, native_sizes, referee_sizes, unsteady_nodes
from onnxeq.batches import OtherBatch, batched_outputs, take
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.kept import store_feeds
from onnxeq.ladder import Execution, RungPlan, Units
from onnxeq.types import Cause, CauseKind, Feed, Rung, Status, Where

__all__ = ["Settled", "overshadowed", "settle", "without_consequences"]

OTHER_BATCH = "other batch"
"""What the execution is called, after the runtime's own name."""


@dataclass(frozen=True)
class Settled:
    """What the battery says: rungs (all of the ladder's), causes of the stability rungs alone, and notes."""

    rungs: tuple[Rung, ...]
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()


def settle(jobs: Jobs, found: Evidence, rungs: Sequence[Rung], units: Units) -> Settled:
    """Finds the places of the repeats that broke and runs what the ladder has not: another batch."""
    broken = [r for r in rungs if r.name == "stability" and r.status is Status.FAIL]
    causes: list[Cause] = []
    for source in dict.fromkeys(r.source for r in broken):
        first = next(r for r in broken if r.source == source)  # a repeat that differs makes the rest differ, too
        (cause,) = ladder.causes([first], found.joint)
        causes += _native(found, cause) if source.startswith("native") else _artifact(jobs, found, cause, first, units)
    if any(r.source == found.runs.runtime.deployed for r in broken):
        return Settled(tuple(rungs), tuple(causes))
    settled, other = _drawn(jobs, found), found.runs.other_batch()
    if settled is None:
        settled = Settled((), ()) if other is None else _in_another_batch(jobs, found, other, units)
    last = max((i for i, r in enumerate(rungs) if r.name == "stability"), default=len(rungs) - 1) + 1
    return Settled((*rungs[:last], *settled.rungs, *rungs[last:]), (*causes, *settled.causes), settled.notes)


def _drawn(jobs: Jobs, found: Evidence) -> Settled | None:
    """A node that draws numbers although the deployed runs agree: the runtime's optimisations have removed it.

    Another runtime, or this one with other settings, need not; and no float64 run can tell what such a graph means.
    """
    from onnxeq.graph.files import read
    from onnxeq.graph.unsteady import Why, find_unsteady

    drawing = {u.runs_in: u for u in find_unsteady(read(found.artifact.path)) if u.why is not Why.STATISTICS}
    seen = unsteady_nodes(jobs, found.runs, "repeat") if drawing else []
    nodes = [drawing[row["node"]] for row in seen if row["node"] in drawing]
    if not nodes:
        return None
    plain = found.runs.runtime.plain
    rungs: list[Rung] = []
    causes: list[Cause] = []
    for node in nodes:
        said = (
            f"two runs with graph optimisations off differ: node {node.node} ({node.op_type}) {node.why.value};"
            " with them on the runtime leaves it out"
        )
        rungs.append(Rung("stability", plain, f"{plain} {REPEATS['repeat']}", math.nan, math.nan, math.inf, 0.0,
                          Status.FAIL, said, node.value))  # fmt: skip
        where = Where(node.node, node.op_type, node.value)
        causes.append(Cause(CauseKind.NONDETERMINISM, "stability", math.inf, where, said))
    return Settled(tuple(rungs[:1]), tuple(causes))


_ALIKE = 10.0
"""Times what a repeat differs by, up to which a difference between other executions is put down to it."""


def without_consequences(rungs: Sequence[Rung]) -> list[Rung]:
    """The rungs besides stability, without the broken ones that something else explains.

    An output of another shape is the interface's, and cannot be compared on any other rung. See :func:`overshadowed`.
    """
    misshapen = {r.output for r in rungs if r.name == "interface" and r.status is Status.FAIL}
    moved = _moved(rungs)

    def explained(rung: Rung) -> bool:
        shape = rung.output in misshapen and "has shape" in rung.reason
        return rung.name != "interface" and (shape or _in_shadow(rung, moved))

    return [r for r in rungs if r.name != "stability" and not (r.status is Status.FAIL and explained(r))]


def overshadowed(rungs: Sequence[Rung]) -> list[Rung]:
    """The runtime's own broken rungs that its repeats explain: another kernel may be at fault there besides."""
    moved = _moved(rungs)
    own = [r for r in rungs if r.name in ("kernels", "optimizer") and r.status is Status.FAIL]
    return [r for r in own if _in_shadow(r, moved)]


def _moved(rungs: Sequence[Rung]) -> dict[str, float]:
    """Whose repeats differ -> by how much.

    Items that influence one another explain nothing elsewhere: the same feeds mix them in every execution.
    """
    broken = [r for r in rungs if r.name == "stability" and r.status is Status.FAIL]
    repeats = [r for r in broken if not r.target.endswith(OTHER_BATCH) and not math.isnan(r.max_abs)]
    return {_side(r.source): r.max_abs for r in repeats}


def _in_shadow(rung: Rung, moved: Mapping[str, float]) -> bool:
    """Two runs of a model that draws numbers differ by about as much on every rung that it takes part in."""
    sides = {_side(rung.source), _side(rung.target)}
    return rung.max_abs <= _ALIKE * max((size for name, size in moved.items() if name in sides), default=0.0)


def _side(execution: str) -> str:
    """Whose execution it is: ``native``, ``referee``, the runtime's name, which may run an ONNX source as well."""
    return execution.removeprefix("source ").replace("/", " ").split()[0]


def _native(found: Evidence, cause: Cause) -> list[Cause]:
    """The framework's own model differs from call to call: where, and why."""
    asked: Mapping[str, Any] = {} if found.native is None else native_repeat(found.native)
    if not asked:
        return [cause]
    state = [name for name in asked["changed"] if "seed_generator" not in name]
    said = [str(asked["source"])] if asked["source"] else []
    if state:
        said.append(f"each call changes {', '.join(repr(n) for n in state[:3])}{_more(len(state) - 3)}")
    if asked["reseeded"]:
        said.append("with the random generators set to the same state before each call the results agree")
    if not asked["reseeded"] and state and "keeps state" not in "".join(said):
        said.append("it keeps state between calls")
    elif not said:
        said.append("it keeps state between calls, or draws from a generator of its own")
    where = replace(cause.where, native=_quoted(str(asked["source"])) or (state[0] if state else ""))
    return [replace(cause, where=where, evidence=f"{cause.evidence}; in the native model itself: {'; '.join(said)}")]


def _quoted(text: str) -> str:
    """The module that an account names."""
    return text.split("in module '")[1].split("'")[0] if "in module '" in text else ""


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _artifact(jobs: Jobs, found: Evidence, cause: Cause, rung: Rung, units: Units) -> list[Cause]:
    """The artifact differs from run to run: one cause for each kind of node that does."""
    from onnxeq.graph.files import read
    from onnxeq.graph.unsteady import Why, find_unsteady

    known = {u.runs_in: u for u in reversed(find_unsteady(read(found.artifact.path)))}
    how = next((kind for kind, text in REPEATS.items() if rung.target.endswith(f" {text}")), "repeat")
    seen = unsteady_nodes(jobs, found.runs, how)
    if not seen and how in ("repeat", "session"):
        seen = [{"node": u.node, "op_type": u.op_type, "value": u.value} for u in reversed(known.values())]
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for row in seen:
        by_kind.setdefault(row["op_type"], []).append(row)
    causes = []
    for rows in by_kind.values():
        node = known.get(rows[0]["node"])
        if node is None and known and any(r["node"] in known for r in seen):
            continue  # what is random by its nature explains the rest
        where = Where(rows[0]["node"], rows[0]["op_type"], rows[0]["value"])
        why = _UNEXPLAINED[how]
        if node is not None:
            where, why = replace(where, node=node.node, op_type=node.op_type, value=node.value), node.why.value
        kind = cause.cause
        if node is not None and node.why is Why.STATISTICS:
            why += ", and the runtime goes on from the statistics that the last run has left"
            other = found.runs.other_batch()
            kind = CauseKind.GRAPH if other and _source_mixes(jobs, found, other, units) is False else kind
        also = f" (and {len(rows) - 1} more of its kind)" if len(rows) > 1 else ""
        said = f"node {where.node} ({where.op_type}){also} {why}"
        causes.append(replace(cause, cause=kind, where=where, evidence=f"{cause.evidence}; {said}"))
    return causes or [cause]


_UNEXPLAINED = {
    "repeat": "gives another result for the same inputs though it draws no numbers: it keeps state between runs, or"
    " reads memory that nobody wrote",
    "session": "gives another result for the same inputs in a new session though it draws no numbers",
    "threads": "gives another result with one thread, by far more than the order of a sum explains",
}


def _in_another_batch(jobs: Jobs, found: Evidence, other: OtherBatch, units: Units) -> Settled:
    """Compares the items of a feed with the same items in another batch; a rung, and what it means if it breaks."""
    deployed = found.runs.runtime.deployed
    trace, sizes = found.executions[deployed].trace, found.batches
    if len(trace) != len(sizes) or other.feed >= len(trace):
        return Settled(())
    if other.error:
        return _another_batch_fails(jobs, found, other)
    rung = _compare(found, trace, other, units, (deployed, f"{deployed} {OTHER_BATCH}"))
    if rung is None or rung.status is not Status.FAIL:
        return Settled(() if rung is None or rung.status is Status.NOT_RUN else (rung,))
    seen = unsteady_nodes(jobs, found.runs, "batch", feed=other.feed, rows=list(other.rows), leading=_leading(found))
    where = Where(seen[0]["node"], seen[0]["op_type"], seen[0]["value"]) if seen else Where()
    (cause,) = ladder.causes([rung], found.joint)
    size = (
        f"by {rung.max_abs:.3g} at output '{rung.output}', {rung.ratio:.3g}x rounding noise ({rung.limit:g}x allowed)"
    )
    if _graph_mixes(jobs, found, other, units) is False:
        place = f" node {where.node} ({where.op_type})" if where.node else " a kernel"
        said = (
            f"an item's result depends on the other items of its batch, {size}, though it does not when the same graph"
            f" is run in float64:{place} of the runtime mixes what lies along the batch axis"
        )
        return Settled((rung,), (replace(cause, cause=CauseKind.RUNTIME, where=where, evidence=said),))
    mixes = _source_mixes(jobs, found, other, units)
    statistics = _statistics(found)
    if mixes is None and where.node in statistics:
        said = (
            f"an item's result depends on the other items of its batch, {size}: node {where.node} ({where.op_type})"
            f" {statistics[where.node]}"
        )
        return Settled((rung,), (replace(cause, where=replace(where, node=where.node), evidence=said),))
    if mixes is False and seen and not where.op_type.startswith("DynamicQuantize"):
        said = (
            f"an item's result depends on the other items of its batch, {size}, and the source's does not: node"
            f" {where.node} ({where.op_type}) {statistics.get(where.node, 'mixes what lies along the batch axis')}"
        )
        return Settled((rung,), (replace(cause, cause=CauseKind.GRAPH, where=where, evidence=said),))
    told = "what lies along axis 0 influences one another" + at_node(where)
    if mixes:
        told += ", in the source as well"
    elif mixes is None:
        told += f" ({size}): no fault where that axis is no batch, or is meant to be mixed"
    return Settled((replace(rung, status=Status.PASS, ratio=min(rung.ratio, rung.limit), reason=told),), (), (told,))


def _another_batch_fails(jobs: Jobs, found: Evidence, other: OtherBatch) -> Settled:
    """A batch that runs and fewer of its items that do not, though the artifact leaves the size free."""
    feed, picked, trace = _picked(jobs, found, other)
    if not trace:
        return Settled(())
    where = near_failure(found, [other.error], *varied([feed], picked))
    said = (
        f"the artifact runs with {shapes_of(feed)} and fails with {shapes_of(picked)}, which the source takes:"
        f" {other.error}"
    )
    deployed = found.runs.runtime.deployed
    names = (deployed, f"{deployed} {OTHER_BATCH}")
    rung = Rung("stability", *names, math.nan, math.nan, math.inf, 0.0, Status.FAIL, said, where.value)
    baked = f"a shape baked in at export{at_node(where)}: {said}"
    return Settled((rung,), (Cause(CauseKind.GRAPH, "stability", math.inf, where, baked),))


def _picked(jobs: Jobs, found: Evidence, other: OtherBatch) -> tuple[Feed, Feed, Feed]:
    """The feed and the items of it that make the other batch, and what the source gives for those; empty if nothing."""
    feed, picked = _items(found, other)
    if found.source_runs is not None:
        theirs = found.source_runs.other_batch()
        same = theirs is not None and not theirs.error and (theirs.feed, theirs.rows) == (other.feed, other.rows)
        return feed, picked, theirs.outputs if theirs is not None and same else {}
    if found.native is None:
        return feed, picked, {}
    trace, errors = native_sizes(found.native, store_feeds([picked], jobs.root))
    return feed, picked, trace[0] if trace and not any(errors) else {}


def _items(found: Evidence, other: OtherBatch) -> tuple[Feed, Feed]:
    """A feed, and the items of it that make the other batch."""
    declared = _leading(found)
    leading = {ours.name: declared.get(theirs.name, 1) for ours, theirs in found.inputs}
    feed = load_feeds(found.runs.question.inputs["feeds"])[other.feed]
    return feed, take(feed, leading, other.rows)


def _compare(
    found: Evidence, trace: Sequence[Feed], other: OtherBatch, units: Units, names: tuple[str, str]
) -> Rung | None:
    """The rung between items of a feed and the same items in another batch; ``None`` where no output has a batch."""
    kept = batched_outputs(trace, found.batches, other.feed, other.outputs, len(other.rows))
    if not kept:
        return None
    rows = list(other.rows)
    usual = {name: trace[other.feed][name][rows] for name in kept}
    unit: tuple[Feed, ...] = ()
    if len(units.rounding) > other.feed:
        own = units.rounding[other.feed]
        unit = ({k: own[k][rows] for k in kept if k in own and np.shape(own[k])[:1] == trace[other.feed][k].shape[:1]},)
    missing = units.missing or ("" if unit else "no rounding noise")
    runs = {
        names[0]: Execution(names[0], (usual,)),
        names[1]: Execution(names[1], ({k: other.outputs[k] for k in kept},)),
    }
    plan = RungPlan("stability", *names)
    return ladder.climb([plan], runs, Units(unit, (), missing), ladder.Rules())[0]


def _leading(found: Evidence) -> dict[str, Any]:
    """The artifact's input name -> the first size that it declares."""
    return {s.name: s.shape[0] for s in found.artifact.info.inputs if s.shape}


def _graph_mixes(jobs: Jobs, found: Evidence, other: OtherBatch, units: Units) -> bool | None:
    """Whether the artifact's items influence one another in float64, too; ``None`` where the referee cannot tell."""
    usual = found.executions["referee/f64"].trace
    if len(usual) != len(found.batches):
        return None
    _, picked = _items(found, other)
    given = referee_sizes(jobs, found.runs, store_feeds([picked], jobs.root))
    if not given:
        return None
    names = ("referee/f64", f"referee/f64 {OTHER_BATCH}")
    return _broke(_compare(found, usual, replace(other, outputs=given[0]), units, names))


def _source_mixes(jobs: Jobs, found: Evidence, other: OtherBatch, units: Units) -> bool | None:
    """Whether the source's items influence one another, too; ``None`` where there is no source, or it cannot tell."""
    _, _, given = _picked(jobs, found, other)
    if not given:
        return None
    usual = found.executions[found.reference].trace
    return _broke(_compare(found, usual, replace(other, outputs=given), units, ("source", "source other batch")))


def _broke(rung: Rung | None) -> bool | None:
    return None if rung is None or rung.status is Status.NOT_RUN else rung.status is Status.FAIL


def _statistics(found: Evidence) -> dict[str, str]:
    """The nodes in training mode that take the statistics of their batch, by label."""
    from onnxeq.graph.files import read
    from onnxeq.graph.unsteady import Unsteady, Why, find_unsteady

    listed: Iterable[Unsteady] = find_unsteady(read(found.artifact.path))
    return {u.runs_in: u.why.value for u in listed if u.why is Why.STATISTICS}
