"""From everything that was executed for a check to its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from onnxeq import anchoring, attribution, fingerprint, ladder
from onnxeq.attribution import shapes, stability, unrounded
from onnxeq.envs.environment import for_report
from onnxeq.evidence import Evidence
from onnxeq.graph.skim import skim
from onnxeq.interface import check_interface, silent_outputs
from onnxeq.jobs import Jobs
from onnxeq.ladder import RungPlan
from onnxeq.measure import summarize
from onnxeq.sides import Artifact
from onnxeq.types import Coverage, Report, Rung, Status
from onnxeq.weights.document import summary

__all__ = ["conclude", "describe"]


def conclude(jobs: Jobs, found: Evidence, rules: ladder.Rules) -> Report:
    """Climbs the ladder over what was executed, asks once more about what broke, and says the verdict."""
    whole = found
    found, stop = shapes.up_to_the_stop(found)
    units = found.runs.units()
    own = {"native-rounding": found.source_runs.units() if found.source_runs else units}
    rungs = [ladder.climb((p,), found.executions, own.get(p.name, units), rules)[0] for p in found.plans]
    found, rungs = anchoring.sharpen(jobs, found, rungs, units, rules)
    units = found.runs.units()
    rungs = [_refused(found, r) for r in anchoring.reanchor(jobs, found, rungs, units)]
    rungs = _with_sums_excused(jobs, found, rungs)
    steady = stability.settle(jobs, found, rungs, units)
    sized = shapes.settle(jobs, found, rungs) if stop is None else shapes.stopped(whole, stop)
    rungs = [*steady.rungs, *sized.rungs]
    # Measured beside the export that the ledger may ask for: both take seconds, and most faults want both.
    asked = found.runs.start_reduced(jobs) if _unexplained(rungs) else None
    found, rungs = attribution.weights.with_ledger(jobs, found, rungs, units, rules)
    rungs = unrounded.sharpened(jobs, found, rungs, units, rules)
    if _unexplained(rungs):
        if any(r.status is Status.FAIL and r.name in ("kernels", "optimizer", "provider") for r in rungs):
            jobs.expect([("isolate", 0)])
        units = found.runs.reduced_units(asked or found.runs.start_reduced(jobs))
    reference = found.executions[found.reference].trace
    as_deployed = found.deployed or found.runs.runtime.deployed
    deployed = found.executions[as_deployed].trace or found.executions[found.runs.runtime.plain].trace
    judged = deployed or found.executions["referee/f64"].trace
    if reference and not deployed and (broken := _cannot_run(found)):
        nan, inf = math.nan, math.inf
        rungs.insert(0, Rung("interface", found.reference, as_deployed, nan, nan, inf, 0.0, Status.FAIL, broken))
    if reference and deployed:
        interface = check_interface(
            found.reference, as_deployed, reference, deployed, found.inputs, rules.accept,
            found.executions["referee/f64"].trace,
        )  # fmt: skip
        rungs.insert(0, interface)
    causes = (
        *ladder.causes(
            stability.without_consequences(rungs),
            found.joint,
            lambda rung: ladder.recognised(rung, found.executions, units, quantized=_is_quantized(found.artifact)),
        ),
        *steady.causes,
        *sized.causes,
    )
    overshadowed = ladder.causes(stability.overshadowed(rungs), found.joint)
    exact = next((found.executions[n].trace for n in _EXACT if n in found.executions and found.executions[n].trace), ())
    live = found.runs.live_outputs() if found.sure else None
    silent = silent_outputs(exact, units.rounding, live, found.batches) if exact else ()
    doubts = [s.text for s in silent]
    expected = list(reference[0]) if reference else [o.name for o in found.artifact.info.outputs]
    mute = {s.name for s in silent}
    compared = [n for n in expected if reference and judged and n in judged[0] and n not in mute]
    ledger = None if found.ledger is None else found.ledger.ledger
    broke = found.ledger is not None and found.ledger.broke
    return Report(
        verdict=ladder.verdict(rungs, (*found.plans, replace(_LEDGER, asked=broke)), doubts),
        source={"ref": found.ref.text, "kind": found.ref.zoo, **found.provenance},
        target={**describe(found.artifact, found.target_ref), **found.target_said},
        environment={
            "versions": fingerprint.versions(),
            "machine": fingerprint.machine(),
            "runner": found.runs.described(),
            **for_report(jobs.environments),
        },
        causes=attribution.explain(jobs, found, causes, units, steady.causes, overshadowed),
        rungs=tuple(rungs),
        outputs=summarize(reference, judged) if reference and judged else (),
        coverage=Coverage(
            outputs_compared=len(compared),
            outputs_total=len(expected),
            inputs_tried=sum(found.batches),
            nodes_compared=0,  # check compares outputs; layers are compared by diff
            nodes_total=found.artifact.info.nodes,
            weights_accounted=0 if ledger is None else ledger.natives_accounted,
            weights_total=found.runs.initializers() if ledger is None else ledger.natives_total,
        ),
        notes=(*found.notes, *steady.notes, *doubts),
        timings=found.timings,
        ledger={} if ledger is None else summary(ledger),
    )


_EXACT = ("native/f64", "referee/f64")
"""Executions by which it is seen whether an output varies, the first that there is."""

_LEDGER = RungPlan("ledger", "native weights", "initializers", asked=False)
"""Native weights that cannot be had leave the verdict to the outputs; a ledger that broke does not."""


def _unexplained(rungs: Sequence[Rung]) -> bool:
    """Whether a rung broke by an error whose size may tell of a reduced precision."""
    return any(r.status is Status.FAIL and not r.reason and r.name not in ("stability", "ledger") for r in rungs)


def _with_sums_excused(jobs: Jobs, found: Evidence, rungs: list[Rung]) -> list[Rung]:
    """The rungs, with a ``lowering`` passed, and said, that kernels within their own limit make by themselves."""
    broken = {r.name for r in rungs if r.status is Status.FAIL}
    plan = next((p for p in found.plans if p.name == "lowering"), None)
    if plan is None or "lowering" not in broken or broken & {"kernels", "optimizer", "graph", "weights"}:
        return rungs
    single = found.runs.correctly_rounded(jobs)
    told = []
    for rung in rungs:
        mine = rung.name == "lowering" and rung.status is Status.FAIL and not rung.reason
        if mine and ladder.made_by_kernels(rung, plan.measure, found.executions, single):
            said = (
                f"{rung.max_abs:.3g} off, far more than the native float32 run, and as documented of the runtime: its"
                " kernels add many terms up in few accumulators; kernels that round once would not"
            )
            told.append(anchoring.passed(rung, rung, said))
        else:
            told.append(rung)
    return told


def _refused(found: Evidence, rung: Rung) -> Rung:
    """The optimizer rung, broken where the runtime takes the model only with its graph optimisations off."""
    if rung.name != "optimizer" or rung.status is not Status.NOT_RUN or not found.runs.refused:
        return rung
    reason = f"without graph optimisations it runs, with them {found.runs.refused}"
    return replace(rung, ratio=math.inf, status=Status.FAIL, reason=reason)


def _is_quantized(artifact: Artifact) -> bool:
    """Whether the graph quantises anything."""
    nodes = skim(artifact.path).model.graph.node
    return any(node.op_type.startswith(_QUANTIZES) or node.op_type.endswith("Integer") for node in nodes)


_QUANTIZES = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantize", "QLinear")


def _cannot_run(found: Evidence) -> str:
    """What to say when two independent executors fail on inputs that the source takes; else empty."""
    runtime, referee = found.executions[found.runs.literal].missing, found.executions["referee/f64"].missing
    if "fails on this model" in runtime and "failed on inputs" in referee:
        return f"the artifact cannot run what the source runs: {runtime}"
    return ""


def describe(artifact: Artifact, name: str) -> dict[str, Any]:
    """What a report says of the artifact that was judged; ``name`` is the reader's for it."""
    info = artifact.info
    return {
        "ref": name,
        "path": str(artifact.path),
        "sha256": info.sha256,
        "producer": info.producer,
        "opset": info.opsets.get("ai.onnx"),
        "nodes": info.nodes,
        "parameters": info.parameters,
    }
