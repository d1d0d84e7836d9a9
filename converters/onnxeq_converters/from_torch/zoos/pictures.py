"""Pictures for torch models: a zoo's own transform, and its steps read off the objects that it is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import transforms

from onnxeq.errors import BadInputs
from onnxeq.preprocessing.recipe import Crop, Normalize, Other, Recipe, Resize, Scale, Step
from onnxeq.types import Array

__all__ = ["Transformed", "opened", "resize", "steps_of"]


@dataclass(frozen=True)
class Transformed:
    """A recipe and the zoo's transform behind it: a picture of Pillow's -> a tensor ``[channels,height,width]``.

    Attributes:
        recipe: What the transform does.
        transform: The zoo's own.
        batched: Whether the model takes a batch; a detector takes a picture.
    """

    recipe: Recipe
    transform: Callable[[Any], Any]
    batched: bool = True

    def run(self, picture: Path) -> Array:
        """The model's input for one picture."""
        with opened(picture) as image:
            made = np.asarray(self.transform(image))
        return made[np.newaxis] if self.batched else made


@contextlib.contextmanager
def opened(picture: Path) -> Iterator[Any]:
    """The picture in RGB.

    Raises:
        BadInputs: The file is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(picture) as image:
            made = image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadInputs(f"{picture} cannot be read as a picture: {said}", hint="write it as .png or .jpg") from None
    yield made


def resize(size: Sequence[int], interpolation: Any, *, antialias: bool = True) -> Resize:
    """Torchvision's ``resize`` of a picture of Pillow's: one number is the shortest side's."""
    method = str(getattr(interpolation, "value", interpolation)).replace("nearest-exact", "nearest")
    how = "shortest" if len(size) == 1 else "exact"
    # Pillow averages whatever it is told, except for the nearest pixel.
    smooth = antialias or method != "nearest"
    return Resize(int(size[0]), int(size[-1]), how, method, smooth and method != "nearest", "pillow")


def steps_of(composed: Any) -> tuple[Step, ...]:
    """The steps of ``transforms.Compose``; one that is not known is told by its own description."""
    made: list[Step] = []
    for part in composed.transforms:
        if type(part) is transforms.Resize and part.max_size is None:
            size = part.size if isinstance(part.size, (list, tuple)) else [part.size]
            made.append(resize(size, part.interpolation))
        elif type(part) is transforms.CenterCrop:
            made.append(Crop(int(part.size[0]), int(part.size[1])))
        elif isinstance(part, transforms.ToTensor):
            made.append(Scale(255.0))
        elif type(part) is transforms.Normalize:
            mean, std = (_numbers(v) for v in (part.mean, part.std))
            made.append(Normalize(mean, std))
        else:
            made.append(Other(" ".join(repr(part).split())))
    return tuple(made)


def _numbers(values: Any) -> tuple[float, ...]:
    """As a person wrote them: a tensor holds 0.485 as float32."""
    return tuple(float(str(np.float32(v))) for v in values)
