"""Differences in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxeq.types import Array

__all__ = ["array_change", "attribute_text", "few"]

_SMALL = 8


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many there are beyond them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def attribute_text(name: str, mine: Any, theirs: Any) -> str:
    """``attribute pads is [0, 0, 2, 2], the reference has [1, 1, 1, 1]``."""
    said = f"attribute {name} is {_value(mine)}, the reference has {_value(theirs)}"
    return f"{said}: it is left in training mode" if name == "training_mode" and mine else said


def _value(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if value.size <= _SMALL else f"an array {list(value.shape)}"
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def array_change(mine: Array | None, theirs: Array | None) -> str:
    """How one array differs from another: ``is 0.5, the reference has 0.125``, ``differs at 9 of 432 elements ...``."""
    if mine is None or theirs is None:
        return "is absent" if mine is None else "is absent in the reference"
    if mine.shape != theirs.shape:
        return f"has the shape {list(mine.shape)}, the reference's {list(theirs.shape)}"
    if mine.size <= _SMALL:
        return f"is {_rounded(mine)}, the reference has {_rounded(theirs)}"
    different = ~((mine == theirs) | ((mine != mine) & (theirs != theirs)))
    where = [int(i) for i in np.argwhere(different)[0]] if different.any() else []
    count = int(different.sum())
    size = ""
    if mine.dtype.kind in "fiu" and theirs.dtype.kind in "fiu":
        with np.errstate(invalid="ignore"):
            gap = np.nan_to_num(np.abs(mine.astype(np.float64) - theirs.astype(np.float64)))
        size = f" by up to {float(gap.max(initial=0.0)):.3g}"
    text = f"differs from the reference's at {count} of {mine.size} elements{size}, first at {where}"
    return text + _scaled(mine, theirs, different)


def _rounded(value: Array) -> str:
    if value.dtype.kind == "f":
        value = np.asarray([float(f"{v:.7g}") for v in value.ravel()]).reshape(value.shape)
    return str(value.tolist())


def _scaled(mine: Array, theirs: Array, different: Array) -> str:
    """``: 1.002 times it in index 3 of axis 0``, where one slice is a multiple of the reference's."""
    if mine.dtype.kind != "f" or mine.ndim == 0:
        return ""
    for axis in range(mine.ndim):
        touched = np.unique(np.argwhere(different)[:, axis])
        if len(touched) != 1:
            continue
        a = np.take(mine, touched[0], axis).astype(np.float64).ravel()
        b = np.take(theirs, touched[0], axis).astype(np.float64).ravel()
        power = float(b @ b)
        factor = float(a @ b) / power if power > 0 else 0.0
        if factor and np.allclose(a, factor * b, rtol=1e-5, atol=0):
            return f": {factor:.6g} times it in index {int(touched[0])} of axis {axis}"
    return ""
