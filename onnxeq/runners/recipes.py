"""Pictures and what zoos say of their models, as jobs: decoders and zoos' own code run apart from the host."""

from __future__ import annotations

from typing import Any

from onnxeq.arrays import save_feeds
from onnxeq.errors import NoRecipe, OnnxeqError
from onnxeq.preprocessing import neutral as own
from onnxeq.preprocessing.recipe import recipe_from_record, recipe_to_record
from onnxeq.protocols import LoadRequest, Preprocessor
from onnxeq.records import spec_to_record
from onnxeq.runners.native import load_converter, request_of, warm_up
from onnxeq.types import Feed
from onnxeq.worker import Job

__all__ = ["PICTURE", "card", "native", "neutral", "warm_up"]

PICTURE = "#0"
"""The name under which a prepared picture is fed: a model's first input."""


def native(job: Job) -> dict[str, Any]:
    """Prepares pictures by the zoo's own code; writes ``out/feeds``, one feed for each.

    Raises:
        onnxeq.errors.NoRecipe: The converter has none for the reference.
        onnxeq.errors.OnnxeqError: What the converter says.
    """
    request = request_of(job.params["load"])
    job.step("recipe")
    found = _preprocessor(job.params["load"]["converter"], request)
    job.step("pictures")
    feeds = [{PICTURE: found.run(job.inputs[name])} for name in sorted(job.inputs) if name.startswith("picture ")]
    save_feeds(job.out / "feeds", feeds)
    return {"recipe": recipe_to_record(found.recipe)}


def neutral(job: Job) -> dict[str, Any]:
    """Prepares every picture by every recipe of ``job.params['recipes']`` with this project's own code.

    Writes ``out/feeds``: for each recipe a feed for each picture. A picture that a recipe cannot prepare has no input,
    and ``errors`` says why.
    """
    feeds: list[Feed] = []
    errors: list[str] = []
    pictures = [job.inputs[name] for name in sorted(job.inputs)]
    job.step("pictures")
    for record in job.params["recipes"]:
        recipe = recipe_from_record(record)
        for picture in pictures:
            try:
                feeds.append({PICTURE: own.prepare(recipe, picture)})
                errors.append("")
            except OnnxeqError as error:
                feeds.append({})
                errors.append(error.line())
    save_feeds(job.out / "feeds", feeds)
    return {"errors": errors}


def card(job: Job) -> dict[str, Any]:
    """What the zoo says of a model, and its recipe.

    Returns:
        ``entry`` and ``facts``, ``None`` where the converter has no cards; ``recipe``, or ``None`` and ``no_recipe``
        says why.

    Raises:
        onnxeq.errors.OnnxeqError: What the converter says, of an unknown model for one.
    """
    load = job.params["load"]
    request = request_of(load)
    job.step("card")
    found: dict[str, Any] = {"entry": None, "facts": None, "recipe": None, "no_recipe": ""}
    ask = getattr(load_converter(load["converter"]), "card", None)
    if ask is not None:
        told = ask(request)
        entry = told.entry
        found["entry"] = {
            "name": entry.name, "family": entry.family, "inputs": [spec_to_record(s) for s in entry.inputs],
            "note": entry.note,
        }  # fmt: skip
        found["facts"] = {name: {"value": fact.value, "source": fact.source} for name, fact in told.facts.items()}
    job.step("recipe")
    try:
        found["recipe"] = recipe_to_record(_preprocessor(load["converter"], request).recipe)
    except NoRecipe as error:
        found["no_recipe"] = error.message
    return found


def _preprocessor(converter: str, request: LoadRequest) -> Preprocessor:
    ask = getattr(load_converter(converter), "preprocessing", None)
    if ask is None or request.ref.zoo in ("file", "factory", "live"):
        hint = "say which: --recipe ZOO:NAME, or --recipe FILE.json"
        raise NoRecipe(f"{request.ref.text} has no recipe of its own for pictures", hint=hint)
    found: Preprocessor = ask(request)
    return found
