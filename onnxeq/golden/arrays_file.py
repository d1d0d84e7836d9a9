"""A golden's numbers: one safetensors file without metadata, so that the same arrays give the same bytes.

Element types that the format's numpy side does not know are stored as raw bits, text as UTF-8; the logical type stands
in the tensor's name behind a ``:`` (``runtime/0/logits:bfloat16``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from onnxeq.arrays import dtype_name, dtype_of
from onnxeq.errors import UnusableGolden
from onnxeq.types import Array

__all__ = ["pack", "sha256_of", "unpack"]

_PLAIN = frozenset("float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool".split())
_RAW = {1: np.uint8, 2: np.uint16}


def sha256_of(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def pack(arrays: Mapping[str, Array]) -> bytes:
    """The file's bytes; they do not depend on the mapping's order."""
    from safetensors.numpy import save

    held: dict[str, Array] = {}
    for name in sorted(arrays):
        value = np.asarray(arrays[name])
        kind = dtype_name(value)
        if kind == "string":
            text = json.dumps([value.shape, [str(v) for v in value.reshape(-1)]])
            held[f"{name}:string"] = np.frombuffer(text.encode(), np.uint8)
        elif kind in _PLAIN:
            held[f"{name}:{kind}"] = np.array(value, order="C", copy=True)
        else:
            held[f"{name}:{kind}"] = np.array(value, order="C", copy=True).view(_RAW[value.dtype.itemsize])
    return bytes(save(held))


def unpack(data: bytes, where: str) -> dict[str, Array]:
    """The arrays that :func:`pack` was given.

    Raises:
        UnusableGolden: It is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    found: dict[str, Array] = {}
    try:
        for key, value in load(data).items():
            name, _, kind = key.rpartition(":")
            if kind == "string":
                shape, texts = json.loads(value.tobytes().decode())
                found[name] = np.array(texts, dtype=object).reshape(shape)
            else:
                found[name] = value if kind in _PLAIN else value.view(dtype_of(kind))
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        hint = "restore it from version control, or delete the golden and record it again"
        raise UnusableGolden(f"{where} is damaged: {' '.join(str(error).split())}", hint=hint) from None
    return found
