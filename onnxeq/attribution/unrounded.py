"""The graph rung once more, for an artifact that holds its native weights bit by bit.

The constant floor takes every stored constant for a rounded one. Where the ledger has found the native tensors
themselves, nothing was rounded, and what is left is what the exporter has added: a scale, an epsilon, a table. Measured
on transformers through torch's two exporters, that floor is ten to a thousand times lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxeq import ladder
from onnxeq.attribution import graph
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import LIMITS, RungPlan, Units
from onnxeq.types import Cause, CauseKind, Feed, Rung, Status, Where
from onnxeq.weights.types import EntryStatus, Ledger, Relation

__all__ = ["sharpened"]

_HELD = frozenset({
    Relation.IDENTICAL, Relation.TRANSPOSED, Relation.RESHAPED, Relation.SPLIT, Relation.CONCATENATED,
})  # fmt: skip
"""How a constant may hold native tensors without having been rounded anew."""

_DOUBTFUL = 0.25
"""Of that floor, from which on the artifact is held against the exporter's own file, node by node. Healthy ones through
torch's two exporters are at 0.1 and below."""

_LEAST = 1 / 64
"""Of the constant floor, at least: frameworks cut functions off where float32 would not notice (torch's softplus is
the identity beyond 20, off by 2e-9)."""


def sharpened(jobs: Jobs, found: Evidence, rungs: Sequence[Rung], units: Units, rules: ladder.Rules) -> list[Rung]:
    """The rungs, with ``graph`` broken where only the rounding of constants that were not rounded explained it.

    Args:
        jobs: Where to run.
        found: With a ledger.
        rungs: The climbed rungs.
        units: The artifact's units.
        rules: What the user asked for; with a tolerance or an accepted precision nothing is sharpened.
    """
    kept = list(rungs)
    held = found.ledger.ledger if found.ledger is not None else None
    at = next((i for i, r in enumerate(kept) if r.name == "graph"), -1)
    if held is None or at < 0 or not found.joint or rules.tolerance is not None or rules.accept:
        return kept
    rung, names = kept[at], _unrounded(held)
    if rung.unit != LIMITS["graph"].unit.value:  # a framework without float64: its own rounding hides what is sought
        return kept
    may_fail = rung.status is Status.PASS and rung.ratio > LIMITS["graph"].factor * _LEAST
    if not names or not may_fail or held.faults:
        return kept
    own = found.runs.own_floor(jobs, names)
    if not own:
        return kept
    unit = tuple(_at_least(o, f) for o, f in zip(own, units.floor, strict=False))
    plan = RungPlan(rung.name, rung.source, rung.target)
    (again,) = ladder.climb([plan], found.executions, replace(units, floor=unit), rules)
    if again.status is Status.FAIL:
        kept[at] = again
    elif again.ratio > _DOUBTFUL:
        cause = Cause(CauseKind.GRAPH, again.name, again.ratio, Where(value=again.output), "")
        if graph.proven(jobs, found, cause, units):
            said = (
                f"{again.max_abs:.2g} off, {again.ratio:.2g}x what rounding of the exporter's own constants does"
                f" ({again.limit:g}x allowed), and a difference of the graph explains it"
            )
            kept[at] = replace(again, status=Status.FAIL, reason=said)
    return kept


def _unrounded(held: Ledger) -> list[str]:
    """The constants that are native tensors bit by bit; none where most were made anew."""
    known = [
        e.initializer for e in held.entries if e.relation in _HELD and e.status is EntryStatus.OK and e.initializer
    ]
    made = [
        e for e in held.entries if e.initializer and e.relation in (Relation.FOLDED, Relation.SCALED, Relation.SUMMED)
    ]
    return known if len(known) > len(made) else []


def _at_least(own: Feed, floor: Feed) -> Feed:
    return {k: np.hypot(v, _LEAST * floor[k]) if k in floor else v for k, v in own.items()}
