"""A shape baked in at export: the artifact runs at one size and not, or not the same, at another that the source takes.

1. An artifact that stops at a later feed is judged on the feeds that it runs, and the stop is a broken rung.
2. Where a brought artifact declares free axes besides the batch, two more sizes are tried. What the source does not
   take either proves nothing; what it takes, the artifact has to run, in the same shapes and with the same values.
3. The node is the one that an executor names, or the nearest before it that holds a size as a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxeq import ladder
from onnxeq.arrays import load_feeds
from onnxeq.attribution.places import at_node, before_output, near_failure, shapes_of, varied
from onnxeq.attribution.questions import native_sizes, sizes, sizes_unit
from onnxeq.attribution.stability import Settled
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import Execution, RungPlan, Units
from onnxeq.types import Cause, CauseKind, Feed, Rung, Status, Where

__all__ = ["locate", "settle", "stopped", "up_to_the_stop"]

OTHER_SIZES = "other sizes"
"""What the execution is called, after the runtime's own name."""


def up_to_the_stop(found: Evidence) -> tuple[Evidence, Rung | None]:
    """The evidence on the feeds that the artifact runs, and a broken rung if it stops before the last.

    It stops where two independent executors fail on the same feed. What only one of them cannot run is not run.
    """
    stopped = {name for name, e in found.executions.items() if e.trace and e.missing}
    if not stopped:
        return found, None
    plain, referee = found.executions[found.runs.literal], found.executions["referee/f64"]
    both = {plain.name, referee.name} <= stopped and len(plain.trace) == len(referee.trace)
    if not both or any(name.startswith("source ") for name in stopped):
        kept = {n: replace(e, trace=()) if n in stopped else e for n, e in found.executions.items()}
        return replace(found, executions=kept), None
    count = len(plain.trace)
    kept = {
        n: replace(e, trace=e.trace[:count], missing="" if e.trace else e.missing) for n, e in found.executions.items()
    }
    feeds = load_feeds(found.runs.question.inputs["feeds"])
    said = f"the artifact runs with {shapes_of(feeds[0])} and fails with {shapes_of(feeds[count])}: {plain.missing}"
    nan, inf = math.nan, math.inf
    rung = Rung("stability", found.reference, found.runs.runtime.deployed, nan, nan, inf, 0.0, Status.FAIL, said)
    return replace(found, executions=kept, batches=found.batches[:count]), rung


def stopped(before: Evidence, rung: Rung) -> Settled:
    """The rung of a stop and its cause, with its node; ``before`` still knows what was not run."""
    messages = [before.executions[n].missing for n in ("referee/f64", before.runs.literal)]
    feeds = load_feeds(before.runs.question.inputs["feeds"])
    count = len(before.executions[before.runs.literal].trace)
    where = near_failure(before, messages, *varied(feeds[:count], feeds[count]))
    said = f"a shape baked in at export{at_node(where)}: {rung.reason}"
    return Settled((rung,), (Cause(CauseKind.GRAPH, rung.name, rung.ratio, where, said),))


def locate(_jobs: Jobs, found: Evidence, cause: Cause, _units: Units) -> tuple[Cause, ...]:
    """The interface rung: the node at which the artifact fails on every input, or that makes a wrong shape."""
    from onnxeq.graph.baked import SHAPE_OPERANDS

    messages = [found.executions[n].missing for n in ("referee/f64", found.runs.literal)]
    if all(messages):
        where = near_failure(found, messages, (), 0)
    else:
        output = _wrong_size(found)
        where = before_output(found, output, (), 0) if output else Where()
    if not where.node:
        return (cause,)
    baked = "a shape baked in at export" if where.op_type in SHAPE_OPERANDS else "it begins"
    return (replace(cause, where=where, evidence=f"{cause.evidence}; {baked}{at_node(where)}"),)


def _wrong_size(found: Evidence) -> str:
    """An output whose size follows the batch in the source and not in the artifact; empty where there is none."""
    ours, theirs = found.executions[found.reference].trace, found.executions[found.runs.runtime.deployed].trace
    for name in ours[0] if ours and theirs else ():
        pairs = [(a[name].shape, b[name].shape) for a, b in zip(ours, theirs, strict=False) if name in a and name in b]
        if any(a == b for a, b in pairs) and any(a != b for a, b in pairs):
            return name
    return ""


_COARSE = 2.0**-10
"""Of an output's root mean square: a difference at another size that is looked into. Rounding seldom reaches it."""

_GROWN = 64.0
"""Times the difference at the usual size, the same."""


