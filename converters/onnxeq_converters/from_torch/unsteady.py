"""Where two identical calls of a torch module begin to differ: every operator of both is noted and compared."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["first_difference"]


@dataclass(frozen=True)
class _Noted:
    """One operator of a call: its name, the module that it ran in, its inputs and outputs."""

    name: str
    module: str
    random: bool
    given: tuple[str, ...]
    result: tuple[str, ...]


def first_difference(model: torch.nn.Module, call: Callable[[], Any]) -> str:
    """Calls twice and says where the results begin to differ; empty where they do not.

    An operator that gives something else for the same inputs draws random numbers or reads memory that nobody wrote;
    one that is given something else, before anything that this call has computed differs, reads what an earlier call
    has left: state.
    """
    first, again = _note(model, call), _note(model, call)
    for one, other in zip(first, again, strict=False):
        if one.name != other.name:
            return f"the second call runs {other.name}{_inside(other)} where the first ran {one.name}: it keeps state"
        if one.result == other.result or one.name.startswith(_UNWRITTEN):
            continue
        if one.random:
            return f"{one.name}{_inside(one)} draws random numbers"
        if one.given != other.given:
            return f"{one.name}{_inside(one)} reads what an earlier call has left: it keeps state between calls"
        return f"{one.name}{_inside(one)} gives another result for the same inputs"
    if len(first) != len(again):
        return "the second call runs another number of operators than the first: it keeps state between calls"
    return ""


_UNWRITTEN = ("aten.empty", "aten.new_empty")
"""Operators whose results hold whatever was in memory: what fills them is judged."""


def _inside(noted: _Noted) -> str:
    return f" in module '{noted.module}'" if noted.module else ""


class _Notes(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, inside: list[str]) -> None:
        super().__init__()
        self.noted: list[_Noted] = []
        self._inside = inside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _digests((args, kwargs))
        result = func(*args, **(kwargs or {}))
        random = torch.Tag.nondeterministic_seeded in func.tags
        module = self._inside[-1] if self._inside else ""
        self.noted.append(_Noted(str(func).removesuffix(".default"), module, random, given, _digests(result)))
        return result


def _digests(values: Any) -> tuple[str, ...]:
    return tuple(_digest(leaf) for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))


def _digest(tensor: torch.Tensor) -> str:
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.reshape(-1)
    return f"{tuple(tensor.shape)}:{hashlib.sha256(raw.cpu().numpy().tobytes()).hexdigest()}"


def _note(model: torch.nn.Module, call: Callable[[], Any]) -> list[_Noted]:
    inside: list[str] = []
    notes = _Notes(inside)
    with _told(model, inside), notes:
        call()
    return notes.noted


@contextlib.contextmanager
def _told(model: torch.nn.Module, inside: list[str]) -> Iterator[None]:
    """Keeps the names of the modules that are running in ``inside``."""
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # it takes no hooks

        def enter(_module: torch.nn.Module, _args: Any, name: str = name) -> None:
            inside.append(name)

        def leave(_module: torch.nn.Module, _args: Any, _result: Any) -> None:
            inside.pop()

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
