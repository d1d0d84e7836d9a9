"""Decoding node attributes: numbers, strings, tensors and graphs as plain Python and numpy values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onnx import AttributeProto

from onnxeq.errors import UnusableModel
from onnxeq.referee.constants import sparse_array, tensor_array

__all__ = ["decode", "decode_all", "references"]


def decode(attribute: AttributeProto, base_dir: Path | None = None) -> Any:
    """The attribute's value: floats widened exactly, strings decoded, tensors in their stored type.

    Raises:
        UnusableModel: The attribute has no type that ONNX knows.
    """
    kind = attribute.type
    if kind == AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == AttributeProto.INT:
        return int(attribute.i)
    if kind == AttributeProto.STRING:
        return _text(attribute.s)
    if kind == AttributeProto.TENSOR:
        return tensor_array(attribute.t, base_dir)
    if kind == AttributeProto.SPARSE_TENSOR:
        return sparse_array(attribute.sparse_tensor, base_dir)
    if kind == AttributeProto.GRAPH:
        return attribute.g
    if kind == AttributeProto.FLOATS:
        return [float(item) for item in attribute.floats]
    if kind == AttributeProto.INTS:
        return [int(item) for item in attribute.ints]
    if kind == AttributeProto.STRINGS:
        return [_text(item) for item in attribute.strings]
    if kind == AttributeProto.TENSORS:
        return [tensor_array(item, base_dir) for item in attribute.tensors]
    if kind == AttributeProto.GRAPHS:
        return list(attribute.graphs)
    if kind == AttributeProto.TYPE_PROTO:
        return attribute.tp
    raise UnusableModel(f"attribute {attribute.name!r} has the unknown type {kind}")


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw  # some tokenizers keep binary tables in string attributes


def decode_all(attributes: Iterable[AttributeProto], base_dir: Path | None = None) -> dict[str, Any]:
    """Every attribute that carries a value of its own, by name."""
    return {a.name: decode(a, base_dir) for a in attributes if not a.ref_attr_name}


def references(attributes: Iterable[AttributeProto]) -> tuple[tuple[str, str], ...]:
    """The attributes that take their value from the enclosing function's call: ``(name, its attribute)``."""
    return tuple((a.name, a.ref_attr_name) for a in attributes if a.ref_attr_name)
