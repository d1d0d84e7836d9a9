"""Quantised weights: integers with a scale and a zero point, held against what rounding the native weight gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array
from onnxeq.weights.book import Book, is_float, loose_name
from onnxeq.weights.inventory import Stored
from onnxeq.weights.layouts import layouts
from onnxeq.weights.types import Relation

__all__ = ["match_quantized"]

_INPUTS = {"DequantizeLinear": {0: (1, 2)}, "QLinearConv": {3: (4, 5)}, "QLinearMatMul": {3: (4, 5)}}
"""Operator -> slot of the integers -> slots of their scale and zero point."""

_TIE = 0.5 + 1e-3
"""Steps that a rounded value may be away; the rest is for ties and for a scale rounded to float32."""


@dataclass(frozen=True)
class _Steps:
    """Scale and zero point, in the shape of the integers or broadcast to it."""

    scale: NDArray[np.float64]
    zero: NDArray[np.float64]
    names: tuple[str, ...]


def match_quantized(book: Book) -> None:
    """Settles integer constants that a scale and a zero point turn into a native weight."""
    for stored in book.artifact.stored.values():
        if stored.name in book.entries or stored.array.dtype.kind not in "iu" or stored.size < 2:
            continue
        if (steps := _steps(book, stored)) is not None:
            _match(book, stored, steps)


def _steps(book: Book, stored: Stored) -> _Steps | None:
    for reader in stored.readers:
        slots = _INPUTS.get(reader.op_type, {}).get(reader.slot)
        if slots is None:
            continue
        node = book.artifact.nodes[reader.index]
        names = [node.input[s] for s in slots if len(node.input) > s and node.input[s]]
        held = [book.artifact.stored[n].array for n in names if n in book.artifact.stored]
        if not held or len(held) != len(names):
            continue
        axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 1 if len(slots) == 2 else 0)
        axis = 0 if reader.op_type == "QLinearConv" else axis
        scale = _shaped(held[0], stored, axis)
        zero = _shaped(held[1], stored, axis) if len(held) > 1 else np.zeros(())
        if scale is not None and zero is not None:
            return _Steps(scale, zero, tuple(names))
    return None


def _shaped(values: Array, stored: Stored, axis: int) -> NDArray[np.float64] | None:
    wide = values.astype(np.float64)
    if wide.size == 1:
        return wide.reshape(())
    axis %= len(stored.shape)
    if wide.size != stored.shape[axis]:
        return None
    return wide.reshape([-1 if a == axis else 1 for a in range(len(stored.shape))])


def _match(book: Book, stored: Stored, steps: _Steps) -> None:
    value = (stored.array.astype(np.float64) - steps.zero) * steps.scale
    info = np.iinfo(stored.array.dtype)
    saturated = (
        (stored.array == info.min) | (stored.array == info.max) | (np.abs(stored.array.astype(np.int64)) == info.max)
    )
    best: tuple[float, str, str, NDArray[np.float64], NDArray[np.bool_]] | None = None
    names = [n for n, a in book.native.items() if a.size == stored.size and is_float(a)]
    for name in sorted(names, key=lambda n: (loose_name(n) != loose_name(stored.name), n in book.held)):
        for layout in layouts(tuple(book.native[name].shape), stored.shape):
            exact = layout.apply(book.native[name]).astype(np.float64)
            off = np.abs(exact - value) > _TIE * steps.scale
            off &= ~(saturated & (np.abs(exact) >= np.abs(value)))
            share = 1.0 - float(off.mean())
            if best is None or share > best[0]:
                best = (share, name, layout.text, exact, off)
        if best is not None and best[0] == 1.0:
            break
    if best is None or best[0] < 0.75:
        return
    share, name, layout_text, exact, off = best
    text = ", ".join(t for t in (layout_text, f"{stored.array.dtype.name} by {steps.names[0]}") if t)
    for other in steps.names:
        if other not in book.entries:
            book.settle(book.artifact.stored[other], (), Relation.GENERATED, "quantisation parameter")
    if share == 1.0:
        book.settle(stored, (name,), Relation.QUANTIZED, text)
        return
    with np.errstate(all="ignore"):
        again = np.clip(np.rint(exact / steps.scale) + steps.zero, info.min, info.max)
    book.miss(stored, (name,), Relation.QUANTIZED, text, np.nan_to_num(again), wrong=off)
