"""The digest by which it is known that a model was loaded with the same weights again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from onnxeq.types import Array

__all__ = ["weights_digest"]


def weights_digest(weights: Mapping[str, Array]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
