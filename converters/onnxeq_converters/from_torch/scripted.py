"""TorchScript: what a scripted module takes, and whether it keeps state. It is a program; a job runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxeq.errors import BadInputs, UnusableModel

from . import scripted_code
from .inputs import Calling
from .outputs import flatten
from .unsteady import first_difference

__all__ = ["called", "is_scripted", "kept_state", "parameters", "read", "with_numbers"]


def read(path: Path, *, trust: bool) -> torch.nn.Module:
    """The module in a file, on the CPU.

    Raises:
        UnusableModel: torch cannot read it, or it reaches outside of itself and is not trusted.
    """
    if not trust:
        scripted_code.refuse(path)
    try:
        return torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnusableModel(f"{path} is no TorchScript that this torch reads: {reason}") from error


def is_scripted(model: torch.nn.Module) -> bool:
    """Whether a module is TorchScript or holds some."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def parameters(model: torch.nn.Module) -> str:
    """What a scripted ``forward`` takes, ``x (Tensor), sr (int)``; empty for a module in Python."""
    if not isinstance(model, torch.jit.ScriptModule):
        return ""
    return ", ".join(f"{argument.name} ({argument.type})" for argument in model.forward.schema.arguments[1:])


def with_numbers(model: torch.nn.Module, calling: Calling) -> Calling:
    """Says which inputs a scripted ``forward`` takes as numbers: in a feed they are scalars, ``int64[]``."""
    if not isinstance(model, torch.jit.ScriptModule):
        return calling
    kinds = {argument.name: str(argument.type) for argument in model.forward.schema.arguments}
    dtypes = {"int": "int64", "float": "float32", "bool": "bool"}
    numbers = tuple(kinds.get(spec.name) in dtypes for spec in calling.specs)
    specs = tuple(
        replace(spec, dtype=dtypes[kinds[spec.name]], shape=()) if number else spec
        for spec, number in zip(calling.specs, numbers, strict=True)
    )
    return replace(calling, specs=specs, numbers=numbers)


def called(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a module that holds TorchScript; what it raises is about its inputs, and says so in one line.

    Raises:
        BadInputs: The interpreter stopped.
    """
    try:
        return model(*args, **kwargs)
    except RuntimeError as error:  # torch.jit.Error is one, too; its last line is the reason
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        hint = "give inputs that it takes: --shape NAME=..., --inputs FILE.npz"
        raise BadInputs(f"the model itself raises on these inputs: {reason[:300]}", hint=hint) from error


def kept_state(fresh: Callable[[], torch.nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """How a module keeps state from one call to the next, in words; empty if it does not.

    Args:
        fresh: Gives a copy of the module as it was loaded.
        args: An example.
        kwargs: The same.
    """
    with torch.no_grad():
        model = fresh()
        first, again = (flatten(called(model, args, kwargs)) for _ in range(2))
        if all(np.array_equal(first[n].numpy(), again[n].numpy(), equal_nan=True) for n in first if n in again):
            return ""
        model = fresh()
        said = first_difference(model, lambda: called(model, args, kwargs))
    return said.partition(": it keeps state")[0] if "keeps state" in said else ""
