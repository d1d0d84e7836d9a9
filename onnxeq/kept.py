"""What a caller hands over alive, kept in the cache under its content's name: jobs read files."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxeq.arrays import feeds_digest, load_feeds, save_feeds
from onnxeq.types import Feed

if TYPE_CHECKING:
    import onnx

__all__ = ["is_model_proto", "store_feeds", "store_model"]


def is_model_proto(value: object) -> bool:
    """Whether ``value`` is an ``onnx.ModelProto``, asked without importing onnx."""
    return type(value).__name__ == "ModelProto" and hasattr(value, "SerializeToString")


def store_model(model: onnx.ModelProto, root: Path) -> Path:
    """Puts a live ``ModelProto`` into the cache, under its content's name."""
    data = model.SerializeToString(deterministic=True)
    path = root / "models" / f"{hashlib.sha256(data).hexdigest()[:32]}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        part.write_bytes(data)
        part.replace(path)
    return path


def store_feeds(feeds: Sequence[Feed], root: Path) -> Path:
    """Puts feeds into the cache, under their content's name; a damaged copy is replaced."""
    digest = feeds_digest(feeds)
    folder = root / "feeds" / digest[:32]
    with contextlib.suppress(OSError, ValueError, KeyError):
        if feeds_digest(load_feeds(folder)) == digest:
            return folder
    shutil.rmtree(folder, ignore_errors=True)
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    save_feeds(part, feeds)
    try:
        part.rename(folder)
    except OSError:  # another process stored the same
        shutil.rmtree(part)
    return folder
