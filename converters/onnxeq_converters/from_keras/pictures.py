"""Pictures for Keras Applications, by Keras' own code, and what Keras says of its models.

An application's ``preprocess_input`` is arithmetic alone: how a picture gets its size Keras leaves open. What is taken
here is what its documentation shows for the applications: ``keras.utils.load_img(file, target_size=SIZE)``, which
takes the nearest pixel unless told otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs, CannotRun, FrameworkMissing, NoRecipe
from onnxeq.preprocessing.recipe import Cast, Channels, Decode, Layout, Normalize, Recipe, Resize, Scale, Step
from onnxeq.protocols import Fact, LoadRequest, ModelCard
from onnxeq.types import Array, TensorSpec, ZooEntry
from onnxeq_converters.from_keras.framework import framework
from onnxeq_converters.from_keras.zoo import DEFAULT_SIZE, asked_shape, entry_of, find, value_range

__all__ = ["Loaded", "card", "preprocessing"]

_UNSAID = (
    "Keras defines no resize: its documentation shows load_img(target_size), which takes the nearest pixel;"
    " image_dataset_from_directory is bilinear"
)

_MODES: tuple[tuple[Step, ...], ...] = (
    (),
    (Scale(127.5), Normalize((1.0,), (1.0,))),
    (Scale(255.0), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
    (Channels("BGR"), Normalize((103.939, 116.779, 123.68), (1.0,))),
)
"""What ``preprocess_input`` does in the modes of Keras' ``imagenet_utils`` (none, tf, torch, caffe). Which of them an
application's own function is, is measured on it; a table that no longer holds is not used."""


@dataclass(frozen=True)
class Loaded:
    """A recipe and Keras' functions behind it."""

    recipe: Recipe
    preprocess: Callable[..., Any]
    size: tuple[int, int]

    def run(self, picture: Path) -> Array:
        """The model's input for one picture."""
        utils = framework().keras.utils
        try:
            image = utils.load_img(str(picture), target_size=self.size)
        except ImportError:
            hint = "pip install 'onnxeq[images]'; for an environment: onnxeq env create NAME --with pillow"
            raise FrameworkMissing("Keras' load_img needs the package 'pillow'", hint=hint) from None
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise BadInputs(f"{picture} cannot be read as a picture: {said}", hint="write it as .png or .jpg") from None
        pixels = utils.img_to_array(image, data_format="channels_last", dtype="float32")
        return np.ascontiguousarray(self.preprocess(pixels[np.newaxis], data_format="channels_last"), dtype=np.float32)


def preprocessing(request: LoadRequest) -> Loaded:
    """``load_img`` at the application's size and its module's ``preprocess_input``.

    Raises:
        NoRecipe: The module has no ``preprocess_input``.
    """
    constructor = find(request.ref.name)
    module = importlib.import_module(constructor.__module__)
    function = getattr(module, "preprocess_input", None)
    if function is None:
        raise NoRecipe(f"keras:{request.ref.name} has no preprocess_input")
    asked = asked_shape(request)
    height, width = asked[:2] if asked else (default_size(constructor),) * 2
    resize = Resize(height, width, "exact", "nearest", False, "pillow")
    steps = (Decode(), resize, *_arithmetic(function), Layout("NHWC"), Cast("float32"))
    name = constructor.__module__.rpartition(".")[2]
    version = framework().keras.__version__
    source = f"keras {version}: keras.utils.load_img, keras.applications.{name}.preprocess_input"
    return Loaded(Recipe(steps, source, True, _UNSAID), function, (height, width))


def _arithmetic(function: Callable[..., Any]) -> tuple[Step, ...]:
    """What the function computes of pixels, told by its own results."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    made = np.asarray(function(pixels.copy(), data_format="channels_last"))
    for steps in _MODES:
        value: Any = pixels
        for step in steps:
            if isinstance(step, Channels):
                value = value[..., ::-1]
            elif isinstance(step, Scale):
                value = value / np.float32(step.divisor)
            elif isinstance(step, Normalize):
                value = (value - np.asarray(step.mean, np.float32)) / np.asarray(step.std, np.float32)
        if np.abs(value - made).max() <= 2.0**-20 * max(1.0, np.abs(made).max()):
            return steps
    raise CannotRun(f"what {function.__module__}.preprocess_input computes is none of the modes that are known here")


class _Told(Exception):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def default_size(constructor: Callable[..., Any]) -> int:
    """Height and width that an application is made for.

    It is what the application tells Keras' own check of shapes, before it builds anything.
    """
    module: Any = importlib.import_module("keras.src.applications.imagenet_utils")
    with contextlib.suppress(Exception), _asking(module):
        try:
            constructor(weights=None)
        except _Told as told:
            return told.size
    return DEFAULT_SIZE


@contextlib.contextmanager
def _asking(module: Any) -> Iterator[None]:
    def answer(_shape: object, default_size: int, *_args: object, **_more: object) -> None:
        raise _Told(int(default_size))

    usual = module.obtain_input_shape
    module.obtain_input_shape = answer
    try:
        yield
    finally:
        module.obtain_input_shape = usual


def card(request: LoadRequest) -> ModelCard:
    """What Keras' package says of an application."""
    constructor = find(request.ref.name)
    keras = framework().keras
    entry, limits, size = entry_of(constructor), value_range(constructor), default_size(constructor)
    spec = TensorSpec("image", "float32", ("N", size, size, 3), limits)
    found = metadata.metadata("keras")
    code = str(found["License-Expression"] or found["License"] or "").strip().splitlines()
    page = "not in the package: the table at keras.io/api/applications"
    facts = {
        "accuracy": Fact(None, page),
        "licence": Fact(
            code[0] if code else None, "of keras' code, by its package; of the weights the package says nothing"
        ),
        "parameters": Fact(None, f"not told without building it; {page}"),
        "weights": Fact("imagenet, from the network unless Keras' cache holds them", f"keras {keras.__version__}"),
    }
    return ModelCard(ZooEntry(entry.name, entry.family, (spec,), entry.note), facts)
