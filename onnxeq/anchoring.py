"""Decisions at discontinuities: what rounding explains of them, and how large rounding noise is where all agree.

A value beside a tie may go either way, and everything behind it differs then by far more than rounding. Both ways of
being misled by that are mended here, with the referee run along the runtime's own decisions
(:mod:`onnxeq.runners.anchor`):

1. A rung that broke because the runtime decided otherwise is compared anew behind the decisions (:func:`reanchor`).
2. Rounding noise is drawn as large as kernels may round, so that some draws decide otherwise where no execution did
   (the floor of a quotient that is exact). A unit that such draws have made large would hide real faults behind it. The
   unit is then measured with the decisions as they were made (:func:`sharpen`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq import ladder
from onnxeq.artifact import REPEATS, ArtifactRuns
from onnxeq.errors import OnnxeqError
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import Execution, RungPlan
from onnxeq.noise import AMPLITUDE
from onnxeq.types import Feed, Rung, Status

__all__ = ["passed", "reanchor", "sharpen"]


@dataclass(frozen=True)
class _Anchored:
    """The referee with the runtime's decisions, see :mod:`onnxeq.runners.anchor`.

    Attributes:
        trace: The referee's outputs.
        unit: Their rounding noise.
        probed: The runtime's outputs in the run in which its decisions were seen.
        flips: A row for each node and feed with elements that were decided differently.
        noise: Where ``unit`` lies.
    """

    trace: tuple[Feed, ...]
    unit: tuple[Feed, ...]
    probed: tuple[Feed, ...]
    flips: tuple[Mapping[str, Any], ...]
    noise: Path

    @property
    def explained(self) -> bool:
        """Whether rounding explains every decision."""
        return all(flip["explained"] for flip in self.flips)

    @property
    def text(self) -> str:
        """One line about the decisions."""
        worst = max(self.flips, key=lambda flip: int(flip["count"]))
        nodes = {flip["node"] for flip in self.flips}
        more = f" and {len(nodes) - 1} more nodes" if len(nodes) > 1 else ""
        return (
            f"unstable at these inputs: node {worst['node']} ({worst['op_type']}){more} decides {worst['count']} of "
            f"{worst['size']} elements the other way, within {AMPLITUDE:g} units of rounding noise"
        )


_COARSE = 2.0**-12
"""Of an output's size, from which on its rounding noise is looked at again: rounding moves the outputs of healthy
float32 models by 1e-7 to 1e-5 of their size (DESIGN and NUMERICS), a decision by as much as it decides. Where nothing
is decided the question costs a look at the graph, so that the number needs not be sharp."""

_ALIKE = ("repeat", "session")
"""Repeats that round as the first run did. Other threads may take a sum across a tie that nobody has looked at."""


def sharpen(
    jobs: Jobs, found: Evidence, rungs: Sequence[Rung], units: ladder.Units, rules: ladder.Rules
) -> tuple[Evidence, list[Rung]]:
    """Judges the runtime's rungs by the noise that its decisions leave, where those are the referee's and it is less.

    Returns:
        The evidence, with that noise for every later question, and all rungs; both as they were where there is nothing
        to mend.
    """
    open_ = [r for r in rungs if r.status is Status.PASS and r.name in ("kernels", "optimizer") and r.max_abs > 0]
    literal, deployed = found.runs.literal, found.runs.runtime.deployed
    if units.missing or rules.tolerance is not None or not open_ or not _coarse(found, units):
        return found, list(rungs)
    unsteady = any(r.source == deployed and r.max_abs > 0 for r in rungs if r.name == "stability")
    plain = _undisputed(jobs, found, literal, optimize=literal == deployed, unsteady=unsteady)
    if plain is None:
        return found, list(rungs)
    judged = {("kernels", literal)}
    if literal == deployed or _undisputed(jobs, found, deployed, optimize=True, unsteady=unsteady):
        judged |= {("optimizer", deployed)} | {("stability", f"{deployed} {REPEATS[k]}") for k in _ALIKE}
    found = replace(found, runs=replace(found.runs, sharper=plain.noise))
    sharper = found.runs.units()
    anew = [p for p in found.plans if (p.name, p.target) in judged]
    again = {(r.name, r.target): r for r in ladder.climb(anew, found.executions, sharper, rules)}
    return found, [again.get((r.name, r.target), r) for r in rungs]


def _coarse(found: Evidence, units: ladder.Units) -> bool:
    """Whether the noise of an output is large beside the output."""
    exact = found.executions["referee/f64"].trace
    return any(
        value.dtype.kind == "f" and name in unit and _rms(unit[name]) > _COARSE * _rms(value)
        for feed, unit in zip(exact, units.rounding, strict=False)
        for name, value in feed.items()
    )


def _rms(value: Any) -> float:
    finite = value[np.isfinite(value)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def _undisputed(jobs: Jobs, found: Evidence, execution: str, *, optimize: bool, unsteady: bool) -> _Anchored | None:
    """The referee along an execution's decisions, where it decides the same and asking has changed nothing.

    That asking changes nothing cannot be seen of a runtime that gives other bits each time.
    """
    anchored = _ask(jobs, found.runs, optimize=optimize)
    if anchored is None or anchored.flips or not anchored.unit:
        return None
    return anchored if unsteady or _same(anchored.probed, found.executions[execution].trace) else None


def reanchor(jobs: Jobs, found: Evidence, rungs: list[Rung], units: ladder.Units) -> list[Rung]:
    """The rungs, with those set right that a discontinuity broke: rounding took a value across a tie.

    ``kernels`` and ``optimizer`` are compared anew behind the runtime's decisions. ``lowering`` follows them. The
    native decisions cannot be seen, so that a broken ``native-rounding`` is then left open.
    """
    broken = {r.name for r in rungs if r.status is Status.FAIL}
    if units.missing or not broken & {"kernels", "optimizer", "native-rounding", "lowering"}:
        return rungs
    said = ""
    runtime, literal = found.runs.runtime, found.runs.literal
    sides_ = [("kernels", found.runs, literal, literal == runtime.deployed),
              ("optimizer", found.runs, runtime.deployed, True)]  # fmt: skip
    if found.source_runs is not None:
        sides_.append(("native-rounding", found.source_runs, f"source {runtime.deployed}", True))
    for name, runs, execution, optimize in sides_:
        if name == "native-rounding" and name not in broken:
            continue
        seen = found.executions[execution].trace if execution in found.executions else ()
        anchored = _ask(jobs, runs, optimize=optimize) if seen else None
        if anchored is None or not anchored.flips or not anchored.explained or not _same(anchored.probed, seen):
            continue
        judged = {"referee/f64": Execution("referee/f64", anchored.trace), "ort": Execution("ort", seen)}
        (behind,) = ladder.climb(
            [RungPlan(name, "referee/f64", "ort")], judged, ladder.Units(anchored.unit, units.floor), ladder.Rules()
        )
        if behind.status is Status.PASS:
            said = f"{anchored.text}; behind that it agrees"
            rungs = [passed(r, behind, said) if r.name == name and r.status is Status.FAIL else r for r in rungs]
    if said:
        left = {r.name for r in rungs if r.status is Status.FAIL}
        if not left & {"kernels", "optimizer"}:
            rungs = [passed(r, r, said) if r.name == "lowering" and r.status is Status.FAIL else r for r in rungs]
        rungs = [
            replace(r, status=Status.NOT_RUN, reason=f"{said}; the native decisions cannot be seen: try other --inputs")
            if r.name == "native-rounding" and r.status is Status.FAIL else r
            for r in rungs
        ]  # fmt: skip
    return rungs


def _ask(jobs: Jobs, runs: ArtifactRuns, *, optimize: bool) -> _Anchored | None:
    """The runs with the runtime's decisions; ``None`` when there are none, or they cannot be seen."""
    params = {**runs.question.params, "runner": runs.runtime.params(), "optimize": optimize}
    label = "anchor optimised" if optimize else "anchor"
    with contextlib.suppress(OnnxeqError):
        done = jobs.start(replace(runs.question, kind="anchor", label=label, params=params)).result()
        if not (done.out / "unit").exists():  # a graph that decides nothing
            return None
        trace, unit, probed = (runs.renamed(done.out / name) for name in ("anchored", "unit", "probed"))
        return _Anchored(trace, unit, probed, tuple(done.data["flips"]), done.out / "unit")
    return None


def passed(rung: Rung, behind: Rung, said: str) -> Rung:
    """A broken rung that another measurement has explained: passed, with what is said of it."""
    return replace(rung, status=Status.PASS, ratio=min(behind.ratio, rung.limit), reason=said)


def _same(probed: Sequence[Feed], unprobed: Sequence[Feed]) -> bool:
    """Whether observing changed nothing: the outputs have the same bits."""
    return all(
        k in b and np.asarray(v).tobytes() == np.asarray(b[k]).tobytes()
        for a, b in zip(probed, unprobed, strict=True)
        for k, v in a.items()
    )
