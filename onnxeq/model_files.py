"""The files that a model consists of."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

__all__ = ["reads_of"]

_TRACES = ("feeds",)  # folders that a native job writes beside its exports

_SEARCHED = 1 << 24
"""Bytes up to which a file is searched for the word that names another one; larger ones are walked through."""


def reads_of(model: Path) -> dict[str, Path]:
    """A model file and its external data, as a job's inputs: all of it belongs to the cache key.

    Raises:
        onnxeq.errors.UnusableModel: It names data that is missing, too short, or outside its folder; or it is no model.
    """
    data: tuple[Path, ...] = ()
    if _may_have_external(model):
        from onnxeq.graph.files import external_files
        from onnxeq.graph.skim import skim

        data = external_files(skim(model).model, model.parent)
    return {"model": model, **{f"data {i}": path for i, path in enumerate(data)}}


def _may_have_external(model: Path) -> bool:
    """Whether the model must be parsed to be sure: external data stands under the key ``location``."""
    with contextlib.suppress(OSError):
        if 0 < model.stat().st_size <= _SEARCHED:
            with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return data.find(b"location") >= 0
    # External data lies in the model's own folder: without another file there, nothing needs to be parsed.
    return any(p.suffix != ".onnx" for p in model.parent.rglob("*") if p.is_file() and p.parent.name not in _TRACES)
