"""What a torch file holds, told by its own bytes: the suffix ``.pt`` says nothing."""

from __future__ import annotations

import enum
import zipfile
from pathlib import Path

from onnxeq.errors import UnusableModel

__all__ = ["FileKind", "kind_of"]


class FileKind(enum.Enum):
    """The kinds of file that torch and its libraries write."""

    TORCHSCRIPT = "TorchScript"
    PROGRAM = "torch.export program"
    PICKLE = "pickle"
    SAFETENSORS = "safetensors"


def kind_of(path: Path) -> FileKind:
    """The kind of a file.

    - A zip archive with ``code/`` and ``constants.pkl`` is TorchScript, one with ``archive_format`` (or, of earlier
      versions, ``serialized_exported_program.json``) a torch.export program, and another with ``data.pkl`` a pickle.
    - What begins with a length and a brace is safetensors, and with 0x80 a pickle of the time before torch 1.6.

    Raises:
        UnusableModel: It is none of these.
    """
    if not path.is_file():
        raise UnusableModel(f"{path} does not exist")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/") for name in archive.namelist()]
        last = {name for _, _, name in names}
        if "constants.pkl" in last and any("code" in folder.split("/") for folder, _, _ in names):
            return FileKind.TORCHSCRIPT
        if last & {"archive_format", "serialized_exported_program.json"}:
            return FileKind.PROGRAM
        if "data.pkl" in last:
            return FileKind.PICKLE
        raise UnusableModel(f"{path} is a zip archive that torch has not written")
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return FileKind.SAFETENSORS
    if start[:1] == b"\x80":
        return FileKind.PICKLE
    raise UnusableModel(f"{path} is no file of torch: neither a zip archive, nor a pickle, nor safetensors")
