"""Names that tell apart what a framework calls alike."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["unique"]


def unique(names: Iterable[str]) -> list[str]:
    """The names in their order; the second of one name gets ``#2``, the third ``#3``, as far as that is free."""
    found: dict[str, None] = {}
    for plain in names:
        name, count = plain, 1
        while name in found:
            count += 1
            name = f"{plain}#{count}"
        found[name] = None
    return list(found)
