"""The values of one execution on disk: one ``.npy`` each beside ``trace.json``, read one at a time.

A trace is written while the execution runs, so that its values are never all in memory. ``onnxeq diff --save-trace``
keeps one; ``--load-trace`` takes it as one side, years later.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from onnxeq.arrays import dtype_name, load_array, save_array
from onnxeq.errors import UnusableModel
from onnxeq.types import Array

__all__ = ["SCHEMA", "StoredArray", "Trace", "TraceWriter", "load"]

SCHEMA = "onnxeq.trace/1"
_INDEX = "trace.json"


@dataclass(frozen=True)
class StoredArray:
    """Where a value lies, and what it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str


@dataclass(frozen=True)
class Trace:
    """The values of one run by name, in the order in which they were computed.

    Attributes:
        folder: Where they lie.
        rows: Name -> place.
        record: What the writer noted besides: the execution, the model, versions.
    """

    folder: Path
    rows: Mapping[str, StoredArray]
    record: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def array(self, name: str) -> Array:
        """The value, read from its file now.

        Raises:
            KeyError: There is none of that name.
            onnxeq.errors.UnusableModel: Its file is missing or damaged.
        """
        row = self.rows[name]
        try:
            value = load_array(self.folder / row.file, row.dtype)
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            said = " ".join(str(error).split())
            raise UnusableModel(f"the trace {self.folder.name} is damaged: {row.file}: {said}") from error
        if value.shape != row.shape:
            said = f"{row.file} holds {list(value.shape)}, its index says {list(row.shape)}"
            raise UnusableModel(f"the trace {self.folder.name} is damaged: {said}")
        return value


class TraceWriter:
    """Writes a trace value by value; the index comes last, when the block is left without an error.

    Args:
        folder: Where to; made if there is none.
        record: What to note besides the values.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.record: dict[str, Any] = dict(record or {})
        self._folder = folder
        self._rows: dict[str, StoredArray] = {}

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        rows = [{"name": r.name, "dtype": r.dtype, "shape": list(r.shape), "file": r.file} for r in self._rows.values()]
        (self._folder / _INDEX).write_text(json.dumps({"schema": SCHEMA, **self.record, "values": rows}))

    def add(self, name: str, array: Array) -> None:
        """Writes one value; text is left out, since it is nothing to compute with."""
        held = np.asarray(array)
        if name in self._rows or dtype_name(held) == "string":
            return
        file = f"{len(self._rows)}.npy"
        kind = save_array(self._folder / file, held)
        self._rows[name] = StoredArray(name, kind, held.shape, file)


def load(folder: Path) -> Trace:
    """The trace that a :class:`TraceWriter` has left.

    Raises:
        onnxeq.errors.UnusableModel: It is none, is damaged, or is of a newer form than this version knows.
    """
    try:
        document = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        schema, values = document.pop("schema"), document.pop("values")
        rows = {
            str(r["name"]): StoredArray(str(r["name"]), str(r["dtype"]), tuple(map(int, r["shape"])), str(r["file"]))
            for r in values
        }
    except FileNotFoundError as error:
        raise UnusableModel(f"{folder} holds no {_INDEX}", hint="onnxeq diff --save-trace writes one") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableModel(f"{folder / _INDEX} is damaged: {error}") from error
    if schema != SCHEMA:
        raise UnusableModel(f"{folder} is of the form {schema}, this version reads {SCHEMA}", hint="update onnxeq")
    if any(Path(row.file).name != row.file for row in rows.values()):
        raise UnusableModel(f"{folder / _INDEX} names a file outside of its folder")
    return Trace(folder, rows, document)
