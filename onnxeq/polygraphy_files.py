"""Files that Polygraphy writes: the outputs of ``run --save-outputs`` and the inputs of ``run --save-inputs``.

Both are JSON in which an array is an object ``{"array": base64 of a .npy}``. Inputs are a list of objects, name ->
array, one for each iteration; outputs are ``{"lst": [[runner, [iteration, ...]], ...]}`` with ``{"outputs": {name:
{"values": array}}}`` as an iteration. Where a folder is named in the place of a file, each iteration has a file of its
own there: an input file then holds the object without a list around it. Older versions stored a ``.npz`` in the place
of a ``.npy``, the oldest as Latin-1 text; torch tensors are stored pickled and are never read.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.types import Array

__all__ = ["Damaged", "read_inputs", "read_outputs"]


class Damaged(Exception):
    """The file is none of Polygraphy's or cannot be read; the text says what is wrong, for the caller's own error."""


def read_outputs(path: Path) -> tuple[str, Iterator[tuple[str, Array]]]:
    """The outputs of a file's first runner on its first iteration.

    Args:
        path: The file.

    Returns:
        The runner's name without the time of its run, and name and array of each value, decoded one at a time. The
        iterator raises :class:`Damaged` where an array cannot be read.

    Raises:
        Damaged: It is no such file.
    """
    document = _document(path)
    if isinstance(document, list):
        raise Damaged("it holds inputs, which --inputs takes")
    try:
        runner, iterations = document["lst"][0]
        outputs = iterations[0]["outputs"]
        if not isinstance(runner, str) or not isinstance(outputs, dict):
            raise Damaged("a runner's outputs are not stored by name")
    except (KeyError, IndexError, TypeError, ValueError):
        raise Damaged("no runner's outputs are in it") from None
    return re.sub(r"-N\d+-[\d/]+-[\d:]+$", "", runner), _emptied(outputs)


def read_inputs(path: Path) -> list[dict[str, Array]]:
    """One feed for each iteration.

    Raises:
        Damaged: It is no such file, or an array cannot be read.
    """
    document = _document(path)
    if isinstance(document, dict) and "lst" in document:
        raise Damaged("it holds outputs, which --load-trace takes")
    entries = document if isinstance(document, list) else [document]
    if not entries or not all(isinstance(entry, dict) and entry for entry in entries):
        raise Damaged("it holds no inputs by name")
    return [dict(_emptied(entry)) for entry in entries]


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise Damaged("it is no text") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"it is no JSON: {error}") from error


def _emptied(held: dict[str, Any]) -> Iterator[tuple[str, Array]]:
    """Each array, its text let go of once it is decoded: a batch of eight images has a gigabyte of it."""
    for name in list(held):
        yield name, _array(name, held.pop(name))


def _array(name: str, record: Any) -> Array:
    """An array from ``{"array": text}``, or from ``{"values": {"array": text}}``."""
    if isinstance(record, dict) and "values" in record:
        record = record["values"]
    if isinstance(record, dict) and isinstance(record.get("tensor"), str):
        raise Damaged(f"'{name}' is a pickled torch tensor, which is not read; save it from numpy arrays")
    text = record.get("array") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise Damaged(f"'{name}' is no array")
    try:
        return _decoded(text)
    except Exception as error:  # base64, zipfile, zlib, numpy and its parser of headers have their own kinds
        said = " ".join(str(error).split()) or type(error).__name__
        raise Damaged(f"'{name}' is no array: {said}") from error


def _decoded(text: str) -> Array:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = text.encode("latin-1")
    with contextlib.closing(io.BytesIO(raw)) as data:
        loaded = np.load(data, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            array: Array = loaded[loaded.files[0]]
            return array
