"""``onnxeq check``, the straight line: run both sides, climb the ladder, say the verdict.

1. The native side runs in one job: it loads, exports (when no artifact was brought) and executes in
   float32 and float64.
2. The artifact is run by the referee in float64 (with its noise units), by onnxruntime plain and
   optimised, on CUDA where there is a device, and once more after normalisation.
3. Neighbouring executions are compared; the rungs that break are the causes.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from onnxeq import ladder, sides, weighing
from onnxeq.arrays import load_feeds
from onnxeq.artifact import StartedRuns, expected, start_runs, start_unfolded
from onnxeq.errors import UsageError
from onnxeq.evidence import Evidence
from onnxeq.inputs import DEFAULT_BATCHES, batch_size
from onnxeq.interface import pair_inputs, pair_outputs, pairing_note
from onnxeq.jobs import JobResult, Jobs, JobSpec, Listener
from onnxeq.judge import conclude
from onnxeq.ladder import Execution, RungPlan
from onnxeq.ledger import WeightsAlone, require_program, without_program
from onnxeq.ledger import weights_only as ledger_of_weights
from onnxeq.providers import Provider, choose_providers
from onnxeq.runtimes import Runtime, choose_runner
from onnxeq.sides import BOTH_FORMS, Artifact, NativeSide, Request
from onnxeq.sizes import free_axes, other_sizes
from onnxeq.types import ExportForm, Feed, ModelRef, Report, TensorSpec
from onnxeq.zoo import converter_for

__all__ = ["check"]


def check(
    source: object,
    target: object | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batches: Sequence[int] = DEFAULT_BATCHES,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    runner: str | None = None,
    opset: int | None = None,
    exporter: str = "",
    accept: Sequence[str] = (),
    rtol: float | None = None,
    atol: float | None = None,
    timeout_s: float | None = None,
    trust: bool = False,
    use_cache: bool = True,
    weights_only: bool = False,
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
        runner: The runtime that is judged in the place of onnxruntime: see :mod:`onnxeq.runtimes`.
        opset: Opset of the export.
        exporter: Which of the framework's exporters to use (torch: ``dynamo``, ``torchscript``); its default if empty.
        accept: Reduced precisions that are fine: ``tf32``, ``float16``, ``bfloat16``, ``int8``.
        rtol: With ``atol``, a classic tolerance in place of the measured float32 limits,
            ``|a-b| <= atol + rtol*|b|``.
        atol: See ``rtol``.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        use_cache: Whether results of earlier identical jobs are reused.
        weights_only: Whether the stored weights alone are compared (:func:`onnxeq.ledger`), and nothing is run.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: Something the caller can mend.
        onnxeq.errors.CannotRun: The native side could not be run.
    """
    rules = _rules(accept, rtol, atol)
    request = Request.of(inputs, shapes, batches=batches, seed=seed, opset=opset, trust=trust, exporter=exporter)
    if weights_only:
        return ledger_of_weights(source, target, request, timeout_s=timeout_s, use_cache=use_cache, listener=listener)
    with Jobs(timeout_s=timeout_s, listener=listener, use_cache=use_cache) as jobs:
        where = _Where(choose_runner(runner), choose_providers(providers))
        if where.runtime.name != "ort" and "cuda" in (providers or ()):
            raise UsageError("--providers cuda is onnxruntime's", hint=f"leave it out, or --runner {runner}")
        ref, live = sides.resolve(source, jobs.root)
        brought = None if target is None else sides.open_artifact(target, jobs.root)
        if live is None and converter_for(ref) == "onnx":
            found = _from_onnx(jobs, ref, brought, request, where, rules.accept)
        else:
            try:
                found = _from_framework(jobs, ref, live, brought, request, where, rules.accept)
            except WeightsAlone as alone:
                limits: dict[str, Any] = {"timeout_s": timeout_s, "use_cache": use_cache, "listener": listener}
                return without_program(ledger_of_weights(source, target, request, **limits), alone)
        return conclude(jobs, found, rules)


@dataclass(frozen=True)
class _Where:
    """Which runtime runs the artifact, on which providers."""

    runtime: Runtime
    providers: tuple[Provider, ...]


