"""``onnxeq compare``, the straight line: export each model, read its layers, hold each two against each other.

1. Each model is exported by its own framework with nothing folded, so that biases, epsilons and normalisations are as
   its zoo defines them; an ONNX file is taken as it is. The exports run side by side, each in a process of its own.
2. A job reads the file into its canonical graph (:mod:`onnxeq.compare.reading`).
3. The figures and the differences come from those graphs alone (:mod:`onnxeq.compare.verdicts`).
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq import fingerprint, sides, zoo
from onnxeq.compare.figures import figures
from onnxeq.compare.records import graph_from_record
from onnxeq.compare.values import Comparison, Failure, Pair, Same, Side, Topic
from onnxeq.compare.verdicts import compare_pair
from onnxeq.envs.environment import find, for_report
from onnxeq.errors import OnnxeqError, UsageError, WeightsUnavailable
from onnxeq.jobs import Jobs, JobSpec, Listener
from onnxeq.sides import Artifact, Request
from onnxeq.types import ExportForm, Feed, ModelRef
from onnxeq.zoo import converter_for

__all__ = ["compare"]


def compare(
    *models: object,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    opset: int | None = None,
    exporter: str = "",
    timeout_s: float | None = None,
    trust: bool = False,
    use_cache: bool = True,
    env: str = "",
    listener: Listener | None = None,
) -> Comparison:
    """Compares the architectures of two or more models.

    Args:
        models: References, paths or live models, as :func:`onnxeq.check` takes them.
        inputs: Feeds that tell the shapes, for models that do not.
        shapes: Input name -> shape; by default each model's own.
        seed: Seed of a factory's random weights.
        opset: Opset of the exports.
        exporter: Which of torch's exporters to use, for models of torch.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        use_cache: Whether results of earlier identical jobs are reused.
        env: The environment in which the frameworks run.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: Fewer than two models, or a reference that names nothing.
        onnxeq.errors.OnnxeqError: No model could be had; if some could, the others are told as failures.
    """
    if len(models) < 2:
        raise UsageError(f"{len(models)} model is given, and two or more are compared", hint="name another one")
    for model in models:
        if isinstance(model, (str, os.PathLike)):
            zoo.parse(os.fspath(model))  # a misspelt reference is told before the first export, not after it
    request = Request.of(inputs, shapes, seed=seed, opset=opset, trust=trust, exporter=exporter)
    here = find(env) if env else None
    with Jobs(timeout_s=timeout_s, listener=listener, use_cache=use_cache, environment=here) as jobs:
        found = _side_by_side(jobs, models, request)
    failures = tuple(f for f in found if isinstance(f, _Failed))
    if len(failures) == len(found):
        raise failures[0].error
    kept = _named([f for f in found if isinstance(f, Side)])
    pairs = sorted((compare_pair(a, b) for a, b in itertools.combinations(kept, 2)), key=_rank)
    return Comparison(
        kept, tuple(pairs), tuple(Failure(f.ref, f.error.line()) for f in failures),
        {"versions": fingerprint.versions(), "machine": fingerprint.machine(), **for_report(jobs.environments)},
    )  # fmt: skip


def _named(found: Sequence[Side]) -> tuple[Side, ...]:
    """The same with names that tell them apart: a file without its folder, a zoo's model without its weights; else the
    references, else with a number.
    """
    bare = [_bare(side.ref) for side in found]
    names = [b if bare.count(b) == 1 else side.ref for b, side in zip(bare, found, strict=True)]
    numbered = [f"{n} ({names[: i + 1].count(n)})" if names.count(n) > 1 else n for i, n in enumerate(names)]
    return tuple(replace(side, name=name) for side, name in zip(found, numbered, strict=True))


def _bare(ref: str) -> str:
    path = Path(ref)
    if path.exists() and path.name:
        return path.name
    return ref.partition("@")[0] if ":" in ref else ref


_TOPICS = {topic: rank for rank, topic in enumerate(Topic)}
_SAME = {Same.DIFFERENT: 0, Same.EQUIVALENT: 1, Same.IDENTICAL: 2}


def _rank(pair: Pair) -> tuple[int, int, int]:
    """The pairs that differ most come first: by their most consequential difference, then by how many there are."""
    worst = min((_TOPICS[d.topic] for d in pair.differences), default=len(_TOPICS))
    return _SAME[pair.same], worst, -len(pair.differences)


@dataclass(frozen=True)
class _Failed:
    ref: str
    error: OnnxeqError


def _side_by_side(jobs: Jobs, models: Sequence[object], request: Request) -> list[Side | _Failed]:
    """All models, each by a thread that waits for its jobs; they stop at once when the caller is interrupted."""
    pool = ThreadPoolExecutor(len(models), thread_name_prefix="onnxeq-compare")
    try:
        found = list(pool.map(lambda model: _side(jobs, model, request), models))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return found


def _side(jobs: Jobs, model: object, request: Request) -> Side | _Failed:
    text = os.fspath(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__
    try:
        return _opened(jobs, model, request)
    except OnnxeqError as error:
        return _Failed(text, error)


def _opened(jobs: Jobs, model: object, request: Request) -> Side:
    ref, live = sides.resolve(model, jobs)
    if live is None and converter_for(ref) == "onnx":
        artifact = sides.open_artifact(ref.name, jobs.root)
        return _read(jobs, ref.text, artifact, request, {}, (), may_be_folded=True)
    path, about, notes = _exported(jobs, ref, live, request)
    artifact = sides.open_artifact(path, jobs.root)
    # What others saved may be folded already; what is built by its framework, or saved by Keras, is not.
    saved = ref.zoo == "file" and converter_for(ref) != "keras"
    return _read(jobs, ref.text, artifact, replace(request, shapes=None), about, notes, may_be_folded=saved)


def _exported(
    jobs: Jobs, ref: ModelRef, live: object | None, request: Request
) -> tuple[Path, Mapping[str, Any], tuple[str, ...]]:
    """The unfolded export; with other weights where a zoo's own cannot be had, since weights are not compared."""
    asked = replace(request, exporter=request.exporter if converter_for(ref) in ("torch", "factory") else "")

    def prepare(which: ModelRef) -> tuple[Path, Mapping[str, Any], tuple[str, ...]]:
        native = sides.prepare_native(
            jobs, which, live, asked, declared=sides.declared_inputs(asked, None), forms=(ExportForm.UNFOLDED,),
            feeds=False, label=f"export {ref.text}",
        )  # fmt: skip
        native.release()
        export = native.export(ExportForm.UNFOLDED)
        return export.path, native.job.data["provenance"], export.notes

    try:
        return prepare(ref)
    except WeightsUnavailable as error:
        if ref.weights or ref.zoo == "file":
            raise
        path, about, notes = prepare(replace(ref, weights="seeded"))
        return path, about, (*notes, f"exported with random weights, since its own cannot be had: {error.message}")


def _read(
    jobs: Jobs,
    text: str,
    artifact: Artifact,
    request: Request,
    about: Mapping[str, Any],
    notes: Sequence[str],
    *,
    may_be_folded: bool,
) -> Side:
    params = {"shapes": {name: list(shape) for name, shape in (request.shapes or {}).items()}}
    spec = JobSpec("architecture", f"layers of {text}", params, sides.reads_of(artifact.path))
    done = jobs.start(spec).result()
    graph = graph_from_record(json.loads((done.out / str(done.data["path"])).read_text()))
    info = artifact.info
    file = {"producer": info.producer, "opset": info.opsets.get("ai.onnx"), "sha256": info.sha256}
    return Side(text, text, graph, figures(graph), may_be_folded, {**about, **file}, (*notes, *graph.notes))
