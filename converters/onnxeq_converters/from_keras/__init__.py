"""Keras models (Keras 3 on TensorFlow; ``tf_keras`` where a file or a zoo needs it) as native models.

The module satisfies :class:`onnxeq.protocols.Converter`. Importing it, and asking :func:`owns`,
loads no framework: every function that needs one imports its part of the package when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxeq.protocols import LoadRequest, ModelCard, Native, Preprocessor, Progress
    from onnxeq.types import ZooEntry

__all__ = ["card", "catalogue", "load", "owns", "preprocessing", "warm_up", "wrap"]

_PACKAGES = ("keras", "tf_keras")


def load(request: LoadRequest, progress: Progress) -> Native:
    """Loads ``keras:NAME``, ``digits:keras-NAME``, ``tfmg:NAME``, or a ``.keras``, ``.h5`` or ``.hdf5`` file.

    Raises:
        onnxeq.errors.UnknownModel: With the nearest names in the hint.
        onnxeq.errors.UnusableModel: The file cannot be read, or would run code of its own.
        onnxeq.errors.FrameworkMissing: With the install command in the hint.
        onnxeq.errors.WeightsUnavailable: The weights could not be had; none take their place.
        onnxeq.errors.BadInputs: The declared inputs do not fit the model.
    """
    from onnxeq_converters.from_keras.loading import load_model
    from onnxeq_converters.from_keras.native import make_native

    return make_native(load_model(request, progress), request, progress)


def wrap(model: object, request: LoadRequest, progress: Progress) -> Native:
    """Takes a live ``keras.Model`` (functional, sequential or subclassed) without changing it.

    A factory's model is the caller's gift: ``@seeded`` and ``@path`` set its weights. A live model
    keeps its own.

    Raises:
        onnxeq.errors.BadInputs: The model does not say what it takes and ``request.inputs`` neither.
    """
    from onnxeq_converters.from_keras.loading import adopt
    from onnxeq_converters.from_keras.native import make_native

    return make_native(adopt(model, request), request, progress)


def preprocessing(request: LoadRequest) -> Preprocessor:
    """How Keras makes inputs of pictures for an application; see :class:`onnxeq.protocols.Converter`."""
    if request.ref.zoo == "digits":
        from onnxeq_converters.digits import cards

        raise cards.no_recipe(request.ref.name)
    if request.ref.zoo == "tfmg":
        from onnxeq_converters.from_keras.model_garden import pictures as garden

        return garden.preprocessing(request)
    from onnxeq_converters.from_keras import pictures

    return pictures.preprocessing(request)


def card(request: LoadRequest) -> ModelCard:
    """What Keras says of an application; see :class:`onnxeq.protocols.Converter`."""
    if request.ref.zoo == "digits":
        from onnxeq_converters.digits import KERAS, cards

        return cards.card(request.ref.name, KERAS)
    if request.ref.zoo == "tfmg":
        from onnxeq_converters.from_keras.model_garden import pictures as garden

        return garden.card(request)
    from onnxeq_converters.from_keras import pictures

    return pictures.card(request)


def warm_up(zoo: str) -> None:
    """Imports TensorFlow and Keras, and what the models of a zoo are built with."""
    from onnxeq_converters.from_keras.framework import framework

    framework()
    if zoo == "tfmg":
        from onnxeq_converters.from_keras.model_garden.package import garden

        garden()


def owns(model: object) -> bool:
    """Whether ``model`` is a Keras model; no framework is imported to find out."""
    return any(cls.__name__ == "Model" and cls.__module__.partition(".")[0] in _PACKAGES for cls in type(model).__mro__)


def catalogue(zoo: str) -> tuple[ZooEntry, ...]:
    """The models that ``zoo`` offers: Keras Applications, the Model Garden's classifiers, all of ``digits``."""
    if zoo == "digits":
        from onnxeq_converters import digits

        return digits.entries()
    if zoo == "keras":
        from onnxeq_converters.from_keras.zoo import entries

        return entries()
    if zoo == "tfmg":
        from onnxeq_converters.from_keras import model_garden

        return model_garden.entries()
    return ()