def settle(jobs: Jobs, found: Evidence, rungs: Sequence[Rung]) -> Settled:
    """Tries the sizes that ``found.sizes`` holds: a rung, and its cause if the artifact does not follow the source."""
    if found.sizes is None or not found.executions[found.runs.literal].trace:
        return Settled(())
    source, refused = native_sizes(found.native, found.sizes) if found.native else _of_source(jobs, found)
    if not source or all(refused):
        return Settled(())
    target, failed = sizes(jobs, found.runs, found.sizes)
    if not target:
        return Settled(())
    feeds = load_feeds(found.sizes)
    usual = load_feeds(found.runs.question.inputs["feeds"])[0]
    names = (found.reference, f"{found.runs.runtime.deployed} {OTHER_SIZES}")
    for index, feed in enumerate(feeds):
        if refused[index]:
            continue
        at = f"with {shapes_of(feed)} in place of {shapes_of(usual)}"
        problem, messages = failed[index], [failed[index]]
        wrong = [n for n, v in source[index].items() if n in target[index] and target[index][n].shape != v.shape]
        if not problem and wrong:
            shapes = [list(side[index][wrong[0]].shape) for side in (target, source)]
            problem, messages = f"output '{wrong[0]}' has shape {shapes[0]}, the source's {shapes[1]}", []
        if problem:
            where = near_failure(found, messages, *varied([usual], feed))
            if not where.node and wrong:
                where = before_output(found, wrong[0], *varied([usual], feed))
            said = f"{at}, which the source takes, the artifact fails: {problem}"
            return _broken(names, where, said)
    if any(r.status is Status.FAIL and r.name != "stability" for r in rungs):
        return Settled(())  # what differs at every size says nothing about this one
    return _compared(jobs, found, source, target, refused, names)


def _of_source(jobs: Jobs, found: Evidence) -> tuple[tuple[Feed, ...], tuple[str, ...]]:
    if found.source_runs is None or found.sizes is None:
        return (), ()
    return sizes(jobs, found.source_runs, found.sizes)


def _broken(names: tuple[str, str], where: Where, said: str) -> Settled:
    nan, inf = math.nan, math.inf
    rung = Rung("stability", *names, nan, nan, inf, 0.0, Status.FAIL, said, where.value)
    cause = Cause(CauseKind.GRAPH, "stability", inf, where, f"a shape baked in at export{at_node(where)}: {said}")
    return Settled((rung,), (cause,))


def _compared(
    jobs: Jobs,
    found: Evidence,
    source: Sequence[Feed],
    target: Sequence[Feed],
    refused: Sequence[str],
    names: tuple[str, str],
) -> Settled:
    """Both ran, in the same shapes: whether the values agree as they do at the usual size."""
    pairs = [(a, b) for a, b, no in zip(source, target, refused, strict=True) if not no]
    usual = _apart(
        list(zip(found.executions[found.reference].trace, found.executions[found.runs.literal].trace, strict=False))
    )
    apart = _apart(pairs)
    far = [n for n, share in apart.items() if share > max(_COARSE, _GROWN * usual.get(n, 0.0))]
    largest = max(apart.values(), default=0.0)
    passed = Rung(
        "stability", *names, math.nan, math.nan, largest / _COARSE, 1.0, Status.PASS,
        f"at {len(pairs)} other sizes the values agree to {largest:.1g} of their root mean square",
    )  # fmt: skip
    if not far:
        return Settled((replace(passed, ratio=min(passed.ratio, 1.0)),))
    if found.sizes is None:
        return Settled(())
    units = sizes_unit(jobs, found.runs, found.sizes)
    if units.missing or len(units.rounding) < len(source):
        return Settled(())
    kept = [i for i, no in enumerate(refused) if not no]
    runs = {names[0]: Execution(names[0], tuple(source[i] for i in kept)),
            names[1]: Execution(names[1], tuple(target[i] for i in kept))}  # fmt: skip
    unit = Units(tuple(units.rounding[i] for i in kept))
    (rung,) = ladder.climb([RungPlan("stability", *names)], runs, unit, ladder.Rules())
    if rung.status is not Status.FAIL:
        return Settled((rung,) if rung.status is Status.PASS else ())
    usual_feed, feed = load_feeds(found.runs.question.inputs["feeds"])[0], load_feeds(found.sizes)[kept[0]]
    where = replace(before_output(found, rung.output, *varied([usual_feed], feed)), value=rung.output)
    said = (
        f"with {shapes_of(feed)} in place of {shapes_of(usual_feed)} the artifact gives something else than the source,"
        f" by {rung.max_abs:.3g} at output '{rung.output}', {rung.ratio:.3g}x rounding noise ({rung.limit:g}x allowed)"
    )
    cause = Cause(
        CauseKind.GRAPH, "stability", rung.ratio, where, f"a shape baked in at export{at_node(where)}: {said}"
    )
    return Settled((rung,), (cause,))


def _apart(pairs: Sequence[tuple[Feed, Feed]]) -> Mapping[str, float]:
    """For each float output the largest difference, as a share of the root mean square of the first."""
    found: dict[str, float] = {}
    for ours, theirs in pairs:
        for name, a in ours.items():
            b = theirs.get(name)
            if b is None or a.dtype.kind != "f" or a.shape != b.shape or not a.size:
                continue
            x, y = a.astype(np.float64), b.astype(np.float64)
            usable = np.isfinite(x) & np.isfinite(y)
            if usable.any():
                scale = float(np.sqrt(np.mean(np.square(x[usable]))))
                found[name] = max(found.get(name, 0.0), float(np.max(np.abs(x - y)[usable])) / max(scale, 2.0**-100))
    return found
