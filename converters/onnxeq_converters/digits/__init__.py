"""The zoo ``digits:``: small models that this project trains itself, on scikit-learn's handwritten digits.

Real trained weights without a network. Four architectures, each in torch and in Keras with the same weights: the
files hold torch's, and :mod:`.mapping` says where each number belongs in Keras.

====================  ==============================================================
:mod:`.data`          the pictures, which of them are for training, the recipe
:mod:`.torch_models`  the architectures in torch; :mod:`.keras_models` in Keras
:mod:`.mapping`       torch's weights as those of the Keras layers
:mod:`.train`         the script that made the weights
====================  ==============================================================

This module is light: a zoo is listed without a framework.
"""

from __future__ import annotations

import difflib
import json
import struct
from pathlib import Path

import numpy as np

from onnxeq.errors import UnknownModel, WeightsUnavailable
from onnxeq.types import Array, TensorSpec, ValueRange, ZooEntry

__all__ = [
    "ARCHITECTURES",
    "INPUT",
    "KERAS",
    "RIGHT",
    "SEEDS",
    "TESTED",
    "architecture_of",
    "entries",
    "read",
    "shipped",
    "shipped_file",
]

ARCHITECTURES = {
    "cnn": "three convolutions with batch normalisation",
    "resnet": "three residual blocks, one with stride and projection",
    "vit": "a vision transformer of three blocks on patches of 2x2",
    "gru": "a recurrent network that reads the eight rows",
}
"""Name in torch -> what it is. In Keras it is called ``keras-NAME``."""

KERAS = "keras-"
"""How the names of the Keras models begin."""

INPUT = TensorSpec("image", "float32", ("N", 8, 8), ValueRange(0.0, 1.0))
"""What every model takes: pictures without a channel axis, the same in both frameworks; see :func:`.data.prepared`."""

SEEDS = {"pretrained": 0, "retrained": 1}
"""Kinds of weights that come with the package, and the seed that each was trained with."""

TESTED = 359
"""Pictures in the test split."""

RIGHT = {
    "cnn": {"pretrained": 355, "retrained": 352},
    "resnet": {"pretrained": 358, "retrained": 355},
    "vit": {"pretrained": 346, "retrained": 347},
    "gru": {"pretrained": 355, "retrained": 353},
}
"""Architecture -> kind of weights -> how many test pictures are classified correctly, with float32 on a CPU."""


def architecture_of(name: str, prefix: str = "") -> str:
    """The architecture behind a model's name.

    Args:
        name: Of the model, without the zoo.
        prefix: How names of the asking framework begin: :data:`KERAS`, or nothing.

    Raises:
        UnknownModel: With the nearest names in the hint.
    """
    found = name.removeprefix(prefix)
    if found in ARCHITECTURES and name == prefix + found:
        return found
    known = [p + a for p in ("", KERAS) for a in ARCHITECTURES]
    near = difflib.get_close_matches(name, known, 3, 0.5) or known
    raise UnknownModel(f"digits has no model {name}", hint=f"did you mean {', '.join(near)}?")


def entries() -> tuple[ZooEntry, ...]:
    """Every model, with the accuracy of its weights."""
    return tuple(
        ZooEntry(prefix + name, name, (INPUT,), f"{what}; {_accuracy(name)}")
        for prefix in ("", KERAS)
        for name, what in ARCHITECTURES.items()
    )


def shipped_file(architecture: str, kind: str) -> Path:
    """Where the weights of one of :data:`SEEDS` lie."""
    marked = architecture if kind == "pretrained" else f"{architecture}.{kind}"
    return Path(__file__).parent / "weights" / f"{marked}.safetensors"


def shipped(architecture: str, kind: str) -> dict[str, Array]:
    """The weights of one of :data:`SEEDS`, by torch's names.

    Raises:
        WeightsUnavailable: The file is not where it was installed.
    """
    path = shipped_file(architecture, kind)
    if not path.is_file():
        raise WeightsUnavailable(f"the weights {path} are missing", hint="install onnxeq again, or use @seeded")
    return read(path)


def read(path: Path) -> dict[str, Array]:
    """The arrays in a safetensors file that this package has written.

    The format (https://huggingface.co/docs/safetensors) is a length of eight bytes, a JSON header, and the bytes of the
    arrays. It is read here, so that the models need no package besides their framework in any environment.
    """
    stored = path.read_bytes()
    (length,) = struct.unpack("<Q", stored[:8])
    header, values = json.loads(stored[8 : 8 + length]), stored[8 + length :]
    kinds = {"F32": np.float32, "I64": np.int64}
    return {
        name: np.frombuffer(values[slice(*held["data_offsets"])], kinds[held["dtype"]]).reshape(held["shape"]).copy()
        for name, held in sorted(header.items())
    }


def _accuracy(name: str) -> str:
    told = [f"@{kind} {right / TESTED:.1%}" for kind, right in RIGHT.get(name, {}).items()]
    return f"test accuracy {', '.join(told)}"
