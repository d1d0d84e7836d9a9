"""What is executed for a framework's model: against its own export, or against something that the user brought."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from onnxeq import sides, weighing
from onnxeq.artifact import StartedRuns, expected, start_runs, start_unfolded
from onnxeq.errors import BadInputs, UsageError
from onnxeq.evidence import Evidence
from onnxeq.evidence.common import Setting, other_sizes_of, paired, rows
from onnxeq.inputs import DEFAULT_BATCHES
from onnxeq.interface import pair_inputs, paired_outputs
from onnxeq.jobs import JobResult, Jobs
from onnxeq.ladder import Execution, RungPlan
from onnxeq.ledger import require_program
from onnxeq.model_files import reads_of
from onnxeq.sides import BOTH_FORMS, Artifact, NativeSide, Request
from onnxeq.targets import PREFIX, Target, TargetRun, inputs_of, open_target
from onnxeq.types import ExportForm, Feed, ModelRef

__all__ = ["gather"]


def gather(
    jobs: Jobs, ref: ModelRef, live: object | None, target: object | None, request: Request, setting: Setting
) -> Evidence:
    """A framework's model against its own export, or against a target that the user brought.

    Raises:
        onnxeq.errors.OnnxeqError: What either side says.
    """
    asked = functools.partial(inputs_of, jobs, ref, live, request)
    brought = None if target is None else open_target(jobs, target, request, asked)
    jobs.expect(expected(jobs, setting.providers, setting.runtime, unfolded=brought is None))
    running: Future[JobResult] | None = None
    with _inputs_named(brought, request):
        declared = sides.declared_inputs(request, None if brought is None else brought.artifact)
        prepare = functools.partial(sides.prepare_native, jobs, ref, live, request, declared=declared)
        if brought is None:
            native, judged = _own_export(prepare, jobs, request)
        else:
            native = prepare(forms=(), dynamic_batch=sides.has_dynamic_batch(brought.artifact.info.inputs))
            require_program(native)
            judged = _brought(native, brought, request)
            running = native.start() if live is None else None
        artifact, names = judged.artifact, judged.names
        started = start_runs(
            jobs, artifact.path, native.feeds, names, setting.providers, request.seed, judged.ahead,
            runtime=setting.runtime, stored=brought is None or _is_half(native), reduced=setting.accept,
        )  # fmt: skip
        # A live model occupies this very thread while it runs, so everything else was begun before it.
        running = running or native.start()
        beside = None if brought is None else brought.start(jobs, native.feeds, names)
        weigh = _start_ledger(jobs, native, artifact.path, judged.unfolded, None if live is not None else running)
        ran = running.result()
    inputs = paired(native.inputs, artifact, names)
    pairs, plain_pairs, notes = judged.pair(sides.native_trace(ran, "f32"), started)
    runs = started.finish(pairs, plain_pairs)
    again = None if brought is None else lambda: _ledger(native, artifact.path, native.exported(BOTH_FORMS)[1].path)
    weighed = weighing.weighed(weigh(), again)
    executions = _native_executions(ran) | runs.executions() | (beside.executions(pairs) if beside else {})
    plain_run = executions.get("referee/f64 unfolded")
    split = plain_run is not None and bool(plain_run.trace)
    if plain_run is not None and not split:
        notes += (f"graph and weights are judged together, the unfolded export cannot be: {plain_run.missing}",)
    deployed = f"{PREFIX}native/f32" if beside else setting.runtime.deployed
    if no_float64 := str(ran.data.get("no_float64", "")):
        notes += (f"graph and native kernels are judged together: {no_float64}",)
    if said := str(native.job.data["provenance"].get("note", "")):
        notes += (said,)
    return Evidence(
        ref=ref,
        provenance=native.job.data["provenance"],
        artifact=artifact,
        target_ref="its own export" if brought is None else brought.name,
        target_said={} if brought is None else brought.described,
        runs=runs,
        executions=executions,
        plans=(
            *_framework_plans(split, beside, no_float64),
            *runs.plans(),
            RungPlan("lowering", "referee/f64" if no_float64 else "native/f64", deployed, measure="native/f32"),
        ),
        reference="native/f32",
        deployed=deployed,
        inputs=inputs,
        batches=tuple(native.job.data["batches"]),
        joint=not split,
        sure=brought is None,
        notes=notes,
        shortcut=str(ran.data["shortcut"]),
        native=native,
        timings=(*rows({"native": native.job, "native run": ran, "ledger": weighed.job}), *runs.timings()),
        ledger=weighed,
        sizes=other_sizes_of(jobs, request, native.feeds, inputs),
    )


def _is_half(native: NativeSide) -> bool:
    """Whether the source itself computes in half precision: what it stores is rounded to that and no further."""
    return any(spec.dtype in ("float16", "bfloat16") for spec in native.inputs)


def _ledger(native: NativeSide, artifact: Path, reference: Path | None) -> Future[JobResult]:
    """Asks the process that holds the model for the ledger."""
    beside = {} if reference is None else {"reference": reference}
    return native.question("native-ledger", "ledger", {}, {**reads_of(artifact), **beside})


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


_Pairs: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class _Judged:
    """The ONNX file that a framework's model is held against.

    Attributes:
        artifact: The file.
        names: The source's input name -> the file's.
        unfolded: The same exporter's unfolded file, when the export is ours.
        ahead: The referee's job on that file.
        pair: From the source's trace and the file's executions: the pairs of output names, those of the unfolded
            file, and notes.
    """

    artifact: Artifact
    names: _Pairs
    unfolded: Path | None
    ahead: Future[JobResult] | None
    pair: Callable[[Sequence[Feed], StartedRuns], tuple[_Pairs, _Pairs, tuple[str, ...]]]


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

    def pair(trace: Sequence[Feed], _started: StartedRuns) -> tuple[_Pairs, _Pairs, tuple[str, ...]]:
        outputs = list(trace[0])
        return (
            dict(zip(deployed.output_names, outputs, strict=False)),
            dict(zip(unfolded.output_names, outputs, strict=False)),
            tuple(dict.fromkeys((*deployed.notes, *unfolded.notes))),
        )

    names = dict(zip(inputs, deployed.input_names, strict=False))
    return native, _Judged(sides.open_artifact(deployed.path, jobs.root), names, unfolded.path, ahead, pair)


def _brought(native: NativeSide, brought: Target, request: Request) -> _Judged:
    """What the user brought: names are matched, and values where names say nothing."""
    artifact = brought.artifact

    def pair(trace: Sequence[Feed], started: StartedRuns) -> tuple[_Pairs, _Pairs, tuple[str, ...]]:
        pairs, said = paired_outputs(trace, [o.name for o in artifact.info.outputs], started.raw)
        return pairs, {}, tuple(filter(None, [said, _batch_note(request, artifact), *brought.notes]))

    return _Judged(artifact, pair_inputs(native.inputs, artifact.info.inputs), None, None, pair)


@contextlib.contextmanager
def _inputs_named(brought: Target | None, request: Request) -> Iterator[None]:
    """Says whose inputs they were when the source does not take those that the artifact declares."""
    try:
        yield
    except UsageError as error:
        unfit = type(error) in (BadInputs, UsageError) and bool(error.step)  # of a job: what the model says to them
        if brought is not None and unfit and not request.feeds and not request.shapes:
            error.hint = error.hint or "give inputs that both take: --inputs, --shape"
            declared = ", ".join(f"{i.name} {i.text()}" for i in brought.artifact.info.inputs)
            error.message = (
                f"the source does not take the inputs that {brought.name} declares ({declared}): {error.message}"
            )
        raise


def _batch_note(request: Request, brought: Artifact) -> str:
    if sides.has_dynamic_batch(brought.info.inputs) or request.batches == DEFAULT_BATCHES:
        return ""
    return "the artifact's batch is fixed, so that --batch does not apply"


def _native_executions(run: JobResult) -> dict[str, Execution]:
    error = str(run.data["f64_error"])
    return {
        "native/f32": Execution("native/f32", sides.native_trace(run, "f32")),
        "native/f64": Execution("native/f64", sides.native_trace(run, "f64"), error),
        "native/f32 again": Execution("native/f32 again", sides.native_trace(run, "f32-repeat")),
        "native/f32 plain": Execution("native/f32 plain", sides.native_trace(run, "f32-plain")),
    }


def _framework_plans(split: bool, beside: TargetRun | None, no_float64: str) -> tuple[RungPlan, ...]:
    """The rungs between the source and what it is held against.

    Args:
        split: Whether an unfolded export lies between, which tells the graph from the weights.
        beside: The target's own executions, where a framework runs it.
        no_float64: Why the source's framework has no float64; its float32 run is then judged in rounding noise.
    """
    repeat = RungPlan("stability", "native/f32", "native/f32 again")
    if no_float64:
        judged = "referee/f64 unfolded" if split else "referee/f64"
        return (
            RungPlan("native-rounding", "native/f64", "native/f32", asked=False, why_not=no_float64),
            RungPlan("graph", "native/f32", judged, limit="native-rounding"),
            *((RungPlan("weights", judged, "referee/f64", sharp=True),) if split else ()),
            repeat,
            *(beside.plans() if beside else ()),
        )
    rounding = RungPlan("native-rounding", "native/f64", "native/f32")
    if split:
        return (
            rounding,
            RungPlan("graph", "native/f64", "referee/f64 unfolded", sharp=True),
            RungPlan("weights", "referee/f64 unfolded", "referee/f64", sharp=True),
            repeat,
        )
    return (rounding, RungPlan("graph", "native/f64", "referee/f64"), repeat, *(beside.plans() if beside else ()))
