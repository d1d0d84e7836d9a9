"""Feeds and traces on disk: ``.npy`` files and one index, never a pickle.

A folder holds ``index.json`` (a list of feeds, each a list of ``name``, ``dtype``, ``file``) beside one
``.npy`` per tensor. Element types that numpy cannot name (bfloat16, float8) are stored as raw bits of
the same width; the index keeps the logical type.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from onnxeq.types import Array, Feed

__all__ = ["dtype_name", "dtype_of", "feeds_digest", "load_array", "load_feeds", "save_array", "save_feeds"]

_INDEX = "index.json"
_RAW = {1: np.uint8, 2: np.uint16}


def dtype_of(name: str) -> np.dtype[Any]:
    """The numpy type for an element type's name, ``bfloat16`` and ``float8`` types included."""
    if name in ("str", "string", "object"):
        return np.dtype(np.str_)
    extended = getattr(ml_dtypes, name, None)
    return np.dtype(extended if extended is not None else name)


def dtype_name(array: Array) -> str:
    """The element type's name, ``string`` for text of any length."""
    return "string" if array.dtype.kind in "OUST" else array.dtype.name


def save_array(path: Path, array: Array) -> str:
    """Writes one ``.npy`` and says the logical element type, which :func:`load_array` must be told."""
    value = np.asarray(array)
    kind = dtype_name(value)
    if kind == "string":
        value = value.astype(np.str_)
    elif value.dtype.kind == "V" or kind not in np.sctypeDict:
        value = value.view(_RAW[value.dtype.itemsize])
    np.save(path, value, allow_pickle=False)
    return kind


def load_array(path: Path, kind: str) -> Array:
    """The array that :func:`save_array` wrote, read now.

    Raises:
        ValueError: The file holds another element type.
    """
    value: Array = np.load(path, allow_pickle=False)
    if kind == "string":
        return value.astype(object)
    if value.dtype.name == kind:
        return value
    dtype = dtype_of(kind)
    if not hasattr(ml_dtypes, kind) or value.dtype != _RAW.get(dtype.itemsize):
        raise ValueError(f"it holds {value.dtype.name} and not {kind}")
    return value.view(dtype)


def save_feeds(folder: Path, feeds: Sequence[Feed]) -> None:
    """Writes ``feeds`` into ``folder``; the index comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    index: list[list[dict[str, str]]] = []
    for i, feed in enumerate(feeds):
        rows = []
        for j, (name, array) in enumerate(feed.items()):
            kind = save_array(folder / f"{i}-{j}.npy", array)
            rows.append({"name": name, "dtype": kind, "file": f"{i}-{j}.npy"})
        index.append(rows)
    (folder / _INDEX).write_text(json.dumps(index))


def load_feeds(folder: Path) -> list[dict[str, Array]]:
    """The feeds that :func:`save_feeds` wrote."""
    feeds = []
    for rows in json.loads((folder / _INDEX).read_text()):
        feed: dict[str, Array] = {}
        for row in rows:
            feed[row["name"]] = load_array(folder / row["file"], row["dtype"])
        feeds.append(feed)
    return feeds


def feeds_digest(feeds: Sequence[Feed]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for feed in feeds:
        for name, array in feed.items():
            value = np.asarray(array)  # ascontiguousarray would make () into (1,)
            if dtype_name(value) == "string":
                value = value.astype(np.str_)
            digest.update(f"{name}:{dtype_name(value)}:{value.shape};".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()
