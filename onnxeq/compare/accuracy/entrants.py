"""Each model as it enters the measurement: how its pictures are prepared, and what its zoo publishes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxeq import zoo
from onnxeq.compare.accuracy.asked import Asked
from onnxeq.compare.accuracy.values import Missing, Published
from onnxeq.compare.sources import Source
from onnxeq.errors import NoRecipe, OnnxeqError
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.preprocessing import onnx_zoo
from onnxeq.preprocessing.parts import form_of
from onnxeq.preprocessing.pictures import from_file, load_params
from onnxeq.preprocessing.recipe import Recipe, recipe_from_record
from onnxeq.types import ModelRef

__all__ = ["Entrant", "Way", "enrol"]


@dataclass(frozen=True)
class Way:
    """How pictures are prepared.

    Attributes:
        name: What the reader calls it: the model's reference, or the recipe's file.
        recipe: The steps.
        ref: The model whose zoo's own code does it; ``None`` where this project's code does.
    """

    name: str
    recipe: Recipe
    ref: ModelRef | None

    @property
    def layout(self) -> str:
        """The order of the axes that it makes."""
        try:
            return form_of(self.recipe).layout
        except OnnxeqError:  # a step without a name; every zoo of which there is one puts channels first
            return "NCHW"


@dataclass(frozen=True)
class Entrant:
    """A model that takes part.

    Attributes:
        source: The model.
        way: How its pictures are prepared; ``None`` where arrays are fed.
        published: What its zoo states.
    """

    source: Source
    way: Way | None
    published: Published

    @property
    def name(self) -> str:
        """Its name in the comparison."""
        return self.source.side.name

    @property
    def wanted(self) -> str:
        """The order of the axes that it takes, as its own recipe tells; empty where only the file tells."""
        return self.way.layout if self.way is not None and self.way.ref == self.source.ref else ""


def enrol(
    jobs: Jobs, sources: Sequence[Source], asked: Asked, *, pictures: bool
) -> tuple[list[Entrant], list[Missing]]:
    """The models that can take part, and why the others cannot.

    Args:
        jobs: Where zoos are asked.
        sources: The models.
        asked: What the user asked for.
        pictures: Whether the items are pictures, so that each model needs a recipe.

    Raises:
        onnxeq.errors.UsageError: The recipe that the user names is none.
    """
    cards = [_card(jobs, source.ref, asked.trust) for source in sources]
    given = {m: _named(jobs, name, trust=asked.trust) for m, name in asked.recipes.items()} if pictures else {}
    entrants, missing = [], []
    for source, waiting in zip(sources, cards, strict=True):
        name = source.side.name
        if problem := _unfit(source):
            missing.append(Missing(name, problem))
            continue
        told, said = _told(waiting)
        try:
            way = _way(source, told, given, said) if pictures else None
        except OnnxeqError as error:
            missing.append(Missing(name, error.line()))
            continue
        entrants.append(Entrant(source, way, Published(source=said) if said else _published(source.ref, told)))
    return entrants, missing


def _unfit(source: Source) -> str:
    if source.ref.weights == "seeded" and "@" not in source.side.ref:
        return "its own weights cannot be had, and the accuracy of random ones says nothing"
    inputs = source.artifact.info.inputs
    if len(inputs) != 1:
        named = ", ".join(spec.name for spec in inputs) or "none"
        return f"it has {len(inputs)} inputs ({named}), and a data set feeds one"
    return ""


def _of_zoo(ref: ModelRef) -> bool:
    """Whether a framework's zoo says something of it."""
    return ref.zoo not in ("file", "factory", "live", "onnx-zoo")


def _card(jobs: Jobs, ref: ModelRef, trust: bool) -> Future[JobResult] | None:
    """The job that asks its zoo, without its weights; ``None`` where there is nobody to ask."""
    if not _of_zoo(ref):
        return None
    where = zoo.require_framework(ref, environment=jobs.where("native-card"))
    load = load_params(ref, trust)
    return jobs.start(JobSpec("native-card", f"card {ref.text}", {"load": load}, environment=where))


def _told(waiting: Future[JobResult] | None) -> tuple[Mapping[str, Any] | None, str]:
    """What the zoo says, or why it says nothing."""
    if waiting is None:
        return None, ""
    try:
        return waiting.result().data, ""
    except OnnxeqError as error:
        return None, error.line()


def _way(source: Source, told: Mapping[str, Any] | None, given: Mapping[str, Way], said: str) -> Way:
    """The recipe that the user names for it, else its own, else the one for models that have none.

    Raises:
        NoRecipe: There is none of them.
    """
    if (named := given.get(source.side.ref)) is not None:
        return named
    try:
        return _own(source.ref, told, said)
    except NoRecipe:
        if "" not in given:
            raise
        return given[""]


def _own(ref: ModelRef, told: Mapping[str, Any] | None, said: str = "") -> Way:
    if ref.zoo == "onnx-zoo":
        return Way(ref.text, onnx_zoo.recipe_of(ref.text.partition(":")[2].partition("@")[0]), None)
    if told is not None and told["recipe"] is not None:
        return Way(ref.text, recipe_from_record(told["recipe"], said_by=ref.text), ref)
    hint = "say which: --recipe ZOO:NAME, or --recipe FILE.json (onnxeq zoo show REF --json prints one)"
    if told is not None:
        said = str(told["no_recipe"])
    raise NoRecipe(said or f"{ref.text} has no recipe of its own for pictures", hint=hint)


def _named(jobs: Jobs, name: str, *, trust: bool) -> Way:
    """What the user names for models without a recipe: a recipe's file, or a model of a zoo."""
    if name.endswith(".json") and Path(name).is_file():
        recipe = from_file(Path(name))
        form_of(recipe)  # a step that this project's code does not know is said now
        return Way(name, recipe, None)
    ref = zoo.parse(name)
    waiting = _card(jobs, ref, trust)
    return _own(ref, None if waiting is None else waiting.result().data)


def _published(ref: ModelRef, told: Mapping[str, Any] | None) -> Published:
    """What the card states of these weights: a figure belongs to those that the zoo ships."""
    fact = (told or {}).get("facts") or {}
    if not (fact := fact.get("accuracy") or {}):
        return Published(source="no zoo states any")
    if ref.weights == "seeded" or zoo.weights_files(ref):
        return Published(source="its weights are not the zoo's own")
    stated = fact["value"]
    if not isinstance(stated, Mapping):
        return Published(source=str(fact["source"]))
    kind = f"@{ref.weights or 'pretrained'} "
    if any(name.startswith("@") for name in stated):
        stated = {name.removeprefix(kind): value for name, value in stated.items() if name.startswith(kind)}
    label = next((name for name in stated if _TOP1.search(name)), "")
    if not label:
        return Published(source=str(fact["source"]))
    fifth = _TOP1.sub(r"\g<1>5", label)
    top5 = float(stated[fifth]) if fifth in stated else None
    return Published(float(stated[label]), top5, label, str(fact["source"]))


_TOP1 = re.compile(r"(acc@|top-)1\b")
