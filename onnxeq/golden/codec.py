"""Frozen values to and from what TOML and JSON hold, by their annotations.

A nested value is a table, a tuple a list, an enum its text; what is empty is left out. Reading is strict: what is
missing, of another kind, or unknown is an error that names its place.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from collections.abc import Mapping
from typing import Any

from onnxeq.errors import UnusableGolden

__all__ = ["MEND", "table_of", "value_from"]

MEND = "restore it from version control, or delete it and record it again"
"""What to do about a record that is not whole."""


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


def value_from(kind: Any, held: Any, where: str) -> Any:
    """A value of an annotated kind from what :func:`table_of` gave.

    Args:
        kind: The annotation: a frozen dataclass, an enum, a tuple or mapping of such, or a plain type.
        held: What TOML or JSON gave.
        where: What to call it in an error.

    Raises:
        UnusableGolden: It is not of that kind, or not whole.
    """
    if type(held) is kind:
        return held
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
    raise _wrong(where, f"of type {kind.__name__}", held)


def _record(kind: type, held: Any, where: str) -> Any:
    if not isinstance(held, dict):
        raise _wrong(where, "a table", held)
    fields = _fields(kind)
    if not held.keys() <= fields.keys():
        raise UnusableGolden(f"{where} has the unknown entry {min(held.keys() - fields.keys())!r}", hint=MEND)
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name in held:
            found[name] = value_from(field.kind, held[name], f"{where}: {name}")
        elif field.empty is not None:
            found[name] = value_from(field.kind, field.empty, where)
        elif field.required:
            raise UnusableGolden(f"{where} lacks the entry {name!r}", hint=MEND)
    return kind(**found)


@dataclasses.dataclass(frozen=True)
class _Field:
    """What a record's entry must be; ``empty`` is what stands for its absence where it holds many."""

    kind: Any
    empty: Any
    required: bool


@functools.cache
def _fields(kind: type) -> Mapping[str, _Field]:
    hints = typing.get_type_hints(kind)
    found: dict[str, _Field] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        origin = typing.get_origin(hint)
        empty: Any = None
        if origin is not None and (origin is tuple or issubclass(origin, Mapping)):
            empty = [] if origin is tuple else {}
        found[field.name] = _Field(hint, empty, field.default is dataclasses.MISSING)
    return found


def _wrong(where: str, wanted: str, held: Any) -> UnusableGolden:
    return UnusableGolden(f"{where} is {held!r:.60}, it must be {wanted}", hint=MEND)