def _from_framework(
    jobs: Jobs,
    ref: ModelRef,
    live: object | None,
    brought: Artifact | None,
    request: Request,
    where: _Where,
    accept: Sequence[str],
) -> Evidence:
    """A framework's model against its own export, or against an artifact that the user brought."""
    jobs.expect(expected(jobs, where.providers, where.runtime, unfolded=brought is None))
    running: Future[JobResult] | None = None
    with _inputs_named(brought, request):
        prepare = functools.partial(
            sides.prepare_native, jobs, ref, live, request, declared=sides.declared_inputs(request, brought)
        )
        if brought is None:
            native, judged = _own_export(prepare, jobs, request)
        else:
            native = prepare(forms=(), dynamic_batch=sides.has_dynamic_batch(brought.info.inputs))
            require_program(native)
            judged = _brought(native, brought, request)
            running = native.start() if live is None else None
        artifact, names = judged.artifact, judged.names
        started = start_runs(
            jobs, artifact.path, native.feeds, names, where.providers, request.seed, judged.ahead,
            runtime=where.runtime, reduced=accept,
        )  # fmt: skip
        # A live model occupies this very thread while it runs, so everything else was begun before it.
        running = running or native.start()
        weigh = _start_ledger(jobs, native, artifact.path, judged.unfolded, None if live is not None else running)
        ran = running.result()
    outputs = [o["name"] for o in ran.data["outputs"]]
    inputs = _paired(native.inputs, artifact, names)
    pairs, plain_pairs, notes = judged.pair(outputs)
    runs = started.finish(pairs, plain_pairs)
    again = None if brought is None else lambda: _ledger(native, artifact.path, native.exported(BOTH_FORMS)[1].path)
    weighed = weighing.weighed(weigh(), again)
    executions = _native_executions(ran) | runs.executions()
    plain_run = executions.get("referee/f64 unfolded")
    split = plain_run is not None and bool(plain_run.trace)
    if plain_run is not None and not split:
        notes += (f"graph and weights are judged together, the unfolded export cannot be: {plain_run.missing}",)
    return Evidence(
        ref=ref,
        provenance=native.job.data["provenance"],
        artifact=artifact,
        target_ref="its own export" if brought is None else artifact.path.name,
        runs=runs,
        executions=executions,
        plans=(
            *_framework_plans(split),
            *runs.plans(),
            RungPlan("lowering", "native/f64", where.runtime.deployed, measure="native/f32"),
        ),
        reference="native/f32",
        inputs=inputs,
        batches=tuple(native.job.data["batches"]),
        joint=not split,
        sure=brought is None,
        notes=(*notes, *filter(None, [str(native.job.data["provenance"].get("note", ""))])),
        shortcut=str(ran.data["shortcut"]),
        native=native,
        timings=(*_rows({"native": native.job, "native run": ran, "ledger": weighed.job}), *runs.timings()),
        ledger=weighed,
        sizes=_other_sizes(jobs, request, native.feeds, inputs),
    )


def _ledger(native: NativeSide, artifact: Path, reference: Path | None) -> Future[JobResult]:
    """Asks the process that holds the model for the ledger."""
    beside = {} if reference is None else {"reference": reference}
    return native.question("native-ledger", "ledger", {}, {**sides.reads_of(artifact), **beside})


def _start_ledger(
    jobs: Jobs, native: NativeSide, artifact: Path, unfolded: Path | None, running: Future[JobResult] | None
) -> Callable[[], Future[JobResult]]:
    """The ledger in the process that holds the model, as soon as it has been run; a live model is asked last."""
    if running is None:
        return lambda: _ledger(native, artifact, unfolded)
    started = jobs.then(running, lambda _: _ledger(native, artifact, unfolded))
    if unfolded is not None:  # its own export leaves few questions, and the memory is wanted
        started.add_done_callback(lambda _: native.release())
    return lambda: started


def _rows(jobs: Mapping[str, JobResult | None]) -> tuple[Mapping[str, Any], ...]:
    return tuple(_timing(label, job) for label, job in jobs.items() if job is not None)


_Pairs: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class _Judged:
    """The ONNX file that a framework's model is held against.

    Attributes:
        artifact: The file.
        names: The source's input name -> the file's.
        unfolded: The same exporter's unfolded file, when the export is ours.
        ahead: The referee's job on that file.
        pair: From the source's output names: the pairs of output names, those of the unfolded file, and notes.
    """

    artifact: Artifact
    names: _Pairs
    unfolded: Path | None
    ahead: Future[JobResult] | None
    pair: Callable[[list[str]], tuple[_Pairs, _Pairs, tuple[str, ...]]]


