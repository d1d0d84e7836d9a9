"""The zoos of torch models: one module each, with the names that :class:`Zoo` lists.

===================  ===========================================================
:mod:`.torchvision`  builders and weights of torchvision
:mod:`.timm`         PyTorch image models, by name and tag
:mod:`.hf`           Hugging Face transformers: a folder, a hub name, a model type
:mod:`.digits`       this project's own small trained models
:mod:`.pictures`     their transforms of pictures, as steps
:mod:`.facts`        what is told of a model in the same way in all of them
===================  ===========================================================
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from onnxeq.errors import UnknownZoo
from onnxeq.types import TensorSpec, ZooEntry

if TYPE_CHECKING:
    from onnxeq.protocols import LoadRequest, ModelCard, Preprocessor

__all__ = ["ZOOS", "Built", "Zoo", "packages", "zoo_of"]

ZOOS: dict[str, tuple[str, ...]] = {
    "torchvision": ("torchvision",),
    "timm": ("torchvision", "timm"),
    "hf": ("transformers",),
    "digits": (),
}
"""Zoo -> the packages that it needs besides torch. The module of the same name, beside this file, is the zoo."""


@dataclass(frozen=True)
class Built:
    """A model that a zoo has built.

    Attributes:
        model: The module, in any mode; this object owns it.
        weights: Their kind: ``pretrained:IMAGENET1K_V2``, ``seeded:0``, ``stored``, a path.
        inputs: What it takes, as the zoo knows it.
        described: What ``provenance`` says of it besides.
        listed: Whether ``forward`` takes a list of images (torchvision's detectors).
    """

    model: Any
    weights: str
    inputs: tuple[TensorSpec, ...]
    described: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False


class Zoo(Protocol):
    """The names that a zoo's module defines."""

    def build(self, request: LoadRequest) -> Built:
        """The model that ``request.ref`` names, with the weights that it asks for; seeded ones are put in later.

        Raises:
            onnxeq.errors.UnknownModel: With the nearest names in the hint.
            onnxeq.errors.WeightsUnavailable: They could not be downloaded, or the file does not exist.
        """

    def inputs(self, name: str) -> tuple[TensorSpec, ...]:
        """What a model takes, told without building it; empty where that cannot be."""

    def family(self, name: str) -> str:
        """A word for what kind of model it is."""

    def catalogue(self) -> tuple[ZooEntry, ...]:
        """Every model of the zoo."""

    def preprocessing(self, request: LoadRequest) -> Preprocessor:
        """How the zoo's own code makes inputs of pictures, told without weights.

        Raises:
            onnxeq.errors.NoRecipe: The model takes no pictures.
        """

    def card(self, request: LoadRequest) -> ModelCard:
        """What the zoo says of a model, told without weights."""

    def versions(self) -> Mapping[str, str]:
        """The zoo's part of the provenance."""


def packages(name: str) -> tuple[str, ...]:
    """What has to be importable for a zoo.

    Raises:
        UnknownZoo: torch has no such zoo.
    """
    if name not in ZOOS:
        raise UnknownZoo(f"the torch converter does not offer the zoo {name}", hint=f"it offers {', '.join(ZOOS)}")
    return ZOOS[name]


def zoo_of(name: str) -> Zoo:
    """The module of a zoo, with its packages imported."""
    packages(name)
    return cast(Zoo, importlib.import_module(f"{__name__}.{name}"))
