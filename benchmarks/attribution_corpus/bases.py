"""The base models: which architecture, through which exporter, with which inputs.

Every base is exported once into a folder (:func:`built`); mutants are made from its artifact, and its source is a
saved file (``.pt2``, ``.keras``, ``.h5``, ``.onnx``), so that what a check computes of it can be kept between mutants.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["BASES", "Base", "Built", "built", "feeds", "real_folder"]


@dataclass(frozen=True)
class Base:
    """One artifact and the model that it was made from.

    Attributes:
        id: ``architecture/exporter``.
        framework: Who exports: ``torch``, ``keras``, or ``file`` where an ONNX file is its own source.
        model: A factory's name, or a path below the folder of real models.
        exporter: ``dynamo``, ``script``, ``unfolded`` (dynamo without its optimiser), ``tf2onnx``, ``as-is``.
        shape: Of the input, without the batch; empty where the file says it.
        words: For tokens, how many there are; 0 for a float input.
        opset: The exporter's own choice when ``None``.
        real: Whether trained weights from the folder of real models are needed.
    """

    id: str
    framework: str
    model: str
    exporter: str
    shape: tuple[int, ...] = ()
    words: int = 0
    opset: int | None = None
    real: bool = False


def _torch(name: str, shape: tuple[int, ...], exporters: str, words: int = 0, opset: int | None = None) -> list[Base]:
    return [Base(f"{name}/{e}", "torch", name, e, shape, words, opset) for e in exporters.split()]


def _keras(name: str, shape: tuple[int, ...], words: int = 0) -> list[Base]:
    return [Base(f"keras-{name}/tf2onnx", "keras", name, "tf2onnx", shape, words)]


_IMAGE = (3, 32, 32)

BASES: tuple[Base, ...] = (
    *_torch("plain", _IMAGE, "dynamo script"),
    *_torch("residual", _IMAGE, "dynamo script unfolded"),
    *_torch("mobile", _IMAGE, "dynamo script"),
    *_torch("dense", _IMAGE, "dynamo script"),
    *_torch("shuffle", _IMAGE, "script unfolded"),
    *_torch("dilated", _IMAGE, "dynamo"),
    *_torch("unet", _IMAGE, "dynamo script"),
    *_torch("detector", _IMAGE, "dynamo script"),
    *_torch("inception", _IMAGE, "dynamo script"),
    *_torch("audio", (1, 400), "dynamo"),
    *_torch("autoencoder", _IMAGE, "dynamo"),
    *_torch("encoder", (8, 32), "dynamo script"),
    *_torch("encoder", (8, 32), "unfolded", opset=20),
    *_torch("vit", _IMAGE, "dynamo script"),
    *_torch("decoder", (8,), "dynamo script", 61),
    *_torch("lstm", (8,), "dynamo script", 61),
    *_torch("bidirectional", (8,), "dynamo", 61),
    *_torch("numbers", (24,), "dynamo"),
    *_torch("indices", (8,), "dynamo", 61),
    *_torch("perceptron", (24,), "dynamo unfolded"),
    *_keras("convolutions", (24, 24, 3)),
    *_keras("separable", (24, 24, 3)),
    *_keras("lstm", (8,), 61),
    *_keras("gru", (10, 4)),
    *_keras("attention", (8, 24)),
    Base("real-resnet20/dynamo", "torch", "resnet20", "dynamo", _IMAGE, real=True),
    Base("real-resnet8/tf2onnx", "keras", "mlperf_tiny_resnet8/pretrainedResnet.h5", "tf2onnx", (32, 32, 3), real=True),
    Base("real-xception/tf2onnx", "keras", "tiny_xception/tiny_XCEPTION_KDEF.hdf5", "tf2onnx", real=True),
    Base("real-mnist/as-is", "file", "winml/mnist.onnx", "as-is", real=True),
    Base("real-face/as-is", "file", "ultralight_face_slim320/version-slim-320.onnx", "as-is", real=True),
    Base("real-squeezenet/as-is", "file", "winml/SqueezeNet_fp16.onnx", "as-is", real=True),
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A base on disk: the reference that a check is given, and the healthy artifact."""

    base: Base
    source: Path
    artifact: Path

    def model(self) -> onnx.ModelProto:
        """A fresh copy of the healthy artifact."""
        return onnx.load(self.artifact)


def real_folder() -> Path:
    """``$ONNXEQ_REAL_MODELS``, else the folder beside the repository's parent."""
    given = os.environ.get("ONNXEQ_REAL_MODELS")
    return Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "models"


def built(folder: Path, wanted: Sequence[Base] = BASES) -> list[Built]:
    """The bases on disk, exported now where they are not there yet; those whose real model is missing are left out.

    torch and TensorFlow each export in a process of their own: neither is imported here.
    """
    there = [b for b in wanted if not b.real or (real_folder() / _file_of(b)).exists()]
    for framework in ("torch", "keras", "file"):
        missing = [b for b in there if b.framework == framework and not _record(folder, b).exists()]
        if missing:
            command = [sys.executable, "-m", f"{__package__}.export", str(folder), framework, *(b.id for b in missing)]
            path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    found = []
    for base in there:
        record = json.loads(_record(folder, base).read_text())
        found.append(Built(base, folder / record["source"], folder / record["artifact"]))
    return found


def feeds(
    model: onnx.ModelProto, count: int = 3, seed: int = 5, words: int = 61
) -> list[dict[str, NDArray[np.generic]]]:
    """Inputs for an artifact, of several scales; a free leading size is 1, 2, 3, and so on."""
    rng = np.random.default_rng(seed)
    constants = {t.name for t in model.graph.initializer}
    made: list[dict[str, NDArray[np.generic]]] = []
    for index in range(count):
        feed: dict[str, NDArray[np.generic]] = {}
        for value in model.graph.input:
            if value.name in constants:
                continue
            kind = value.type.tensor_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            shape = [d.dim_value or index + 1 for d in kind.shape.dim]
            if dtype.kind in "iu":
                feed[value.name] = rng.integers(0, words, shape).astype(dtype)
            else:
                feed[value.name] = (rng.standard_normal(shape) * (0.5, 1.0, 3.0)[index % 3]).astype(dtype)
        made.append(feed)
    return made


def _record(folder: Path, base: Base) -> Path:
    return folder / base.id / "base.json"


def _file_of(base: Base) -> str:
    return "resnet20_cifar10" if base.model == "resnet20" else base.model
