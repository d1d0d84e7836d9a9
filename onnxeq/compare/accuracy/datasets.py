"""The labelled items that the user names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxeq.compare.accuracy.asked import Asked
from onnxeq.compare.accuracy.classes import classes_of
from onnxeq.compare.accuracy.sampling import chosen
from onnxeq.errors import BadInputs
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.preprocessing.pictures import SUFFIXES
from onnxeq.types import Array

__all__ = ["Items", "open_items"]

PICTURES = (*SUFFIXES, ".ppm", ".pgm", ".tif", ".tiff")
"""What counts as a picture in a folder of a class."""


@dataclass(frozen=True)
class Items:
    """Labelled items, which lie in files.

    Attributes:
        text: The data set as the user wrote it.
        labels: ``int64[N]``, the class of each.
        pictures: The file of each; empty for arrays.
        chunks: Files that hold them, some in each; empty for pictures.
        total: How many the data set holds.
        classes: How many classes the labels are of; ``None`` where nobody says.
        notes: What a reader must know.
    """

    text: str
    labels: Array
    pictures: tuple[Path, ...]
    chunks: tuple[Path, ...]
    total: int
    classes: int | None
    notes: tuple[str, ...]


def open_items(jobs: Jobs, asked: Asked) -> Items:
    """The items of a data set, or a sample of them.

    Raises:
        BadInputs: There are none, or their labels are no classes.
        onnxeq.errors.UsageError: A folder whose class nothing says.
    """
    return _from_folders(jobs, asked) if asked.kind == "imagefolder" else _from_job(jobs, asked)


def _from_folders(jobs: Jobs, asked: Asked) -> Items:
    """One folder for each class, with pictures at any depth, as torchvision's ``ImageFolder`` has it."""
    root = asked.path or Path()
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    hint = "a data set of pictures has a folder for each class"
    if not folders:
        loose = " and pictures beside none" if any(_is_picture(p) for p in root.iterdir()) else ""
        raise BadInputs(f"{root} has no folders of classes{loose}", hint=hint)
    files = {name: _pictures(root / name) for name in folders}
    full = [name for name in folders if files[name]]
    if not full:
        raise BadInputs(f"no picture lies in the folders of {root}", hint=f"pictures are {', '.join(PICTURES)}")
    classes = classes_of(jobs, full, asked.class_map)
    every = [(path, classes.indices[name]) for name in full for path in files[name]]
    labels = np.array([label for _, label in every], np.int64)
    rows = chosen(labels, asked.most, asked.seed)
    notes = [f"classes are {classes.source}"]
    if empty := [name for name in folders if not files[name]]:
        notes.append(f"{len(empty)} of {len(folders)} folders hold no picture: {', '.join(empty[:3])}")
    pictures = tuple(every[row][0] for row in rows)
    return Items(
        asked.text, labels[rows], pictures, (), len(every), classes.size, (*notes, *_sampled(asked, rows, labels))
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and path.is_file()


def _pictures(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        found += [path for name in sorted(names) if _is_picture(path := Path(place) / name)]
    return found


def _from_job(jobs: Jobs, asked: Asked) -> Items:
    params = {"kind": asked.kind, "most": asked.most, "seed": asked.seed if asked.most is not None else 0}
    reads = {"file": asked.path} if asked.path is not None else {}
    done = jobs.start(JobSpec("dataset", f"items of {asked.text}", params, reads)).result()
    labels = np.load(done.out / "labels.npy", allow_pickle=False)
    files = tuple(done.out / name for name in done.data["files"])
    notes = _sampled(asked, labels, np.zeros(done.data["total"]))
    if done.data["kind"] == "pictures":
        notes = ("8-bit arrays [N,height,width,3] are pictures, which each model's recipe prepares", *notes)
        return Items(asked.text, labels, files, (), done.data["total"], done.data["classes"], notes)
    notes = ("arrays are fed as they are, without a recipe", *notes)
    return Items(asked.text, labels, (), files, done.data["total"], done.data["classes"], notes)


def _sampled(asked: Asked, rows: Array, every: Array) -> tuple[str, ...]:
    if len(rows) == len(every):
        return ()
    return (f"{len(rows)} of {len(every)} items, drawn class by class with the seed {asked.seed}",)
