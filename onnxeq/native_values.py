"""The native program's intermediate values on disk: one ``.npy`` each and an index, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from onnxeq.arrays import dtype_name, load_array, save_array
from onnxeq.protocols import NativeValue
from onnxeq.types import Array

__all__ = ["NativeValues", "StoredValue", "load", "store"]

_INDEX = "index.json"


@dataclass(frozen=True)
class StoredValue:
    """All of a :class:`onnxeq.protocols.NativeValue` but the array, which lies in a file."""

    name: str
    op: str
    arguments: dict[str, str]
    explicit: tuple[str, ...]
    native: str
    source: str
    dtype: str
    file: str

    @property
    def call(self) -> str:
        """The operator with its arguments, ``aten.relu.default(conv2d)``."""
        given = ", ".join(
            f"{name}={text}" if name in self.explicit else text for name, text in self.arguments.items() if text
        )
        return f"{self.op}({given})"


@dataclass(frozen=True)
class NativeValues:
    """The values of one run by their ONNX names, in the order in which they were computed."""

    folder: Path
    rows: dict[str, StoredValue]

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def array(self, name: str) -> Array:
        """The value, read from its file now.

        Raises:
            KeyError: There is none of that name.
        """
        row = self.rows[name]
        return load_array(self.folder / row.file, row.dtype)


def store(folder: Path, values: Iterable[NativeValue]) -> int:
    """Writes values as they come; the index comes last. Says how many there were."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for place, value in enumerate(values):
        array = np.asarray(value.array)
        if dtype_name(array) == "string":
            continue  # text is nothing to compute with
        kind = save_array(folder / f"{place}.npy", array)
        row = StoredValue(
            value.name,
            value.op,
            dict(value.arguments),
            value.explicit,
            value.native,
            value.source,
            kind,
            f"{place}.npy",
        )
        rows.append(asdict(row))
    (folder / _INDEX).write_text(json.dumps(rows))
    return len(rows)


def load(folder: Path) -> NativeValues:
    """What :func:`store` wrote."""
    rows = [StoredValue(**{**r, "explicit": tuple(r["explicit"])}) for r in json.loads((folder / _INDEX).read_text())]
    return NativeValues(folder, {row.name: row for row in rows})
