"""A Keras model with everything that the protocol asks of it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import UsageError
from onnxeq.protocols import KernelError, LoadRequest, NativeValue, Progress
from onnxeq.types import Array, Export, ExportForm, Feed, Precision, Signature
from onnxeq_converters.digest import weights_digest
from onnxeq_converters.from_keras import exporting, seeding
from onnxeq_converters.from_keras.framework import keras_of
from onnxeq_converters.from_keras.loading import Loaded
from onnxeq_converters.from_keras.program import flat_call, input_specs, trace
from onnxeq_converters.from_tensorflow import float64, layers
from onnxeq_converters.from_tensorflow.framework import version
from onnxeq_converters.from_tensorflow.program import Program, arranged, run
from onnxeq_converters.naming import unique

__all__ = ["KerasNative", "make_native"]


@dataclass(frozen=True)
class KerasNative:
    """A model in inference mode; satisfies :class:`onnxeq.protocols.Native`."""

    model: Any
    program: Program
    facts: Mapping[str, str]

    @property
    def signature(self) -> Signature:
        """Inputs and outputs in Keras' order."""
        return self.program.signature

    @functools.cached_property
    def provenance(self) -> Mapping[str, str]:
        """Framework, versions, exporter, and the weights with their SHA-256.

        Random states are no weights: layers with dropout draw a new one whenever they are made, also from a file.
        """
        weights = {n: v for n, v in self.weights().items() if n.rpartition("/")[2] != "seed_generator_state"}
        package = keras_of(self.model)
        return {
            "framework": "keras",
            "keras": version(package),
            "keras_package": package,
            "tensorflow": version("tensorflow"),
            "model_class": f"{type(self.model).__module__}.{type(self.model).__qualname__}",
            "exporter": "tf2onnx",
            "exporter_version": version("tf2onnx"),
            "weights_sha256": weights_digest(weights),
            **self.facts,
        }

    @property
    def shortcut(self) -> str:
        """None: Keras runs the same code in inference mode."""
        return ""

    @property
    def no_float64(self) -> str:
        """Nothing: the program runs in float64."""
        return ""

    @functools.cached_property
    def _wide(self) -> float64.WideProgram:
        return float64.widen(self.program)

    def run(self, feed: Feed, precision: Precision) -> dict[str, Array]:
        """The outputs for one feed, by name in Keras' order.

        Raises:
            onnxeq.errors.BadInputs: The feed does not fit the inputs.
            onnxeq.errors.CannotRun: An operator has no float64 form, or the model raised.
        """
        arrays = arranged(feed, self.signature.inputs)
        if precision is Precision.F64:
            return dict(zip((s.name for s in self.signature.outputs), self._wide(arrays), strict=True))
        return run(self.program, arrays)

    def export(self, folder: Path, forms: tuple[ExportForm, ...], opset: int | None) -> tuple[Export, ...]:
        """One ONNX file per form, written by tf2onnx with an open batch axis if it can be had.

        Raises:
            onnxeq.errors.ExportFailed: tf2onnx raised.
        """
        return exporting.export(self.model, self.program, folder, forms, opset)

    def weights(self) -> dict[str, Array]:
        """Every variable by its layer path, ``conv1_conv/kernel``; a name seen twice gets ``#2``."""
        variables = self.model.variables
        names = unique(str(getattr(v, "path", None) or v.name.partition(":")[0]) for v in variables)
        return {name: np.asarray(variable) for name, variable in zip(names, variables, strict=True)}

    def layers(self, feed: Feed, precision: Precision, names: Collection[str] | None = None) -> Iterator[NativeValue]:
        """The trace's tensors by the names that tf2onnx keeps; see :mod:`.layers`.

        Raises:
            onnxeq.errors.CannotRun: An operator has no float64 form, or the model raised.
        """
        arrays = arranged(feed, self.signature.inputs)
        return layers.values(self.program, arrays, double=precision is Precision.F64, names=names)

    def kernels(self, feed: Feed) -> Iterator[KernelError]:
        """How far each TensorFlow operator of the float32 run is from its float64 form."""
        return layers.errors(self.program, arranged(feed, self.signature.inputs))


def make_native(loaded: Loaded, request: LoadRequest, progress: Progress) -> KerasNative:
    """Seeds the weights if they are to be seeded, then traces the model.

    Raises:
        onnxeq.errors.UsageError: Another exporter than tf2onnx was asked for.
        onnxeq.errors.BadInputs: The model's inputs are not known.
        onnxeq.errors.CannotRun: The model does not run on them.
    """
    if request.exporter not in ("", "tf2onnx"):
        raise UsageError(f"Keras models have no exporter '{request.exporter}'", hint="it is tf2onnx")
    specs = input_specs(loaded.model, request.inputs, loaded.range)
    if loaded.seed is not None:
        progress("seed weights")
        seeding.seed(loaded.model, flat_call(loaded.model, specs), specs, loaded.seed)
    progress("trace")
    return KerasNative(loaded.model, trace(loaded.model, specs), loaded.facts)
