"""Pictures for transformers: an image processor, and its steps where it does what its base class does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers import image_processing_backends as backends
from transformers.models.auto import image_processing_auto

from onnxeq.errors import NoRecipe, UnknownModel
from onnxeq.preprocessing.recipe import (
    Cast,
    Crop,
    Decode,
    Layout,
    Normalize,
    Other,
    Recipe,
    Resize,
    Scale,
    Step,
)
from onnxeq.protocols import LoadRequest
from onnxeq.types import Array

from ..downloads import bounded, require_hub
from ..pictures import opened
from . import types

__all__ = ["Processed", "of_reference"]


@dataclass(frozen=True)
class Processed:
    """A recipe and the image processor behind it."""

    recipe: Recipe
    processor: Any

    def run(self, picture: Path) -> Array:
        """The model's input for one picture."""
        with opened(picture) as image:
            return np.asarray(self.processor(images=image, return_tensors="np")["pixel_values"])


def of_reference(request: LoadRequest) -> Processed:
    """The image processor that a reference names.

    Raises:
        NoRecipe: The folder has none, or the model type takes no pictures.
        WeightsUnavailable: The hub has it, and cannot be reached.
    """
    name = request.ref.name.partition("#")[0]
    if Path(name).is_absolute():
        if not any((Path(name) / file).is_file() for file in _FILES):
            raise NoRecipe(f"{name} holds no {' or '.join(_FILES)}", hint="say the recipe: --recipe FILE.json")
        processor, place = _auto(name, request, local=True), f"{name}/preprocessor_config.json"
    elif request.ref.weights == "seeded" and name in types.known():
        processor, place = _of_type(name), f"the defaults of model type {name}"
    else:
        processor, place = _of_hub(name, request), f"the image processor of {name}"
    source = f"transformers {transformers.__version__}: {place}, {type(processor).__name__}"
    return Processed(Recipe(_steps(processor), source, True), processor)


_FILES = ("preprocessor_config.json", "processor_config.json")


def _auto(name: str, request: LoadRequest, *, local: bool) -> Any:
    return transformers.AutoImageProcessor.from_pretrained(
        name, local_files_only=local, trust_remote_code=request.trust
    )


def _of_type(name: str) -> Any:
    by_backend = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(name)
    if not by_backend:
        raise NoRecipe(f"hf:{name} takes no pictures: transformers has no image processor for it")
    kind = str(by_backend.get("torchvision") or by_backend.get("pil"))
    try:
        return getattr(transformers, kind)()
    except TypeError as error:  # it wraps another library's configuration, which a type does not have
        raise NoRecipe(f"hf:{name} has no image processor by default: {kind}: {error}") from None


def _of_hub(name: str, request: LoadRequest) -> Any:
    try:
        return _auto(name, request, local=True)
    except (OSError, ValueError):
        pass  # not in the cache
    if "/" not in name and name in types.known():
        raise UnknownModel(f"{name} is a model type, and has no weights of its own", hint=f"write hf:{name}@seeded")
    with bounded(f"the image processor of {name}", "hf:FOLDER takes a model that you have"):
        require_hub()
        return _auto(name, request, local=False)


def _steps(processor: Any) -> tuple[Step, ...]:
    bases = (backends.TorchvisionBackend, backends.PilBackend)
    base = next((b for b in bases if isinstance(processor, b)), None)
    own = ("_preprocess", "resize", "center_crop", "rescale_and_normalize", "rescale", "normalize", "process_image")
    kind = type(processor)
    if base is None or any(getattr(kind, n, None) is not getattr(base, n, None) for n in own):
        return (Decode(), Other(f"what {kind.__name__} does by itself"), Layout("NCHW"), Cast("float32"))
    made: list[Step] = [Decode()]
    if getattr(processor, "do_resize", None):
        made.append(_resize(processor, "torch" if base is backends.TorchvisionBackend else "pillow"))
    if getattr(processor, "do_center_crop", None):
        size = _sizes(processor.crop_size)
        whole = set(size) == {"height", "width"}
        made.append(Crop(size["height"], size["width"], "floor") if whole else Other(f"crop to {size}"))
    made += _arithmetic(processor, fused=base is backends.TorchvisionBackend)
    if getattr(processor, "do_pad", None):
        made.append(Other("padding to the largest picture"))
    return (*made, Layout("NCHW"), Cast("float32"))


def _arithmetic(processor: Any, *, fused: bool) -> list[Step]:
    """Scale and normalise; the torchvision backend does both in one, in pixel values."""
    divisor = 1.0 / float(processor.rescale_factor) if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return [Scale(divisor)] if divisor != 1.0 else []
    mean, std = (tuple(float(x) for x in v) for v in (processor.image_mean, processor.image_std))
    if divisor == 1.0:
        return [Normalize(mean, std)]
    if fused:
        return [Normalize(tuple(m * divisor for m in mean), tuple(s * divisor for s in std))]
    return [Scale(divisor), Normalize(mean, std)]


_METHODS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers for its filters."""


def _resize(processor: Any, library: str) -> Step:
    size = _sizes(processor.size)
    method = _METHODS[int(processor.resample)] if processor.resample is not None else "bilinear"
    smooth = method != "nearest"
    if set(size) == {"height", "width"}:
        return Resize(size["height"], size["width"], "exact", method, smooth, library)
    if set(size) == {"shortest_edge"}:
        side = size["shortest_edge"]
        return Resize(side, side, "shortest", method, smooth, library)
    return Other(f"resize to {size}")


def _sizes(size: Any) -> dict[str, int]:
    """The sizes that are set."""
    held = dict(size) if isinstance(size, dict) else {n: getattr(size, n, None) for n in _SIZES}
    return {name: int(value) for name, value in held.items() if value}


_SIZES = ("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width")