def _own_export(prepare: Callable[..., NativeSide], jobs: Jobs, request: Request) -> tuple[NativeSide, _Judged]:
    """Our own export: names correspond by position, as the exporter was told them in order.

    The unfolded form comes first, so that the referee runs it while the exporter makes the deployed one.
    """
    native = prepare(forms=(ExportForm.UNFOLDED,))
    unfolded = native.export(ExportForm.UNFOLDED)
    inputs = [spec.name for spec in native.inputs]
    ahead = start_unfolded(jobs, unfolded, native.feeds, inputs, request.seed)
    (deployed,) = native.exported((ExportForm.DEPLOYED,), request.opset)
    if unfolded.dynamic_batch and not deployed.dynamic_batch:  # then the feeds are not for both
        native = prepare(forms=(ExportForm.UNFOLDED,), dynamic_batch=False)
        ahead = start_unfolded(jobs, unfolded, native.feeds, inputs, request.seed)

    def pair(outputs: list[str]) -> tuple[_Pairs, _Pairs, tuple[str, ...]]:
        return (
            dict(zip(deployed.output_names, outputs, strict=False)),
            dict(zip(unfolded.output_names, outputs, strict=False)),
            tuple(dict.fromkeys((*deployed.notes, *unfolded.notes))),
        )

    names = dict(zip(inputs, deployed.input_names, strict=False))
    return native, _Judged(sides.open_artifact(deployed.path, jobs.root), names, unfolded.path, ahead, pair)


def _brought(native: NativeSide, artifact: Artifact, request: Request) -> _Judged:
    """An artifact that the user brought: names are matched."""
    theirs = [o.name for o in artifact.info.outputs]

    def pair(outputs: list[str]) -> tuple[_Pairs, _Pairs, tuple[str, ...]]:
        pairs = pair_outputs(outputs, theirs)
        return pairs, {}, tuple(filter(None, [pairing_note(outputs, theirs, pairs), _batch_note(request, artifact)]))

    return _Judged(artifact, pair_inputs(native.inputs, artifact.info.inputs), None, None, pair)


@contextlib.contextmanager
def _inputs_named(brought: Artifact | None, request: Request) -> Iterator[None]:
    """Says whose inputs they were when the source does not take those that the artifact declares."""
    try:
        yield
    except UsageError as error:
        if brought is not None and not request.feeds and not request.shapes:
            error.hint = error.hint or "give inputs that both take: --inputs, --shape"
            declared = ", ".join(f"{i.name} {i.text()}" for i in brought.info.inputs)
            error.message = (
                f"the source does not take the inputs that {brought.path.name} declares ({declared}): {error.message}"
            )
        raise


def _batch_note(request: Request, brought: Artifact) -> str:
    if sides.has_dynamic_batch(brought.info.inputs) or request.batches == DEFAULT_BATCHES:
        return ""
    return "the artifact's batch is fixed, so that --batch does not apply"


def _paired(
    ours: Sequence[TensorSpec], artifact: Artifact, names: Mapping[str, str]
) -> tuple[tuple[TensorSpec, TensorSpec], ...]:
    theirs = {s.name: s for s in artifact.info.inputs}
    return tuple((s, theirs[names[s.name]]) for s in ours if names.get(s.name) in theirs)


def _other_sizes(
    jobs: Jobs, request: Request, feeds: Path, inputs: Sequence[tuple[TensorSpec, TensorSpec]]
) -> Path | None:
    """Feeds of other sizes, where the artifact leaves axes free and the user has not said what to feed."""
    if request.feeds or not any(free_axes(theirs) for _, theirs in inputs):
        return None
    made = other_sizes(load_feeds(feeds), inputs, seed=request.seed)
    return sides.store_feeds(made, jobs.root) if made else None


def _native_executions(run: JobResult) -> dict[str, Execution]:
    error = str(run.data["f64_error"])
    return {
        "native/f32": Execution("native/f32", sides.native_trace(run, "f32")),
        "native/f64": Execution("native/f64", sides.native_trace(run, "f64"), error),
        "native/f32 again": Execution("native/f32 again", sides.native_trace(run, "f32-repeat")),
        "native/f32 plain": Execution("native/f32 plain", sides.native_trace(run, "f32-plain")),
    }


