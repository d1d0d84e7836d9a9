"""A model file's structure without its weights: what a graph says about itself needs no byte of them.

A protobuf is a list of fields, each behind its number and length, so that the bytes of an initializer can be stepped
over where they lie (see :mod:`onnxeq.graph.wire`).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from onnxeq.errors import UnusableModel
from onnxeq.graph.files import read, regular
from onnxeq.graph.wire import COUNTED_FROM, LEN, MOST_MESSAGES, TOO_MANY, Buffer, Malformed, excess, fields

__all__ = ["Skimmed", "by_reference", "skim"]

_Field: TypeAlias = tuple[int, int, int, int, int]

_GRAPH, _INITIALIZER, _NAME, _RAW_DATA = 7, 5, 8, 9
_LEFT_OUT_FROM = 1 << 10
"""Bytes from which on an initializer's data is stepped over."""


class _TooMany(Exception):
    """More fields than a model may have messages."""


@dataclass(frozen=True)
class Skimmed:
    """A model without the raw bytes of its larger initializers.

    Attributes:
        model: The rest.
        left_out: How many bytes an initializer has that is without them, by name.
    """

    model: onnx.ModelProto
    left_out: Mapping[str, int]


def skim(path: Path) -> Skimmed:
    """The structure of a model; external data is not looked at.

    Whatever cannot be walked through is read whole, so that errors are those of :func:`onnxeq.graph.files.read`.

    Raises:
        onnxeq.errors.UnusableModel: There is no ONNX model in the file.
    """
    model, extents = _skimmed(path)
    return Skimmed(model, {name: size for name, (_, size) in extents.items()})


def by_reference(path: Path) -> onnx.ModelProto:
    """The model, its larger initializers as external data that lies where it does, in the file itself.

    For whoever reads one at a time and knows the model's folder; what was external before stays so.

    Raises:
        onnxeq.errors.UnusableModel: There is no ONNX model in the file.
    """
    model, extents = _skimmed(path)
    for tensor in model.graph.initializer:
        if tensor.name in extents and not tensor.HasField("raw_data"):
            offset, size = extents[tensor.name]
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", path.name), ("offset", str(offset)), ("length", str(size))):
                tensor.external_data.add(key=key, value=value)
    return model


_Extents: TypeAlias = dict[str, tuple[int, int]]
"""Where the bytes begin that were left out, and how many they are, by the initializer's name."""


def _skimmed(path: Path) -> tuple[onnx.ModelProto, _Extents]:
    left_out: _Extents = {}
    regular(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            light = _light(data, left_out)
            if len(light) > COUNTED_FROM and excess(light):
                raise Malformed
            model = onnx.ModelProto.FromString(light)
    except _TooMany:
        raise UnusableModel(f"{path}: {TOO_MANY}", hint="No exporter writes that.") from None
    except (OSError, ValueError, Malformed, DecodeError):
        return read(path), {}
    whole = len(model.graph.node) and len(model.graph.output) and (len(model.opset_import) or model.ir_version < 3)
    return (model, left_out) if whole else (read(path), {})


def _light(data: Buffer, left_out: _Extents) -> bytes:
    """The encoded model, its graph's initializers without their bytes."""
    parts = []
    for number, kind, start, begin, end in _bounded(fields(data, 0, len(data))):
        if (number, kind) == (_GRAPH, LEN):
            graph = b"".join(
                _record(_INITIALIZER, _without_data(data, inner, stop, left_out))
                if (field, form) == (_INITIALIZER, LEN) and stop - inner >= _LEFT_OUT_FROM
                else data[head:stop]
                for field, form, head, inner, stop in _bounded(fields(data, begin, end))
            )
            parts.append(_record(_GRAPH, graph))
        else:
            parts.append(data[start:end])
    return b"".join(parts)


def _bounded(found: Iterator[_Field]) -> Iterator[_Field]:
    """The fields, as long as there are no more than a model may have messages."""
    for count, field in enumerate(found):
        if count > MOST_MESSAGES:
            raise _TooMany
        yield field


def _without_data(data: Buffer, begin: int, end: int, left_out: _Extents) -> bytes:
    kept, name, extent = [], "", None
    for number, kind, start, inner, stop in fields(data, begin, end):
        if (number, kind) == (_RAW_DATA, LEN) and stop - inner >= _LEFT_OUT_FROM:
            if extent is not None:
                raise Malformed  # twice: the whole model says which one counts
            extent = inner, stop - inner
            continue
        if (number, kind) == (_NAME, LEN):
            name = data[inner:stop].decode()
        kept.append(data[start:stop])
    if extent is not None:
        if name in left_out:
            raise Malformed  # two of one name: the whole model says which
        left_out[name] = extent
    return b"".join(kept)


def _record(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | LEN]) + _length(len(content)) + content


def _length(size: int) -> bytes:
    encoded = b""
    while size > 0x7F:
        encoded += bytes([size & 0x7F | 0x80])
        size >>= 7
    return encoded + bytes([size])
