"""The configuration of a model from its recipe, and what a model of that configuration takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxeq.types import TensorSpec, ZooEntry
from onnxeq_converters.from_keras.model_garden.names import Recipe
from onnxeq_converters.from_keras.model_garden.package import garden, task_of

__all__ = ["configured", "entries", "fitting", "shape_of"]

_PUBLISHED: Mapping[str, Mapping[str, Any]] = {"efficientnet": {"se_ratio": 0.25}}
"""Settings of backbones that no experiment of the package has, where the defaults leave out part of the design
(https://arxiv.org/abs/1905.11946, section 4: squeeze-and-excitation, and swish in the place of relu)."""

_ACTIVATIONS = {"efficientnet": "swish"}


def configured(recipe: Recipe) -> Any:
    """The task of the recipe's experiment, its model with the recipe's backbone."""
    task = task_of(recipe.experiment)
    config = task.model
    if recipe.donor:
        donor = task_of(recipe.donor).model
        config.backbone, config.norm_activation = donor.backbone, donor.norm_activation
    alone = not recipe.donor and config.backbone.type != recipe.backbone
    config.backbone.type = recipe.backbone
    settings = config.backbone.get()
    setattr(settings, garden().fields[recipe.backbone], recipe.key)
    if alone:
        for name, value in _PUBLISHED.get(recipe.backbone, {}).items():
            setattr(settings, name, value)
        config.norm_activation.activation = _ACTIVATIONS.get(recipe.backbone, config.norm_activation.activation)
    config.norm_activation.use_sync_bn = False  # that is for training on several devices
    return task


def shape_of(task: Any) -> tuple[int, ...]:
    """What a task's model takes, without the batch: ``HxWxC``, or ``TxHxWxC`` for a video."""
    size = getattr(task.model, "input_size", None) or task.train_data.feature_shape
    level = getattr(task.model.backbone.get(), "max_level", 0)
    return tuple(int(n) for n in (*size[:-3], *(fitting(n, level) for n in size[-3:-1]), size[-1]))


def fitting(size: int, level: int) -> int:
    """The size, or the next one that can be halved ``level`` times: SpineNet adds up features of all its levels."""
    step = 1 << level
    return -(-size // step) * step


def entries() -> tuple[ZooEntry, ...]:
    """One entry per model, with what it takes and the experiment that it is made from."""
    found = []
    for recipe in garden().recipes.values():
        said = f"experiment {recipe.experiment}, backbone {recipe.backbone} {recipe.key}"
        said += f" as in {recipe.donor}" if recipe.donor else ""
        image = TensorSpec("image", "float32", ("N", *shape_of(configured(recipe))))
        found.append(ZooEntry(recipe.name, recipe.family, (image,), said))
    return tuple(found)
