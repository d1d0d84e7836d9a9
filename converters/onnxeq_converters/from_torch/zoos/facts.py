"""What is told of a model in the same way whichever zoo it comes from: licence, parameters, weights at hand."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from onnxeq.protocols import Fact

__all__ = ["cached", "in_hub_cache", "licence_of", "parameters_of"]


def licence_of(package: str, weights: object, place: str) -> Fact:
    """The licence of the weights where the zoo states one at ``place``, else that of the package's code."""
    if weights:
        return Fact(str(weights), f"of the weights, {place}")
    found = metadata.metadata(package)
    code = str(found["License-Expression"] or found["License"] or "").strip()
    first = code.splitlines()[0] if code else ""
    said = f"of the code of {package}, by its package; of the weights none is stated at {place}"
    return Fact(first or None, said if first else f"{package}'s package and {place} state none")


def parameters_of(make: Callable[[], Any], source: str) -> Fact:
    """How many parameters a model has, built without memory for any."""
    try:
        with torch.device("meta"):
            model = make()
    except Exception as error:  # a class that computes while it is built
        return Fact(None, f"it cannot be built without weights: {type(error).__name__}")
    return Fact(sum(int(p.numel()) for p in model.parameters()), source)


def cached(file: str) -> bool:
    """Whether torch's own cache holds a file of weights."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file()


def in_hub_cache(name: str | None) -> bool:
    """Whether the Hugging Face hub's cache holds weights under a name."""
    if not name:
        return False
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(name, f), str) for f in ("model.safetensors", "pytorch_model.bin"))
