"""``onnxeq ledger``: every native tensor and every constant of the artifact accounted for, without running either."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxeq import fingerprint, sides, weighing
from onnxeq.attribution import weights as attribution
from onnxeq.envs.environment import find, for_report, own_places
from onnxeq.errors import CannotRun, OnnxeqError, UsageError
from onnxeq.jobs import JobResult, Jobs, JobSpec, Listener
from onnxeq.ladder import Rules
from onnxeq.model_files import reads_of
from onnxeq.sides import Artifact, NativeSide, Request
from onnxeq.targets import inputs_of, open_target
from onnxeq.types import Coverage, ExportForm, Feed, ModelRef, Report, Status, Verdict
from onnxeq.weighing import Weighing
from onnxeq.weights.document import summary
from onnxeq.weights.types import EntryStatus, Ledger
from onnxeq.zoo import converter_for

__all__ = ["WeightsAlone", "ledger", "require_program", "weights_only", "without_program"]


class WeightsAlone(CannotRun):
    """The source is a file of weights: they can be compared, and nothing can be run."""


_VERDICTS = {
    Status.FAIL: Verdict.DIVERGENT,
    Status.PASS: Verdict.EQUIVALENT,
    Status.NOT_RUN: Verdict.INCONCLUSIVE,
}
"""What the ledger's rung says where it is the only one."""


def require_program(native: NativeSide) -> None:
    """Stops a check whose source cannot be run.

    Raises:
        WeightsAlone: With what to name in its place.
    """
    if native.job.data["provenance"].get("program") == "none":
        name = Path(native.ref.name).name
        raise WeightsAlone(
            f"{name} is a state dict, which holds no program: only the weights were compared, nothing was executed",
            hint=f"name the factory that builds the module: FILE.py:FACTORY@{name}",
        )


def without_program(weighed: Report, reason: WeightsAlone) -> Report:
    """A report on weights as the answer to a check that asked for more: at best ``inconclusive``."""
    verdict = Verdict.DIVERGENT if weighed.verdict is Verdict.DIVERGENT else Verdict.INCONCLUSIVE
    return replace(weighed, verdict=verdict, notes=(reason.line(),))


def ledger(
    source: object,
    target: object | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    opset: int | None = None,
    timeout_s: float | None = None,
    trust: bool = False,
    use_cache: bool = True,
    env: str = "",
    listener: Listener | None = None,
) -> Ledger:
    """Accounts for every native tensor of a model and every constant of its ONNX form. Nothing is executed.

    Args:
        source: See :func:`onnxeq.check`.
        target: See :func:`onnxeq.check`; without one the source is exported.
        inputs: Feeds that tell the shapes of an export.
        shapes: Input name -> shape.
        seed: Seed of a factory's random weights.
        opset: Opset of the export.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        use_cache: Whether results of earlier identical jobs are reused.
        env: The environment in which the framework runs.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: Something the caller can mend.
        onnxeq.errors.CannotRun: The native side could not be loaded.
    """
    request = Request.of(inputs, shapes, seed=seed, opset=opset, trust=trust)
    here = find(env) if env else None
    with Jobs(timeout_s=timeout_s, listener=listener, use_cache=use_cache, environment=here) as jobs:
        return _weigh(jobs, source, target, request)[0]


def weights_only(
    source: object,
    target: object | None,
    request: Request,
    *,
    timeout_s: float | None = None,
    use_cache: bool = True,
    env: str = "",
    listener: Listener | None = None,
) -> Report:
    """The same as a report with one rung, for ``onnxeq check --weights-only``."""
    here = find(env) if env else None
    with Jobs(timeout_s=timeout_s, listener=listener, use_cache=use_cache, environment=here) as jobs:
        held, artifact, described = _weigh(jobs, source, target, request)
    weighed = Weighing(held)
    rung = weighing.rung(weighed, Rules(), confirmed=False, executed=False)
    found = weighing.unexecuted(held)
    return Report(
        verdict=_VERDICTS[rung.status],
        source=described,
        target={
            "ref": artifact.path.name, "path": str(artifact.path), "sha256": artifact.info.sha256,
            "producer": artifact.info.producer, "opset": artifact.info.opsets.get("ai.onnx"),
            "nodes": artifact.info.nodes, "parameters": artifact.info.parameters,
        },
        environment={
            "versions": fingerprint.versions(), "machine": fingerprint.machine(), **for_report(jobs.environments),
        },
        causes=tuple(attribution.cause_of(entry, None, rung.name) for entry in found),
        rungs=(rung,),
        outputs=(),
        coverage=Coverage(
            0, len(artifact.info.outputs), 0, 0, artifact.info.nodes, held.natives_accounted, held.natives_total
        ),
        notes=(*own_places(jobs.environments, here), "only the weights were compared, nothing was executed"),
        ledger=summary(held),
    )  # fmt: skip


def _weigh(
    jobs: Jobs, source: object, target: object | None, request: Request
) -> tuple[Ledger, Artifact, dict[str, Any]]:
    ref, live = sides.resolve(source, jobs)
    brought = None if target is None else _opened(jobs, ref, live, target, request)
    if live is None and converter_for(ref) == "onnx":
        if brought is None:
            hint = "name the file to compare it with, or the model that it was exported from"
            raise UsageError(f"{ref.text} on its own has no native weights", hint=hint)
        files = {**reads_of(brought.path), "source": sides.open_artifact(ref.name, jobs.root).path}
        done = jobs.start(JobSpec("ledger", "ledger", {}, files)).result()
        return _read(done), brought, {"ref": ref.text, "kind": ref.zoo}
    native = sides.prepare_native(
        jobs, ref, live, request, declared=sides.declared_inputs(request, brought),
        forms=(ExportForm.UNFOLDED, ExportForm.DEPLOYED) if brought is None else (), feeds=False,
    )  # fmt: skip
    described = {"ref": ref.text, "kind": ref.zoo, **native.job.data["provenance"]}
    if brought is None:
        artifact = sides.open_artifact(native.export(ExportForm.DEPLOYED).path, jobs.root)
        return _read(_ask(native, artifact, native.export(ExportForm.UNFOLDED).path).result()), artifact, described
    held = _read(_ask(native, brought, None).result())
    if any(e.status not in (EntryStatus.OK, EntryStatus.ORPHAN) for e in held.entries):
        held = _with_reference(native, brought, held)
    return held, brought, described


def _opened(jobs: Jobs, ref: ModelRef, live: object | None, target: object, request: Request) -> Artifact:
    """The target's file: it itself, or the export of a model of a framework."""
    return open_target(jobs, target, request, functools.partial(inputs_of, jobs, ref, live, request)).artifact


def _ask(native: NativeSide, artifact: Artifact, reference: Path | None) -> Future[JobResult]:
    beside = {} if reference is None else {"reference": reference}
    return native.question("native-ledger", "ledger", {}, {**reads_of(artifact.path), **beside})


def _with_reference(native: NativeSide, artifact: Artifact, held: Ledger) -> Ledger:
    """The ledger with the unfolded export as its reference, which tells what belongs where; as it is without one."""
    try:
        return _read(_ask(native, artifact, native.exported((ExportForm.UNFOLDED,))[0].path).result())
    except OnnxeqError:
        return held


def _read(done: JobResult) -> Ledger:
    found = weighing.weighed_of(done).ledger
    assert found is not None  # noqa: S101 - for the type checker
    return found
