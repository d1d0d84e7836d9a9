"""A file of weights as a source of its own: they can be held against an artifact's constants, and nothing can run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import torch

from onnxeq.errors import CannotRun
from onnxeq.protocols import KernelError, LoadRequest, NativeValue
from onnxeq.types import Array, Export, ExportForm, Feed, Precision, Signature

from .inputs import to_array
from .weights import fingerprint

__all__ = ["StateNative"]


class StateNative:
    """A state dict; satisfies :class:`onnxeq.protocols.Native` as far as a model without a program can.

    Args:
        state: Tensors by name.
        request: What was asked for; its inputs are taken as they are.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], request: LoadRequest) -> None:
        self._state = dict(state)
        self._request = request

    @property
    def signature(self) -> Signature:
        """The inputs that somebody declared."""
        return Signature(self._request.inputs or ())

    @property
    def provenance(self) -> Mapping[str, str]:
        """Where the weights are from; ``program`` is ``none``."""
        return {
            "framework": "torch",
            "torch": str(torch.__version__),
            "model": self._request.ref.text,
            "program": "none",
            "weights": "stored",
            "weights_sha256": fingerprint(self._state),
        }

    @property
    def shortcut(self) -> str:
        """None."""
        return ""

    @property
    def no_float64(self) -> str:
        """None: it is the program that is missing."""
        return ""

    def weights(self) -> dict[str, Array]:
        """Every tensor by its name, as read-only views."""
        arrays = {name: to_array(tensor) for name, tensor in self._state.items()}
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def run(self, feed: Feed, precision: Precision) -> dict[str, Array]:
        """Raises :class:`onnxeq.errors.CannotRun`."""
        self._refuse()

    def export(self, folder: Path, forms: tuple[ExportForm, ...], opset: int | None) -> tuple[Export, ...]:
        """Raises :class:`onnxeq.errors.CannotRun`."""
        self._refuse()

    def layers(self, feed: Feed, precision: Precision, names: Collection[str] | None = None) -> Iterator[NativeValue]:
        """Raises :class:`onnxeq.errors.CannotRun`."""
        self._refuse()

    def kernels(self, feed: Feed) -> Iterator[KernelError]:
        """Raises :class:`onnxeq.errors.CannotRun`."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        name = Path(self._request.ref.name).name
        raise CannotRun(
            f"{name} is a state dict, which holds no program",
            hint=f"name the factory that builds the module: FILE.py:FACTORY@{name}",
        )
