"""Code in TorchScript that does more than compute: told from its text, before torch reads the archive.

TorchScript is a language of its own without files or processes, but for a few operators. Some of a module's code
(``__setstate__``) runs while it is read, so the text is looked through and nothing is loaded.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from onnxeq.errors import UnusableModel
from onnxeq_converters import archives

__all__ = ["refuse"]

_REACHING = re.compile(
    r"\btorch\.(save|load|from_file)\(|\bops\.aten\.(save|load|from_file)\b|\bops\.\w+\.(read|write|load|save)\w*"
    r"|\b__torch__\.torch\.classes\.|\b_load_for_\w+|\bops\.\w+\.(from_file|open)\w*"
)
"""Calls that open files, and objects of compiled libraries."""


def refuse(path: Path) -> None:
    """Makes sure that reading and running a scripted module opens no file and no library.

    Raises:
        UnusableModel: It would, or it is no archive that may be unpacked; says what and where.
    """
    archives.check(path)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            # torch finds its records whatever their case.
            if "code" not in entry.lower().split("/") or entry.lower().endswith(".debug_pkl"):
                continue
            found = _REACHING.search(archive.read(entry).decode(errors="replace"))
            if found is not None:
                called = found.group(0).rstrip("(")
                raise UnusableModel(
                    f"{path} calls {called} in {entry}, which reaches files or libraries outside of the model",
                    hint="if you trust the file: --trust",
                )
