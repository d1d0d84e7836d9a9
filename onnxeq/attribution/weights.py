"""The weights: which constants are not what the native tensors give, and what putting them back does.

When the rung that judges graph and weights together breaks and the ledger has near misses, the native weights are put
into the artifact and it is run in float64 once more: what is left is the graph's, what went away is the weights'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from onnxeq import ladder, weighing
from onnxeq.arrays import load_feeds
from onnxeq.errors import OnnxeqError
from onnxeq.evidence import Evidence
from onnxeq.jobs import JobResult, Jobs
from onnxeq.ladder import Execution, RungPlan, Units
from onnxeq.measure import compare
from onnxeq.types import Cause, CauseKind, Feed, Rung, Status, Where
from onnxeq.weighing import PutBack
from onnxeq.weights.types import Entry

__all__ = ["NATIVE_WEIGHTS", "cause_of", "locate", "separate", "with_ledger"]

NATIVE_WEIGHTS = "referee/f64+native weights"
"""The execution of the artifact with the native weights put back."""

_SINGLY = 3
"""Near misses that are put back one at a time as well."""

_MOST_SINGLY = 6
"""The same where it has to be found out whether they are faults at all."""

_WORSE = 1.05
"""Times the error from which on what was put back did not belong there."""


def with_ledger(
    jobs: Jobs, found: Evidence, rungs: Sequence[Rung], units: Units, rules: ladder.Rules
) -> tuple[Evidence, list[Rung]]:
    """The evidence and the rungs with the ledger's, graph and weights told apart where they were judged together."""
    if found.ledger is None:
        return found, list(rungs)
    broken = [r for r in rungs if r.name in ("graph", "weights") and r.status is Status.FAIL]
    may_ask = bool(broken) and found.joint and found.ledger.again is not None
    if may_ask and _wants_reference(found, rules):
        found, may_ask = _asked_again(found), False
    after, now = _apart(jobs, found, rungs, units, rules) if broken else (found, list(rungs))
    if may_ask and any(r.name == "graph" and r.status is Status.FAIL for r in now):
        known = _faulty(found, rules)
        found = _asked_again(found)  # what is left may be a constant that only its place tells of
        if _faulty(found, rules) != known:
            after, now = _apart(jobs, found, rungs, units, rules)
    if after.ledger is None:
        return after, now
    return after, weighing.with_rung(now, weighing.rung(after.ledger, rules, confirmed=bool(broken)))


def _apart(
    jobs: Jobs, found: Evidence, rungs: Sequence[Rung], units: Units, rules: ladder.Rules
) -> tuple[Evidence, list[Rung]]:
    return separate(jobs, found, rungs, units, rules) if _faulty(found, rules) else (found, list(rungs))


def _faulty(found: Evidence, rules: ladder.Rules) -> frozenset[str]:
    """The constants at fault."""
    held = found.ledger.ledger if found.ledger is not None else None
    return (
        frozenset() if held is None else frozenset(e.initializer for e in weighing.faults(held, rules, confirmed=True))
    )


def _wants_reference(found: Evidence, rules: ladder.Rules) -> bool:
    """Whether the ledger alone does not explain why outputs differ: nothing sure, or something left open."""
    held = found.ledger.ledger if found.ledger is not None else None
    if held is None:
        return False
    return not weighing.faults(held, rules, confirmed=False) or any(not e.sure for e in held.near_misses)


def _asked_again(found: Evidence) -> Evidence:
    """The ledger with the same exporter's unfolded export as its reference, if that can be had."""
    before = found.ledger
    assert before is not None  # noqa: S101 - for the type checker
    assert before.again is not None  # noqa: S101
    try:
        after = weighing.weighed(before.again(), before.again)
    except OnnxeqError:
        return found
    return found if after.ledger is None else replace(found, ledger=after)


def separate(
    jobs: Jobs, found: Evidence, rungs: Sequence[Rung], units: Units, rules: ladder.Rules
) -> tuple[Evidence, list[Rung]]:
    """Runs the artifact with its near misses put back, and judges graph and weights apart.

    Args:
        jobs: Where to run.
        found: With a ledger.
        rungs: The climbed rungs.
        units: The artifact's units.
        rules: What the user asked for.

    Returns:
        The evidence with the execution :data:`NATIVE_WEIGHTS` and what single tensors do, and the rungs with ``graph``
        and ``weights`` in the place of the one that judged both; as they came where the run failed.
    """
    weighed = found.ledger
    if weighed is None or weighed.ledger is None:
        return found, list(rungs)
    broken = next(r for r in rungs if r.name in ("graph", "weights") and r.status is Status.FAIL)
    done = _put_back(jobs, found, rules)
    if isinstance(done, JobResult):
        back = _singly(found, done, found.executions[broken.source].trace, units)
        worse = {name for name, b in back.items() if b.worse}
        doubted = [e for e in weighed.ledger.near_misses if e.initializer in worse and not e.sure]
        found = replace(found, ledger=weighing.replaced(weighing.without(weighed, doubted), back))
        done = _put_back(jobs, found, rules) if doubted else done
    if isinstance(done, str):
        executions = {**found.executions, NATIVE_WEIGHTS: Execution(NATIVE_WEIGHTS, (), done)}
        return (replace(found, executions=executions) if done else found), list(rungs)
    executions = {**found.executions, NATIVE_WEIGHTS: Execution(NATIVE_WEIGHTS, _trace(found, done, "all"))}
    found = replace(found, executions=executions)
    if not found.joint:
        return found, list(rungs)
    as_judged = next((p.limit for p in found.plans if p.name == broken.name), "")
    plans = (
        RungPlan("graph", broken.source, NATIVE_WEIGHTS, limit=as_judged),
        RungPlan("weights", NATIVE_WEIGHTS, "referee/f64"),
    )
    apart = ladder.climb(plans, executions, units, rules)
    at = list(rungs).index(broken)
    return replace(found, joint=False), [*rungs[:at], *apart, *rungs[at + 1 :]]


