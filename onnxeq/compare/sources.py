"""The models that are compared, each exported by its own framework and read into its canonical graph."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from onnxeq import sides
from onnxeq.compare.figures import figures
from onnxeq.compare.records import graph_from_record
from onnxeq.compare.values import Side
from onnxeq.errors import ExportFailed, OnnxeqError, WeightsUnavailable
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.model_files import reads_of
from onnxeq.sides import Artifact, NativeSide, Request
from onnxeq.types import ExportForm, ModelRef
from onnxeq.zoo import converter_for

__all__ = ["Failed", "Source", "folded", "open_models", "text_of"]


@dataclass(frozen=True)
class Source:
    """A model that could be had, and what it takes to run it.

    Attributes:
        side: Its layers and figures.
        ref: Its reference with the weights that it has: ``@seeded`` where its own cannot be had.
        artifact: Its unfolded export, or the file itself.
        native: The framework's model; ``None`` for a file.
    """

    side: Side
    ref: ModelRef
    artifact: Artifact
    native: NativeSide | None = None


@dataclass(frozen=True)
class Failed:
    """A model that could not be had."""

    ref: str
    error: OnnxeqError


def open_models(
    jobs: Jobs, models: Sequence[object], request: Request, forms: Sequence[ExportForm] = (ExportForm.UNFOLDED,)
) -> list[Source | Failed]:
    """All models, each by a thread that waits for its jobs; they stop at once when the caller is interrupted.

    Those that a framework exports are exported in all of ``forms``, as far as they can be.
    """
    pool = ThreadPoolExecutor(len(models), thread_name_prefix="onnxeq-compare")
    try:
        found = list(pool.map(lambda model: _source(jobs, model, request, forms), models))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return found


def folded(jobs: Jobs, source: Source, request: Request) -> Source:
    """The same model with its BatchNorms folded into what is before them, by this project's own normaliser.

    Raises:
        onnxeq.errors.OnnxeqError: It cannot be normalised.
    """
    done = jobs.start(JobSpec("normalize", f"fold {source.side.name}", {}, reads_of(source.artifact.path))).result()
    artifact = sides.open_artifact(done.out / str(done.data["path"]), jobs.root)
    read = _read(jobs, f"{source.side.name} folded", artifact, replace(request, shapes=None), (), may_be_folded=True)
    return replace(source, side=replace(source.side, graph=read.graph, may_be_folded=True), artifact=artifact)


def _source(jobs: Jobs, model: object, request: Request, forms: Sequence[ExportForm]) -> Source | Failed:
    try:
        return _opened(jobs, model, request, forms)
    except OnnxeqError as error:
        return Failed(text_of(model), error)


def text_of(model: object) -> str:
    """What a model is called: as the user wrote it, or its type."""
    return os.fspath(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__


def _opened(jobs: Jobs, model: object, request: Request, forms: Sequence[ExportForm]) -> Source:
    ref, live = sides.resolve(model, jobs)
    if live is None and converter_for(ref) == "onnx":
        artifact = sides.open_artifact(ref.name, jobs.root)
        return Source(_read(jobs, ref.text, artifact, request, (), may_be_folded=True), ref, artifact)
    native, notes = _exported(jobs, ref, live, request, forms)
    export = native.export(ExportForm.UNFOLDED)
    artifact = sides.open_artifact(export.path, jobs.root)
    # What others saved may be folded already; what is built by its framework, or saved by Keras, is not.
    saved = ref.zoo == "file" and converter_for(ref) != "keras"
    said = (*export.notes, *notes)
    side = _read(jobs, ref.text, artifact, replace(request, shapes=None), said, may_be_folded=saved)
    about = {**native.job.data["provenance"], **side.about}
    random = native.ref.weights.partition(":")[0] == "seeded"
    return Source(replace(side, about=about, random=random), native.ref, artifact, native)


def _exported(
    jobs: Jobs, ref: ModelRef, live: object | None, request: Request, forms: Sequence[ExportForm]
) -> tuple[NativeSide, tuple[str, ...]]:
    """The unfolded export; with other weights where a zoo's own cannot be had, since the layers are still its own."""
    asked = replace(request, exporter=request.exporter if converter_for(ref) in ("torch", "factory") else "")

    def prepare(which: ModelRef, forms: Sequence[ExportForm] = forms) -> NativeSide:
        try:
            native = sides.prepare_native(
                jobs, which, live, asked, declared=sides.declared_inputs(asked, None), forms=forms, feeds=False,
                label=f"export {ref.text}",
            )  # fmt: skip
        except ExportFailed:
            if len(forms) == 1:
                raise
            return prepare(which, (ExportForm.UNFOLDED,))  # whoever needs another one tells why there is none
        native.release()
        return native

    try:
        return prepare(ref), ()
    except WeightsUnavailable as error:
        if ref.weights or ref.zoo == "file":
            raise
        note = f"exported with random weights, since its own cannot be had: {error.message}"
        return prepare(replace(ref, weights="seeded")), (note,)


def _read(
    jobs: Jobs,
    text: str,
    artifact: Artifact,
    request: Request,
    notes: Sequence[str],
    *,
    may_be_folded: bool,
) -> Side:
    params = {"shapes": {name: list(shape) for name, shape in (request.shapes or {}).items()}}
    spec = JobSpec("architecture", f"layers of {text}", params, reads_of(artifact.path))
    done = jobs.start(spec).result()
    graph = graph_from_record(json.loads((done.out / str(done.data["path"])).read_text()))
    info = artifact.info
    file = {"producer": info.producer, "opset": info.opsets.get("ai.onnx"), "sha256": info.sha256}
    return Side(text, text, graph, figures(graph), may_be_folded, file, (*notes, *graph.notes))
