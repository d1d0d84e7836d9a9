"""A stored TensorFlow program with everything that the protocol asks of it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq.errors import CannotRun, UsageError
from onnxeq.protocols import KernelError, LoadRequest, NativeValue
from onnxeq.types import Array, Export, ExportForm, Feed, Precision, Signature
from onnxeq_converters.digest import weights_digest
from onnxeq_converters.from_tensorflow import exporting, float64, layers
from onnxeq_converters.from_tensorflow.framework import first_line, require, tensorflow, version
from onnxeq_converters.from_tensorflow.loading import Loaded
from onnxeq_converters.from_tensorflow.program import Program, arranged, run

__all__ = ["TensorflowNative", "make_native"]


@dataclass(frozen=True)
class TensorflowNative:
    """A signature of a SavedModel, or a frozen graph; satisfies :class:`onnxeq.protocols.Native`."""

    loaded: Loaded

    @property
    def signature(self) -> Signature:
        """Inputs and outputs in TensorFlow's order: by name."""
        return self.loaded.program.signature

    @functools.cached_property
    def provenance(self) -> Mapping[str, str]:
        """Framework, versions, exporter, and the weights with their SHA-256."""
        return {
            "framework": "tensorflow",
            "tensorflow": version("tensorflow"),
            "exporter": "tf2onnx",
            "exporter_version": version("tf2onnx"),
            "weights_sha256": weights_digest(self.loaded.weights),
            **self.loaded.facts,
        }

    @property
    def shortcut(self) -> str:
        """None: the stored program is what runs."""
        return ""

    @property
    def no_float64(self) -> str:
        """Nothing: the program runs in float64."""
        return ""

    @functools.cached_property
    def _wide(self) -> float64.WideProgram:
        return float64.widen(self.loaded.program)

    @functools.cached_property
    def _inlined(self) -> Program:
        return _inlined(self.loaded.program)

    def run(self, feed: Feed, precision: Precision) -> dict[str, Array]:
        """The outputs for one feed, by name in the signature's order.

        Raises:
            onnxeq.errors.BadInputs: The feed does not fit the inputs.
            onnxeq.errors.CannotRun: An operator has no float64 form, or the program failed.
        """
        arrays = arranged(feed, self.signature.inputs)
        if precision is Precision.F64:
            return dict(zip((s.name for s in self.signature.outputs), self._wide(arrays), strict=True))
        return run(self.loaded.program, arrays)

    def export(self, folder: Path, forms: tuple[ExportForm, ...], opset: int | None) -> tuple[Export, ...]:
        """One ONNX file per form, written by tf2onnx with an open batch axis if it can be had.

        Raises:
            onnxeq.errors.ExportFailed: tf2onnx raised.
        """
        convert = functools.partial(_convert, self.loaded.trackable)
        return exporting.export(self.loaded.program, convert, self.loaded.retrace, folder, forms, opset)

    def weights(self) -> dict[str, Array]:
        """Every variable that the signature reads, by its name; of a frozen graph its floating-point constants."""
        return dict(self.loaded.weights)

    def layers(self, feed: Feed, precision: Precision, names: Collection[str] | None = None) -> Iterator[NativeValue]:
        """The program's tensors by the names that tf2onnx keeps; see :mod:`.layers`.

        Raises:
            onnxeq.errors.CannotRun: An operator has no float64 form, or the program failed.
        """
        arrays = arranged(feed, self.signature.inputs)
        return layers.values(self._inlined, arrays, double=precision is Precision.F64, names=names)

    def kernels(self, feed: Feed) -> Iterator[KernelError]:
        """How far each TensorFlow operator of the float32 run is from its float64 form."""
        return layers.errors(self._inlined, arranged(feed, self.signature.inputs))


def make_native(loaded: Loaded, request: LoadRequest) -> TensorflowNative:
    """The program as the protocol wants it.

    Raises:
        onnxeq.errors.UsageError: Another exporter than tf2onnx was asked for.
    """
    if request.exporter not in ("", "tf2onnx"):
        raise UsageError(f"TensorFlow models have no exporter '{request.exporter}'", hint="it is tf2onnx")
    return TensorflowNative(loaded)


def _convert(trackable: Any, program: Program, opset: int | None, handlers: Mapping[str, Any] | None) -> Any:
    """What ``python -m tf2onnx.convert --saved-model`` does, from a model that is loaded already."""
    loader, converter = require("tf2onnx.tf_loader"), require("tf2onnx.convert")
    inputs, outputs = [t.name for t in program.inputs], [t.name for t in program.outputs]
    renamed = dict(zip(inputs, (s.name for s in program.signature.inputs), strict=True))
    renamed |= dict(zip(outputs, (s.name for s in program.signature.outputs), strict=True))
    with tensorflow().device("/cpu:0"):
        frozen, tables = loader.from_trackable(trackable, program.concrete, inputs, outputs, False)
        return converter._convert_common(
            frozen,
            name="saved model",
            continue_on_error=True,
            opset=opset,
            custom_op_handlers=handlers,
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=renamed,
            initialized_tables=tables,
        )[0]


def _inlined(program: Program) -> Program:
    """The program without calls of functions and without variables, as tf2onnx sees it: names are those of ONNX.

    Raises:
        onnxeq.errors.CannotRun: The weights are too large for one graph, or it cannot be frozen.
    """
    freezing = require("tensorflow.python.framework.convert_to_constants")
    try:
        flat = freezing.convert_variables_to_constants_v2(
            program.concrete, lower_control_flow=False, aggressive_inlining=True
        )
        inputs, outputs = (
            tuple(flat.graph.get_tensor_by_name(t.name) for t in tensors)
            for tensors in (program.inputs, program.outputs)
        )
    except Exception as error:  # protobuf's own errors share no base class
        raise CannotRun(f"the program cannot be frozen: {first_line(error)}") from error
    return replace(program, concrete=flat, inputs=inputs, outputs=outputs)
