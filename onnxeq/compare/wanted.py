"""What the user asks of a comparison, read and checked before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxeq.compare.accuracy.asked import Asked as AskedOfAccuracy
from onnxeq.compare.accuracy.asked import asked as asked_of_accuracy
from onnxeq.compare.latency.measuring import Asked as AskedOfLatency
from onnxeq.compare.recipes import recipes_by_model
from onnxeq.compare.values import Part
from onnxeq.envs.environment import Environment, find
from onnxeq.errors import UsageError
from onnxeq.preprocessing.pictures import pictures_in
from onnxeq.sides import Request
from onnxeq.types import Feed

__all__ = ["Wanted"]


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        parts: What is compared.
        request: Inputs, shapes, seed and how to export.
        pictures: Pictures among the inputs.
        recipes: Model, as the user wrote it, -> by what its pictures are prepared, see
            :func:`onnxeq.compare.recipes.recipes_by_model`.
        accuracy: The labelled items; ``None`` where there are none.
        latency: How to time; ``None`` where that is left out.
        environment: Where frameworks run; ``None`` is the host's own Python.
    """

    parts: frozenset[Part]
    request: Request
    pictures: tuple[Path, ...]
    recipes: Mapping[str, str]
    accuracy: AskedOfAccuracy | None
    latency: AskedOfLatency | None
    environment: Environment | None

    @classmethod
    def of(
        cls,
        models: Sequence[str],
        parts: Sequence[str],
        *,
        inputs: Sequence[str | os.PathLike[str] | Feed],
        shapes: Mapping[str, Sequence[int]] | None,
        seed: int,
        opset: int | None,
        exporter: str,
        trust: bool,
        env: str,
        recipes: Sequence[str],
        dataset: str,
        class_map: str | os.PathLike[str] | None,
        max_items: int | None,
        batches: Sequence[int],
        providers: Sequence[str] | None,
        seconds: float | None,
    ) -> Wanted:
        """Reads what a caller handed over, see :func:`onnxeq.compare.comparing.compare`.

        Raises:
            UsageError: Something that is not known, cannot be, or is about what is not compared.
        """
        known = _known(parts)
        accuracy = asked_of_accuracy(
            known, dataset, class_map=class_map, max_items=max_items, recipes=recipes, models=models, seed=seed,
            trust=trust,
        )  # fmt: skip
        pictures = pictures_in(inputs)
        if recipes and accuracy is None and not pictures:
            hint = "give some: --inputs FOLDER, or --dataset imagefolder:FOLDER"
            raise UsageError(f"the recipe {recipes[0]} is about pictures, and none are given", hint=hint)
        request = Request.of(
            () if pictures else inputs, shapes, seed=seed, opset=opset, trust=trust, exporter=exporter
        )  # fmt: skip
        here = find(env) if env else None
        timing = AskedOfLatency.of(batches, providers, seconds, here) if Part.LATENCY in known else None
        return cls(known, request, pictures, recipes_by_model(recipes, models), accuracy, timing, here)


def _known(parts: Sequence[str]) -> frozenset[Part]:
    known = [part.value for part in Part]
    if wrong := [part for part in parts if part not in known]:
        raise UsageError(f"'{wrong[0]}' is nothing that can be compared", hint=f"write --only {','.join(known)}")
    return frozenset(Part(part) for part in parts)
