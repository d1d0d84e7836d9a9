"""torchvision's models: names, builders, weights and the inputs that they are made for."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision import models

from onnxeq.errors import CannotRun, NoRecipe, UnknownModel
from onnxeq.preprocessing.recipe import Cast, Crop, Decode, Layout, Normalize, Recipe, Scale, Step
from onnxeq.protocols import Fact, LoadRequest, ModelCard
from onnxeq.types import TensorSpec, ValueRange, ZooEntry

from ..weights import load_file, put_in
from . import Built
from .downloads import bounded
from .facts import cached, licence_of
from .pictures import Transformed, resize

__all__ = ["build", "card", "catalogue", "family", "inputs", "preprocessing", "versions"]

_FRAMES = 16
"""Frames of a video clip: what mvit insists on, above s3d's least (14)."""

_SIZES = {"segmentation": 224, "optical_flow": 128, "detection": 320}
"""Height and width where the zoo's own preprocessing keeps the picture's size (RAFT needs 128)."""

_UNIT_RANGES = {"detection": ValueRange(0.0, 1.0), "optical_flow": ValueRange(-1.0, 1.0)}


def family(name: str) -> str:
    """The module of its builder, which is one for each architecture: ``resnet``, ``detection.fcos``, ``video.s3d``."""
    module: str = models.get_model_builder(name).__module__
    return module.removeprefix("torchvision.models.")


def _task(name: str) -> str:
    """``classification``, ``segmentation``, ``detection``, ``video``, ``optical_flow`` or ``quantization``."""
    task, dot, _ = family(name).partition(".")
    return task if dot else "classification"


def catalogue() -> tuple[ZooEntry, ...]:
    """Every registered model with its family and inputs."""
    return tuple(_entry(name) for name in models.list_models())


def _entry(name: str) -> ZooEntry:
    return ZooEntry(name, family(name), inputs(name), _NOTES.get(_task(name), ""))


_NOTES = {"quantization": "the float model; @pretrained is quantised", "detection": "one image; boxes vary"}


def inputs(name: str) -> tuple[TensorSpec, ...]:
    """What the model takes: the crop of its default weights' preprocessing, in the normalised range."""
    task = _task(name)
    weights = models.get_model_weights(name).DEFAULT
    recipe = weights.transforms()
    crop = getattr(recipe, "crop_size", None)
    height, width = _pair(crop) if crop else (_SIZES.get(task, 224),) * 2
    allowed = _UNIT_RANGES.get(task) or _normalised(recipe)
    if task == "detection":
        return (TensorSpec("images_0", "float32", (3, height, width), allowed),)
    if task == "optical_flow":
        shape = ("N", 3, height, width)
        return tuple(TensorSpec(n, "float32", shape, allowed) for n in ("image1", "image2"))
    middle = (3, _FRAMES) if task == "video" else (3,)
    return (TensorSpec(_first_parameter(name), "float32", ("N", *middle, height, width), allowed),)


def build(request: LoadRequest) -> Built:
    """The model with the weights that ``request.ref`` asks for (seeded ones are put in later).

    Raises:
        UnknownModel: With the nearest names in the hint.
        WeightsUnavailable: They could not be downloaded, or the file does not exist.
    """
    _require_known(request.ref.name)
    model, weights = _with_weights(request)
    name = request.ref.name
    return Built(model, weights, inputs(name), listed=_task(name) == "detection")


def preprocessing(request: LoadRequest) -> Transformed:
    """The transform of the weights: ``weights.transforms()``, by the default weights where a reference names none.

    Raises:
        NoRecipe: The model takes clips or pairs of pictures.
    """
    name = request.ref.name
    _require_known(name)
    task = _task(name)
    if task in ("video", "optical_flow"):
        takes = "clips" if task == "video" else "pairs of frames"
        raise NoRecipe(f"torchvision:{name} takes {takes}, and no single pictures")
    weights = models.get_model_weights(name).DEFAULT
    own = weights.transforms()
    steps: list[Step] = [Decode()]
    if size := getattr(own, "resize_size", None):
        steps.append(resize(size, own.interpolation))
    if crop := getattr(own, "crop_size", None):
        steps.append(Crop(*_pair(crop)))
    steps.append(Scale(255.0))
    if hasattr(own, "mean"):
        steps.append(Normalize(tuple(own.mean), tuple(own.std)))
    batched = task != "detection"
    steps += [Layout("NCHW" if batched else "CHW"), Cast("float32")]
    source = f"torchvision {torchvision.__version__}: {weights}.transforms()"
    return Transformed(Recipe(tuple(steps), source, True, _whose(request)), own, batched)


