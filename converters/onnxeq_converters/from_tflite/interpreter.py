"""TensorFlow Lite's interpreter: opened on a file, given inputs of any batch, asked for tensors."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import CannotRun, UnusableModel
from onnxeq.types import Array, Dim, TensorSpec, ValueRange
from onnxeq_converters.from_tensorflow.framework import first_line, tensorflow, version
from onnxeq_converters.from_tflite.reading import Contents
from onnxeq_converters.naming import unique

__all__ = ["Runner", "input_specs", "open_runner", "output_names", "runtime"]

_OTHER_BATCH = 2
"""A batch that no file has by accident: it shows whether the interpreter takes another one than the stored."""


class Runner:
    """An interpreter and the shapes that it is prepared for."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self.inputs = interpreter.get_input_details()
        self.outputs = interpreter.get_output_details()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for one feed.

        Raises:
            onnxeq.errors.CannotRun: The interpreter failed.
        """
        try:
            self.prepare([a.shape for a in arrays])
            for detail, array in zip(self.inputs, arrays, strict=True):
                self.interpreter.set_tensor(detail["index"], array)
            self.interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise CannotRun(f"the interpreter failed: {first_line(error)}") from error
        return [np.asarray(self.interpreter.get_tensor(d["index"])) for d in self.outputs]

    def prepare(self, shapes: Sequence[Sequence[int]]) -> None:
        """Makes room for inputs of these shapes; what an earlier run left (a state between calls) is forgotten.

        Raises:
            RuntimeError: The interpreter cannot.
        """
        for detail, shape in zip(self.inputs, shapes, strict=True):
            self.interpreter.resize_tensor_input(detail["index"], list(shape))
        self.interpreter.allocate_tensors()
        self.interpreter.reset_all_variables()

    def takes_any_batch(self) -> bool:
        """Whether the axes that the file calls open can really vary: a size may have been stored in some node."""
        shapes = [_with_batch(d, _OTHER_BATCH) for d in self.inputs]
        try:
            self.prepare(shapes)
            for detail, shape in zip(self.inputs, shapes, strict=True):
                self.interpreter.set_tensor(detail["index"], np.zeros(shape, detail["dtype"]))
            self.interpreter.invoke()
        except (RuntimeError, ValueError):
            return False
        return True


def open_runner(path: Path, contents: Contents, *, plain: bool = False) -> Runner:
    """Opens a file.

    Args:
        path: The file.
        contents: What it holds.
        plain: Whether the runtime's own kernels compute, and every tensor keeps its value; else XNNPACK's where it
            has one, as users get it.

    Raises:
        onnxeq.errors.UnusableModel: The interpreter refuses the file.
    """
    lite = _lite()
    options: dict[str, Any] = {}
    if plain:
        kinds = lite.experimental.OpResolverType if hasattr(lite, "experimental") else lite.OpResolverType
        options["experimental_op_resolver_type"] = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_preserve_all_tensors"] = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which package will hold the interpreter in the future
            interpreter = lite.Interpreter(model_path=str(path), **options)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        custom = f"; its custom operators are {', '.join(contents.custom)}" if contents.custom else ""
        raise UnusableModel(f"the interpreter refuses {path}: {first_line(error)}{custom}") from error
    return Runner(interpreter)


def runtime() -> tuple[str, str]:
    """The package that holds the interpreter, and its version."""
    package = "ai_edge_litert" if importlib.util.find_spec("ai_edge_litert") else "tensorflow"
    return package, version(package.replace("_", "-"))


def input_specs(runner: Runner, *, any_batch: bool) -> tuple[TensorSpec, ...]:
    """What a file takes; a quantised input takes every value of its type.

    Args:
        runner: The interpreter.
        any_batch: Whether open axes stay open; they have their stored size otherwise.

    Raises:
        onnxeq.errors.UnusableModel: An input is text.
    """
    specs = []
    for detail in runner.inputs:
        dtype = np.dtype(detail["dtype"])
        if dtype.kind not in "fiub":
            raise UnusableModel(f"input '{detail['name']}' is {dtype}, which onnxeq cannot make up")
        limits = np.iinfo(dtype) if dtype.kind in "iu" and detail["quantization"][0] else None
        span = ValueRange(float(limits.min), float(limits.max) + 1) if limits else None
        specs.append(TensorSpec(str(detail["name"]), dtype.name, _dims(detail, any_batch), span))
    return tuple(specs)


def output_names(runner: Runner) -> tuple[str, ...]:
    """The outputs in the interpreter's order; a name that repeats gets ``#2``."""
    return tuple(unique(str(detail["name"]) for detail in runner.outputs))


def _dims(detail: Any, any_batch: bool) -> tuple[Dim, ...]:
    return tuple(
        ("N" if axis == 0 else f"d{axis}") if open_ < 0 and any_batch else int(size)
        for axis, (size, open_) in enumerate(zip(detail["shape"], _signature(detail), strict=True))
    )


def _signature(detail: Any) -> list[int]:
    """The shape with -1 for what may vary; files of old writers have none."""
    signature = [int(n) for n in detail.get("shape_signature", ())]
    return signature if len(signature) == len(detail["shape"]) else [int(n) for n in detail["shape"]]


def _with_batch(detail: Any, size: int) -> list[int]:
    return [
        size if axis == 0 and open_ < 0 else int(n)
        for axis, (n, open_) in enumerate(zip(detail["shape"], _signature(detail), strict=True))
    ]


def _lite() -> Any:
    if runtime()[0] == "ai_edge_litert":
        return importlib.import_module("ai_edge_litert.interpreter")
    return tensorflow().lite
