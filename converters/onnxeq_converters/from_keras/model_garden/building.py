"""A model of TensorFlow Model Garden from its configuration, by the package's own builders."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs, UnknownModel, WeightsUnavailable
from onnxeq.protocols import LoadRequest, Progress
from onnxeq.types import ValueRange
from onnxeq_converters.from_keras.framework import framework, tf_keras
from onnxeq_converters.from_keras.model_garden.configuring import configured, shape_of
from onnxeq_converters.from_keras.model_garden.names import Recipe
from onnxeq_converters.from_keras.model_garden.package import garden, part
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout

__all__ = ["asked_shape", "build", "found", "refuse_pretrained", "value_range"]


def refuse_pretrained(request: LoadRequest) -> None:
    """The package holds no weights and no addresses of any.

    Raises:
        WeightsUnavailable: The reference asks for pretrained weights; says what to type.
    """
    ref = request.ref
    if ref.weights in ("", "pretrained"):
        name = f"tfmg:{ref.name}"
        raise WeightsUnavailable(
            f"{name}: TensorFlow Model Garden publishes checkpoints in its documents, and none comes with the package",
            hint=f"{name}@seeded, or {name}@FOLDER/ckpt-NUMBER with a checkpoint that you have",
        )


def build(request: LoadRequest, progress: Progress) -> Any:
    """Builds a model; its weights are still to be set.

    Raises:
        UnknownModel: With the nearest names.
        WeightsUnavailable: Pretrained weights were asked for.
        BadInputs: The declared input does not fit.
        FrameworkMissing: The package is not installed.
    """
    refuse_pretrained(request)
    progress("read the package's tables")
    recipe = found(request.ref.name)
    progress(f"build {recipe.name}")
    task = configured(recipe)
    shape = asked_shape(request, shape_of(task))
    keras = _keras2()
    keras.backend.reset_uids()  # names of layers are numbered, and shall be those of a new process
    specs = keras.layers.InputSpec(shape=[None, *shape], name="image")
    try:
        with quiet_stdout():
            if len(shape) == 3:
                return part("official.vision.modeling.factory").build_classification_model(specs, task.model)
            factory = part("official.vision.modeling.factory_3d")
            return factory.build_model(task.model.model_type, specs, task.model, task.train_data.num_classes)
    except (ValueError, TypeError, IndexError) as error:
        size = "x".join(map(str, shape))
        hint = "leave --shape out" if request.inputs else ""
        raise BadInputs(f"tfmg:{recipe.name} cannot be built for {size}: {first_line(error)}", hint=hint) from error


def _keras2() -> Any:
    keras = tf_keras()
    if keras is None:
        part("tf_keras")  # says why not
    return keras


def found(name: str) -> Recipe:
    """How a model is made.

    Raises:
        UnknownModel: With the nearest names.
    """
    known = garden().recipes
    for asked in (name, name.lower()):
        if asked in known:
            return known[asked]
    close = difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(f'tfmg:{k}' for k in close)}?" if close else "see: onnxeq zoo list tfmg"
    raise UnknownModel(f"tfmg has no model {name!r}", hint=hint)


def asked_shape(request: LoadRequest, own: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes that the user declared, the model's own where none were.

    Raises:
        BadInputs: They are not those of one batch of what the model takes.
    """
    if not request.inputs:
        return own
    shape = request.inputs[0].shape
    if len(request.inputs) != 1 or shape is None or len(shape) != len(own) + 1:
        texts = ", ".join(f"{s.name} {s.text()}" for s in request.inputs)
        axes = "N,H,W,C" if len(own) == 3 else "N,T,H,W,C"
        raise BadInputs(f"tfmg:{request.ref.name} takes one batch [{axes}], not {texts}")
    return tuple(d if isinstance(d, int) else mine for d, mine in zip(shape[1:], own, strict=True))


def value_range(rank: int) -> ValueRange:
    """The values that a model is made for, measured on the package's own preprocessing of a black and a white pixel.

    Args:
        rank: Of the model's input: 4 for images, 5 for videos.
    """
    tf = framework().tf
    pixels = np.stack([np.zeros((1, 1, 3)), np.full((1, 1, 3), 255)]).astype(np.uint8)
    if rank == 5:
        ops = part("official.vision.ops.preprocess_ops_3d")
        seen = np.asarray(ops.normalize_image(tf.constant(pixels), zero_centering_image=False))
    else:
        ops = part("official.vision.ops.preprocess_ops")
        image = tf.constant(pixels.astype(np.float32))
        seen = np.asarray(ops.normalize_image(image, offset=ops.MEAN_RGB, scale=ops.STDDEV_RGB))
    return ValueRange(float(seen.min()), float(seen.max()))
