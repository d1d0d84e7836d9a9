"""The kernels, optimizer and provider rungs: which node, optimiser pass or setting of the runtime is at fault.

The facts come from a job (:mod:`onnxeq.runners.isolate`); here they become causes, one for each fault:

1. A node is a fault when its error on the runtime's own inputs is more than its rounding noise explains, and either
   breaks the rung by itself when it is put into the float64 run, or is :data:`CERTAIN`. What only passes an error on
   has none of its own, and is not named.
2. Nodes whose errors have the size of a reduced precision, all over the graph, are one cause: a setting, not forty
   broken kernels.
3. A break that another rung's fault explains is not a second fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnxeq import ladder
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import RungPlan, Units
from onnxeq.measure import compare
from onnxeq.types import Cause, Status, Where

__all__ = ["CERTAIN", "locate", "locate_source"]

CERTAIN = 64.0
"""Local error, in the node's own rounding noise, from which on a node is at fault whatever becomes of it."""

MOST_ALIKE = 8
"""Nodes of one operator that are named one by one; more are one cause that counts them."""

_Row = Mapping[str, Any]


def locate(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The faults behind a broken rung of the runtime, each with its node; the cause itself where none was found."""
    plan = _broken(found, cause, units)
    if plan is None or units.missing:
        return (cause,)
    if cause.rung == "optimizer" and _explained_by_kernels(found, units):
        return ()
    limit = ladder.LIMITS[cause.rung].factor
    facts = found.runs.isolate(jobs, plan.source, plan.target, _order(found, plan, units), limit)
    return _of_facts(cause, facts, limit)


def locate_source(jobs: Jobs, found: Evidence, cause: Cause) -> tuple[Cause, ...]:
    """The faults of the runtime in its run of an ONNX source, each with its node there."""
    runs = found.source_runs
    plan = next((p for p in found.plans if p.name == cause.rung), None)
    if runs is None or plan is None or runs.units().missing:
        return (cause,)
    limit = ladder.LIMITS[cause.rung].factor
    order = _order(found, plan, runs.units())
    return _of_facts(cause, runs.isolate(jobs, "referee/f64", runs.runtime.deployed, order, limit), limit)


def _of_facts(cause: Cause, facts: Mapping[str, Any], limit: float) -> tuple[Cause, ...]:
    """What the job has found out, as causes."""
    if not facts:
        return (cause,)
    said = "".join(f"; {text}" for text in _settings(facts))
    causes = [c for row in facts["analyses"] for c in _of_analysis(cause, facts, row, limit, said)]
    return tuple(causes) or (_unplaced(cause, facts, said),)


def _unplaced(cause: Cause, facts: Mapping[str, Any], said: str) -> Cause:
    """What is known of a fault that no look at the nodes could place."""
    passes = "".join(f"; {text}" for text in _passes(facts, tuple(facts["passes"])))
    first = facts["first"]
    if not first:
        return replace(cause, evidence=f"{cause.evidence}{passes}{said}")
    where = Where(first["node"], first["op_type"], first["value"], first["native"])
    place = f"; the graph is refused from node {where.node} ({where.op_type}) on, and taken up to its inputs"
    return replace(cause, where=where, evidence=f"{cause.evidence}{place}{passes}{said}")


def _broken(found: Evidence, cause: Cause, units: Units) -> RungPlan | None:
    """The plan of the rung that broke: with the same name and ratio, where several have the name."""
    plans = [p for p in found.plans if p.name == cause.rung]
    climbed = [(p, ladder.climb((p,), found.executions, units, ladder.Rules())[0]) for p in plans]
    refused = found.runs.refused if cause.rung == "optimizer" else ""
    broken = [(p, r) for p, r in climbed if r.status is Status.FAIL or refused]
    same = [p for p, r in broken if r.ratio == cause.ratio]
    return next(iter(same), broken[0][0] if broken else None)


def _explained_by_kernels(found: Evidence, units: Units) -> bool:
    """Whether the optimised run is right and the plain one, which it is held against, is not."""
    plain = RungPlan("kernels", "referee/f64", found.runs.runtime.plain)
    deployed = RungPlan("kernels", "referee/f64", found.runs.runtime.deployed)
    before, after = ladder.climb((plain, deployed), found.executions, units, ladder.Rules())
    return before.status is Status.FAIL and after.status is Status.PASS


def _order(found: Evidence, plan: RungPlan, units: Units) -> list[int]:
    """The feeds, the worst first."""
    ours, theirs = found.executions[plan.source].trace, found.executions[plan.target].trace
    count = min(len(ours), len(theirs))
    ratios = [compare([ours[i]], [theirs[i]], [units.rounding[i]], step=2.0**-24).ratio for i in range(count)]
    return sorted(range(count), key=lambda i: -ratios[i]) or [0]  # refused: there is nothing to compare


def _settings(facts: Mapping[str, Any]) -> list[str]:
    """What the runs under other settings have shown, in words."""
    said = []
    if not facts["again"]:
        said.append("it did not show when the model was run again, so it comes and goes")
    said += [f"{words} it agrees ({left:.2g})" for words, left in facts["experiments"].items()]
    if facts["level"]:
        before = f", {facts['before']} does not" if facts["before"] else ""
        said.append(f"the level {facts['level']} brings it{before}")
    return said


def _of_analysis(cause: Cause, facts: Mapping[str, Any], row: _Row, limit: float, said: str) -> list[Cause]:
    """The causes that one look at all nodes gives."""
    suspects: Sequence[_Row] = row["suspects"]
    causes: list[Cause] = []
    together, suspects = _reduced(suspects, row["totals"])
    if together:
        causes.append(_of_precision(cause, together[0], row, said))
    faults = [s for s in suspects if _is_fault(s, limit)]
    if not faults and suspects and not causes:
        faults = [max(suspects, key=lambda s: (s["effect"], s["ratio"]))]
    passes = "".join(f"; {text}" for text in _passes(facts, row["passes"]))
    for alike in _grouped(faults):
        causes.append(_of_node(cause, alike, row, f"{passes}{said}"))
    return causes


def _is_fault(suspect: _Row, limit: float) -> bool:
    return bool(suspect["problem"]) or suspect["ratio"] >= CERTAIN or suspect["effect"] > limit


def _passes(facts: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The passes of an analysis, with what is left of the error without each."""
    left: Mapping[str, float] = facts["passes"]
    if len(left) == 1:
        return [
            f"the pass {n} makes it: with disabled_optimizers=['{n}'] the error is {_number(left[n])}" for n in names
        ]
    return [f"the pass {n} makes it, beside {' and '.join(o for o in left if o != n)}" for n in names]


def _reduced(suspects: Sequence[_Row], totals: Mapping[str, int]) -> tuple[list[tuple[str, list[_Row]]], list[_Row]]:
    """The nodes that compute in a reduced precision, if that is what most of their operators do, and the others."""
    best: tuple[str, list[_Row]] = ("", [])
    for kind in ("tf32", "float16", "bfloat16", "int8"):
        fitting = [s for s in suspects if _FAINTEST <= s["fits"].get(kind, math.inf) <= ladder.REDUCED]
        operators = {s["op_type"] for s in fitting}
        all_of_them = sum(totals.get(op, 0) for op in operators)
        if len(fitting) >= 2 and len(fitting) >= _SHARE * all_of_them and len(fitting) > len(best[1]):
            best = (kind, fitting)
    if not best[1]:
        return [], list(suspects)
    return [best], [s for s in suspects if s not in best[1]]


_SHARE = 0.75
"""Of an operator's nodes, from which on a reduced precision is the runtime's way with it and not a fault of some."""

_FAINTEST = 0.1


def _of_precision(cause: Cause, group: tuple[str, list[_Row]], row: _Row, said: str) -> Cause:
    kind, nodes = group
    worst = max(nodes, key=lambda s: (s["effect"], s["ratio"]))
    counts = {op: sum(s["op_type"] == op for s in nodes) for op in sorted({s["op_type"] for s in nodes})}
    shown = ", ".join(f"{n} of {row['totals'].get(op, n)} {op}" for op, n in counts.items())
    evidence = (
        f"{cause.evidence}; computed in {kind}: each of {len(nodes)} nodes ({shown}) is off by what {kind} does to it,"
        f" most at {worst['node']} ({worst['op_type']})"
    )
    return replace(cause, where=_where(worst), evidence=f"{evidence}{said}")


def _grouped(faults: Sequence[_Row]) -> list[list[_Row]]:
    """One group for each node; for an operator with more than :data:`MOST_ALIKE` of them, one for all."""
    operators: dict[str, list[_Row]] = {}
    for fault in faults:
        operators.setdefault(fault["op_type"], []).append(fault)
    groups: list[list[_Row]] = []
    for alike in operators.values():
        worst_first = sorted(alike, key=lambda s: (-s["effect"], -s["ratio"]))
        groups += [worst_first] if len(alike) > MOST_ALIKE else [[s] for s in worst_first]
    return groups


def _of_node(cause: Cause, alike: Sequence[_Row], row: _Row, said: str) -> Cause:
    """One fault: what the node gives on the runtime's own inputs, and what that does by itself."""
    fault = alike[0]
    inside = f" around {', '.join(fault['inside'][:4])}" if fault["inside"] else ""
    fused = f", run as {fault['fused_type']} {fault['fused']}" if fault["fused"] else ""
    joined = [f"{n['node']} ({n['op_type']})" for n in fault["region"][:3]]
    fused += f", together with {', '.join(joined)}" if joined else ""
    native = f", {fault['native']}" if fault["native"] else ""
    fits = {k: r for k, r in fault["fits"].items() if _FAINTEST <= r <= ladder.REDUCED}
    summed = cause.evidence if fits else cause.evidence.partition("; consistent with")[0]
    what = f"{summed}; made at node {fault['node']} ({fault['op_type']}{inside}{fused}{native})"
    if fault["problem"]:
        how = f": on the inputs that it got, {fault['problem'].removeprefix('output ')}"
    else:
        relative = f", {fault['rms'] / fault['scale']:.2g} of its size" if fault["scale"] else ""
        how = (
            f": on the inputs that it got, its result '{fault['value']}' is {fault['max_abs']:.2g} off{relative} and"
            f" {fault['ratio']:.3g}x its own rounding noise"
        )
        how += "".join(f", {r:.2g}x what {k} does to it" for k, r in sorted(fits.items(), key=lambda f: f[1])[-1:])
    effect = ""
    if fault["effect"] > 0 and fault["moved"] < _HUGE:
        effect = f"; that alone moves '{fault['output']}' by {fault['moved']:.2g} in float64"
    elif not fault["problem"]:
        effect = "; the outputs hardly respond to it at these inputs"
    more = ""
    if len(alike) > 1:
        others = ", ".join(s["node"] for s in alike[1:4])
        total = row["totals"].get(fault["op_type"], len(alike))
        more = f"; so do {len(alike) - 1} more of {total} {fault['op_type']} nodes ({others}, ...)"
    others = f"; the largest local error of the other {row['judged']} nodes is {row['healthy']:.2g}x"
    beside = others if len(alike) == 1 and row["judged"] > 1 else ""
    ratio = fault["effect"] if fault["effect"] > 0 else min(fault["ratio"], cause.ratio)
    hidden = "" if row["shows"] else "; it does not show while inner values are asked for, so the place is uncertain"
    if row["hidden"]:
        names = ", ".join(f"'{h['value']}' of {h['node']} ({h['op_type']})" for h in row["hidden"][:3])
        hidden = f"; it goes away while {names} is asked for: they run as one kernel"
    evidence = f"{what}{how}{effect}{more}{beside}{said}{hidden}"
    return replace(cause, ratio=ratio if ratio < _HUGE else math.inf, where=_where(fault), evidence=evidence)


_HUGE = 1e300


def _where(fault: _Row) -> Where:
    return Where(fault["node"], fault["op_type"], fault["value"], fault["native"])


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"
