"""Archives that models come in: looked at before anything is unpacked."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnxeq.errors import UnusableModel

__all__ = ["MOST_ENTRIES", "check", "memory"]

MOST_ENTRIES = 1 << 18
"""Entries of an archive: a model of a thousand layers has a few thousand."""


def check(path: Path) -> None:
    """Makes sure that an archive can be unpacked: inside of its target, and into this machine's memory.

    Raises:
        UnusableModel: It is no archive, an entry's name leads out, an entry is a link or is there twice, or all of
            them together are more than the machine's memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UnusableModel(f"{path} is no zip archive: {error}", hint="it may be truncated or mislabelled") from error
    if len(entries) > MOST_ENTRIES:
        raise UnusableModel(f"{path} has {len(entries)} entries, {MOST_ENTRIES} are allowed")
    seen: set[str] = set()
    for entry in entries:
        if reason := _fault(entry, seen):
            raise UnusableModel(f"{path}: its entry {entry.filename!r} {reason}", hint="no exporter writes that")
        seen.add(entry.filename.lower())
    taken, allowed = sum(entry.file_size for entry in entries), memory()
    if taken > allowed:
        raise UnusableModel(
            f"{path} has {path.stat().st_size} bytes and unpacks to {taken}, this machine has {allowed} bytes of memory"
        )


def _fault(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    name = entry.orig_filename
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "names an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "leads out of the archive"
    if "\0" in name:
        return "has a name that is cut off"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link"
    return "is there twice" if entry.filename.lower() in seen else ""  # some readers do not look at the case


def memory() -> int:
    """Bytes of memory of this machine; a terabyte where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 1 << 40
