"""A torch module as the ladder's native program: run in float32 and float64, exported, described."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.metadata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from onnxeq.errors import BadInputs, ExportFailed, UnusableModel, UsageError
from onnxeq.protocols import KernelError, NativeValue, Progress
from onnxeq.types import Array, Export, ExportForm, Feed, Precision, Signature, TensorSpec

from . import export as exporting
from . import halves, kernels, layers, scripted
from .float64 import Float64Mode, lift
from .inputs import Calling, examples, to_array
from .outputs import flatten
from .unsteady import first_difference
from .weights import fingerprint, named

__all__ = ["TorchNative", "private_copy"]

_PACKAGES = ("torch", "onnxscript", "onnx", "onnx-ir")


class TorchNative:
    """A module in inference mode on the CPU; satisfies :class:`onnxeq.protocols.Native`.

    Args:
        model: The module, which this object owns: nobody else may hold it.
        calling: How it is called.
        described: What ``provenance`` says besides versions and the weights' fingerprint.
        progress: Told each step as it begins.
        threads: How many the float64 run may use; 0 for torch's own choice.
        exporter: One of :data:`.export.EXPORTERS`; empty for the first.

    Raises:
        UsageError: torch has no such exporter.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        calling: Calling,
        described: Mapping[str, str],
        progress: Progress,
        threads: int = 0,
        exporter: str = "",
    ) -> None:
        if exporter and exporter not in exporting.EXPORTERS:
            known = " and ".join(exporting.EXPORTERS)
            raise UsageError(f"torch has no exporter '{exporter}'", hint=f"it has {known}")
        self._model = model
        self._calling = calling
        self._described = dict(described)
        self._progress = progress
        self._threads = threads
        # torch.export refuses TorchScript; the older exporter traces a module that holds some. It refuses detectors as
        # well, whose number of boxes steers what is computed ("Could not guard on data-dependent expression").
        self._scripted = scripted.is_scripted(model)
        traced = self._scripted or calling.listed
        self._exporter = exporter or ("torchscript" if traced else exporting.EXPORTERS[0])
        self._captured: layers.Captured | None = None
        self._held: exporting.Held | None = None
        self._opset: int | None = None
        self._outputs: tuple[TensorSpec, ...] = ()

    @property
    def signature(self) -> Signature:
        """The inputs with their ranges, and the outputs once the model has run."""
        return Signature(self._calling.specs, self._outputs)

    @property
    def provenance(self) -> Mapping[str, str]:
        """Framework, versions, exporter, threads, weights and their SHA-256."""
        versions = {name: _version(name) for name in _PACKAGES}
        return {
            "framework": "torch",
            **versions,
            "exporter": f"torch.onnx.export(dynamo={self._exporter == 'dynamo'})",
            "threads": str(torch.get_num_threads()),
            **self._described,
            **({"note": f"every run begins as the file was loaded: {self._state}"} if self._state else {}),
            "weights_sha256": self._fingerprint,
        }

    @property
    def shortcut(self) -> str:
        """The fast path for transformer encoders, if a module of the kinds that have one is there and it is on."""
        kinds = (torch.nn.MultiheadAttention, torch.nn.TransformerEncoderLayer, torch.nn.TransformerEncoder)
        there = any(isinstance(module, kinds) for module in self._model.modules())
        usual = torch.backends.mha.get_fastpath_enabled()
        return "torch's fast path for transformer encoders (torch.backends.mha)" if there and usual else ""

    @property
    def no_float64(self) -> str:
        """Nothing: the program runs in float64."""
        return ""

    def run(self, feed: Feed, precision: Precision) -> dict[str, Array]:
        """The outputs for one feed; see :meth:`onnxeq.protocols.Native.run`.

        float32 runs with the process's own thread count, which ``provenance`` records.

        Raises:
            BadInputs: The feed's names or element types are not the declared ones.
        """
        self._progress(f"run native/{precision.value}")
        tensors = self._calling.tensors(feed)
        if precision is Precision.F64:
            outputs = self._run_f64(tensors)
        else:
            with plain_encoders() if precision is Precision.F32_PLAIN else contextlib.nullcontext():
                outputs = self._run_f32(tensors)
        arrays = {name: to_array(tensor) for name, tensor in outputs.items()}
        if precision is Precision.F32:
            self._outputs = tuple(_spec(name, array) for name, array in arrays.items())
        return arrays

    def export(self, folder: Path, forms: tuple[ExportForm, ...], opset: int | None) -> tuple[Export, ...]:
        """Writes the forms that are asked for; see :func:`onnxeq_converters.from_torch.export.export`.

        The deployed form may be asked for after the unfolded one: both are made of one capture.
        """
        if forms and self._state:
            raise ExportFailed(
                f"an ONNX file keeps nothing from one run to the next, and this module does: {self._state}",
                hint="write a factory whose module takes the state as an input and returns it: FILE.py:FACTORY",
            )
        held = self._held if self._opset == opset and ExportForm.UNFOLDED not in forms else None
        self._opset = opset
        done = exporting.export(
            self._model, self._calling, self._example_outputs(), folder, forms, opset, self._progress, self._exporter,
            held=held,
        )  # fmt: skip
        self._captured, self._held = done.captured, done.held
        self._described["opset"] = str(done.opset)
        return done.exports

    def layers(self, feed: Feed, precision: Precision, names: Collection[str] | None = None) -> Iterator[NativeValue]:
        """The values of the graph that the dynamo exporter translates; see :mod:`.layers`.

        Raises:
            ExportFailed: The model cannot be captured.
            CannotRun: An operator of the graph failed.
        """
        if self._captured is None:
            outputs = self._example_outputs()
            self._captured = exporting.capture(self._model, self._calling, outputs, self._opset, self._progress)
        self._progress(f"layers of native/{precision.value}")
        args, kwargs = self._calling.bind(self._calling.tensors(feed))
        with plain_encoders():
            yield from layers.values(self._captured, args, kwargs, double=precision is Precision.F64, names=names)

    def kernels(self, feed: Feed) -> Iterator[KernelError]:
        """How far each aten operator of the float32 run is from its float64 form; see :mod:`.kernels`."""
        self._progress("kernels of native/f32")
        args, kwargs = self._calling.bind(self._calling.tensors(feed))
        return iter(kernels.errors(self._fresh(), args, kwargs))

    def _example_outputs(self) -> Any:
        args, kwargs = self._calling.bind(examples(self._calling))
        with torch.no_grad(), plain_encoders():
            return self._call(self._fresh(), args, kwargs)

    def weights(self) -> dict[str, Array]:
        """Every parameter and buffer by its native name, as read-only views."""
        arrays = {name: to_array(tensor) for name, tensor in named(self._model).items()}
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def unsteady(self, feed: Feed) -> str:
        """Where two identical calls begin to differ, in words; empty where they do not."""
        args, kwargs = self._calling.bind(self._calling.tensors(feed))
        with torch.no_grad():
            return first_difference(self._model, lambda: self._model(*args, **kwargs))

    def _run_f32(self, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        args, kwargs = self._calling.bind(tensors)
        # no_grad, not inference_mode: a module that keeps a tensor for the next call (a cache, a
        # mask) would keep an inference tensor, which the exporter then refuses.
        with torch.no_grad():
            return flatten(self._call(self._fresh(), args, kwargs))

    def _run_f64(self, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        args, kwargs = self._calling.bind([t.double() if t.dtype is torch.float32 else t for t in tensors])
        # Under no_grad composite operators are taken apart before the mode sees them, so the scalars
        # inside them are rounded too; under inference_mode they would not be.
        model = (
            private_copy(self._double) if self._state else self._double
        )  # made outside the mode, which would lift what is being copied
        usual = torch.get_num_threads()
        try:
            torch.set_num_threads(self._threads or usual)
            # What is exported, and what every other runtime follows, is the modules' own code.
            with torch.no_grad(), plain_encoders(), Float64Mode():
                outputs = flatten(self._call(model, args, kwargs))
            return {name: halves.held(tensor) for name, tensor in outputs.items()}
        finally:
            torch.set_num_threads(usual)

    def _call(self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return scripted.called(model, args, kwargs) if self._scripted else model(*args, **kwargs)

    def _fresh(self) -> torch.nn.Module:
        """The module; one that keeps state as it was loaded, so that runs can be compared."""
        return private_copy(self._model) if self._state else self._model

    @functools.cached_property
    def _state(self) -> str:
        """How TorchScript keeps state. Of modules in Python nothing is said: the stability rung compares their runs."""
        if not self._scripted:
            return ""
        args, kwargs = self._calling.bind(examples(self._calling))
        try:
            return scripted.kept_state(lambda: private_copy(self._model), args, kwargs)
        except BadInputs:  # examples of the right shape need not be ones that it takes; the stability rung will tell
            return ""

    @functools.cached_property
    def _double(self) -> torch.nn.Module:
        lifted = private_copy(self._model)
        lift(lifted)
        return lifted

    @functools.cached_property
    def _fingerprint(self) -> str:
        return fingerprint(named(self._model))


@contextlib.contextmanager
def plain_encoders() -> Iterator[None]:
    """Without torch's fast path for transformer encoders, which is another program: it fills padded rows with zeros.

    It is taken in inference mode only, so users run it, and exporters do not see it.
    """
    usual = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(usual)


def private_copy(model: torch.nn.Module) -> torch.nn.Module:
    """A deep copy on the CPU in inference mode; the original is not touched in any way.

    Raises:
        UnusableModel: The module holds something that cannot be copied.
    """
    try:
        copied: Any = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:  # a non-leaf tensor kept on the module; a lock, a file
        reason = str(error).strip().splitlines()[0]
        raise UnusableModel(f"{type(model).__name__} cannot be copied: {reason}") from error
    copied = copied.cpu()
    for module in copied.modules():
        # Not eval(): modules out of torch.export refuse it, and a custom train() may do anything.
        module.training = False
    return copied


def _spec(name: str, array: Array) -> TensorSpec:
    return TensorSpec(name, str(array.dtype), tuple(array.shape))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
