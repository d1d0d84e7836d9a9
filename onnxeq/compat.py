"""What the code of jobs needs of newer Pythons, for environments with the oldest that is supported.

The host needs Python 3.11. An environment may have an older one, down to :data:`onnxeq.envs.presets.FLOOR`.
"""

from __future__ import annotations

import enum
import hashlib
import sys
from typing import BinaryIO

__all__ = ["StrEnum", "sha256_of"]

if sys.version_info >= (3, 11):
    StrEnum = enum.StrEnum
else:  # as the standard library has it from 3.11 on

    class StrEnum(str, enum.Enum):
        """An enumeration whose members are their own text."""

        def __str__(self) -> str:
            return str(self.value)

        def __format__(self, spec: str) -> str:
            return format(str(self.value), spec)


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of what is left in a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()