def _framework_plans(split: bool) -> tuple[RungPlan, ...]:
    """The rungs between the framework and the artifact; ``split`` when an unfolded export lies between."""
    rounding = RungPlan("native-rounding", "native/f64", "native/f32")
    repeat = RungPlan("stability", "native/f32", "native/f32 again")
    if not split:
        return (rounding, RungPlan("graph", "native/f64", "referee/f64"), repeat)
    return (
        rounding,
        RungPlan("graph", "native/f64", "referee/f64 unfolded", sharp=True),
        RungPlan("weights", "referee/f64 unfolded", "referee/f64", sharp=True),
        repeat,
    )


def _from_onnx(
    jobs: Jobs,
    ref: ModelRef,
    brought: Artifact | None,
    request: Request,
    where: _Where,
    accept: Sequence[str],
) -> Evidence:
    """An ONNX file on its own, or against another one."""
    source = sides.open_artifact(ref.name, jobs.root)
    given = sides.onnx_feeds(source, request, brought)
    feeds = sides.store_feeds(given, jobs.root)
    names = {s.name: s.name for s in source.info.inputs}
    outputs = [o.name for o in source.info.outputs]
    own = dict(zip(outputs, outputs, strict=True))
    artifact, runs, prefix, deployed = source, None, "source ", where.runtime.deployed
    notes: tuple[str, ...] = ()

    def start(path: Path) -> StartedRuns:
        return start_runs(
            jobs, path, feeds, names, where.providers, request.seed, runtime=where.runtime, stored=True, reduced=accept
        )

    begun = start(source.path)
    weigh = None
    if brought is None:
        first = begun.finish(own)
    else:
        files = {**sides.reads_of(brought.path), "source": source.path}
        weigh = jobs.start(JobSpec("ledger", "ledger", {}, files, threads=jobs.threads_each))
        names = pair_inputs(source.info.inputs, brought.info.inputs)
        theirs = [o.name for o in brought.info.outputs]
        pairs = pair_outputs(outputs, theirs)
        notes = tuple(filter(None, [pairing_note(outputs, theirs, pairs), sides.fixed_note(source, brought, names)]))
        second = start(brought.path)
        first, runs = begun.finish(own), second.finish(pairs)
    executions, plans, timings, reference = first.executions(), first.plans(), first.timings(), first.literal
    if brought is not None and runs is not None:
        executions = {prefix + k: replace(e, name=prefix + k) for k, e in executions.items()} | runs.executions()
        artifact, reference = brought, f"source {deployed}"
        timings = (*first.timings(prefix), *runs.timings())
        plans = (
            RungPlan("native-rounding", "source referee/f64", f"source {deployed}"),
            RungPlan("graph", "source referee/f64", "referee/f64"),
            *runs.plans(),
            RungPlan("lowering", "source referee/f64", deployed, measure=f"source {deployed}"),
        )
    paired = _paired(source.info.inputs, artifact, names)
    free = [(ours, sides.fixed_by(theirs, ours)) for ours, theirs in paired]
    return Evidence(
        ref=ref,
        provenance={"sha256": source.info.sha256},
        artifact=artifact,
        target_ref="" if brought is None else brought.path.name,
        runs=runs or first,
        executions=executions,
        plans=plans,
        reference=reference,
        inputs=paired,
        batches=tuple(batch_size(feed) for feed in given),
        joint=brought is not None,
        sure=brought is None,
        notes=notes,
        timings=timings,
        source_runs=None if brought is None else first,
        ledger=None if weigh is None else weighing.weighed(weigh),
        sizes=None if brought is None else _other_sizes(jobs, request, feeds, free),
    )


def _rules(accept: Sequence[str], rtol: float | None, atol: float | None) -> ladder.Rules:
    for kind in accept:
        if kind not in ladder.ACCEPTED:
            raise UsageError(f"'{kind}' is no precision", hint=f"--accept takes {', '.join(ladder.ACCEPTED)}")
    tolerance = None if rtol is None and atol is None else ladder.Tolerance(rtol or 0.0, atol or 0.0)
    if tolerance and not (0 <= tolerance.rtol < math.inf and 0 <= tolerance.atol < math.inf):
        raise UsageError("a tolerance is no negative or infinite number", hint="write --rtol 1e-3 --atol 1e-5, say")
    return ladder.Rules(tuple(accept), tolerance)


def _timing(label: str, job: JobResult) -> Mapping[str, Any]:
    return {
        "job": label,
        "seconds": round(job.seconds, 3),
        "peak_bytes": job.peak_bytes,
        "cached": job.cached,
    }
