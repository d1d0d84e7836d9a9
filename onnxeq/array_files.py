"""What a ``.npy`` or ``.npz`` file claims to hold, asked before numpy makes room for it."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnxeq import memory

__all__ = ["check"]


def check(path: Path) -> None:
    """Holds the shape of each array against the bytes that are stored, and all of them against this machine's memory.

    Raises:
        ValueError: A shape claims other than what is stored, or more than there is memory for.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            _check_array(file, path.stat().st_size, path.name)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # Packed zeros take a thousandth of their size: what they unpack to is held against the memory.
        taken = sum(entry.file_size for entry in entries)
        if taken > memory.total() // 2:
            raise ValueError(
                f"it unpacks to {memory.readable(taken)}, {memory.readable(memory.total() // 2)} are allowed here"
            )
        for entry in entries:
            with archive.open(entry) as stream:
                _check_array(stream, entry.file_size, entry.filename)


def _check_array(stream: IO[bytes], size: int, name: str) -> None:
    if (magic := stream.read(6)) != b"\x93NUMPY":
        raise ValueError(f"{name!r} is no .npy file" + (" but a pickle" if magic[:1] == b"\x80" else ""))
    version = tuple(stream.read(2))
    readers: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name!r} is written in version {version} of .npy, 1 and 2 are read")
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds pickled objects, which are not read: reading them would run code")
    needed = math.prod(shape) * dtype.itemsize
    held = size - stream.tell()
    if needed > held:
        raise ValueError(f"{name!r} holds {held} bytes, its shape {list(shape)} needs {needed}")
