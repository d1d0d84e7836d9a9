"""What the user asks of accuracy, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxeq.compare.recipes import recipes_by_model
from onnxeq.compare.values import Part
from onnxeq.errors import UsageError

__all__ = ["KINDS", "Asked", "asked"]

KINDS = ("imagefolder", "npz", "digits")
"""Kinds of data sets."""

_HINT = "write --dataset imagefolder:FOLDER, npz:FILE or digits"


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        text: The data set as the user wrote it.
        kind: One of :data:`KINDS`.
        path: The folder or file; none for ``digits``.
        class_map: A file that says which class a folder is.
        most: How many items at most; ``None`` for all.
        recipes: Model, as the user wrote it, -> by what its pictures are prepared; under the empty name, for models
            without a recipe of their own.
        seed: Of the sample.
        trust: Whether code stored in model files may run.
    """

    text: str
    kind: str
    path: Path | None
    class_map: Path | None
    most: int | None
    recipes: Mapping[str, str]
    seed: int
    trust: bool


def asked(
    parts: Collection[Part],
    dataset: str,
    *,
    class_map: str | os.PathLike[str] | None,
    max_items: int | None,
    recipes: Sequence[str],
    models: Sequence[str],
    seed: int,
    trust: bool,
) -> Asked | None:
    """The request; ``None`` where accuracy is not asked for.

    Args:
        parts: What is compared.
        dataset: The labelled items; empty for none.
        class_map: A file that says which class a folder is.
        max_items: How many items at most.
        recipes: Each ``RECIPE``, for models without one, or ``MODEL=RECIPE``.
        models: As the user wrote them.
        seed: Of the sample.
        trust: Whether code stored in model files may run.

    Raises:
        UsageError: Accuracy by name without a data set, options without one, or a data set that is none.
    """
    if not dataset:
        given = [name for name, value in (("--class-map", class_map), ("--max-items", max_items)) if value]
        if given:
            raise UsageError(f"{given[0]} is about a data set, and none is given", hint=_HINT)
        if Part.ACCURACY in parts and len(parts) < len(Part):
            raise UsageError("accuracy is measured on labelled items, and none are given", hint=_HINT)
        return None
    if Part.ACCURACY not in parts:
        raise UsageError(f"{dataset} is for accuracy, which --only leaves out", hint="add it: --only accuracy")
    if max_items is not None and max_items < 1:
        raise UsageError(f"{max_items} items are too few", hint="write --max-items 1000, say")
    kind, colon, place = dataset.partition(":")
    if kind not in KINDS or bool(colon) == (kind == "digits"):
        hint = _HINT
        if Path(dataset).exists():
            hint = f"write --dataset {'imagefolder' if Path(dataset).is_dir() else 'npz'}:{dataset}"
        raise UsageError(f"'{dataset}' is no data set", hint=hint)
    path = Path(place) if colon else None
    if path is not None and not (path.is_dir() if kind == "imagefolder" else path.is_file()):
        raise UsageError(f"there is no {'folder' if kind == 'imagefolder' else 'file'} '{place}'", hint=_HINT)
    if class_map is not None and kind != "imagefolder":
        raise UsageError(f"--class-map is about folders of pictures, and {dataset} has none", hint="leave it out")
    mapped = None if class_map is None else Path(class_map)
    if mapped is not None and not mapped.is_file():
        raise UsageError(
            f"there is no file '{mapped}'", hint='write {"folder": index} to a file: --class-map FILE.json'
        )
    return Asked(dataset, kind, path, mapped, max_items, recipes_by_model(recipes, models), seed, trust)
