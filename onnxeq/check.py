"""``onnxeq check``, the straight line: run both sides, climb the ladder, say the verdict.

1. The native side runs in one job: it loads, exports (when no artifact was brought) and executes in
   float32 and float64.
2. The artifact is run by the referee in float64 (with its noise units), by onnxruntime plain and
   optimised, on CUDA where there is a device, and once more after normalisation.
3. Neighbouring executions are compared; the rungs that break are the causes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq import fingerprint, inputs, ladder, sides
from onnxeq.artifact import ArtifactRuns, start_runs
from onnxeq.errors import UsageError
from onnxeq.interface import check_interface, dead_outputs, pair_inputs, pair_outputs
from onnxeq.jobs import Jobs, Listener
from onnxeq.ladder import Execution, RungPlan
from onnxeq.measure import summarize
from onnxeq.providers import Provider, choose_providers
from onnxeq.sides import Artifact, NativeSide, Request
from onnxeq.types import Coverage, ExportForm, Feed, ModelRef, Report, TensorSpec
from onnxeq.zoo import converter_for

__all__ = ["check"]


def check(
    source: object,
    target: object | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batches: Sequence[int] = inputs.DEFAULT_BATCHES,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    opset: int | None = None,
    accept: Sequence[str] = (),
    rtol: float | None = None,
    atol: float | None = None,
    timeout_s: float | None = None,
    trust: bool = False,
    use_cache: bool = True,
    listener: Listener | None = None,
) -> Report:
    """Says whether a model and its ONNX form are equivalent and, if not, on which rung they part.

    Args:
        source: A model reference (``torchvision:resnet18@seeded``, a path, ``file.py:factory``), a live
            ``nn.Module`` or ``keras.Model``, or an ``onnx.ModelProto``.
        target: The artifact to judge: a path or an ``onnx.ModelProto``. Without one the source is
            exported by its framework's exporter; an ONNX source is judged on its own.
        inputs: Feeds: files (see ``onnxeq.inputs.read``) or mappings from input name to array.
        shapes: Input name -> shape; the name may be empty when there is one input only.
        batches: Sizes tried where the batch axis may vary.
        seed: Seed of generated inputs and of a factory's random weights.
        providers: ``cpu``, ``cuda``; by default those that this machine has.
        opset: Opset of the export.
        accept: Reduced precisions that are fine: ``tf32``, ``float16``, ``bfloat16``, ``int8``.
        rtol: With ``atol``, a classic tolerance in place of the measured float32 limits,
            ``|a-b| <= atol + rtol*|b|``.
        atol: See ``rtol``.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        use_cache: Whether results of earlier identical jobs are reused.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: Something the caller can mend.
        onnxeq.errors.CannotRun: The native side could not be run.
    """
    rules = _rules(accept, rtol, atol)
    request = Request(
        _feeds(inputs), {k: tuple(v) for k, v in (shapes or {}).items()}, tuple(batches), seed, opset, trust
    )
    with Jobs(timeout_s=timeout_s, listener=listener, use_cache=use_cache) as jobs:
        asked = choose_providers(providers)
        ref, live = sides.resolve(source, jobs.root)
        brought = None if target is None else sides.open_artifact(target, jobs.root)
        if live is None and converter_for(ref) == "onnx":
            found = _from_onnx(jobs, ref, brought, request, asked)
        else:
            found = _from_framework(jobs, ref, live, brought, request, asked)
    return _conclude(found, rules)


@dataclass(frozen=True)
class _Evidence:
    """Everything that was executed for one check, before it is judged."""

    ref: ModelRef
    provenance: Mapping[str, Any]
    artifact: Artifact
    plans: tuple[RungPlan, ...]
    reference: tuple[Feed, ...]
    reference_name: str
    runs: ArtifactRuns
    executions: Mapping[str, Execution]
    interface: tuple[tuple[TensorSpec, TensorSpec], ...]
    samples: int
    joint: bool
    target_ref: str
    notes: tuple[str, ...]
    timings: tuple[Mapping[str, Any], ...]


def _from_framework(
    jobs: Jobs,
    ref: ModelRef,
    live: object | None,
    brought: Artifact | None,
    request: Request,
    asked: Sequence[Provider],
) -> _Evidence:
    """A framework's model against its own export, or against an artifact that the user brought."""
    forms = (ExportForm.UNFOLDED, ExportForm.DEPLOYED) if brought is None else ()
    declared = sides.declared_inputs(request, brought)
    dynamic = None if brought is None else sides.has_dynamic_batch(brought.info.inputs)
    spec = sides.native_job(
        ref, request, declared=declared, forms=forms, dynamic_batch=dynamic, execute=True, root=jobs.root
    )
    native = sides.run_native(jobs, ref, spec, live)
    output_names = [o["name"] for o in native.job.data["outputs"]]
    feeds = native.job.out / "feeds"
    if brought is None:
        export = native.export(ExportForm.DEPLOYED)
        artifact = sides.open_artifact(export.path, jobs.root)
        ours = [s.name for s in native.inputs]
        names = dict(zip(ours, export.input_names, strict=False))
        unfolded = native.export(ExportForm.UNFOLDED)
        pairs = dict(zip(export.output_names, output_names, strict=False))
        unfolded_pairs = dict(zip(unfolded.output_names, output_names, strict=False))
        notes = tuple(dict.fromkeys((*export.notes, *unfolded.notes)))
        runs = start_runs(
            jobs, artifact.path, feeds, names, pairs, asked, request.seed, (unfolded.path, unfolded_pairs)
        )
    else:
        artifact, notes = brought, ()
        names = pair_inputs(native.inputs, artifact.info.inputs)
        pairs = pair_outputs(output_names, [o.name for o in artifact.info.outputs])
        runs = start_runs(jobs, artifact.path, feeds, names, pairs, asked, request.seed, None)
    executions = _native_executions(native) | runs.executions()
    theirs = {s.name: s for s in artifact.info.inputs}
    interface = tuple((s, theirs[names[s.name]]) for s in native.inputs if names.get(s.name) in theirs)
    plans = _framework_plans(own=brought is None)
    return _Evidence(
        ref, native.job.data["provenance"], artifact, (*plans, *runs.plans()), native.trace("f32"), "native/f32", runs,
        executions, interface, int(native.job.data["samples"]), brought is not None, "its own export" if brought is None else artifact.path.name, notes,
        (_timing("native", native), *runs.timings()),
    )  # fmt: skip


