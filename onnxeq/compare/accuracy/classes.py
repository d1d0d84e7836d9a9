"""Which class a folder of pictures is.

1. By a class map that the user gives: ``{"folder": index}``, or a list of folders in the order of their classes.
2. By its own name, where all names are whole numbers.
3. By what the installed zoos know of ImageNet's 1000 classes: WordNet ids (``n01440764``) or names (``tench``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxeq.errors import UsageError
from onnxeq.jobs import Jobs, JobSpec

__all__ = ["Classes", "classes_of"]

IMAGENET = 1000
"""Classes of ImageNet-1K."""


@dataclass(frozen=True)
class Classes:
    """Which class each folder is.

    Attributes:
        indices: Folder -> the number of its class.
        size: How many classes there are; ``None`` where nobody says.
        source: Who says it, in words.
    """

    indices: Mapping[str, int]
    size: int | None
    source: str


def classes_of(jobs: Jobs, folders: Sequence[str], class_map: Path | None) -> Classes:
    """The classes of folders, by the first of the ways above that can be taken.

    Raises:
        UsageError: A folder whose class nothing says, with what to type.
    """
    if class_map is not None:
        return _by_file(folders, class_map)
    if all(name.isascii() and name.isdigit() for name in folders):
        return Classes({name: int(name) for name in folders}, None, "the folders' names, which are numbers")
    params: dict[str, Any] = {}
    known = jobs.start(JobSpec("native-classes", "class maps", params)).result().data
    return _by_zoos(folders, known)


def _by_file(folders: Sequence[str], path: Path) -> Classes:
    hint = 'write {"folder": index}, or a list of folders in the order of their classes'
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no JSON: {error}", hint=hint) from None
    size = None
    if isinstance(record, list):
        if not all(isinstance(name, str) for name in record):
            raise UsageError(f"{path} is a list of other things than texts", hint=hint)
        if twice := [name for i, name in enumerate(record) if name in record[:i]]:
            raise UsageError(f"{path} lists '{twice[0]}' twice, which leaves its class open", hint=hint)
        size, record = len(record), {name: index for index, name in enumerate(record)}
    if not isinstance(record, dict):
        raise UsageError(f"{path} is no class map", hint=hint)
    for name, index in record.items():
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise UsageError(f"{path} gives '{name}' the class {index!r}, and classes are counted from 0", hint=hint)
    if lacking := [name for name in folders if name not in record]:
        said = f"{path} does not say which class the folder '{lacking[0]}' is{_more(lacking)}"
        raise UsageError(said, hint=f'add "{lacking[0]}" to it')
    return Classes({name: record[name] for name in folders}, size, str(path))


def _more(lacking: Sequence[str]) -> str:
    return f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""


def _by_zoos(folders: Sequence[str], known: Mapping[str, Any]) -> Classes:
    places = {synset: {index} for index, synset in enumerate(known["synsets"])}
    tables = [_by_name(names) for names in known["names"].values()]
    indices, lacking = {}, []
    for folder in folders:
        found = places.get(folder) or next((t[_key(folder)] for t in tables if _key(folder) in t), set())
        if len(found) > 1:
            said = f"the folder '{folder}' may be class {' or '.join(map(str, sorted(found)))}"
            raise UsageError(said, hint=_to_write(folders))
        if found:
            indices[folder] = next(iter(found))
        else:
            lacking.append(folder)
    if lacking:
        raise UsageError(_unknown(lacking, known), hint=_to_write(folders))
    sources = ", ".join(f"{package} {version}" for package, version in known["sources"].items())
    return Classes(indices, IMAGENET, f"ImageNet-1K's, as {sources} has them")


def _by_name(names: Sequence[Sequence[str]]) -> dict[str, set[int]]:
    """Name -> the classes that it may be: all of a class's names are one, if nothing else is called so."""
    found: dict[str, set[int]] = {}
    for index, several in enumerate(names):
        for name in (*several, ", ".join(several)):
            found.setdefault(_key(name), set()).add(index)
    found.pop("", None)
    return found


def _key(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def _unknown(lacking: Sequence[str], known: Mapping[str, Any]) -> str:
    said = f"nothing says which class the folder '{lacking[0]}' is{_more(lacking)}"
    if re.fullmatch(r"n\d{8}", lacking[0]) and not known["synsets"]:
        return f"{said}: it is a WordNet id, and timm, which lists them, is not installed"
    if not known["sources"]:
        return f"{said}: neither timm nor torchvision is installed, which know ImageNet's"
    return f"{said}: it is no number, no WordNet id and no name of ImageNet-1K's"


_SHOWN = 3


def _to_write(folders: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}": {index}' for index, name in enumerate(folders[:_SHOWN]))
    dots = ", ..." if len(folders) > _SHOWN else ""
    return f"say it in a file: --class-map FILE.json with {{{shown}{dots}}}"
