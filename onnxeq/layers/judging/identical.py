"""Two executions that give the same bits everywhere: there is nothing to hold against each other."""

from __future__ import annotations

import math

import numpy as np
import onnx

from onnxeq.arrays import dtype_name
from onnxeq.layers.judging.judged import Found
from onnxeq.layers.judging.sweep import Values
from onnxeq.layers.matching import Renamed
from onnxeq.measure import Measure
from onnxeq.native_values import NativeValues
from onnxeq.types import Array

__all__ = ["identical"]


def identical(graph: onnx.GraphProto, source: Values, target: Values) -> list[Found] | None:
    """Every value that both sides have, if all of them are bit for bit the same; ``None`` if anything is not.

    A value that only one side has, or that lies otherwise on one, is for the pass to look at.
    """
    if not (isinstance(source, Renamed) and isinstance(target, Renamed)) or isinstance(source.known, NativeValues):
        return None
    found = []
    for node in graph.node:
        for name in node.output:
            held = name in source, name in target
            if held == (False, False):
                continue
            if held != (True, True) or source.matched[name].layouts or target.matched[name].layouts:
                return None
            ours, theirs = (s.known.array(s.matched[name].source) for s in (source, target))
            if not _same_bits(ours, theirs):
                return None
            found.append(_row(name, node, ours))
    return found if all(o.name in source for o in graph.output) else None


def _row(name: str, node: onnx.NodeProto, value: Array) -> Found:
    none = Measure(0.0, math.nan, 0.0)
    shape = tuple(int(n) for n in value.shape)
    return Found(name, node, dtype_name(value), shape, (True, True), none, none, none, none, ((), ()), math.nan)


def _same_bits(a: Array, b: Array) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape or a.dtype.kind in "OUS":
        return False
    one, other = (np.ascontiguousarray(v).reshape(-1).view(np.uint8) for v in (a, b))
    return bool(np.array_equal(one, other))
