"""Where a rendering is written: checked before the work begins, and replaced in one step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from onnxeq.errors import UsageError

__all__ = ["check_path", "replace"]


def check_path(path: Path, kinds: Iterable[str], option: str) -> None:
    """Checks that a file of one of these kinds can be written where ``option`` asks for it.

    Raises:
        UsageError: An unknown suffix, or no such folder.
    """
    kinds = tuple(kinds)
    if path.suffix not in kinds:
        raise UsageError(f"{option} {path}: unknown kind '{path.suffix}'", hint=f"choose one of {', '.join(kinds)}")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}", hint="create it first")


def replace(path: Path, data: bytes) -> None:
    """Writes the whole file, or leaves what was there."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
