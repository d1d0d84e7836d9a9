"""A golden's record as TOML: the same values give the same text, and only what is understood whole is read.

The text follows the fields of :mod:`.values`: a nested value is a table, a tuple of them an array of tables. What is
missing, of another kind, or unknown is an error that names its place: a record is edited by people and by tools that
merge, and a half-read golden would judge wrongly.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
import tomllib
import typing
from collections.abc import Mapping
from typing import Any

from onnxeq.errors import UnusableGolden
from onnxeq.golden.values import SCHEMA, Golden

__all__ = ["dumps", "loads", "table_of", "value_from"]


def dumps(golden: Golden) -> str:
    """The record's text."""
    import tomli_w

    return _LIST.sub(_in_one_line, tomli_w.dumps({"schema": SCHEMA, **table_of(golden)}, multiline_strings=False))


_LIST = re.compile(r"^(\S+ = )\[\n((?:    .*,\n)+)\]$", re.MULTILINE)
_WIDTH = 120


def _in_one_line(found: re.Match[str]) -> str:
    """A list in one line, where that is no longer than a line of text."""
    items = [line.strip().removesuffix(",") for line in found[2].splitlines()]
    line = f"{found[1]}[{', '.join(items)}]"
    return line if len(line) <= _WIDTH else found[0]


def loads(text: str, where: str) -> Golden:
    """The golden that :func:`dumps` wrote.

    Args:
        text: The record.
        where: What to call it in an error.

    Raises:
        UnusableGolden: It is no record, not whole, or of a newer form than this version reads.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnusableGolden(f"{where} is no golden: {error}", hint=_AGAIN) from None
    schema = table.pop("schema", "")
    if schema != SCHEMA:
        said = f"is of the form {schema!r}, this version reads {SCHEMA!r}" if schema else "is no golden: no schema"
        raise UnusableGolden(f"{where} {said}", hint="update onnxeq" if schema else _AGAIN)
    golden = value_from(Golden, table, where)
    assert isinstance(golden, Golden)  # noqa: S101 - for the type checker
    return golden


_AGAIN = "restore it from version control, or delete it and record it again"


def table_of(value: Any) -> Any:
    """A value as what TOML and JSON hold; what is empty is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, table_of(getattr(value, f.name))) for f in dataclasses.fields(value))
        plain: list[tuple[str, Any]] = []
        nested: list[tuple[str, Any]] = []
        for name, held in pairs:
            if held in ([], {}):
                continue  # absent is empty
            tables = isinstance(held, dict) or (isinstance(held, list) and isinstance(held[0], dict))
            (nested if tables else plain).append((name, held))
        return dict([*plain, *nested])
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: table_of(held) for key, held in sorted(value.items())}
    if isinstance(value, tuple):
        return [table_of(held) for held in value]
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def value_from(kind: Any, held: Any, where: str) -> Any:
    """A value of an annotated kind from what :func:`table_of` gave.

    Args:
        kind: The annotation: a frozen dataclass, an enum, a tuple or mapping of such, or a plain type.
        held: What TOML or JSON gave.
        where: What to call it in an error.

    Raises:
        UnusableGolden: It is not of that kind, or not whole.
    """
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, held, where)
    origin = typing.get_origin(kind)
    if origin is tuple:
        inner = typing.get_args(kind)[0]
        if not isinstance(held, list):
            raise _wrong(where, "a list", held)
        return tuple(value_from(inner, each, f"{where}[{i}]") for i, each in enumerate(held))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(held, dict):
            raise _wrong(where, "a table", held)
        return {key: value_from(typing.get_args(kind)[1], each, f"{where}.{key}") for key, each in held.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(held)
        except ValueError:
            raise _wrong(where, " or ".join(repr(m.value) for m in kind), held) from None
    if kind is float and type(held) is int:
        return float(held)
    if type(held) is not kind:
        raise _wrong(where, f"of type {kind.__name__}", held)
    return held


def _record(kind: type, held: Any, where: str) -> Any:
    if not isinstance(held, dict):
        raise _wrong(where, "a table", held)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(set(held) - set(fields)):
        raise UnusableGolden(f"{where} has the unknown entry {unknown[0]!r}", hint=_AGAIN)
    hints = _hints(kind)
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name in held:
            found[name] = value_from(hints[name], held[name], f"{where}: {name}")
        elif _is_many(hints[name]):
            found[name] = value_from(hints[name], [] if typing.get_origin(hints[name]) is tuple else {}, where)
        elif field.default is dataclasses.MISSING:
            raise UnusableGolden(f"{where} lacks the entry {name!r}", hint=_AGAIN)
    return kind(**found)


def _is_many(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    return origin is not None and (origin is tuple or issubclass(origin, Mapping))


def _wrong(where: str, wanted: str, held: Any) -> UnusableGolden:
    return UnusableGolden(f"{where} is {held!r:.60}, it must be {wanted}", hint=_AGAIN)
