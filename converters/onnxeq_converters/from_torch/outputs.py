"""Names and flattens whatever a module returns, in the order in which the exporter writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils import _pytree

from onnxeq.errors import UnusableModel

__all__ = ["flatten", "register"]

_PLAIN = (type(None), bool, int, float, str)
"""Leaves that torch.export records as constants and the ONNX exporter leaves out."""


def flatten(value: Any) -> dict[str, torch.Tensor]:
    """Every tensor in ``value`` by name, depth first, in the container's own order.

    A single tensor is ``output``; an element of a top-level sequence ``output_0``, ``output_1``, ...;
    keys and field names are joined by dots (``out``, ``hidden_states.3``, ``output_0.boxes``). ``None``
    and plain Python values are left out, as the exporter leaves them out.

    Raises:
        UnusableModel: A leaf is neither a tensor nor a plain value, so it could not be compared.
    """
    found: dict[str, torch.Tensor] = {}
    for path, leaf in _leaves(value, ()):
        name = _name(path)
        if isinstance(leaf, torch.Tensor):
            if name in found:
                raise UnusableModel(f"two outputs are both named {name}")
            found[name] = leaf
        elif not isinstance(leaf, _PLAIN):
            raise UnusableModel(f"output {name} is a {type(leaf).__name__}, not a tensor")
    return found


def register(value: Any) -> None:
    """Tells torch.export about every dataclass in ``value`` that nobody has registered yet."""
    children = _children(value)
    if children is None:
        return
    if dataclasses.is_dataclass(value) and type(value) not in _pytree.SUPPORTED_NODES:
        torch.export.register_dataclass(type(value))
    for _, child in children:
        register(child)


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    children = _children(value)
    if children is None:
        yield path, value
        return
    for key, child in children:
        yield from _leaves(child, (*path, key))


def _children(value: Any) -> list[tuple[str | int, Any]] | None:
    """What a container holds with its keys; ``None`` for a leaf."""
    if isinstance(value, (torch.Tensor, *_PLAIN)):
        return None
    if isinstance(value, Mapping):  # Hugging Face's ModelOutput is one too, without its None fields
        return [(str(key), child) for key, child in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if type(value) in _pytree.SUPPORTED_NODES:
        parts, _ = _pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)
        return list(enumerate(parts))
    return None


def _name(path: tuple[str | int, ...]) -> str:
    if not path:
        return "output"
    first = f"output_{path[0]}" if isinstance(path[0], int) else path[0]
    return ".".join([first, *(str(part) for part in path[1:])])
