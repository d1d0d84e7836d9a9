"""The encoding of a model file, walked through before it is parsed.

A parser makes about a hundred bytes of memory from each message, and an empty message takes two bytes in the file; and
it follows messages within messages. So both are counted first, by stepping over the fields
(encoding: protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import onnx

__all__ = [
    "COUNTED_FROM",
    "LEN",
    "MOST_DEPTH",
    "MOST_MESSAGES",
    "TOO_MANY",
    "Buffer",
    "Malformed",
    "excess",
    "fields",
    "varint",
]

Buffer: TypeAlias = "bytes | mmap.mmap"

VARINT, I64, LEN, I32 = 0, 1, 2, 5

MOST_MESSAGES = 2 << 20
"""Messages that a file may hold, a node with three attributes being four of them: 200 MiB once parsed."""

MOST_DEPTH = 100
"""Messages within the model that protobuf's parsers follow. A sub-graph is three levels."""

GROUPS = "holds groups, which no field of ONNX is, and of which none are allowed"

_GROUP = (3, 4)

COUNTED_FROM = 2 * MOST_MESSAGES
"""Bytes of encoding that cannot hold more messages than are allowed."""

TOO_MANY = f"holds more than the {MOST_MESSAGES} messages (nodes, attributes, tensors) that are allowed"

_MOST_FIELDS = 8 * MOST_MESSAGES
"""Numbers count, too: the walk itself must come to an end."""


class Malformed(Exception):
    """Not the encoding that was expected."""


class Grouped(Malformed):
    """It holds groups, an old form of messages: no field of ONNX is one, and a parser passes over them all the same."""


@functools.cache
def _messages(kind: Any) -> Mapping[int, Any]:
    """The fields of a message that hold messages themselves, by number."""
    return {f.number: f.message_type for f in kind.fields if f.message_type is not None}


def excess(data: Buffer) -> str:
    """What the encoding of a model has too much of, with how much is allowed; empty when it has not.

    What cannot be walked through is left to the parser, which says no.
    """
    messages, seen = 0, 0
    pending = [(onnx.ModelProto.DESCRIPTOR, 0, len(data), 1)]
    try:
        while pending:
            kind, begin, end, depth = pending.pop()
            inner = _messages(kind)
            for number, form, _, start, stop in fields(data, begin, end):
                seen += 1
                if form == LEN and number in inner:
                    messages += 1
                    if depth > MOST_DEPTH:
                        return f"messages are nested more than {MOST_DEPTH} deep"
                    if stop > start:
                        pending.append((inner[number], start, stop, depth + 1))
                if messages > MOST_MESSAGES:
                    return TOO_MANY
                if seen > _MOST_FIELDS:
                    return f"holds more than the {_MOST_FIELDS} fields that are allowed"
    except Grouped:
        return GROUPS
    except Malformed:
        pass
    return ""


def fields(data: Buffer, begin: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Number, kind, and where field, content and next field begin.

    Raises:
        Malformed: It is no sequence of fields.
    """
    at = begin
    while at < end:
        start = at
        key, at = (data[at], at + 1) if data[at] < 0x80 else varint(data, at, end)
        kind = key & 7
        if kind == LEN:
            size, at = (data[at], at + 1) if at < end and data[at] < 0x80 else varint(data, at, end)
            stop = at + size
        elif kind == VARINT:
            _, stop = varint(data, at, end)
        elif kind in (I64, I32):
            stop = at + (8 if kind == I64 else 4)
        elif kind in _GROUP:
            raise Grouped
        else:
            raise Malformed
        if stop > end or key >> 3 == 0:
            raise Malformed
        yield key >> 3, kind, start, at, stop
        at = stop


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends.

    Raises:
        Malformed: It does not end.
    """
    value = 0
    for shift in range(0, 64, 7):
        if at >= end:
            raise Malformed
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed
