"""A TensorFlow Lite file with everything that the protocol asks of it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnxeq.errors import CannotRun, UnusableModel, UsageError
from onnxeq.protocols import KernelError, LoadRequest, NativeValue, Progress
from onnxeq.types import Array, Export, ExportForm, Feed, Precision, Signature, TensorSpec
from onnxeq_converters.digest import file_sha256, weights_digest
from onnxeq_converters.from_tensorflow.exporting import names, save
from onnxeq_converters.from_tensorflow.framework import version
from onnxeq_converters.from_tensorflow.program import arranged, declaration_of, settle
from onnxeq_converters.from_tensorflow.safety import reaches_out
from onnxeq_converters.from_tflite import exporting
from onnxeq_converters.from_tflite.interpreter import Runner, input_specs, open_runner, output_names, runtime
from onnxeq_converters.from_tflite.reading import Contents, read
from onnxeq_converters.from_tflite.widened import Scale, scale_of, widen_interface
from onnxeq_converters.naming import unique

__all__ = ["TfliteNative", "load_model"]

_FLEX = "Flex"
"""Custom operators of this name are TensorFlow's own."""


@dataclass(frozen=True)
class TfliteNative:
    """A file in the interpreter; satisfies :class:`onnxeq.protocols.Native`."""

    path: Path
    contents: Contents
    runner: Runner
    signature: Signature
    facts: Mapping[str, str]
    narrow: Mapping[str, Scale] = field(default_factory=dict)
    """How inputs and outputs are quantised that are seen through float32 (:mod:`.widened`)."""

    @functools.cached_property
    def provenance(self) -> Mapping[str, str]:
        """Runtime, versions, exporter, the file's SHA-256 and that of its constants."""
        package, number = runtime()
        return {
            "framework": "tflite",
            "runtime": package,
            "runtime_version": number,
            "exporter": "tf2onnx",
            "exporter_version": version("tf2onnx"),
            "weights_sha256": weights_digest(self.weights()),
            **self.facts,
        }

    @property
    def shortcut(self) -> str:
        """XNNPACK's kernels, which the interpreter puts in the place of its own wherever there is one."""
        return "TensorFlow Lite's XNNPACK delegate"

    @property
    def no_float64(self) -> str:
        """The interpreter has kernels for the types that the file declares, and for no others."""
        return "TensorFlow Lite's interpreter has no float64 form of a stored model"

    @functools.cached_property
    def _plain(self) -> Runner:
        return open_runner(self.path, self.contents, plain=True)

    def run(self, feed: Feed, precision: Precision) -> dict[str, Array]:
        """The outputs for one feed, in the interpreter's order, in the types that the file declares.

        Raises:
            onnxeq.errors.BadInputs: The feed does not fit the inputs.
            onnxeq.errors.CannotRun: The interpreter failed, or float64 was asked for.
        """
        if precision is Precision.F64:
            raise CannotRun(self.no_float64)
        runner = self.runner if precision is Precision.F32 else self._plain
        made = dict(zip((s.name for s in self.signature.outputs), runner.run(self._given(feed)), strict=True))
        return {n: self.narrow[n].dequantized(v) if n in self.narrow else v for n, v in made.items()}

    def _given(self, feed: Feed) -> list[Array]:
        """The feed in the interpreter's order and types."""
        arrays = arranged(feed, self.signature.inputs)
        return [
            self.narrow[s.name].quantized(a) if s.name in self.narrow else a
            for s, a in zip(self.signature.inputs, arrays, strict=True)
        ]

    def export(self, folder: Path, forms: tuple[ExportForm, ...], opset: int | None) -> tuple[Export, ...]:
        """One ONNX file per form: ``tf2onnx.convert.from_tflite``, and the same without its optimizers.

        What the file's own writer has folded stays folded: there is no other form of its constants.

        Raises:
            onnxeq.errors.ExportFailed: tf2onnx raised.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(self._export(folder / f"{form.value}.onnx", form, opset) for form in forms)

    def _export(self, path: Path, form: ExportForm, opset: int | None) -> Export:
        proto = exporting.converted(self.path, self.contents, form, opset)
        inputs = names("input", [v.name for v in proto.graph.input], [s.name for s in self.signature.inputs])
        outputs = names("output", [v.name for v in proto.graph.output], [s.name for s in self.signature.outputs])
        widen_interface(
            proto,
            {
                i: self.narrow[s.name]
                for i, s in zip(inputs, self.signature.inputs, strict=True)
                if s.name in self.narrow
            },
            {
                o: self.narrow[s.name]
                for o, s in zip(outputs, self.signature.outputs, strict=True)
                if s.name in self.narrow
            },
        )
        ours = [s.shape for s in self.signature.inputs]
        dynamic = exporting.has_open_batch(proto) and all(s and isinstance(s[0], str) for s in ours)
        save(proto, path)
        return Export(path, form, dynamic, inputs, outputs)

    def weights(self) -> dict[str, Array]:
        """Every constant of the main graph by its name, as it is stored: a quantised one in integers."""
        found: dict[str, Array] = {}
        indices = self.contents.constants
        for index, name in zip(indices, unique(self.contents.names[i] for i in indices), strict=True):
            with contextlib.suppress(ValueError):  # text, or no room was made for it
                found[name] = np.asarray(self.runner.interpreter.get_tensor(index))
        return found

    def layers(self, feed: Feed, precision: Precision, names: Collection[str] | None = None) -> Iterator[NativeValue]:
        """The tensors of the main graph by their names in the unfolded export, computed by the runtime's own kernels.

        Raises:
            onnxeq.errors.CannotRun: float64 was asked for, or the interpreter failed.
        """
        if precision is Precision.F64:
            raise CannotRun(self.no_float64)
        wanted = None if names is None else set(names)
        self._plain.run(self._given(feed))
        for op in self.contents.operators:
            arguments = {f"input {k}": self.contents.names[i] for k, i in enumerate(op.inputs) if i >= 0}
            if op.fused:
                arguments["fused"] = ", ".join(op.fused)
            for index in op.outputs:
                name = exporting.value_name(self.contents, op, index)
                if wanted is None or name in wanted:
                    array = np.asarray(self._plain.interpreter.get_tensor(index))
                    yield NativeValue(name, array, op.kind, arguments, (), _layer(name), "")

    def kernels(self, feed: Feed) -> Iterator[KernelError]:
        """Nothing: there is no float64 kernel to judge one by."""
        del feed
        return iter(())


def load_model(request: LoadRequest, progress: Progress) -> TfliteNative:
    """Opens the file that ``request.ref`` names.

    Raises:
        onnxeq.errors.UnusableModel: It is no such file, or the interpreter refuses it.
        onnxeq.errors.UsageError: Another exporter or other weights were asked for.
        onnxeq.errors.BadInputs: The declared inputs do not fit.
    """
    path = Path(request.ref.name)
    if request.exporter not in ("", "tf2onnx"):
        raise UsageError(f"TensorFlow Lite files have no exporter '{request.exporter}'", hint="it is tf2onnx")
    if request.ref.weights:
        raise UsageError(f"{path.name} has its weights in it", hint="leave out what stands after @")
    progress(f"read {path.name}")
    contents = read(path)
    outside = [name for name in contents.custom if reaches_out(name.removeprefix(_FLEX))]
    if outside and not request.trust:
        raise UnusableModel(
            f"{path} holds {', '.join(outside)}, which reach files, code or machines outside of the model",
            hint="if you trust it: --trust",
        )
    runner = open_runner(path, contents)
    any_batch = runner.takes_any_batch()
    own = input_specs(runner, any_batch=any_batch)
    specs, narrow = own, dict[str, Scale]()
    if request.inputs:
        declared = [declaration_of(s, i, request.inputs, len(own)) for i, s in enumerate(own)]
        scales = [
            scale_of(d) if said.dtype == "float32" else None for d, said in zip(runner.inputs, declared, strict=True)
        ]
        narrow = {s.name: scale for s, scale in zip(own, scales, strict=True) if scale is not None}
        seen = [s if scale is None else scale.spec(s) for s, scale in zip(own, scales, strict=True)]
        specs = tuple(settle(s, said) for s, said in zip(seen, declared, strict=True))
    outputs = []
    for name, detail in zip(output_names(runner), runner.outputs, strict=True):
        scale = scale_of(detail) if narrow else None
        narrow |= {name: scale} if scale is not None else {}
        outputs.append(TensorSpec(name, "float32" if scale is not None else np.dtype(detail["dtype"]).name, None))
    facts = {"file_sha256": file_sha256(path), "weights": "as stored"}
    return TfliteNative(path, contents, runner, Signature(specs, tuple(outputs)), facts, narrow)


def _layer(name: str) -> str:
    """The layer in whose code a tensor was made: the writer joins the names of what it has fused."""
    return name.partition(";")[0].rpartition("/")[0]