def _native_executions(native: NativeSide) -> dict[str, Execution]:
    error = str(native.job.data["f64_error"])
    return {
        "native/f32": Execution("native/f32", native.trace("f32")),
        "native/f64": Execution("native/f64", native.trace("f64"), error),
        "native/f32 again": Execution("native/f32 again", native.trace("f32-repeat")),
    }


def _framework_plans(own: bool) -> tuple[RungPlan, ...]:
    rounding = RungPlan("native-rounding", "native/f64", "native/f32")
    repeat = RungPlan("stability", "native/f32", "native/f32 again")
    if not own:
        return (rounding, RungPlan("graph", "native/f64", "referee/f64"), repeat)
    return (
        rounding,
        RungPlan("graph", "native/f64", "referee/f64 unfolded", sharp=True),
        RungPlan("weights", "referee/f64 unfolded", "referee/f64", sharp=True),
        repeat,
    )


def _from_onnx(
    jobs: Jobs, ref: ModelRef, brought: Artifact | None, request: Request, asked: Sequence[Provider]
) -> _Evidence:
    """An ONNX file on its own, or against another one."""
    source = sides.open_artifact(ref.name, jobs.root)
    feeds = sides.store_feeds(sides.onnx_feeds(source, request), jobs.root)
    names = {s.name: s.name for s in source.info.inputs}
    outputs = {o.name: o.name for o in source.info.outputs}
    samples = sum(_samples(feed) for feed in _load(feeds))
    first = start_runs(jobs, source.path, feeds, names, outputs, asked, request.seed, None, stored=True)
    if brought is None:
        executions = first.executions()
        pairs = tuple((s, s) for s in source.info.inputs)
        return _Evidence(
            ref, {}, source, first.plans(), executions["ort/cpu plain"].trace, "ort/cpu plain", first, executions,
            pairs, samples, False, "", (), first.timings(),
        )  # fmt: skip
    names = pair_inputs(source.info.inputs, brought.info.inputs)
    pairing = pair_outputs(list(outputs), [o.name for o in brought.info.outputs])
    second = start_runs(jobs, brought.path, feeds, names, pairing, asked, request.seed, None, stored=True)
    executions = {f"source {k}": replace(e, name=f"source {k}") for k, e in first.executions().items()}
    executions |= second.executions()
    plans = (
        RungPlan("native-rounding", "source referee/f64", "source ort/cpu"),
        RungPlan("graph", "source referee/f64", "referee/f64"),
        *second.plans(),
    )
    theirs = {s.name: s for s in brought.info.inputs}
    interface = tuple((s, theirs[names[s.name]]) for s in source.info.inputs if names.get(s.name) in theirs)
    return _Evidence(
        ref, {}, brought, plans, executions["source ort/cpu"].trace, "source ort/cpu", second, executions, interface,
        samples, True, brought.path.name, (), (*first.timings("source "), *second.timings()),
    )  # fmt: skip


