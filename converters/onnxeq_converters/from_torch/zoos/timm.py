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
from onnxeq.protocols import LoadRequest
from onnxeq.types import TensorSpec, ValueRange, ZooEntry

from ..weights import load_file, put_in
from . import Built
from .downloads import bounded, require_hub

__all__ = ["build", "catalogue", "family", "inputs", "versions"]


def family(name: str) -> str:
    """Timm's module of the model: ``resnet``, ``vision_transformer``."""
    return _families()[name.partition(".")[0]]


def catalogue() -> tuple[ZooEntry, ...]:
    """Every registered model; the note is its default tag where it has weights."""
    return tuple(ZooEntry(name, family(name), inputs(name), _note(name)) for name in timm.list_models())


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
