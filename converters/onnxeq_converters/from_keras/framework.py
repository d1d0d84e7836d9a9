"""The one door through which Keras comes in."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

from onnxeq.errors import CannotRun
from onnxeq_converters.from_tensorflow.framework import quiet_stdout, require, tensorflow

__all__ = ["PACKAGES", "Framework", "framework", "keras_of", "tf_keras"]

PACKAGES = ("keras", "tf_keras")
"""Keras 3, and Keras 2 as a package of its own."""


@dataclass(frozen=True)
class Framework:
    """The imported packages. ``tf`` is TensorFlow, ``keras`` is Keras 3 with TensorFlow behind it."""

    tf: Any
    keras: Any


@functools.cache
def framework() -> Framework:
    """Imports TensorFlow and Keras, quietly and on the CPU unless asked otherwise.

    Raises:
        onnxeq.errors.FrameworkMissing: With the install command in the hint.
        onnxeq.errors.CannotRun: Keras was already imported with another backend.
    """
    tf = tensorflow()
    with quiet_stdout():
        keras = require("keras")
    if keras.backend.backend() != "tensorflow":
        raise CannotRun(
            f"Keras runs on the {keras.backend.backend()} backend, and only tensorflow can be exported",
            hint="set KERAS_BACKEND=tensorflow",
        )
    return Framework(tf, keras)


def tf_keras() -> Any | None:
    """Keras 2 as a package of its own, or ``None`` where it is not installed."""
    try:
        return importlib.import_module("tf_keras")
    except ImportError:
        return None


def keras_of(model: Any) -> str:
    """Which of :data:`PACKAGES` a model is of."""
    packages = [cls.__module__.partition(".")[0] for cls in type(model).__mro__]
    return next((name for name in packages if name in PACKAGES), PACKAGES[0])
