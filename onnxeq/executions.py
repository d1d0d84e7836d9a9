"""The executions that ``onnxeq diff`` holds against each other: which there are, and their inner values.

Every execution runs some graph, under whose names its values are: the artifact, its normalised form, the source's
graph, or, for a framework, its own unfolded export.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxeq import sides
from onnxeq.arrays import load_feeds
from onnxeq.errors import CannotRun, UsageError
from onnxeq.interface import pair_inputs, pair_outputs
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.kept import store_feeds
from onnxeq.model_files import reads_of
from onnxeq.providers import choose_providers
from onnxeq.runtimes import Runtime
from onnxeq.sides import Artifact, NativeSide, Request
from onnxeq.targets import Target, inputs_of, open_target
from onnxeq.types import Export, ExportForm, ModelRef, Precision
from onnxeq.zoo import converter_for

__all__ = ["RUNGS", "Graph", "Models", "Side", "choose", "models_of", "start"]

RUNGS: Mapping[str, tuple[str, str]] = {
    "native-rounding": ("native/f64", "native/f32"),
    "graph": ("native/f64", "referee/f64"),
    "weights": ("referee/f64 unfolded", "referee/f64"),
    "normalize": ("referee/f64", "referee/f64 normalized"),
    "kernels": ("referee/f64", "ort/cpu plain"),
    "optimizer": ("ort/cpu plain", "ort/cpu"),
    "provider": ("ort/cpu", "ort/cuda"),
    "stability": ("ort/cpu", "ort/cpu 1 thread"),
    "lowering": ("native/f32", "ort/cpu plain"),
}
"""Rung -> the executions that it compares, with the names that the ladder has for them."""


@dataclass(frozen=True)
class Graph:
    """An ONNX file with the names that the source's inputs and outputs have in it.

    Attributes:
        path: The file.
        names: The source's input -> the graph's.
        outputs: The graph's output -> the source's.
    """

    path: Path
    names: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Models:
    """What there is to execute.

    Attributes:
        ref: The source's reference.
        provenance: What the source says about itself.
        feeds: Folder of the feed.
        artifact: The judged file, and what it says about itself.
        judged: The same as a graph.
        target_ref: Its name for the reader; empty when it is the source itself.
        native: The framework's model, where the source is one.
        bridge: Its unfolded export.
        source: The source's graph, where that is an ONNX file and not the judged one.
        notes: What a reader must know.
    """

    ref: ModelRef
    provenance: Mapping[str, Any]
    feeds: Path
    artifact: Artifact
    judged: Graph
    target_ref: str
    native: NativeSide | None = None
    bridge: Graph | None = None
    source: Graph | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """One of the two executions.

    Attributes:
        name: As the ladder calls it.
        graph: Under whose names its values are.
        traced: The job that runs it; ``None`` for the referee on the judged graph, which runs along.
        kind: ``runtime``, ``referee``, ``native`` or ``saved``.
        exact: For a framework in float32 the job that runs it in float64, to tell its values apart.
        how: For a runtime, the parameters of its job.
    """

    name: str
    graph: Graph
    traced: Future[JobResult] | None
    kind: str
    exact: Future[JobResult] | None = None
    how: Mapping[str, Any] = field(default_factory=dict)


def models_of(jobs: Jobs, source: object, target: object | None, request: Request) -> Models:
    """Loads and exports what is needed; one feed is made or taken.

    Raises:
        onnxeq.errors.OnnxeqError: What the sides say.
    """
    given, request = len(request.feeds), replace(request, feeds=request.feeds[:1])
    models = _loaded(jobs, source, target, request)
    said = (f"of {given} inputs the first is used",) if given > 1 else ()
    return replace(models, notes=(*models.notes, *said))


def _loaded(jobs: Jobs, source: object, target: object | None, request: Request) -> Models:
    ref, live = sides.resolve(source, jobs)
    asked = functools.partial(inputs_of, jobs, ref, live, request)
    brought = None if target is None else open_target(jobs, target, request, asked)
    if live is None and converter_for(ref) == "onnx":
        return _onnx_models(jobs, ref, brought, request)
    return _framework_models(jobs, ref, live, brought, request)


def _onnx_models(jobs: Jobs, ref: ModelRef, brought: Target | None, request: Request) -> Models:
    source = sides.open_artifact(ref.name, jobs.root)
    feeds = store_feeds(sides.onnx_feeds(source, request, None if brought is None else brought.artifact)[:1], jobs.root)
    inputs, outputs = [s.name for s in source.info.inputs], [o.name for o in source.info.outputs]
    own = Graph(source.path, {n: n for n in inputs}, {n: n for n in outputs})
    said = {"sha256": source.info.sha256}
    if brought is None:
        return Models(ref, said, feeds, source, own, "")
    artifact = brought.artifact
    names = pair_inputs(source.info.inputs, artifact.info.inputs)
    judged = Graph(artifact.path, names, pair_outputs(outputs, [o.name for o in artifact.info.outputs]))
    return Models(ref, said, feeds, artifact, judged, brought.name, source=own, notes=_exported(brought))


def _framework_models(
    jobs: Jobs, ref: ModelRef, live: object | None, brought: Target | None, request: Request
) -> Models:
    declared = sides.declared_inputs(request, None if brought is None else brought.artifact)
    prepare = functools.partial(sides.prepare_native, jobs, ref, live, request, declared=declared)
    if brought is None:
        native = prepare(forms=(ExportForm.UNFOLDED, ExportForm.DEPLOYED))
        unfolded, deployed = native.export(ExportForm.UNFOLDED), native.export(ExportForm.DEPLOYED)
        if unfolded.dynamic_batch and not deployed.dynamic_batch:  # then the feed is not for both
            native = prepare(forms=(ExportForm.UNFOLDED, ExportForm.DEPLOYED), dynamic_batch=False)
            unfolded, deployed = native.export(ExportForm.UNFOLDED), native.export(ExportForm.DEPLOYED)
    else:
        native = prepare(
            forms=(ExportForm.UNFOLDED,), dynamic_batch=sides.has_dynamic_batch(brought.artifact.info.inputs)
        )
        unfolded, deployed = native.export(ExportForm.UNFOLDED), None
    names = [spec.name for spec in native.inputs]
    # An exporter was told the outputs in their order; what the framework calls them is not known before it has run.
    outputs = {name: name for name in unfolded.output_names}
    bridge = Graph(unfolded.path, dict(zip(names, unfolded.input_names, strict=False)), outputs)
    feeds = store_feeds(load_feeds(native.feeds)[:1], jobs.root)
    said = native.job.data["provenance"]
    if deployed is not None:
        artifact = sides.open_artifact(deployed.path, jobs.root)
        judged = Graph(deployed.path, *_as_exported(names, deployed, unfolded))
        return Models(ref, said, feeds, artifact, judged, "its own export", native, bridge, notes=deployed.notes)
    if brought is None:
        raise CannotRun("the exporter wrote no file")
    artifact = brought.artifact
    pairs = pair_outputs(list(unfolded.output_names), [o.name for o in artifact.info.outputs])
    judged = Graph(artifact.path, pair_inputs(native.inputs, artifact.info.inputs), pairs)
    return Models(ref, said, feeds, artifact, judged, brought.name, native, bridge, notes=_exported(brought))


def _exported(brought: Target) -> tuple[str, ...]:
    """What a reader must know of a target that is no ONNX file."""
    return (f"{brought.name} was exported, and the export is what is judged",) if brought.native is not None else ()


def _as_exported(names: Sequence[str], deployed: Export, unfolded: Export) -> tuple[dict[str, str], dict[str, str]]:
    return (
        dict(zip(names, deployed.input_names, strict=False)),
        dict(zip(deployed.output_names, unfolded.output_names, strict=False)),
    )


def choose(models: Models, rung: str, runtime: Runtime, *, cuda: bool = False) -> tuple[str, str]:
    """The two executions: those of a rung, or what the source's users run and what is deployed, on CUDA if so.

    Raises:
        UsageError: No such rung, or the source does not have it.
    """
    if rung and rung not in RUNGS:
        raise UsageError(f"there is no rung '{rung}' to diff", hint=f"--rung takes {', '.join(RUNGS)}")
    one, other = RUNGS[rung] if rung else ("native/f32", "ort/cpu")
    one, other = (n.replace("ort/cpu", runtime.deployed) for n in (one, other))
    if models.native is None:
        if rung in ("native-rounding", "lowering") or (rung in ("graph", "weights") and models.source is None):
            raise UsageError(
                f"an ONNX file has no rung {rung}", hint="leave --rung out, or name a model of a framework"
            )
        two_files = {"": f"source {runtime.deployed}", "graph": "source referee/f64", "weights": "source referee/f64"}
        if models.source is not None and rung in two_files:
            one = two_files[rung]
        elif not rung:
            one = "referee/f64"
    return one, "ort/cuda" if cuda and not rung else other


def start(jobs: Jobs, models: Models, name: str, runtime: Runtime, most_bytes: int) -> Side:
    """Starts an execution; see :data:`RUNGS` for the names."""
    kind, _, how = name.removeprefix("source ").partition("/")
    graph = models.source if name.startswith("source ") and models.source is not None else models.judged
    if kind == "native":
        return _native_side(models, name)
    if kind == "referee":
        if how == "f64 unfolded" and models.bridge is not None:
            graph = models.bridge
        elif how == "f64 normalized":
            graph = replace(graph, path=_normalized(jobs, graph.path))
        traced = _job(jobs, models, graph, "trace-referee", name, {}) if graph is not models.judged else None
        return Side(name, graph, traced, "referee")
    params = {
        "runner": runtime.params(), "memory": most_bytes, "provider": "cuda" if "cuda" in name else "cpu",
        "optimize": not name.endswith("plain"), "tf32": name.endswith("cuda"),
        "threads": 1 if name.endswith("1 thread") else 0,
    }  # fmt: skip
    if "cuda" in name and (reason := choose_providers(["cuda"])[1].why_not):
        raise CannotRun(f"{name} cannot run: {reason}", hint="choose another --rung")
    return Side(name, graph, _job(jobs, models, graph, "trace", name, params), "runtime", how=params)


def _job(
    jobs: Jobs, models: Models, graph: Graph, kind: str, label: str, params: Mapping[str, Any]
) -> Future[JobResult]:
    files = {**reads_of(graph.path), "feeds": models.feeds}
    asked = {"names": dict(graph.names), **params}
    return jobs.start(JobSpec(kind, label, asked, files, threads=0 if kind == "trace" else jobs.threads_each))


def _native_side(models: Models, name: str) -> Side:
    native, bridge = models.native, models.bridge
    if native is None or bridge is None:
        raise UsageError(f"the source has no {name}", hint="name a model of a framework")
    precision = Precision.F64 if name.endswith("f64") else Precision.F32

    def ask(kind: Precision) -> Future[JobResult]:
        asked = {"precision": kind.value, "names": None, "outputs": list(bridge.outputs)}
        return native.question("native-layers", f"native/{kind.value}", asked, {"feeds": models.feeds})

    # An exporter that keeps no names is bridged by the numbers, which float32 does not tell apart.
    nameless = "dynamo=False" in str(models.provenance.get("exporter", "")) and precision is not Precision.F64
    return Side(name, bridge, ask(precision), "native", ask(Precision.F64) if nameless else None)


def _normalized(jobs: Jobs, path: Path) -> Path:
    done = jobs.start(JobSpec("normalize", "normalize", {}, reads_of(path), threads=jobs.threads_each)).result()
    return done.out / str(done.data["path"]) if done.data["changed"] else path