def _conclude(found: _Evidence, rules: ladder.Rules) -> Report:
    units = found.runs.units()
    rungs = list(ladder.climb(found.plans, found.executions, units, rules))
    deployed = found.executions["ort/cpu"].trace or found.executions["ort/cpu plain"].trace
    judged = deployed or found.executions["referee/f64"].trace
    if found.reference and deployed:
        rungs.insert(
            0,
            check_interface(
                found.reference_name, "ort/cpu", found.reference[0], deployed[0], found.interface
            ),
        )
    exact = found.executions.get("native/f64", found.executions["referee/f64"]).trace
    dead = dead_outputs(exact, units.rounding, found.runs.live_outputs()) if exact else []
    doubts = [
        f"output '{name}' did not vary over the inputs tried, which proves nothing about it" for name in dead
    ]
    total = len(found.reference[0]) if found.reference else len(found.artifact.info.outputs)
    compared = sum(
        1 for name in (found.reference[0] if found.reference else ()) if judged and name in judged[0]
    )
    info = found.artifact.info
    return Report(
        verdict=ladder.verdict(rungs, found.plans, doubts),
        source={"ref": found.ref.text, "kind": found.ref.zoo, **found.provenance},
        target={
            "ref": found.target_ref, "path": str(found.artifact.path), "sha256": info.sha256, "producer": info.producer,
            "opset": info.opsets.get("ai.onnx"), "nodes": info.nodes, "parameters": info.parameters,
        },
        environment={"versions": fingerprint.versions(), "machine": fingerprint.machine()},
        causes=ladder.causes(rungs, found.joint),
        rungs=tuple(rungs),
        outputs=summarize(found.reference, judged) if found.reference and judged else (),
        coverage=Coverage(compared - len(dead), total, found.samples, 0, info.nodes, 0, found.runs.initializers()),
        notes=(*found.notes, *doubts),
        timings=found.timings,
    )  # fmt: skip


def _rules(accept: Sequence[str], rtol: float | None, atol: float | None) -> ladder.Rules:
    for kind in accept:
        if kind not in ladder.ACCEPTED:
            raise UsageError(f"'{kind}' is no precision", hint=f"--accept takes {', '.join(ladder.ACCEPTED)}")
    tolerance = None if rtol is None and atol is None else ladder.Tolerance(rtol or 0.0, atol or 0.0)
    return ladder.Rules(tuple(accept), tolerance)


def _feeds(given: Sequence[str | os.PathLike[str] | Feed]) -> tuple[Feed, ...]:
    feeds: list[Feed] = []
    for item in given:
        feeds += [item] if isinstance(item, Mapping) else inputs.read([Path(item)])
    return tuple(feeds)


def _load(folder: Path) -> list[dict[str, Any]]:
    from onnxeq.arrays import load_feeds

    return load_feeds(folder)


def _samples(feed: Feed) -> int:
    return max((a.shape[0] for a in feed.values() if a.ndim), default=1)


def _timing(label: str, side: NativeSide) -> Mapping[str, Any]:
    job = side.job
    return {
        "job": label,
        "seconds": round(job.seconds, 3),
        "peak_bytes": job.peak_bytes,
        "cached": job.cached,
    }