def _put_back(jobs: Jobs, found: Evidence, rules: ladder.Rules) -> JobResult | str:
    """Runs the artifact with its near misses put back, all at once and the first one by one, those in doubt first.

    Returns:
        The finished job, or why there is none; empty when there is nothing to put back.
    """
    weighed = found.ledger
    if weighed is None or weighed.ledger is None:
        return ""
    misses = [e for e in weighing.faults(weighed.ledger, rules, confirmed=True) if e.native and e.ulp > 0]
    doubted = [e.initializer for e in misses if not e.sure]
    names = list(dict.fromkeys([*doubted, *(e.initializer for e in misses)]))
    if not names:
        return ""
    singly = min(max(_SINGLY, len(doubted)), _MOST_SINGLY)
    question = replace(
        found.runs.question, kind="put-back", label="native weights put back",
        params={**found.runs.question.params, "initializers": names, "singly": singly},
        inputs={**found.runs.question.inputs, "expected": weighed.expected},
    )  # fmt: skip
    try:
        return jobs.start(question).result()
    except OnnxeqError as error:
        return error.line()


def _trace(found: Evidence, done: JobResult, folder: str) -> tuple[Feed, ...]:
    pairs = found.runs.outputs["referee/f64"]
    return tuple({pairs.get(k, k): v for k, v in feed.items()} for feed in load_feeds(done.out / folder))


def _singly(found: Evidence, done: JobResult, exact: Sequence[Feed], units: Units) -> dict[str, PutBack]:
    """What each of the first near misses does, put back alone."""
    stored = found.executions["referee/f64"].trace[:1]
    before = compare(exact[:1], stored, units.floor[:1], step=2.0**-53)
    back = {}
    for index, name in enumerate(done.data["singly"]):
        trace = _trace(found, done, str(index))
        after = compare(exact[:1], trace, units.floor[:1], step=2.0**-53)
        moved = compare(trace, stored, units.floor[:1], step=2.0**-53)
        worse = after.ratio > _WORSE * before.ratio
        back[name] = PutBack(moved.ratio, before.max_abs, after.max_abs, worse)
    return back


def locate(_jobs: Jobs, found: Evidence, cause: Cause, _units: Units) -> tuple[Cause, ...]:
    """One cause for each fault of the ledger, in the place of the ledger's and the weights rung's own."""
    weighed = found.ledger
    if weighed is None or weighed.ledger is None:
        return (cause,)
    entries = weighing.faults(weighed.ledger, ladder.Rules(), confirmed=_confirmed(found))
    if cause.rung == "weights":
        return () if entries else (cause,)
    told = [cause_of(entry, weighed.back.get(entry.initializer), cause.rung) for entry in entries]
    if found.source_runs is not None:  # an ONNX file's constants are not all weights
        numbers = _numbers(found)
        told = [replace(c, cause=CauseKind.GRAPH) if c.where.initializer in numbers else c for c in told]
    return tuple(told)


_ARITHMETIC = frozenset(
    "Add Sub Mul Div Pow Min Max Clip Mod Where Equal Less Greater LessOrEqual GreaterOrEqual".split()
)


def _numbers(found: Evidence) -> frozenset[str]:
    """Constants of one element that the artifact only computes with: a scale, a power, a limit."""
    from onnxeq.graph.files import read
    from onnxeq.graph.tensors import all_graphs

    graphs = list(all_graphs(read(found.artifact.path).graph))
    single = {t.name for g in graphs for t in g.initializer if math.prod(t.dims) == 1}
    single |= {n.output[0] for g in graphs for n in g.node if n.op_type == "Constant"
               for a in n.attribute if not a.HasField("t") or math.prod(a.t.dims) == 1}  # fmt: skip
    return frozenset(
        name for name in single if all(n.op_type in _ARITHMETIC for g in graphs for n in g.node if name in n.input)
    )


def _confirmed(found: Evidence) -> bool:
    return NATIVE_WEIGHTS in found.executions


def cause_of(entry: Entry, back: PutBack | None, rung: str) -> Cause:
    """A fault of the ledger as a cause, with what putting the native tensor back does, where that was tried."""
    where = Where(node=entry.node, op_type=entry.op_type, native=entry.native, initializer=entry.initializer)
    evidence, ratio = entry.evidence, entry.ulp
    if back is not None:
        evidence += f"; put back, the error drops from {back.before:.2g} to {back.after:.2g}"
        ratio = back.ratio
    return Cause(CauseKind.WEIGHTS, rung, ratio if math.isfinite(ratio) else math.inf, where, evidence)
