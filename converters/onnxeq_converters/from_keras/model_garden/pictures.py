"""Pictures for the classifiers of TensorFlow Model Garden, by its own serving code, and what is told of a model."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs, NoRecipe
from onnxeq.preprocessing.recipe import Cast, CropShare, Decode, Layout, Normalize, Recipe, Resize
from onnxeq.protocols import Fact, LoadRequest, ModelCard
from onnxeq.types import Array
from onnxeq_converters.from_keras.framework import framework
from onnxeq_converters.from_keras.model_garden.building import asked_shape, found
from onnxeq_converters.from_keras.model_garden.configuring import configured, entries, shape_of
from onnxeq_converters.from_keras.model_garden.package import VERSION, part
from onnxeq_converters.from_tensorflow.framework import first_line, version

__all__ = ["Served", "card", "preprocessing"]

_LOADER = "official.vision.dataloaders.classification_input"


@dataclass(frozen=True)
class Served:
    """A recipe and the package's function behind it."""

    recipe: Recipe
    size: tuple[int, int]

    def run(self, picture: Path) -> Array:
        """The model's input for one picture: ``Parser.inference_fn``, as the package's exported models have it."""
        tf = framework().tf
        try:
            image = tf.io.decode_image(picture.read_bytes(), channels=3, expand_animations=False)
        except (OSError, tf.errors.InvalidArgumentError) as error:
            said = f"{picture} cannot be read as a picture: {first_line(error)}"
            raise BadInputs(said, hint="write it as .png or .jpg") from error
        made = part(_LOADER).Parser.inference_fn(image, list(self.size))
        return np.ascontiguousarray(made.numpy()[np.newaxis], dtype=np.float32)


def preprocessing(request: LoadRequest) -> Served:
    """The central 0.875 of the shorter side, resized without antialiasing, by mean and deviation of pixel values.

    Raises:
        NoRecipe: The model takes clips.
    """
    recipe = found(request.ref.name)
    shape = asked_shape(request, shape_of(configured(recipe)))
    if len(shape) != 3:
        raise NoRecipe(f"tfmg:{recipe.name} takes clips, and no single pictures")
    ops: Any = part("official.vision.ops.preprocess_ops")
    steps = (
        Decode(),
        CropShare(float(ops.CENTER_CROP_FRACTION)),
        Resize(shape[0], shape[1], "exact", "bilinear", False, "tensorflow"),
        Normalize(tuple(map(float, ops.MEAN_RGB)), tuple(map(float, ops.STDDEV_RGB))),
        Layout("NHWC"),
        Cast("float32"),
    )
    source = f"{VERSION} {version(VERSION)}: {_LOADER}.Parser.inference_fn"
    return Served(Recipe(steps, source, True), shape[:2])


def card(request: LoadRequest) -> ModelCard:
    """What the package says of a model."""
    recipe = found(request.ref.name)
    entry = next(e for e in entries() if e.name == recipe.name)
    said = metadata.metadata(VERSION)
    code = str(said["License-Expression"] or said["License"] or "").strip().splitlines()
    page = "not in the package: official/vision/README.md of tensorflow/models"
    facts = {
        "accuracy": Fact(None, page),
        "licence": Fact(code[0] if code else None, f"of the code of {VERSION}, by its package"),
        "parameters": Fact(None, f"not told without building it; {page}"),
        "weights": Fact(None, f"checkpoints are {page}; @FOLDER/ckpt-NUMBER takes one"),
    }
    return ModelCard(entry, facts)
