"""``onnxeq compare``, the straight line: export each model, read its layers, hold each two against each other.

1. Each model is exported by its own framework with nothing folded, so that biases, epsilons and normalisations are as
   its zoo defines them; an ONNX file is taken as it is. The exports run side by side, each in a process of its own.
2. A job reads the file into its canonical graph (:mod:`onnxeq.compare.reading`).
3. The figures and the differences come from those graphs alone (:mod:`onnxeq.compare.verdicts`).
4. Where labelled items are given, the exports are run on them (:mod:`onnxeq.compare.accuracy`).
5. When nothing else runs any more, the models are timed in turn (:mod:`onnxeq.compare.latency`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnxeq import fingerprint, sides, zoo
from onnxeq.compare.accuracy.asked import asked
from onnxeq.compare.accuracy.datasets import open_items
from onnxeq.compare.accuracy.measuring import measure
from onnxeq.compare.function.splitting import split
from onnxeq.compare.latency import measuring as latency
from onnxeq.compare.recipes import prepared_for, recipes_by_model
from onnxeq.compare.sources import Failed, Source, open_models, text_of
from onnxeq.compare.values import Comparison, Failure, Pair, Part, Same, Topic
from onnxeq.compare.verdicts import judged, matched
from onnxeq.envs.environment import find, for_report
from onnxeq.errors import OnnxeqError, UsageError
from onnxeq.jobs import Jobs, Listener
from onnxeq.preprocessing.pictures import Prepared, pictures_in
from onnxeq.sides import Request
from onnxeq.types import ExportForm, Feed

__all__ = ["compare"]


def compare(
    *models: object,
    parts: Sequence[str] = tuple(Part),
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
    dataset: str = "",
    class_map: str | os.PathLike[str] | None = None,
    max_items: int | None = None,
    recipes: Sequence[str] = (),
    batches: Sequence[int] = (1,),
    providers: Sequence[str] | None = None,
    seconds: float | None = None,
) -> Comparison:
    """Compares the architectures of two or more models, how often each is right on labelled items, and their latency.

    Args:
        models: References, paths or live models, as :func:`onnxeq.check` takes them.
        parts: What to compare, of :class:`onnxeq.compare.values.Part`; the architecture always is.
        inputs: What the models are run on: arrays, or pictures that each model's own recipe prepares; they tell the
            shapes of models that do not.
        shapes: Input name -> shape; by default each model's own.
        seed: Seed of a factory's random weights.
        opset: Opset of the exports.
        exporter: Which of torch's exporters to use, for models of torch.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        use_cache: Whether results of earlier identical jobs are reused.
        env: The environment in which the frameworks run.
        listener: Told each job's label and step.
        dataset: Labelled items for accuracy: ``imagefolder:FOLDER``, ``npz:FILE`` or ``digits``.
        class_map: A JSON file that says which class a folder is, ``{"folder": index}`` or a list of folders.
        max_items: At most so many items, drawn class by class with ``seed``.
        recipes: By what pictures are prepared for models without a recipe; ``MODEL=RECIPE`` for one, whatever its own.
        batches: Batch sizes at which latency is measured.
        providers: Of onnxruntime, for latency; by default the CPU.
        seconds: How long latency is measured in all, without loading; by default 5 s for each model and batch size.

    Raises:
        onnxeq.errors.UsageError: Fewer than two models, a reference that names nothing, or items that are none.
        onnxeq.errors.OnnxeqError: No model could be had; if some could, the others are told as failures.
    """
    texts = _texts(models)
    known = _known(parts)
    wanted = asked(
        known, dataset, class_map=class_map, max_items=max_items, recipes=recipes, models=texts, seed=seed,
        trust=trust,
    )  # fmt: skip
    pictures = pictures_in(inputs)
    if recipes and wanted is None and not pictures:
        hint = "give some: --inputs FOLDER, or --dataset imagefolder:FOLDER"
        raise UsageError(f"the recipe {recipes[0]} is about pictures, and none are given", hint=hint)
    request = Request.of(() if pictures else inputs, shapes, seed=seed, opset=opset, trust=trust, exporter=exporter)
    here = find(env) if env else None
    timing = latency.Asked.of(batches, providers, seconds, here) if Part.LATENCY in known else None
    told = latency.quiet_turns(listener)
    with Jobs(timeout_s=timeout_s, listener=told, use_cache=use_cache, environment=here) as jobs:
        items = None if wanted is None else open_items(jobs, wanted)
        sources, failures = _opened(jobs, models, request, sides.BOTH_FORMS if timing else (ExportForm.UNFOLDED,))
        of_pictures = _Pictures(pictures, recipes_by_model(recipes, texts))
        pairs = [_pair(jobs, a, b, known, request, of_pictures) for a, b in itertools.combinations(sources, 2)]
        accuracy = None if wanted is None or items is None else measure(jobs, sources, items, wanted)
        costs = latency.measure(jobs, sources, request, timing, told) if timing else None
    return Comparison(
        tuple(source.side for source in sources), tuple(sorted(pairs, key=_rank)), failures,
        {"versions": fingerprint.versions(), "machine": fingerprint.machine(), **for_report(jobs.environments)},
        accuracy, costs,
    )  # fmt: skip


def _texts(models: Sequence[object]) -> list[str]:
    """What the models are called; a misspelt reference is told before the first export, not after it."""
    if len(models) < 2:
        raise UsageError(f"{len(models)} model is given, and two or more are compared", hint="name another one")
    for model in models:
        if isinstance(model, (str, os.PathLike)):
            zoo.parse(os.fspath(model))
    return [text_of(model) for model in models]


def _opened(
    jobs: Jobs, models: Sequence[object], request: Request, forms: Sequence[ExportForm]
) -> tuple[tuple[Source, ...], tuple[Failure, ...]]:
    """The models that could be had, and why the others could not; the error of the first where none could."""
    found = open_models(jobs, models, request, forms)
    failed = [f for f in found if isinstance(f, Failed)]
    if len(failed) == len(found):
        raise failed[0].error
    sources = _named([f for f in found if isinstance(f, Source)])
    return sources, tuple(Failure(f.ref, f.error.line()) for f in failed)


@dataclass(frozen=True)
class _Pictures:
    """Pictures among the inputs, and by what they are prepared where the user says so."""

    files: Sequence[Path]
    recipes: Mapping[str, str]

    def of(self, jobs: Jobs, source: Source, request: Request) -> Prepared:
        return prepared_for(jobs, source, self.recipes, self.files, trust=request.trust)


def _pair(
    jobs: Jobs, a: Source, b: Source, known: frozenset[Part], request: Request, pictures: _Pictures
) -> Pair:  # fmt: skip
    both = matched(a.side, b.side)
    pair = judged(a.side, b.side, both)
    if Part.FUNCTION not in known:
        return pair
    try:
        prepared = (pictures.of(jobs, a, request), pictures.of(jobs, b, request)) if pictures.files else None
        found = split(jobs, a, b, both, request, prepared)
    except OnnxeqError as error:
        found = error.message
    if isinstance(found, str):
        return replace(pair, not_split=found)
    return replace(pair, function=found)


def _known(parts: Sequence[str]) -> frozenset[Part]:
    known = [part.value for part in Part]
    if wrong := [part for part in parts if part not in known]:
        raise UsageError(f"'{wrong[0]}' is nothing that can be compared", hint=f"write --only {','.join(known)}")
    return frozenset(Part(part) for part in parts)


def _named(found: Sequence[Source]) -> tuple[Source, ...]:
    """The same with names that tell them apart: a file without its folder, a zoo's model without its weights; else the
    references, else with a number.
    """
    refs = [source.side.ref for source in found]
    bare = [_bare(ref) for ref in refs]
    names = [b if bare.count(b) == 1 else ref for b, ref in zip(bare, refs, strict=True)]
    numbered = [f"{n} ({names[: i + 1].count(n)})" if names.count(n) > 1 else n for i, n in enumerate(names)]
    return tuple(
        replace(source, side=replace(source.side, name=name)) for source, name in zip(found, numbered, strict=True)
    )


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
