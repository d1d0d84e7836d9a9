"""Programs in files: ``.pt2`` written by ``torch.export.save``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from onnxeq.errors import UnusableModel
from onnxeq.protocols import LoadRequest, Progress
from onnxeq.types import Dim, TensorSpec

from . import stored_code
from .inputs import resolve, with_ranges
from .native import TorchNative, private_copy
from .weights import unpickle

__all__ = ["from_program", "load"]


def load(request: LoadRequest, progress: Progress) -> TorchNative:
    """Reads a ``.pt2`` program.

    Raises:
        UnusableModel: It is something else, or would run code; the message says what, the hint what to do.
    """
    path = Path(request.ref.name)
    if not path.is_file():
        raise UnusableModel(f"{path} does not exist")
    if path.suffix != ".pt2":
        raise UnusableModel(*_explain(path, trust=request.trust))
    progress("load")
    if not request.trust:
        stored_code.refuse(path)
    try:
        program = torch.export.load(path)
    except Exception as error:  # torch.export.load raises what its unpacking happens to raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnusableModel(f"{path} is no torch.export program: {reason}") from error
    return from_program(program, request, progress)


def from_program(program: Any, request: LoadRequest, progress: Progress) -> TorchNative:
    """Takes an exported program; its own example inputs say what it takes."""
    model = private_copy(program.module())
    calling = resolve(model, request.inputs, _specs(program))
    described = {"model": request.ref.text or "torch.export program", "weights": "stored"}
    return TorchNative(model, with_ranges(model, calling), described, progress, request.threads, request.exporter)


def _explain(path: Path, *, trust: bool) -> tuple[str]:
    try:
        torch.jit.load(str(path), map_location="cpu")
    except RuntimeError:
        held = type(unpickle(path, trust=trust)).__name__
        return (f"{path} holds a {held}, not a program: give its module as FILE.py:FACTORY@{path.name}",)
    return (f"{path} is TorchScript, which the dynamo exporter no longer takes: write it with torch.export.save",)


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
