"""Weights of a module as data: read from a file, put in, read out, fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from onnxeq.errors import UnusableModel, UsageError, WeightsUnavailable

from . import scripted_code
from .inputs import to_array
from .kinds import FileKind, kind_of

__all__ = ["fingerprint", "load_file", "named", "put_in", "state_of", "unpickle"]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def named(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by its native name; a tied one under each of its names."""
    found: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    found.update(model.named_buffers(remove_duplicate=False))
    return found


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over (name, element type, shape, bytes) in the order of the sorted names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = to_array(tensors[name])
        digest.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view("u1").data)
    return digest.hexdigest()


def load_file(path: Path, *, trust: bool) -> dict[str, torch.Tensor]:
    """A state dict from safetensors, a torch checkpoint, or TorchScript, unwrapped.

    A checkpoint that holds the state dict under ``state_dict``, ``model_state_dict`` or ``model`` is
    unwrapped, and a prefix that every name carries (``module.``, ``_orig_mod.``) is cut off.

    Raises:
        WeightsUnavailable: There is no such file.
        UnusableModel: It holds no state dict, or code that ``trust`` does not allow to run.
    """
    if not path.is_file():
        raise WeightsUnavailable(f"weights file {path} does not exist")
    kind = kind_of(path)
    if kind is FileKind.SAFETENSORS:
        return state_of(_safetensors(path), path)
    if kind is FileKind.TORCHSCRIPT:
        if not trust:
            scripted_code.refuse(path)
        return state_of(torch.jit.load(str(path), map_location="cpu"), path)
    return state_of(unpickle(path, trust=trust), path)


def state_of(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    """The state dict in what a file held, unwrapped; see :func:`load_file`.

    Raises:
        UnusableModel: There is none in it.
    """
    if isinstance(loaded, torch.nn.Module):
        loaded = loaded.state_dict()
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not any(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise UnusableModel(f"{path} holds a {type(loaded).__name__}, not a state dict")
    state = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def put_in(model: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Loads ``state`` into ``model``; every name must be there and every shape fit.

    Raises:
        UsageError: Names are missing or unexpected, or a shape differs.
    """
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # torch's way to say that a shape differs
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        raise UsageError(f"{origin} does not fit {type(model).__name__}: {(lines or [str(error)])[0]}") from error
    faults = [f"missing {_few(result.missing_keys)}"] if result.missing_keys else []
    faults += [f"unexpected {_few(result.unexpected_keys)}"] if result.unexpected_keys else []
    if faults:
        raise UsageError(f"{origin} does not fit {type(model).__name__}: {'; '.join(faults)}")


def unpickle(path: Path, *, trust: bool) -> Any:
    """What ``torch.load`` reads; code in the file runs only with ``trust``.

    Raises:
        UnusableModel: The file is no checkpoint, or needs code and ``trust`` is not given.
    """
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) and not trust:
            raise UnusableModel(
                f"{path} can only be read by running code stored in it", hint="allow that with --trust"
            ) from error
        raise UnusableModel(f"{path} is no torch checkpoint: {_first_line(error)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        raise UnusableModel(f"{path} is no torch checkpoint: {_first_line(error)}") from error


def _safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file as read
    except ImportError as error:
        raise UsageError(f"reading {path} needs safetensors", hint="pip install safetensors") from error
    try:
        return read(path)
    except SafetensorError as error:
        raise UnusableModel(f"{path} is no safetensors file: {_first_line(error)}") from error


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
