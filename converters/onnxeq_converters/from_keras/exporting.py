"""A Keras model's ONNX files: ``tf2onnx.convert.from_keras``, which takes the model through its flat program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxeq.types import Export, ExportForm
from onnxeq_converters.from_keras.program import trace
from onnxeq_converters.from_tensorflow import exporting
from onnxeq_converters.from_tensorflow.framework import require, tensorflow
from onnxeq_converters.from_tensorflow.program import Program

__all__ = ["export"]


class _FlatModel:
    """What ``from_keras`` needs of a model: the program, which takes and gives flat named tensors.

    ``from_keras`` passes one tensor, a list, or several arguments, depending on TensorFlow's version,
    and pairs ``output_names`` with the flattened result; a dictionary flattens by sorted key.
    (``from_function`` would turn every constant that the trace captured into a graph input.)
    """

    def __init__(self, model: Any, program: Program) -> None:
        self.name = str(model.name)
        self.output_names = sorted(spec.name for spec in program.signature.outputs)
        self._checkpoint_dependencies = getattr(model, "_checkpoint_dependencies", ())
        self._program = program

    def __call__(self, *args: Any, training: bool = False) -> dict[str, Any]:
        del training
        flat = args[0] if len(args) == 1 and isinstance(args[0], list) else args
        if not _has_compiled_functions(self._program):
            return self._program.call(*flat)
        config = tensorflow().config
        before = config.functions_run_eagerly()
        # The functions inside become part of the trace that is under way.
        config.run_functions_eagerly(True)
        try:
            return self._program.call(*flat)
        finally:
            config.run_functions_eagerly(before)


def export(
    model: Any, program: Program, folder: Path, forms: tuple[ExportForm, ...], opset: int | None
) -> tuple[Export, ...]:
    """Writes ``<form>.onnx`` into ``folder`` for each form; see :func:`.from_tensorflow.exporting.export`.

    Raises:
        onnxeq.errors.ExportFailed: tf2onnx raised, for an open batch and for a batch of one.
    """

    def convert(program: Program, opset: int | None, handlers: Mapping[str, Any] | None) -> Any:
        from_keras = require("tf2onnx.convert").from_keras
        return from_keras(_FlatModel(model, program), program.tf_specs, opset, custom_op_handlers=handlers)[0]

    made = exporting.export(program, convert, lambda specs: trace(model, specs), folder, forms, opset)
    if not _has_compiled_functions(program):
        return made
    note = "XLA functions (grouped convolutions) inlined by onnxeq: tf2onnx cannot call them"
    return tuple(replace(e, notes=(*e.notes, note)) for e in made)


def _has_compiled_functions(program: Program) -> bool:
    """Whether XLA functions are called, which freezing does not inline and tf2onnx does not know.

    Keras puts grouped convolutions into such functions (``ConvNeXt``).
    """
    library = program.concrete.graph.as_graph_def().library
    return any(f.attr["_XlaMustCompile"].b for f in library.function)
