"""A golden's record as TOML: the same values give the same text, and only what is understood whole is read.

The text follows the fields of :mod:`.values`: a nested value is a table, a tuple of them an array of tables. What is
missing, of another kind, or unknown is an error that names its place: a record is edited by people and by tools that
merge, and a half-read golden would judge wrongly.
"""

from __future__ import annotations

import re
import tomllib

from onnxeq.errors import UnusableGolden
from onnxeq.golden.codec import MEND, table_of, value_from
from onnxeq.golden.values import SCHEMA, Golden

__all__ = ["dumps", "loads"]


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
        raise UnusableGolden(f"{where} is no golden: {error}", hint=MEND) from None
    schema = table.pop("schema", "")
    if schema != SCHEMA:
        said = f"is of the form {schema!r}, this version reads {SCHEMA!r}" if schema else "is no golden: no schema"
        raise UnusableGolden(f"{where} {said}", hint="update onnxeq" if schema else MEND)
    golden = value_from(Golden, table, where)
    assert isinstance(golden, Golden)  # noqa: S101 - for the type checker
    return golden
