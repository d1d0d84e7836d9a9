"""Hugging Face transformers: ``hf:DIR``, ``hf:HUB/NAME``, or ``hf:MODEL_TYPE@seeded``; ``#PART`` names a part.

================  ============================================================================
:mod:`.types`     model types: which class stands for one, its default configuration, reduced
:mod:`.loading`   configuration and weights from a folder, the hub's cache, or the network
:mod:`.takes`     what a model takes, from its configuration and its ``forward``
:mod:`.parts`     ``#encoder``, ``#decoder``, ``#with-past``
:mod:`.processors` pictures, by the image processor of the folder or of the model type
:mod:`.cards`     licence and accuracy, from the model card of the folder
================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import transformers

from onnxeq.protocols import LoadRequest, ModelCard
from onnxeq.types import TensorSpec, ZooEntry

from .. import Built
from . import cards, loading, parts, processors, takes, types

__all__ = ["build", "card", "catalogue", "family", "inputs", "preprocessing", "versions"]


def family(name: str) -> str:
    """``encoder``, ``decoder``, ``encoder-decoder``, ``vision``, ``audio``, ...; empty for what is no model type."""
    kind = types.known().get(name.partition("#")[0])
    return kind.family if kind else ""


def catalogue() -> tuple[ZooEntry, ...]:
    """The model types; folders and names of the hub are taken, too, and cannot be listed."""
    return tuple(cards.entry(name) for name in sorted(types.known()))


def inputs(name: str) -> tuple[TensorSpec, ...]:
    """Nothing: a model has to be built to know."""
    del name
    return ()


def build(request: LoadRequest) -> Built:
    """The model, in float32 and without a cache, or the part of it that stands after ``#``.

    Raises:
        UnknownModel: No folder, no model type, and the hub does not know it.
        WeightsUnavailable: They could not be had, or do not hold every parameter.
        UnusableModel: The configuration asks for code of its own, and nobody said ``--trust``.
    """
    name, _, part = request.ref.name.partition("#")
    found = loading.find(name, request)
    past = part == "with-past"
    found.config.use_cache = past
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.ref.seed)
        model, weights = loading.load(found, request)
    model.eval()
    described = {
        "architecture": type(model).__name__,
        "attention": str(getattr(model.config, "_attn_implementation", "") or "its own"),
        **(
            {"note": f"built from transformers' default configuration; changed: {found.reduced}"}
            if found.reduced
            else {}
        ),
    }
    if part:
        described["part"] = part
        module, specs = parts.take(model, part)
    else:
        module, specs = model, takes.of_model(model)
    return Built(module, weights, specs, described)


def preprocessing(request: LoadRequest) -> processors.Processed:
    """The image processor that the folder holds, or that stands for the model type.

    Raises:
        NoRecipe: There is none, as the model takes no pictures.
    """
    return processors.of_reference(request)


def card(request: LoadRequest) -> ModelCard:
    """What the model card in the folder says; of a model type, what transformers has."""
    return cards.of_reference(request)


def versions() -> Mapping[str, str]:
    """The zoo's part of the provenance."""
    return {"zoo": "hf", "transformers": str(transformers.__version__)}
