"""TensorFlow programs as native models: SavedModel folders of any writer, and frozen graphs.

The module satisfies :class:`onnxeq.protocols.Converter`. Importing it loads no framework. What Keras models and
TensorFlow Lite files need of TensorFlow is here, too: the float64 run, and the exports by tf2onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxeq.errors import UsageError

if TYPE_CHECKING:
    from onnxeq.protocols import LoadRequest, Native, Progress
    from onnxeq.types import ZooEntry

__all__ = ["catalogue", "load", "owns", "warm_up", "wrap"]


def load(request: LoadRequest, progress: Progress) -> Native:
    """Loads a SavedModel folder, or a ``.pb`` file with a frozen graph.

    The signature is ``request.ref.module``; empty for ``serving_default``, or the only one that there is.

    Raises:
        onnxeq.errors.UnusableModel: It cannot be read, or would reach outside of itself.
        onnxeq.errors.UsageError: It has no such signature.
        onnxeq.errors.FrameworkMissing: With the install command in the hint.
        onnxeq.errors.BadInputs: The declared inputs do not fit the model.
    """
    from onnxeq_converters.from_tensorflow.loading import load_model
    from onnxeq_converters.from_tensorflow.native import make_native

    return make_native(load_model(request, progress), request)


def wrap(model: object, request: LoadRequest, progress: Progress) -> Native:
    """Stored programs only: a live one is handed over as what it was made from.

    Raises:
        onnxeq.errors.UsageError: Always.
    """
    del request, progress
    raise UsageError(f"a live {type(model).__name__} is not checked", hint="save it with tf.saved_model.save")


def warm_up(_zoo: str) -> None:
    """Imports TensorFlow."""
    from onnxeq_converters.from_tensorflow.framework import tensorflow

    tensorflow()


def owns(model: object) -> bool:
    """No live object is of this converter."""
    del model
    return False


def catalogue(zoo: str) -> tuple[ZooEntry, ...]:
    """There is no zoo of stored programs."""
    del zoo
    return ()
