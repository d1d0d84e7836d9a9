"""The torch half of the zoo ``digits:``; see :mod:`onnxeq_converters.digits`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from onnxeq.protocols import LoadRequest, ModelCard, Preprocessor
from onnxeq.types import TensorSpec, ZooEntry
from onnxeq_converters import digits
from onnxeq_converters.digits import cards, torch_models

from ..weights import load_file, put_in
from . import Built

__all__ = ["build", "card", "catalogue", "family", "inputs", "preprocessing", "versions"]


def build(request: LoadRequest) -> Built:
    """The model with the weights that ``request.ref`` asks for (seeded ones are put in later).

    Raises:
        UnknownModel: With the nearest names in the hint.
        WeightsUnavailable: The file does not exist.
    """
    ref = request.ref
    name = digits.architecture_of(ref.name)
    if ref.weights == "seeded":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ref.seed)
            return Built(torch_models.BUILDERS[name](), f"seeded:{ref.seed}", (digits.INPUT,))
    if (kind := ref.weights or "pretrained") in digits.SEEDS:
        return Built(torch_models.trained(name, kind), kind, (digits.INPUT,))
    model = torch_models.BUILDERS[name]()
    put_in(model, load_file(Path(ref.weights), trust=request.trust), ref.weights)
    return Built(model, ref.weights, (digits.INPUT,))


def inputs(name: str) -> tuple[TensorSpec, ...]:
    """A picture without a channel axis, pixels from 0 to 1: the same for every model."""
    digits.architecture_of(name)
    return (digits.INPUT,)


def family(name: str) -> str:
    """The architecture's own name."""
    return digits.architecture_of(name)


def preprocessing(request: LoadRequest) -> Preprocessor:
    """None.

    Raises:
        NoRecipe: Always.
    """
    raise cards.no_recipe(request.ref.name)


def card(request: LoadRequest) -> ModelCard:
    """What this project measured."""
    return cards.card(request.ref.name)


def catalogue() -> tuple[ZooEntry, ...]:
    """Every model, those in Keras too."""
    return digits.entries()


def versions() -> Mapping[str, str]:
    """The zoo's part of the provenance."""
    return {"zoo": "digits"}
