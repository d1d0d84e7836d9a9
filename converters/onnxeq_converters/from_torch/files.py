"""Models in files: torch.export programs, TorchScript, pickled modules with ``trust``, and weights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from onnxeq.errors import UnusableModel, UsageError
from onnxeq.protocols import LoadRequest, Native, Progress
from onnxeq.types import Dim, TensorSpec

from . import scripted, stored_code
from .inputs import resolve, with_ranges
from .kinds import FileKind, kind_of
from .native import TorchNative, private_copy
from .state import StateNative
from .weights import load_file, state_of, unpickle

__all__ = ["from_program", "load"]


def load(request: LoadRequest, progress: Progress) -> Native:
    """Reads a file of whatever kind its bytes say that it is.

    Raises:
        UnusableModel: It is none of torch's, or needs code of its own to be read.
        UsageError: It is a program whose inputs nobody declared.
    """
    path = Path(request.ref.name)
    kind = kind_of(path)
    if request.ref.weights:
        raise UsageError(f"{path.name} holds its weights", hint=f"leave out @{request.ref.weights}")
    progress("load")
    if kind is FileKind.PROGRAM:
        if not request.trust:
            stored_code.refuse(path)
        return from_program(_program(path), request, progress)
    if kind is FileKind.TORCHSCRIPT:
        return _of_module(scripted.read(path, trust=request.trust), request, progress)
    if kind is FileKind.SAFETENSORS:
        return StateNative(load_file(path, trust=request.trust), request)
    held = unpickle(path, trust=request.trust)
    if isinstance(held, torch.nn.Module):
        return _of_module(held, request, progress)
    return StateNative(state_of(held, path), request)


def _program(path: Path) -> Any:
    try:
        return torch.export.load(path)
    except Exception as error:  # torch.export.load raises what its unpacking happens to raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnusableModel(f"{path} is no torch.export program: {reason}") from error


def _of_module(held: torch.nn.Module, request: LoadRequest, progress: Progress) -> TorchNative:
    """A module out of a file; nothing but the caller says what it takes."""
    model = private_copy(held)
    if not request.inputs and (takes := scripted.parameters(model)):
        name = takes.partition(" ")[0]
        raise UsageError(
            f"{Path(request.ref.name).name} does not say what its inputs look like; it takes {takes}",
            hint=f"say --shape {name}=1x3x224x224, or --inputs FILE.npz",
        )
    calling = scripted.with_numbers(model, resolve(model, request.inputs))
    described = {"model": request.ref.text, "weights": "stored"}
    if scripted.is_scripted(model):
        described["form"] = "TorchScript"
    else:
        calling = with_ranges(model, calling)
    return TorchNative(model, calling, described, progress, request.threads, request.exporter)


def from_program(program: Any, request: LoadRequest, progress: Progress) -> TorchNative:
    """Takes an exported program; its own example inputs say what it takes."""
    model = private_copy(program.module())
    calling = resolve(model, request.inputs, _specs(program))
    described = {"model": request.ref.text or "torch.export program", "weights": "stored"}
    return TorchNative(model, with_ranges(model, calling), described, progress, request.threads, request.exporter)


def _specs(program: Any) -> tuple[TensorSpec, ...]:
    """The inputs as the program recorded them; a symbolic first axis is named."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for name in program.graph_signature.user_inputs:
        value = nodes[name].meta.get("val") if isinstance(name, str) else None
        if not isinstance(value, torch.Tensor):
            continue  # a constant that was baked in
        shape: list[Dim] = [int(size) for size in _hints(value)]
        if shape and not isinstance(value.shape[0], int):
            shape[0] = "N"
        specs.append(TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(shape)))
    return tuple(specs)


def _hints(value: torch.Tensor) -> list[int]:
    """Each size as a number: a symbolic one's own example."""
    return [size if isinstance(size, int) else int(size.node.hint) for size in value.shape]
