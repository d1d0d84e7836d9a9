"""What tf-models-official holds: its experiments, its types of backbone, and the table of identifiers of each."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxeq.errors import CannotRun, FrameworkMissing
from onnxeq_converters.from_keras.framework import framework
from onnxeq_converters.from_keras.model_garden.names import Experiment, Key, Recipe, recipes
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout, version

__all__ = ["VERSION", "Garden", "garden", "part", "task_of"]

VERSION = "tf-models-official"
"""The package, as it is installed."""

_REGISTERING = (
    "official.vision.configs",
    "official.vision.modeling.backbones",
    "official.projects.movinet.configs.movinet",
    "official.projects.movinet.modeling.movinet",
    "official.projects.movinet.modeling.movinet_model",
    "official.projects.maxvit.configs.image_classification",
    "official.projects.maxvit.modeling.maxvit",
)
"""Modules that enter experiments and backbones into the package's registries when they are imported."""

_IDENTIFIERS = ("model_id", "model_name")
"""How configurations of backbones call the field that says which one it is."""


@dataclass(frozen=True)
class Garden:
    """What the installed package offers.

    Attributes:
        recipes: Every model by its name.
        fields: Type of backbone -> the field of its configuration that holds the identifier.
    """

    recipes: Mapping[str, Recipe]
    fields: Mapping[str, str]


def part(module: str) -> Any:
    """A module of the package.

    Raises:
        FrameworkMissing: It is not installed, or does not work with what is.
    """
    framework()
    try:
        with quiet_stdout():
            return importlib.import_module(module)
    except ImportError as error:
        raise FrameworkMissing(
            f"cannot import {module} of TensorFlow Model Garden: {first_line(error)}", hint="onnxeq env create tfmg"
        ) from error


@functools.cache
def garden() -> Garden:
    """Reads the package's registries.

    Raises:
        FrameworkMissing: The package is not installed.
        CannotRun: It keeps no registries where they were.
    """
    for module in _REGISTERING:
        part(module)
    found: list[Experiment] = []
    settings: dict[str, Any] = {}
    for name in _registry("official.core.exp_factory", "_REGISTERED_CONFIGS"):
        task = task_of(name)
        backbone = getattr(getattr(task, "model", None), "backbone", None)
        if kind := getattr(backbone, "type", None):
            # A configuration has one part for each type that it could be of.
            parts = {n: v for n, v in vars(backbone).items() if hasattr(v, "as_dict")}
            found.append(Experiment(name, str(kind), _classifies(task), tuple(parts)))
            settings = parts | settings
    builders = _registry("official.vision.modeling.backbones.factory", "_REGISTERED_BACKBONE_CLS")
    fields = {
        kind: field
        for kind, held in settings.items()
        for field in _IDENTIFIERS
        if kind in builders and hasattr(held, field)
    }
    keys = {kind: _keys(builders[kind], getattr(settings[kind], field)) for kind, field in fields.items()}
    return Garden(recipes(found, keys), fields)


def _registry(module: str, name: str) -> Mapping[str, Any]:
    held = getattr(part(module), name, None)
    if not isinstance(held, Mapping):
        raise CannotRun(f"{VERSION} {version(VERSION)} has no {module}.{name}, where it kept what it has registered")
    return held


def task_of(experiment: str) -> Any:
    """A new configuration of an experiment's task."""
    return part("official.core.exp_factory").get_exp_config(experiment).task


def _classifies(task: Any) -> bool:
    """Whether it is the task of classifying images or videos, with a number of classes."""
    configs = "official.vision.configs"
    image = part(f"{configs}.image_classification").ImageClassificationTask
    video = part(f"{configs}.video_classification").VideoClassificationTask
    if type(task) is image:
        return bool(task.model.num_classes > 0 and task.model.input_size)
    return type(task) is video and bool(task.train_data.num_classes > 0)


def _keys(builder: Any, default: Key) -> tuple[Key, ...]:
    """The identifiers that a builder knows: its module has a table in which the default one stands."""
    for value in vars(sys.modules[builder.__module__]).values():
        if isinstance(value, Mapping) and default in value:
            return tuple(value)
    return (default,)
