"""Labelled items as jobs: arrays out of a file or a package, and the class maps that installed zoos bring.

Writes ``out/labels.npy``, and ``out/NNNNN.npy``, each with some of the items; 8-bit pictures as ``out/NNNNNNN.png``,
which is lossless, so that recipes prepare them like any file.
"""

from __future__ import annotations

import ast
import importlib
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq import array_files
from onnxeq.compare.accuracy.sampling import chosen
from onnxeq.errors import BadInputs, FrameworkMissing
from onnxeq.types import Array
from onnxeq.worker import Job

__all__ = ["CHUNK", "classes", "run"]

CHUNK = 128
"""Items in a file, and in a job that prepares or predicts them: 77 MB of pictures of 224x224 in float32."""

_ITEMS, _LABELS = ("x", "images", "inputs"), ("y", "labels")
_DIGITS = "onnxeq_converters.digits.data"
"""Named and not imported at the top: the host's package sees no converter."""


def run(job: Job) -> dict[str, Any]:
    """Reads ``job.params['kind']`` (``npz`` from ``job.inputs['file']``, or ``digits``) and writes what is asked for.

    Returns:
        ``kind`` (``arrays`` or ``pictures``), ``total`` before the sample, ``files``, and ``classes``, where the set
        itself says how many there are.

    Raises:
        BadInputs: The file holds no labelled items.
        onnxeq.errors.UsageError: The digits' package is not installed.
    """
    job.step("read")
    digits = job.params["kind"] == "digits"
    items, labels = _digits() if digits else _from_file(job.inputs["file"])
    rows = chosen(labels, job.params["most"], int(job.params["seed"]))
    np.save(job.out / "labels.npy", labels[rows])
    job.step("write")
    pictures = items.dtype == np.uint8 and items.ndim == 4 and items.shape[-1] == 3
    write = _write_pictures if pictures else _write_arrays
    return {
        "kind": "pictures" if pictures else "arrays",
        "total": len(items),
        "files": write(job.out, items, rows),
        "classes": 10 if digits else None,
    }


def _digits() -> tuple[Array, Array]:
    data: Any = importlib.import_module(_DIGITS)
    split = data.split()
    return data.prepared(split.test_pixels), split.test_labels


def _from_file(path: Path) -> tuple[Array, Array]:
    """The arrays of a ``.npz`` file, checked."""
    hint = "write it with numpy.savez(FILE, x=items, y=labels)"
    try:
        array_files.check(path)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise BadInputs(f"{path} holds one array and no labels", hint=hint)
        with loaded:
            keys = [next((k for k in names if k in loaded.files), "") for names in (_ITEMS, _LABELS)]
            for key, names in zip(keys, (_ITEMS, _LABELS), strict=True):
                if not key:
                    held = ", ".join(loaded.files) or "nothing"
                    raise BadInputs(f"{path} holds {held}, and none of {', '.join(names)}", hint=hint)
            items, labels = loaded[keys[0]], loaded[keys[1]]
    except BadInputs:
        raise
    except Exception as error:  # zipfile and zlib raise their own kinds for a damaged archive
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadInputs(f"{path} cannot be read as arrays: {said}", hint=hint) from None
    return _checked_items(items, path, keys[0]), _checked_labels(labels, len(items) if items.ndim else 0, path, keys[1])


def _checked_items(items: Array, path: Path, key: str) -> Array:
    shape = f"{items.dtype.name}[{','.join(map(str, items.shape))}]"
    if items.ndim < 2 or not items.size:
        raise BadInputs(f"'{key}' in {path} is {shape}, and items are along the first axis of two or more")
    if items.dtype.kind not in "fiu":
        raise BadInputs(f"'{key}' in {path} is {shape}, which no model is fed", hint="give floats or integers")
    if items.dtype.kind == "f":
        bad = [i for i, item in enumerate(items) if not np.isfinite(item).all()]
        if bad:
            more = f", and {len(bad) - 1} more do" if len(bad) > 1 else ""
            raise BadInputs(f"item {bad[0]} of '{key}' in {path} holds NaN or infinity{more}", hint="leave it out")
    return items


def _checked_labels(labels: Array, count: int, path: Path, key: str) -> Array:
    shape = f"{labels.dtype.name}[{','.join(map(str, labels.shape))}]"
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.shape != (count,):
        hint = "give the number of each item's class"
        if labels.ndim == 2 and labels.shape[0] == count:
            hint = f"{hint}: {key}.argmax(1)"
        raise BadInputs(f"'{key}' in {path} is {shape}, and {count} items need int64[{count}]", hint=hint)
    whole = flat.dtype.kind in "iu" or (flat.dtype.kind == "f" and bool((np.floor(flat) == flat).all()))
    if not whole:
        raise BadInputs(f"'{key}' in {path} is {shape}, and labels are whole numbers")
    if flat.min() < 0:
        at = int(flat.argmin())
        raise BadInputs(f"the label of item {at} of {path} is {int(flat.min())}, and classes are counted from 0")
    return flat.astype(np.int64)


def _write_arrays(out: Path, items: Array, rows: Array) -> list[str]:
    names = []
    for begin in range(0, len(rows), CHUNK):
        names.append(f"{begin // CHUNK:05d}.npy")
        np.save(out / names[-1], items[rows[begin : begin + CHUNK]])
    return names


def _write_pictures(out: Path, items: Array, rows: Array) -> list[str]:
    try:
        from PIL import Image
    except ImportError:
        hint = "pip install 'onnxeq[images]'"
        raise FrameworkMissing("writing pictures needs the package 'pillow'", hint=hint) from None
    names = [f"{row:07d}.png" for row in rows]
    for name, row in zip(names, rows, strict=True):
        Image.fromarray(items[row]).save(out / name, compress_level=1)
    return names


def classes(job: Job) -> dict[str, Any]:
    """What the zoos that are installed here know of ImageNet's 1000 classes; neither is imported.

    Returns:
        ``synsets``: WordNet ids in the order of the classes (timm's data). ``names``: lists of names for each class, by
        the package that says them. ``sources``: package -> version.
    """
    job.step("class maps")
    found: dict[str, Any] = {"synsets": [], "names": {}, "sources": {}}
    if (folder := _folder("timm")) and (file := folder / "data/_info/imagenet_synsets.txt").is_file():
        found["synsets"] = file.read_text().split()
        found["sources"]["timm"] = metadata.version("timm")
        lemmas = folder / "data/_info/imagenet_synset_to_lemma.txt"
        if lemmas.is_file():
            told = dict(line.split("\t", 1) for line in lemmas.read_text().splitlines() if "\t" in line)
            found["names"]["timm"] = [told.get(synset, "").split(", ") for synset in found["synsets"]]
    if (folder := _folder("torchvision")) and (names := _literal(folder / "models/_meta.py", "_IMAGENET_CATEGORIES")):
        found["names"]["torchvision"] = [[name] for name in names]
        found["sources"]["torchvision"] = metadata.version("torchvision")
    return found


def _folder(package: str) -> Path | None:
    """Where a package lies, which is not imported."""
    spec = util.find_spec(package)
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(roots[0]) if roots else None


def _literal(file: Path, name: str) -> list[str]:
    """A list of texts in a Python file, read and not run: torchvision's import takes seconds."""
    for node in ast.parse(file.read_text() if file.is_file() else "").body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return [str(text) for text in ast.literal_eval(node.value)]
    return []
