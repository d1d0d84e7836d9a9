"""Keras Applications: which there are, how each is built, which values it is made for."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs, UnknownModel, WeightsUnavailable
from onnxeq.protocols import LoadRequest, Progress
from onnxeq.types import ValueRange, ZooEntry
from onnxeq_converters.from_keras.framework import framework
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout

__all__ = ["DEFAULT_SIZE", "asked_shape", "build", "constructors", "entries", "entry_of", "find", "value_range"]

DEFAULT_SIZE = 224
"""Height and width where an application leaves them open (MobileNetV3): its documented default."""

_DOWNLOAD_TIMEOUT_S = 30.0
"""Longest silence of a download. Without one, a blocked network hangs the load for minutes."""


def constructors() -> dict[str, Callable[..., Any]]:
    """Every Keras Application by its constructor's name."""
    applications = framework().keras.applications
    return {
        name: value
        for name, value in sorted(vars(applications).items())
        if inspect.isfunction(value) and name[0].isupper()
    }


def entries() -> tuple[ZooEntry, ...]:
    """One entry per application; the note tells the values that it is made for."""
    return tuple(entry_of(constructor) for constructor in constructors().values())


def entry_of(constructor: Callable[..., Any]) -> ZooEntry:
    """An application as the catalogue lists it."""
    limits = value_range(constructor)
    note = f"values {limits.low:g} to {limits.high:g}" if limits else ""
    return ZooEntry(name=constructor.__name__, family=constructor.__module__.rpartition(".")[2], note=note)


def value_range(constructor: Callable[..., Any]) -> ValueRange | None:
    """The values that an application is made for, measured on its own ``preprocess_input``.

    A black and a white pixel (0 and 255 in every channel) go through it; it is monotone in every
    channel, so the extremes of what comes out bound what any image gives.
    """
    module = importlib.import_module(constructor.__module__)
    preprocess = getattr(module, "preprocess_input", None)
    if preprocess is None:
        return None
    pixels = np.stack([np.zeros((1, 1, 3)), np.full((1, 1, 3), 255.0)]).astype(np.float32)
    seen = np.asarray(preprocess(pixels, data_format="channels_last"))
    return ValueRange(float(seen.min()), float(seen.max()))


def build(request: LoadRequest, progress: Progress) -> Any:
    """Builds an application with the weights that the reference asks for (``seeded``: none yet).

    Raises:
        onnxeq.errors.UnknownModel: With the nearest names.
        onnxeq.errors.WeightsUnavailable: The download failed.
        onnxeq.errors.BadInputs: The declared input does not fit.
    """
    ref = request.ref
    constructor = find(ref.name)
    pretrained = ref.weights in ("", "pretrained", "imagenet")
    progress(f"build {ref.name}")
    asked = asked_shape(request)
    arguments: dict[str, Any] = {"weights": "imagenet" if pretrained else None}
    if asked is not None:
        arguments["input_shape"] = asked
    with quiet_stdout(), _download_timeout():
        model = _construct(constructor, arguments, ref.name)
        if asked is None and None in model.input_shape[1:]:
            arguments["input_shape"] = (DEFAULT_SIZE, DEFAULT_SIZE, 3)
            model = _construct(constructor, arguments, ref.name)
    return model


def _construct(constructor: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    try:
        return constructor(**arguments)
    except ValueError as error:
        # Keras checks arguments with ValueError before it fetches anything.
        if "input_shape" in arguments:
            shape = "x".join(str(d) for d in arguments["input_shape"])
            raise BadInputs(f"keras:{name} does not take {shape}: {first_line(error)}") from error
        raise WeightsUnavailable(f"keras:{name}: {first_line(error)}", hint="use @seeded") from error
    except Exception as error:  # get_file raises a bare Exception when the download fails
        if arguments["weights"] is None:
            raise
        raise WeightsUnavailable(
            f"no weights for keras:{name}: {first_line(error)}", hint=f"use keras:{name}@seeded"
        ) from error


def find(name: str) -> Callable[..., Any]:
    """The constructor of that name.

    Raises:
        onnxeq.errors.UnknownModel: With the nearest names.
    """
    known = constructors()
    if name in known:
        return known[name]
    by_case = [k for k in known if k.lower() == name.lower()]
    lower = {k.lower(): k for k in known}
    close = [lower[k] for k in difflib.get_close_matches(name.lower(), lower, n=4, cutoff=0.5)]
    nearest = by_case or close
    hint = f"did you mean {', '.join(f'keras:{k}' for k in nearest)}?" if nearest else "see: onnxeq zoo list keras"
    raise UnknownModel(f"keras has no application named {name!r}", hint=hint)


def asked_shape(request: LoadRequest) -> tuple[int, ...] | None:
    """The image shape that the user declared, without the batch; ``None`` for the application's own."""
    if not request.inputs:
        return None
    shape = request.inputs[0].shape
    if len(request.inputs) != 1 or shape is None or len(shape) != 4:
        texts = ", ".join(f"{s.name} {s.text()}" for s in request.inputs)
        raise BadInputs(f"keras:{request.ref.name} takes one image batch [N,H,W,C], not {texts}")
    sizes = tuple(d for d in shape[1:] if isinstance(d, int))
    return sizes if len(sizes) == 3 else None


@contextlib.contextmanager
def _download_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
