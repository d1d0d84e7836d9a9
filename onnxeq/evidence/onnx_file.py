"""What is executed for an ONNX file: on its own, or against another one or whatever the user brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxeq import sides, weighing
from onnxeq.arrays import load_feeds
from onnxeq.artifact import StartedRuns, start_runs
from onnxeq.evidence import Evidence
from onnxeq.evidence.common import Setting, other_sizes_of, paired
from onnxeq.inputs import batch_size
from onnxeq.interface import pair_inputs, paired_outputs
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.kept import store_feeds
from onnxeq.ladder import RungPlan
from onnxeq.model_files import reads_of
from onnxeq.sides import Artifact, Request
from onnxeq.targets import PREFIX, Target, open_target
from onnxeq.types import ModelRef

__all__ = ["gather"]


def gather(jobs: Jobs, ref: ModelRef, target: object | None, request: Request, setting: Setting) -> Evidence:
    """An ONNX file on its own, or against a target that the user brought.

    Raises:
        onnxeq.errors.OnnxeqError: What either side says.
    """
    source = sides.open_artifact(ref.name, jobs.root)
    brought = None if target is None else open_target(jobs, target, request, lambda: source.info.inputs)
    given = sides.onnx_feeds(source, request, None if brought is None else brought.artifact)
    feeds = store_feeds(given, jobs.root)
    own = {o.name: o.name for o in source.info.outputs}

    def start(path: Path, names: Mapping[str, str]) -> StartedRuns:
        return start_runs(
            jobs, path, feeds, names, setting.providers, request.seed,
            runtime=setting.runtime, stored=True, reduced=setting.accept,
        )  # fmt: skip

    begun = start(source.path, {s.name: s.name for s in source.info.inputs})
    if brought is not None:
        return _against(jobs, ref, source, begun, brought, start, feeds, request, setting)
    runs = begun.finish(own)
    return Evidence(
        ref=ref,
        provenance={"sha256": source.info.sha256},
        artifact=source,
        target_ref="",
        runs=runs,
        executions=runs.executions(),
        plans=runs.plans(),
        reference=runs.literal,
        inputs=tuple((s, s) for s in source.info.inputs),
        batches=tuple(batch_size(feed) for feed in given),
        joint=False,
        sure=True,
        notes=(),
        timings=runs.timings(),
    )


def _against(
    jobs: Jobs,
    ref: ModelRef,
    source: Artifact,
    begun: StartedRuns,
    brought: Target,
    start: Callable[[Path, Mapping[str, str]], StartedRuns],
    feeds: Path,
    request: Request,
    setting: Setting,
) -> Evidence:
    """The same against a target; ``begun`` are the source's executions, ``start`` begins the target's."""
    artifact, at_runtime = brought.artifact, setting.runtime.deployed
    files = {**reads_of(artifact.path), "source": source.path}
    weigh = jobs.start(JobSpec("ledger", "ledger", {}, files, threads=jobs.threads_each))
    names = pair_inputs(source.info.inputs, artifact.info.inputs)
    started, beside = start(artifact.path, names), brought.start(jobs, feeds, names)
    first = begun.finish({o.name: o.name for o in source.info.outputs})
    executions = {_PREFIX + k: replace(e, name=_PREFIX + k) for k, e in first.executions().items()}
    reference = executions[_PREFIX + "referee/f64"].trace or executions[_PREFIX + first.literal].trace
    ours = reference or [dict.fromkeys((o.name for o in source.info.outputs), np.zeros(0))]
    pairs, said = paired_outputs(ours, [o.name for o in artifact.info.outputs], started.raw)
    runs = started.finish(pairs)
    deployed = f"{PREFIX}native/f32" if beside else at_runtime
    inputs = paired(source.info.inputs, artifact, names)
    free = [(one, sides.fixed_by(other, one)) for one, other in inputs]
    return Evidence(
        ref=ref,
        provenance={"sha256": source.info.sha256},
        artifact=artifact,
        target_ref=brought.name,
        target_said=brought.described,
        runs=runs,
        executions=executions | runs.executions() | (beside.executions(pairs) if beside else {}),
        plans=(
            RungPlan("native-rounding", "source referee/f64", f"source {at_runtime}"),
            RungPlan("graph", "source referee/f64", "referee/f64"),
            *(beside.plans() if beside else ()),
            *runs.plans(),
            RungPlan("lowering", "source referee/f64", deployed, measure=f"source {at_runtime}"),
        ),
        reference=f"source {at_runtime}",
        deployed=deployed,
        inputs=inputs,
        batches=tuple(batch_size(feed) for feed in load_feeds(feeds)),
        joint=True,
        sure=False,
        notes=tuple(filter(None, [said, sides.fixed_note(source, artifact, names), *brought.notes])),
        timings=(*first.timings(_PREFIX), *runs.timings()),
        source_runs=first,
        ledger=weighing.weighed(weigh),
        sizes=other_sizes_of(jobs, request, feeds, free),
    )


_PREFIX = "source "
"""Stands before the names of the source's executions."""
