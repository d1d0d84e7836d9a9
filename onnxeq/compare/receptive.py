"""How many pixels an element of the last map depends on.

Along a way through the network, a window of ``k`` elements that lie ``d`` apart, over a map whose neighbours are ``j``
pixels apart, adds ``(k - 1) * d * j`` pixels, and a stride of ``s`` makes the next map's neighbours ``j * s`` pixels
apart. Where ways come together the largest counts. What depends on a whole map (a global pooling, a dense layer) is no
map any more; where a map is multiplied with it or added to it, the map goes on and is called *gated*. An operator of
which it is not known how far it reaches ends the account.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from onnxeq.compare.kinds import ACTIVATIONS, JOINS, NORMS
from onnxeq.compare.values import Graph, Layer, ReceptiveField

__all__ = ["receptive_field"]


@dataclass(frozen=True)
class _Sight:
    """What an element of a map sees: pixels per axis, and how far its neighbours are; ``whole``: everything."""

    size: tuple[Fraction, ...] = ()
    jump: tuple[Fraction, ...] = ()
    gated: bool = False
    whole: bool = False


_WHOLE = _Sight(whole=True)
_POINTWISE = ACTIVATIONS | (NORMS - {"instance_norm", "group_norm", "layer_norm"}) | {
    "scale", "shift", "rsub", "rdiv", "pad", "slice", "exp", "log", "sqrt", "abs", "neg", "reciprocal", "erf", "floor",
    "ceil", "round", "sign", "pow",
}  # fmt: skip
_OVER_CHANNELS = frozenset({"layer_norm", "softmax", "log_softmax"})


def receptive_field(graph: Graph) -> ReceptiveField | None:
    """Of the map of more than one element that sees most; ``None`` where there is none."""
    seen: list[_Sight | None] = []
    best: _Sight | None = None
    for layer in graph.layers:
        sight = _of(layer, [seen[i] for i in layer.inputs])
        seen.append(sight)
        if sight is None or sight.whole or layer.kind == "input" or math.prod(layer.shape[2:]) <= 1:
            continue
        if best is None or (sight.size, sight.gated) >= (best.size, best.gated):
            best = sight
    if best is None:
        return None
    return ReceptiveField(tuple(int(n) for n in best.size), tuple(math.ceil(n) for n in best.jump), best.gated)


def _of(layer: Layer, inputs: list[_Sight | None]) -> _Sight | None:
    rank = len(layer.shape) - 2
    if layer.kind == "input":
        ones = (Fraction(1),) * rank
        return _Sight(ones, ones) if rank >= 1 else None
    if layer.kind == "constant":
        return _WHOLE
    if not inputs or any(sight is None for sight in inputs):
        return None
    known = [sight for sight in inputs if sight is not None]
    if layer.kind in ("conv", "depthwise", "max_pool", "avg_pool"):
        return _through_window(layer, known[0])
    if layer.kind == "conv_transpose":
        return _through_transposed(layer, known[0])
    if layer.kind in JOINS and layer.kind != "matmul":
        return _joined(known)
    if layer.kind in _POINTWISE:
        return known[0]
    if layer.kind in _OVER_CHANNELS:
        along = layer.attributes.get("axes", layer.attributes.get("axis", 1))
        return known[0] if known[0].whole or along in (1, (1,)) else None
    if layer.kind in ("global_avg_pool", "global_max_pool", "flatten", "linear") or known[0].whole:
        return _WHOLE
    return None


def _numbers(layer: Layer, name: str) -> tuple[int, ...]:
    held = layer.attributes.get(name, ())
    return held if isinstance(held, tuple) else ()


def _through_window(layer: Layer, before: _Sight) -> _Sight | None:
    if before.whole or len(before.size) != len(_numbers(layer, "kernel")):
        return before if before.whole else None
    steps = zip(_numbers(layer, "kernel"), _numbers(layer, "dilations"), _numbers(layer, "strides"), strict=True)
    sizes, jumps = [], []
    for (kernel, dilation, stride), size, jump in zip(steps, before.size, before.jump, strict=True):
        sizes.append(size + (kernel - 1) * dilation * jump)
        jumps.append(jump * stride)
    return replace(before, size=tuple(sizes), jump=tuple(jumps))


def _through_transposed(layer: Layer, before: _Sight) -> _Sight | None:
    """An element of the result is made of every ``stride``-th element of the kernel."""
    if before.whole or len(before.size) != len(_numbers(layer, "kernel")):
        return before if before.whole else None
    steps = zip(_numbers(layer, "kernel"), _numbers(layer, "strides"), strict=True)
    sizes, jumps = [], []
    for (kernel, stride), size, jump in zip(steps, before.size, before.jump, strict=True):
        sizes.append(size + (-(-kernel // stride) - 1) * jump)
        jumps.append(jump / stride)
    return replace(before, size=tuple(sizes), jump=tuple(jumps))


def _joined(known: list[_Sight]) -> _Sight | None:
    maps = [sight for sight in known if not sight.whole]
    if not maps:
        return _WHOLE
    if len({len(sight.size) for sight in maps}) != 1:
        return None
    sizes = tuple(max(axis) for axis in zip(*(sight.size for sight in maps), strict=True))
    jumps = tuple(max(axis) for axis in zip(*(sight.jump for sight in maps), strict=True))
    return _Sight(sizes, jumps, any(s.gated for s in known) or len(maps) < len(known))
