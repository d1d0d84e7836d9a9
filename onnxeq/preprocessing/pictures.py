"""Pictures that a user gives, prepared by a recipe: by the zoo's own code in a job, or by this project's.

=====================================  ================================================
what the user names                    who prepares the pictures
=====================================  ================================================
a model of a framework's zoo           the zoo's own code, in its environment
``onnx-zoo:NAME``                      this project's, by the page's words
``FILE.json``                          this project's, by the file
=====================================  ================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq import zoo
from onnxeq.arrays import dtype_of, load_feeds
from onnxeq.errors import BadInputs, NoRecipe, UsageError
from onnxeq.graph.inspect import inspect
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.preprocessing import onnx_zoo
from onnxeq.preprocessing.recipe import Recipe, recipe_from_record, recipe_to_record
from onnxeq.records import ref_to_record
from onnxeq.types import Array, Feed, ModelRef

__all__ = [
    "MOST", "SUFFIXES", "Asked", "Prepared", "both", "from_file", "load_params", "neutral", "of_reference",
    "pictures_in", "prepared", "reads",
]  # fmt: skip

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""What counts as a picture."""

MOST = 64
"""Pictures of one check: each is run several times in float64 by an executor that is exact and not fast."""


@dataclass(frozen=True)
class Asked:
    """What the user says of preprocessing.

    Attributes:
        pictures: The files.
        recipe: By what they are prepared; the source's own recipe where it is empty.
        other: By what the deployed side prepares them; empty where it does so in the same way.
        trust: Whether code stored in model files may run.
    """

    pictures: tuple[Path, ...]
    recipe: str = ""
    other: str = ""
    trust: bool = False


@dataclass(frozen=True)
class Prepared:
    """Pictures prepared by one recipe.

    Attributes:
        name: What the reader calls the recipe: the reference, or the file.
        recipe: The recipe.
        arrays: The model's input for each picture.
    """

    name: str
    recipe: Recipe
    arrays: tuple[Array, ...]

    def feeds(self) -> tuple[Feed, ...]:
        """One feed for each picture, for a model's first input."""
        return tuple({"#0": array} for array in self.arrays)


def pictures_in(inputs: Sequence[Any]) -> tuple[Path, ...]:
    """The pictures among ``inputs``, in the order of their names where a folder is given; empty where there are none.

    Raises:
        BadInputs: Pictures beside arrays, or too many.
    """
    found: list[Path] = []
    others: list[Any] = []
    for item in inputs:
        path = None if isinstance(item, Mapping) else Path(os.fspath(item))
        if path is not None and path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file())
            arrays = any(p.suffix in (".npz", ".npy", ".pb") for p in files)
            here = [] if arrays else [p for p in files if p.suffix.lower() in SUFFIXES]
        else:
            here = [path] if path is not None and path.suffix.lower() in SUFFIXES and path.is_file() else []
        found += here
        others += [] if here else [item]
    if found and others:
        hint = "give one kind: pictures are prepared, arrays are fed as they are"
        raise BadInputs(f"{found[0]} is a picture, and {others[0]} is none", hint=hint)
    if len(found) > MOST:
        raise BadInputs(f"{len(found)} pictures are given, {MOST} are allowed", hint="give a folder with fewer")
    return tuple(found)


def both(jobs: Jobs, ref: ModelRef, asked: Asked) -> tuple[Prepared | None, Prepared | None]:
    """The pictures for the source, and as the deployed side prepares them; ``None`` for what was not asked for.

    Raises:
        UsageError: A recipe without pictures.
        NoRecipe: Nothing says how they are prepared.
        onnxeq.errors.OnnxeqError: What a zoo says.
    """
    if not asked.pictures:
        if given := asked.recipe or asked.other:
            hint = f"give some: --inputs FOLDER ({', '.join(SUFFIXES)})"
            raise UsageError(f"the recipe of {given} is about pictures, and none are given", hint=hint)
        return None, None
    if asked.recipe:
        ours = prepared(jobs, asked.recipe, asked.pictures, trust=asked.trust)
    else:
        ours = of_reference(jobs, ref, asked.pictures, trust=asked.trust)
    if ref.zoo != "live" and zoo.converter_for(ref) == "onnx":
        declared = inspect(Path(ref.name)).inputs
        kind = dtype_of(declared[0].dtype if declared else "float32")
        ours = replace(ours, arrays=tuple(array.astype(kind, copy=False) for array in ours.arrays))
    return ours, prepared(jobs, asked.other, asked.pictures, trust=asked.trust) if asked.other else None


