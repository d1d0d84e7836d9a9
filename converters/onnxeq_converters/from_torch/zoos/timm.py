"""timm's models, ``timm:resnet50`` or ``timm:resnet50.a1_in1k``: names, builders, weights, inputs."""

from __future__ import annotations

import contextlib
import difflib
import functools
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from onnxeq.errors import UnknownModel
from onnxeq.preprocessing.recipe import Cast, Decode, Layout, Recipe
from onnxeq.protocols import Fact, LoadRequest, ModelCard
from onnxeq.types import TensorSpec, ValueRange, ZooEntry

from ..weights import load_file, put_in
from . import Built
from .downloads import bounded, require_hub
from .facts import in_hub_cache, licence_of, parameters_of
from .pictures import Transformed, steps_of

__all__ = ["build", "card", "catalogue", "family", "inputs", "preprocessing", "versions"]


def family(name: str) -> str:
    """Timm's module of the model: ``resnet``, ``vision_transformer``."""
    return _families()[name.partition(".")[0]]


def catalogue() -> tuple[ZooEntry, ...]:
    """Every registered model; the note is its default tag where it has weights."""
    return tuple(_entry(name) for name in timm.list_models())


def _entry(name: str) -> ZooEntry:
    return ZooEntry(name, family(name), inputs(name), _note(name))


def inputs(name: str) -> tuple[TensorSpec, ...]:
    """One picture, of the size and in the normalised range of the tag's (or the default tag's) own recipe."""
    recipe = timm.models.get_pretrained_cfg(name)
    low = min(-m / s for m, s in zip(recipe.mean, recipe.std, strict=True))
    high = max((1 - m) / s for m, s in zip(recipe.mean, recipe.std, strict=True))
    return (TensorSpec("x", "float32", ("N", *recipe.input_size), ValueRange(round(low, 3), round(high, 3))),)


def build(request: LoadRequest) -> Built:
    """The model with the weights that ``request.ref`` asks for (seeded ones are put in later).

    Raises:
        UnknownModel: With the nearest names, or the model's tags, in the hint.
        WeightsUnavailable: They could not be downloaded, there are none, or the file does not exist.
    """
    ref = request.ref
    _require_known(ref.name)
    if ref.weights == "seeded":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ref.seed)
            return Built(_quiet(ref.name), f"seeded:{ref.seed}", inputs(ref.name))
    if ref.weights in ("", "pretrained"):
        recipe = timm.models.get_pretrained_cfg(ref.name)
        hint = f"use timm:{ref.name}@seeded, or timm:{ref.name}@FILE with weights that you have"
        with bounded(f"the pretrained weights of {ref.name}", hint):
            model = _fetched(ref.name, recipe)
        return Built(model, f"pretrained:{recipe.tag or 'default'}", inputs(ref.name))
    state = load_file(Path(ref.weights), trust=request.trust)
    model = _quiet(ref.name)
    put_in(model, state, ref.weights)
    return Built(model, ref.weights, inputs(ref.name))


def preprocessing(request: LoadRequest) -> Transformed:
    """The evaluation transform that timm makes of the tag's (or the default tag's) configuration."""
    name = request.ref.name
    _require_known(name)
    recipe = timm.models.get_pretrained_cfg(name)
    chosen = timm.data.resolve_data_config({}, pretrained_cfg=recipe.to_dict())
    own = timm.data.create_transform(**chosen, is_training=False)
    steps = (Decode(), *steps_of(own), Layout("NCHW"), Cast("float32"))
    tagged = ".".join(filter(None, (recipe.architecture or name.partition(".")[0], recipe.tag)))
    source = f"timm {timm.__version__}: create_transform of the configuration of {tagged}"
    kinds = {"": "", "pretrained": "", "seeded": "seeded weights"}
    kind = kinds.get(request.ref.weights, "weights from a file")
    note = f"{kind} have no recipe of their own: it is the tag's" if kind else ""
    return Transformed(Recipe(steps, source, True, note), own)


def card(request: LoadRequest) -> ModelCard:
    """What the tag's (or the default tag's) configuration says."""
    name = request.ref.name
    _require_known(name)
    recipe = timm.models.get_pretrained_cfg(name)
    place = f"timm {timm.__version__}: configuration of {name}"
    where = "not in the package: results/results-imagenet.csv of timm's repository"
    held = "in the hub's cache: no network needed" if in_hub_cache(recipe.hf_hub_id) else "from the network"
    weights = f"tag {recipe.tag or 'default'}, {held}" if recipe.has_weights else "none: @seeded only"
    facts = {
        "accuracy": Fact(None, where),
        "licence": licence_of("timm", recipe.license, f"{place}, 'license'"),
        "parameters": parameters_of(lambda: _quiet(name), "counted in the model as timm builds it"),
        "weights": Fact(weights, place),
    }
    return ModelCard(_entry(name), facts)


def versions() -> Mapping[str, str]:
    """The zoo's part of the provenance."""
    return {"zoo": "timm", "timm": str(timm.__version__)}


def _fetched(name: str, recipe: Any) -> torch.nn.Module:
    """The model with weights from the hub's cache, or else from the network."""
    if not recipe.has_weights:
        raise OSError("timm has none for it")
    if recipe.hf_hub_id:
        from huggingface_hub import constants
        from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

        usual = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True  # what is in the cache needs no network
        try:
            return _quiet(name, pretrained=True)
        except (LocalEntryNotFoundError, OfflineModeIsEnabled):
            constants.HF_HUB_OFFLINE = usual
            require_hub()
        finally:
            constants.HF_HUB_OFFLINE = usual
    return _quiet(name, pretrained=True)


def _require_known(name: str) -> None:
    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, 3, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "onnxeq zoo list timm shows what there is"
        raise UnknownModel(f"timm has no model {architecture}", hint=hint)
    tags = [t.partition(".")[2] for t in timm.list_pretrained(architecture) if t.partition(".")[0] == architecture]
    if tag and tag not in tags:
        listed = ", ".join(f"{architecture}.{t}" for t in tags if t)
        raise UnknownModel(f"timm's {architecture} has no tag {tag}", hint=f"it has {listed or 'none'}")


def _note(name: str) -> str:
    recipe = timm.models.get_pretrained_cfg(name)
    if not recipe.has_weights:
        return "no weights: @seeded only"
    return f"default tag {recipe.tag}" if recipe.tag else ""


@functools.cache
def _families() -> Mapping[str, str]:
    return {model: module for module in timm.list_modules() for model in timm.list_models(module=module)}


def _quiet(name: str, **options: Any) -> torch.nn.Module:
    """Builds with stdout on stderr, as stdout is data, and without warnings about initialisation."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built: torch.nn.Module = timm.create_model(name, **options)
    return built
