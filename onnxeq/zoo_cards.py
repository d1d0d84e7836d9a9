"""What ``onnxeq zoo`` shows: the zoos with what they need, and one model with what its zoo says of it.

What a zoo does not say is told as unknown, with the reason and where a reader may look; nothing is filled in.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from onnxeq import zoo
from onnxeq.envs.environment import Environment
from onnxeq.errors import NoRecipe, UnknownModel, UsageError
from onnxeq.graph.inspect import inspect
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.preprocessing import onnx_zoo
from onnxeq.preprocessing.pictures import load_params
from onnxeq.preprocessing.recipe import recipe_to_record
from onnxeq.runners.onnx_zoo import light_models, light_row
from onnxeq.types import ModelRef

__all__ = ["card", "models", "zoos"]

SCHEMA = "onnxeq.zoo/1"


def zoos(where: Environment | None = None) -> list[dict[str, Any]]:
    """Every zoo: whether it is installed and in which versions, which environment it needs, what needs a network.

    Args:
        where: The environment to look into; the host's own Python without one.
    """
    rows = []
    there = f" --env {where.name}" if where is not None else ""
    for name in zoo.known_zoos():
        at, ready = where, True
        try:
            at = zoo.require_framework(zoo.listing(name, where), name, where)
            own = f" in the environment '{at.name}'" if at is not None and at is not where else ""
            state = f"installed{own}; list with: onnxeq zoo list {name}{there}"
        except UsageError as missing:
            ready, state = False, missing.line()
        rows.append(
            {
                "name": name, "state": state, "installed": ready, "packages": _versions(name, at) if ready else {},
                "environment": zoo.ENVIRONMENTS.get(name, ""),
                "network": zoo.NETWORK.get(name, "its converter does not say"),
            }
        )  # fmt: skip
    return rows


def _versions(name: str, where: Environment | None) -> dict[str, str]:
    found = {}
    held = None if where is None else where.installed()
    for module in zoo.modules_of(name):
        package = module.replace("_", "-")
        if held is not None:
            found[package] = held.get(package, "")
            continue
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # imported from a folder
            found[package] = ""
    return {package: version for package, version in found.items() if version}


def models(name: str, where: Environment | None) -> tuple[list[dict[str, Any]], str]:
    """The models of a zoo, and what of it could not be listed.

    Raises:
        UnknownZoo: There is no such zoo.
        FrameworkMissing: With the command that installs it.
    """
    zoo.parse_zoo(name)
    ref = zoo.listing(name, where)
    with Jobs(environment=zoo.require_framework(ref, name, where)) as jobs:
        converter = zoo.converter_for(ref)
        params = {"converter": converter, "zoo": name}
        kind, fresh = ("onnx-zoo-catalogue", False) if converter == "onnx" else ("catalogue", True)
        done = jobs.start(JobSpec(kind, f"zoo {name}", params, cache=fresh)).result().data
    return list(done["entries"]), str(done.get("missing") or "")


def card(reference: str, where: Environment | None) -> dict[str, Any]:
    """What a zoo says of one model, and its recipe for pictures.

    Returns:
        ``zoo``, ``entry`` (name, family, inputs, note), ``facts`` (name -> ``value`` and ``source``), ``recipe`` or
        ``None``, and then ``no_recipe`` says why.

    Raises:
        UsageError: The reference is a file, or a function.
        UnknownModel: The zoo has no such model.
    """
    ref = zoo.parse(reference)
    if ref.zoo in ("file", "factory"):
        hint = "write zoo:name; onnxeq zoo list names the zoos"
        raise UsageError(f"{reference} is no model of a zoo", hint=hint)
    if ref.zoo == "onnx-zoo":
        told = _of_onnx_zoo(ref, where)
    else:
        with Jobs(environment=zoo.require_framework(ref, environment=where)) as jobs:
            spec = JobSpec("native-card", f"card {ref.text}", {"load": load_params(ref, trust=False)}, cache=False)
            told = dict(jobs.start(spec).result().data)
        if told["entry"] is None:
            told |= {"entry": _listed(ref, where), "facts": {}}
    return {"schema": SCHEMA, "zoo": ref.zoo, **told}


def _listed(ref: ModelRef, where: Environment | None) -> dict[str, Any]:
    """A model's row in its zoo's catalogue."""
    rows, _ = models(ref.zoo, where)
    row = next((r for r in rows if r["name"].lower() == ref.name.lower()), None)
    if row is None:
        near = zoo.nearest(ref.name, [r["name"] for r in rows])
        hint = f"did you mean {near}?" if near else f"list them with: onnxeq zoo list {ref.zoo}"
        raise UnknownModel(f"{ref.zoo} has no model '{ref.name}'", hint=hint)
    return row


def _of_onnx_zoo(ref: ModelRef, where: Environment | None) -> dict[str, Any]:
    light = next((item for item in light_models().items() if item[0].lower() == ref.name.lower()), None)
    entry = light_row(*light) if light else _listed(ref, where)
    page = onnx_zoo.page_of(entry["name"])
    place = f"README.md of {page.path} in onnx/models" if page else "the model's page in onnx/models"
    if light is None:
        facts = {
            "accuracy": _fact(None, f"not in the manifest: {place} may state it"),
            "licence": _fact(None, f"not in the manifest: {place} states it"),
            "parameters": _fact(None, "not told without loading it"),
            "weights": _fact("from the network unless it was fetched before", "the manifest"),
        }
    else:
        code = metadata.metadata("onnx")
        stated = str(code["License-Expression"] or code["License"] or "").strip()
        facts = {
            "accuracy": _fact(None, "its weights are constants, so that it has none"),
            "licence": _fact(stated or None, f"of the onnx package, which holds the file; {place} has the model's own"),
            "parameters": _fact(None, f"its nodes make them; the file stores {inspect(light[1]).parameters} of them"),
            "weights": _fact("constants, inside the onnx package: no network needed", "the file"),
        }
    told: dict[str, Any] = {"entry": entry, "facts": facts, "recipe": None, "no_recipe": ""}
    try:
        told["recipe"] = recipe_to_record(onnx_zoo.recipe_of(entry["name"]))
    except NoRecipe as error:
        told["no_recipe"] = error.message
    return told


def _fact(value: object, source: str) -> dict[str, Any]:
    return {"value": value, "source": source}
