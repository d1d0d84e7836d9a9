"""From a rung that broke to the cause, the place and the proof.

The ladder says which rung broke. Each module here knows how to ask one kind of rung further: it is given the
cause as the ladder saw it and gives it back with its place, or several in its stead, each with its own proof.

=================  =====================================================================
:mod:`.exporter`   which native operator the exporter translated wrongly, in an export of our own
:mod:`.graph`      which nodes and constants of an artifact are not the reference's
:mod:`.lowering`   which node's rounding makes an output inaccurate
:mod:`.native`     what in the framework itself makes its float32 run differ
:mod:`.runtime`    which kernel, optimiser pass or setting of the runtime is at fault
:mod:`.shapes`     where an output of a wrong shape, or a failure on every input, comes from
:mod:`.weights`    which constants are wrong, and what putting the native ones back does
=================  =====================================================================

Besides, :mod:`.stability` and :mod:`.shapes` bring rungs of their own: other batches and sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from onnxeq.attribution import exporter, graph, lowering, native, runtime, weights
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import RECOGNISED, Units
from onnxeq.types import Cause, CauseKind

__all__ = ["LOCATORS", "Locator", "explain"]

Locator: TypeAlias = Callable[[Jobs, Evidence, Cause, Units], tuple[Cause, ...]]
"""Takes a broken rung's cause, gives the causes that a person can act on; the same one where nothing was found."""


def _structure(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The graph rung: an export of our own is the exporter's doing, any other artifact is held against one."""
    if found.native is not None and found.native.exports:
        return exporter.locate(jobs, found, cause, units)
    return graph.locate(jobs, found, cause, units)


def _constants(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The weights rung: the ledger's entries, or what the graphs side by side tell where it has none."""
    named = weights.locate(jobs, found, cause, units)
    return graph.locate(jobs, found, cause, units) if named == (cause,) else named


LOCATORS: Mapping[str, Locator] = {
    "graph": _structure,
    "interface": graph.locate_interface,
    "kernels": runtime.locate,
    "ledger": weights.locate,
    "lowering": lowering.locate,
    "native-rounding": native.locate,
    "optimizer": runtime.locate,
    "provider": runtime.locate,
    "weights": _constants,
}
"""Rung -> who finds the place."""


def explain(
    jobs: Jobs,
    found: Evidence,
    causes: Sequence[Cause],
    units: Units,
    mixing: Sequence[Cause] = (),
    overshadowed: Sequence[Cause] = (),
) -> tuple[Cause, ...]:
    """The causes with their places, worst first.

    Args:
        jobs: Where to ask further.
        found: What was executed.
        causes: What the ladder and the batteries say.
        units: The measured units.
        mixing: Those of ``causes`` that the stability battery has found.
        overshadowed: Broken rungs of the runtime that differences from run to run explain. They are looked at as well:
            their nodes are told besides those that differ, or in the place of one that could not be seen to.
    """
    hidden = [c for cause in overshadowed for c in LOCATORS[cause.rung](jobs, found, cause, units) if c.where.node]
    causes = _placed(causes, hidden)
    steady = {c.where.node for c in causes if c.rung == "stability"}
    besides = [c for c in hidden if c.where.node not in steady]
    located = [
        c
        for cause in _of_one_run(found, causes)
        for c in _with_precision(cause, LOCATORS.get(cause.rung, _as_it_is)(jobs, found, cause, units))
    ]
    told = _told_once(_once([*located, *besides]), [c for c in mixing if c.cause is CauseKind.GRAPH])
    return tuple(sorted(told, key=lambda c: -c.ratio if not math.isnan(c.ratio) else 0.0))


def _with_precision(cause: Cause, located: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """The located causes, the first of which keeps what the size of the whole error was recognised as."""
    _, found, precision = cause.evidence.rpartition(RECOGNISED)
    measured = cause.cause is CauseKind.RUNTIME  # by its own error, node by node
    if not found or not located or measured or found in located[0].evidence:
        return located
    said = f"{located[0].evidence}; as a whole {found}{precision}"
    return (replace(located[0], evidence=said), *located[1:])


def _placed(causes: Sequence[Cause], hidden: Sequence[Cause]) -> list[Cause]:
    """The causes, one that differs from run to run at the worst of the runtime's nodes where it has no place itself."""
    worst = max(hidden, key=lambda c: c.ratio, default=None)

    def place(cause: Cause) -> Cause:
        placed = bool(cause.where.node or cause.where.native)
        if worst is None or cause.cause is not CauseKind.NONDETERMINISM or placed:
            return cause
        said = f"; it did not show again, but node {worst.where.node} ({worst.where.op_type}) is off in the run judged"
        return replace(cause, where=worst.where, evidence=cause.evidence + said)

    return [place(c) for c in causes]


_RUNTIMES = frozenset({"kernels", "optimizer", "provider"})
_SAME_KERNELS = ("kernels", "optimizer", "provider", "native-rounding")
"""Rungs that one wrong kernel breaks, the one that tells most of it first: the last where it runs the source, too."""


def _of_one_run(found: Evidence, causes: Sequence[Cause]) -> list[Cause]:
    """The causes, without the source's where the source is the artifact itself and so was run by the same runtime."""
    itself = found.source_runs is not None and found.provenance.get("sha256") == found.artifact.info.sha256
    told = itself and any(c.rung in _RUNTIMES for c in causes)
    return [c for c in causes if not (told and c.rung == "native-rounding")]


def _once(causes: Sequence[Cause]) -> list[Cause]:
    """Each fault once: a constant that the ledger names needs not be told by its effect on the graph again, nor a node
    that differs from run to run by its being off, nor a kernel by what it does in the optimised run, on another
    provider or to the source.
    """
    for position, rung in enumerate(_SAME_KERNELS):
        told = {c.where.node for c in causes if c.rung == rung and c.cause is CauseKind.RUNTIME} - {""}
        later = _SAME_KERNELS[position + 1 :]
        causes = [c for c in causes if c.rung not in later or c.where.node not in told]
    booked = {c.where.initializer for c in causes if c.rung in ("ledger", "weights")} - {""}
    unsteady = {c.where.node for c in causes if c.cause is CauseKind.NONDETERMINISM} - {""}
    left = [c for c in causes if c.cause is not CauseKind.RUNTIME or c.where.node not in unsteady]
    return [c for c in left if c.rung in ("ledger", "weights") or c.where.initializer not in booked]


def _told_once(causes: Sequence[Cause], mixing: Sequence[Cause]) -> list[Cause]:
    """What the stability rung has found is told once, by another rung where that has found the same node.

    A node that mixes the items of a batch breaks the graph rung as well, which may not say where by itself. A kernel
    that does is found by its own error, where that shows, even if it could not be seen to mix.
    """
    kept: list[Cause] = []
    for cause in causes:
        if mixing and cause.rung == "graph" and not cause.where.node:
            evidence = f"{cause.evidence}; {mixing[0].evidence}"
            cause = replace(cause, where=mixing[0].where, evidence=evidence)
        same = (k for k in kept if k.cause is cause.cause and k.where.node == cause.where.node != "")
        unplaced = cause.cause is CauseKind.RUNTIME and not cause.where.node
        told = unplaced and any(k.cause is CauseKind.RUNTIME and k.where.node for k in kept)
        if cause.rung != "stability" or not (told or any(same)):
            kept.append(cause)
    return kept


def _as_it_is(_jobs: Jobs, _found: Evidence, cause: Cause, _units: Units) -> tuple[Cause, ...]:
    return (cause,)