def _whose(request: LoadRequest) -> str:
    if request.ref.weights in ("", "pretrained"):
        return ""
    kind = "seeded weights" if request.ref.weights == "seeded" else "weights from a file"
    return f"{kind} have no recipe of their own: it is the default weights'"


def card(request: LoadRequest) -> ModelCard:
    """What ``weights.meta`` of the default weights says."""
    name = request.ref.name
    _require_known(name)
    weights = models.get_model_weights(name).DEFAULT
    place = f"torchvision {torchvision.__version__}: {weights}.meta"
    measured = {
        f"{data} {metric}": float(value)
        for data, values in (weights.meta.get("_metrics") or {}).items()
        for metric, value in values.items()
    }
    file = weights.url.rpartition("/")[2]
    here = cached(file)
    facts = {
        "accuracy": Fact(measured or None, f"{place}['_metrics']" if measured else f"{place} has no '_metrics'"),
        "licence": licence_of("torchvision", weights.meta.get("license"), f"{place}['license']"),
        "parameters": Fact(weights.meta.get("num_params"), f"{place}['num_params']"),
        "weights": Fact(
            f"{weights}, {weights.meta.get('_file_size', '?')} MB, "
            + ("in torch's cache: no network needed" if here else "from the network"),
            f"{place}, file {file}",
        ),
    }
    return ModelCard(_entry(name), facts)


def _require_known(name: str) -> None:
    known = models.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "onnxeq zoo list shows what there is"
        raise UnknownModel(f"torchvision has no model {name}", hint=hint)


def _with_weights(request: LoadRequest) -> tuple[torch.nn.Module, str]:
    """The module and the kind of its weights."""
    ref = request.ref
    builder = models.get_model_builder(ref.name)
    takes = inspect.signature(builder).parameters
    # Builders of composed models fetch a pretrained backbone unless told not to.
    options: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in takes else {}
    if ref.weights == "seeded":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ref.seed)
            return _quiet(builder, weights=None, **options), f"seeded:{ref.seed}"
    named = models.get_model_weights(ref.name)
    if ref.weights in ("", "pretrained") or ref.weights in named.__members__:
        chosen = named.DEFAULT if ref.weights in ("", "pretrained") else named[ref.weights]
        if "quantize" in takes:
            options["quantize"] = True
        return _download(functools.partial(builder, weights=chosen, **options), ref.name, chosen.name)
    state = load_file(Path(ref.weights), trust=request.trust)
    if "aux_loss" in takes:
        options["aux_loss"] = any(key.startswith("aux_classifier.") for key in state)
    model = _quiet(builder, weights=None, **options)
    put_in(model, state, ref.weights)
    return model, ref.weights


def versions() -> Mapping[str, str]:
    """The zoo's part of the provenance."""
    return {"zoo": "torchvision", "torchvision": str(torchvision.__version__)}


def _download(make: Any, name: str, weights: str) -> tuple[torch.nn.Module, str]:
    hint = f"use torchvision:{name}@seeded, or torchvision:{name}@FILE with weights that you have"
    with bounded(f"the pretrained weights {weights} of {name}", hint):
        return _quiet(make), f"pretrained:{weights}"


def _quiet(make: Any, **options: Any) -> torch.nn.Module:
    """Builds with stdout on stderr, as stdout is data, and without warnings about initialisation."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        built = make(progress=False, **options)
    if not isinstance(built, torch.nn.Module):
        raise CannotRun(f"torchvision built a {type(built).__name__}, not a module")
    return built


def _first_parameter(name: str) -> str:
    """The name of ``forward``'s first parameter, read off the class that the builder is annotated with."""
    made: Any = inspect.signature(models.get_model_builder(name), eval_str=True).return_annotation
    is_module = inspect.isclass(made) and issubclass(made, torch.nn.Module)
    if not is_module:
        return "x"
    return list(inspect.signature(made.forward).parameters)[1]


def _pair(size: Any) -> tuple[int, int]:
    values = [int(v) for v in (size if isinstance(size, (list, tuple)) else [size])]
    return (values[0], values[-1])


def _normalised(recipe: Any) -> ValueRange | None:
    """The range of pixels 0..1 after the recipe's ``(v - mean) / std``."""
    mean, std = getattr(recipe, "mean", None), getattr(recipe, "std", None)
    if mean is None or std is None:
        return None
    low = min(-m / s for m, s in zip(mean, std, strict=True))
    high = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    return ValueRange(round(low, 3), round(high, 3))
