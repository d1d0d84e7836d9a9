"""This project's own execution of a recipe, with Pillow and numpy: what lets two recipes be mixed.

How near it comes to the zoos' own code (``tests/preprocessing/test_zoos.py`` holds these figures):

- Pillow's resize is what torchvision and timm call for a picture, and what Keras' ``load_img`` calls: the pixels are
  the same, and what follows is float32 arithmetic in the same order, so the arrays are the same bits.
- torch's antialiased resize of 8-bit tensors (transformers' processors) is another implementation of Pillow's rule:
  single pixels are one level of 255 off, of a bicubic one at times two.
- Without antialiasing there is no Pillow: half-pixel centres in float64, rounded to 8 bits for ``torch``, to float32
  for ``tensorflow``; bilinear and nearest only.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxeq.arrays import dtype_of
from onnxeq.errors import BadInputs, CannotRun, FrameworkMissing
from onnxeq.preprocessing.recipe import (
    Cast,
    Channels,
    Crop,
    CropShare,
    Decode,
    Layout,
    Normalize,
    Other,
    Recipe,
    Resize,
    Scale,
    Step,
)
from onnxeq.types import Array

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["prepare"]


def prepare(recipe: Recipe, picture: Path) -> Array:
    """The model's input for one picture, in the recipe's layout and element type.

    Raises:
        BadInputs: The file is no picture, or too large a one.
        CannotRun: A step that only the zoo's own code can do.
        FrameworkMissing: Pillow is not installed.
    """
    value: Array = np.zeros(0)
    for step in recipe.steps:
        value = _decoded(picture, step.colours) if isinstance(step, Decode) else _applied(step, value)
    return np.ascontiguousarray(value)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        hint = "pip install 'onnxeq[images]'"
        raise FrameworkMissing("reading pictures needs the package 'pillow'", hint=hint) from None
    return Image


def _decoded(picture: Path, colours: str) -> Array:
    image: Any = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            with image.open(picture) as opened:
                pixels = np.asarray(opened.convert(colours))
    except (OSError, ValueError, SyntaxError, image.DecompressionBombWarning, image.DecompressionBombError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadInputs(f"{picture} cannot be read as a picture: {said}", hint="write it as .png or .jpg") from None
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _applied(step: Step, value: Array) -> Array:
    """One step on ``[height,width,channels]``, 8-bit until the first arithmetic."""
    if isinstance(step, Resize):
        return _resized(step, value)
    if isinstance(step, Crop):
        return _cropped(value, step.height, step.width, step)
    if isinstance(step, CropShare):
        exact = np.float32(step.share) * np.float32(min(value.shape[:2]))  # the margin is that of the unrounded side
        top, left = (int((np.float32(size) - exact) / 2) for size in value.shape[:2])
        side = max(1, int(exact))
        return value[top : top + side, left : left + side]
    if isinstance(step, Channels):
        return value[..., ::-1] if step.order == "BGR" and value.shape[-1] == 3 else value
    if isinstance(step, Scale):
        return value.astype(np.float32) / np.float32(step.divisor)
    if isinstance(step, Normalize):
        mean, std = np.asarray(step.mean, np.float32), np.asarray(step.std, np.float32)
        return (value.astype(np.float32) - mean) / std
    if isinstance(step, Layout):
        moved = value if step.axes == "NHWC" else np.moveaxis(value, -1, 0)
        return moved if step.axes == "CHW" else moved[np.newaxis]
    if isinstance(step, Cast):
        return value.astype(dtype_of(step.dtype))
    raise CannotRun(f"only the zoo's own code knows its step '{step.text if isinstance(step, Other) else step}'")


def target_size(step: Resize, height: int, width: int) -> tuple[int, int]:
    """Height and width after a resize of a picture of that size."""
    if step.how == "exact":
        return step.height, step.width
    given = (min if step.how == "shortest" else max)(height, width)
    follow = int if step.other_side == "floor" else round
    sides = [step.height if side == given else max(1, follow(step.height * side / given)) for side in (height, width)]
    return sides[0], sides[1]


_MOST_PIXELS = 2**27
"""Of a resized picture, as a narrow strip grows with its shortest side; Pillow warns of files above 89 million."""


def _resized(step: Resize, value: Array) -> Array:
    height, width = target_size(step, *value.shape[:2])
    if (height, width) == value.shape[:2]:
        return value
    if height * width > _MOST_PIXELS:
        made, given = (f"{h}x{w}" for h, w in ((height, width), value.shape[:2]))
        raise BadInputs(f"a picture of {given} would become {made}, {_MOST_PIXELS:,} pixels are allowed")
    smooth = step.interpolation != "nearest" and step.antialias
    if step.library == "pillow" and (smooth or step.interpolation == "nearest"):
        return _by_pillow(step, value, height, width)
    if smooth:
        if step.library == "torch":
            return _by_pillow(step, value, height, width)
        return _in_floats(step, value, height, width)
    if step.interpolation not in ("nearest", "bilinear"):
        raise CannotRun(
            f"a {step.interpolation} resize without antialiasing is only run by the zoo's own code",
            hint="bilinear and nearest can be told",
        )
    return _by_points(step, value, height, width)


def _by_pillow(step: Resize, value: Array, height: int, width: int) -> Array:
    image: Any = _pillow()
    method = image.Resampling[step.interpolation.upper()]
    made = np.asarray(_image_of(value).resize((width, height), method))
    return made if made.ndim == 3 else made[..., np.newaxis]


def _image_of(value: Array) -> Image.Image:
    if value.dtype != np.uint8:
        raise CannotRun("a picture can be resized before it is scaled only", hint="put the resize first")
    made: Image.Image = _pillow().fromarray(value if value.shape[-1] != 1 else value[..., 0])
    return made


def _in_floats(step: Resize, value: Array, height: int, width: int) -> Array:
    """The same filter with results that are not rounded to 8 bits."""
    image: Any = _pillow()
    method = image.Resampling[step.interpolation.upper()]
    planes = [image.fromarray(value[..., c].astype(np.float32)) for c in range(value.shape[-1])]
    return np.stack([np.asarray(plane.resize((width, height), method)) for plane in planes], axis=-1)


def _by_points(step: Resize, value: Array, height: int, width: int) -> Array:
    """Without averaging: each new pixel from its nearest neighbours, rows first."""
    made = value
    for axis, size in ((0, height), (1, width)):
        old = made.shape[axis]
        at = (np.arange(size) + 0.5) * (old / size)
        if step.interpolation == "nearest":
            where = np.arange(size) * (old / size) if step.library == "torch" else at
            made = made.take(np.minimum(np.floor(where).astype(int), old - 1), axis)
            continue
        place = np.clip(at - 0.5, 0, old - 1)
        low = np.floor(place).astype(int)
        shape = [1] * made.ndim
        shape[axis] = size
        share = (place - low).reshape(shape)
        wide = made.astype(np.float64)
        made = wide.take(low, axis) * (1 - share) + wide.take(np.minimum(low + 1, old - 1), axis) * share
    if step.interpolation == "nearest" or value.dtype == made.dtype:
        return made
    return made.astype(np.float32) if step.library == "tensorflow" else np.rint(made).astype(np.uint8)


def _cropped(value: Array, height: int, width: int, step: Crop) -> Array:
    lacks = [max(0, want - have) for want, have in zip((height, width), value.shape[:2], strict=True)]
    if any(lacks):
        fill = step.fill if len(step.fill) == value.shape[-1] else step.fill[:1] * value.shape[-1]
        padded = np.empty((value.shape[0] + lacks[0], value.shape[1] + lacks[1], value.shape[2]), value.dtype)
        padded[...] = np.asarray(fill, value.dtype)
        top, left = lacks[0] // 2, lacks[1] // 2
        padded[top : top + value.shape[0], left : left + value.shape[1]] = value
        value = padded
    top, left = (
        round((have - want) / 2) if step.offset == "round" else (have - want) // 2
        for have, want in zip(value.shape[:2], (height, width), strict=True)
    )
    return value[top : top + height, left : left + width]
