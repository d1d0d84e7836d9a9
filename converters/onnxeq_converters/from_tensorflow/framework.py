"""The one door through which TensorFlow and tf2onnx come in."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from onnxeq.errors import FrameworkMissing

__all__ = ["first_line", "quiet_stdout", "require", "tensorflow", "version"]

_HINT = "pip install 'onnxeq[keras]'"

_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")

USE_GPU = "ONNXEQ_NATIVE_GPU"
"""Environment variable: ``1`` lets the native runs see GPUs. They run on the CPU otherwise, so that
they are repeatable and leave the device to the runtime that is being judged."""


@functools.cache
def tensorflow() -> Any:
    """Imports TensorFlow, quietly and on the CPU unless asked otherwise.

    Raises:
        onnxeq.errors.FrameworkMissing: With the install command in the hint.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:  # it may come in behind TensorFlow
        os.environ["KERAS_BACKEND"] = "tensorflow"
    ours = "tensorflow" not in sys.modules
    with quiet_stdout():
        tf = require("tensorflow")
    if ours and os.environ.get(USE_GPU) != "1":
        # Only when TensorFlow is ours: a live model's owner decides about the devices.
        tf.config.set_visible_devices([], "GPU")
    return tf


def require(name: str) -> Any:
    """Imports a package that this converter needs.

    Raises:
        onnxeq.errors.FrameworkMissing: With the install command in the hint.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FrameworkMissing(f"cannot import {name}: {first_line(error)}", hint=_HINT) from error


def version(package: str) -> str:
    """The installed version of a distribution; empty when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Sends what the frameworks print (download bars, notices) to stderr: stdout is data."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


_BANNERS = (
    "Exception encountered when calling", "Graph execution error", "Detected at node", "<stack traces", 'File "',
)  # fmt: skip
"""Lines that come before the reason."""


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first telling line of a framework's message, at most ``limit`` characters long.

    Keras puts a line of its own, in bold, before the message of an exception in a layer.
    """
    lines = [_TERMINAL_CODE.sub("", line).strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(_BANNERS)]
    text = telling[0] if telling else type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