def prepared(jobs: Jobs, name: str, pictures: Sequence[Path], *, trust: bool = False) -> Prepared:
    """Pictures prepared by what a user names: a model of a zoo, or a recipe's file.

    Raises:
        NoRecipe: Nothing says how.
        onnxeq.errors.OnnxeqError: What the zoo says.
    """
    if name.endswith(".json") and Path(name).is_file():
        recipe = from_file(Path(name))
        return Prepared(name, recipe, _by_ourselves(jobs, recipe, pictures))
    return of_reference(jobs, zoo.parse(name), pictures, trust=trust)


def of_reference(jobs: Jobs, ref: ModelRef, pictures: Sequence[Path], *, trust: bool = False) -> Prepared:
    """The same for a model reference, by its own recipe."""
    if ref.zoo == "onnx-zoo":
        recipe = onnx_zoo.recipe_of(ref.text.partition(":")[2].partition("@")[0])
        return Prepared(ref.text, recipe, _by_ourselves(jobs, recipe, pictures))
    if ref.zoo in ("file", "factory", "live"):
        hint = "say which: --recipe ZOO:NAME, or --recipe FILE.json (onnxeq zoo show REF --json prints one)"
        raise NoRecipe(f"{ref.text} has no recipe of its own for pictures", hint=hint)
    where = zoo.require_framework(ref, environment=jobs.where("native-pictures"))
    load = {"load": load_params(ref, trust)}
    spec = JobSpec("native-pictures", f"pictures {ref.text}", load, reads(ref, pictures), environment=where)
    done = jobs.start(spec).result()
    arrays = tuple(next(iter(feed.values())) for feed in load_feeds(done.out / "feeds"))
    return Prepared(ref.text, recipe_from_record(done.data["recipe"], said_by=ref.text), arrays)


def load_params(ref: ModelRef, trust: bool) -> dict[str, Any]:
    """What a job is told of a reference that it need not load."""
    return {
        "ref": ref_to_record(ref), "converter": zoo.converter_for(ref), "inputs": None, "seed": 0, "trust": trust,
        "threads": 0,
    }  # fmt: skip


def neutral(jobs: Jobs, recipes: Sequence[Recipe], pictures: Sequence[Path]) -> list[list[Array | str]]:
    """For each recipe the array of each picture by this project's own code, or why there is none."""
    params = {"recipes": [recipe_to_record(recipe) for recipe in recipes]}
    done = jobs.start(JobSpec("pictures", "pictures", params, _files(pictures))).result()
    made = [
        next(iter(feed.values()), None) if feed else error
        for feed, error in zip(load_feeds(done.out / "feeds"), done.data["errors"], strict=True)
    ]
    count = len(pictures)
    return [[m if m is not None else "" for m in made[i * count : (i + 1) * count]] for i in range(len(recipes))]


def _by_ourselves(jobs: Jobs, recipe: Recipe, pictures: Sequence[Path]) -> tuple[Array, ...]:
    if not pictures:
        return ()
    (made,) = neutral(jobs, [recipe], pictures)
    arrays = []
    for array in made:
        if isinstance(array, str):
            raise BadInputs(array)
        arrays.append(array)
    return tuple(arrays)


def _files(pictures: Sequence[Path]) -> dict[str, Path]:
    return {f"picture {index:04d}": path.resolve() for index, path in enumerate(pictures)}


def reads(ref: ModelRef, pictures: Sequence[Path]) -> dict[str, Path]:
    """What a job reads that prepares pictures by a reference's own recipe."""
    folder = Path(ref.name.partition("#")[0])
    return {**_files(pictures), **({"model": folder} if folder.is_absolute() else {})}


def from_file(path: Path) -> Recipe:
    """A recipe that a person has written: what ``zoo show --json`` prints, or the recipe in it.

    Raises:
        UsageError: It is none.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no JSON: {error}", hint="onnxeq zoo show REF --json prints a recipe") from None
    if isinstance(record, Mapping) and isinstance(record.get("recipe"), Mapping):
        record = record["recipe"]
    recipe = recipe_from_record(record, said_by=str(path))
    # Whatever it was made from, it is run by this project's own code now.
    return replace(recipe, source=f"{path.name}" + (f", from {recipe.source}" if recipe.source else ""), exact=False)
