"""TensorFlow Lite files as native models: the interpreter runs them, tf2onnx converts them.

The module satisfies :class:`onnxeq.protocols.Converter`. Importing it loads no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxeq.errors import UsageError

if TYPE_CHECKING:
    from onnxeq.protocols import LoadRequest, Native, Progress
    from onnxeq.types import ZooEntry

__all__ = ["catalogue", "load", "owns", "warm_up", "wrap"]


def load(request: LoadRequest, progress: Progress) -> Native:
    """Loads a ``.tflite`` file.

    Raises:
        onnxeq.errors.UnusableModel: It is no such file, or the interpreter refuses it.
        onnxeq.errors.FrameworkMissing: With the install command in the hint.
        onnxeq.errors.BadInputs: The declared inputs do not fit the model.
    """
    from onnxeq_converters.from_tflite.native import load_model

    return load_model(request, progress)


def wrap(model: object, request: LoadRequest, progress: Progress) -> Native:
    """Files only.

    Raises:
        onnxeq.errors.UsageError: Always.
    """
    del request, progress
    raise UsageError(f"a live {type(model).__name__} is not checked", hint="write it to a .tflite file")


def warm_up(_zoo: str) -> None:
    """Imports TensorFlow, which tf2onnx needs and which holds an interpreter."""
    from onnxeq_converters.from_tensorflow.framework import tensorflow

    tensorflow()


def owns(model: object) -> bool:
    """No live object is of this converter."""
    del model
    return False


def catalogue(zoo: str) -> tuple[ZooEntry, ...]:
    """There is no zoo of TensorFlow Lite files."""
    del zoo
    return ()
