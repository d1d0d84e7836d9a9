"""What a user allows at a layer in the place of float32's rounding: a reduced precision, or a classic tolerance.

A layer's error is held against what computing that layer in the type does to it (:mod:`onnxeq.reduced`), by the factor
of the ladder. Several nodes that were judged together cannot be computed again here: their float32 noise is carried
over by the types' unit roundoff. It has the accumulation of sums in it, which a type that is only stored has not, so
that one unit of it is enough. An 8-bit type has one step for a whole tensor: half of that step is its unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxeq.layers.judging.gauge import gauge, put_onto
from onnxeq.layers.judging.local import reduced_unit
from onnxeq.measure import Measure, compare, within
from onnxeq.noise import AMPLITUDE, UNIT_ROUNDOFF
from onnxeq.reduced import REDUCED, Reduced

if TYPE_CHECKING:
    from onnxeq.referee import Executor, NodeInfo, Value
    from onnxeq.types import Feed

__all__ = ["Allowed", "Fed", "at_outputs", "excuse", "fed"]

_ROUNDOFF = {"tf32": 2.0**-11, "float16": UNIT_ROUNDOFF["float16"], "bfloat16": UNIT_ROUNDOFF["bfloat16"]}

_STEPS = 127.0
"""Of an 8-bit type from zero to the largest magnitude."""


@dataclass(frozen=True)
class Allowed:
    """What the user asked for.

    Attributes:
        kinds: Reduced precisions, see :data:`onnxeq.reduced.KINDS`.
        tolerance: ``(rtol, atol)`` of numpy's formula ``|a-b| <= atol + rtol*|b|``, which replaces every limit.
    """

    kinds: tuple[str, ...] = ()
    tolerance: tuple[float, float] | None = None

    @staticmethod
    def of(params: Mapping[str, object]) -> Allowed:
        """As a job's parameters ``accept`` and ``tolerance`` have it."""
        kinds, given = params.get("accept") or (), params.get("tolerance")
        assert isinstance(kinds, (list, tuple))  # noqa: S101 - for the type checker
        if given is None:
            return Allowed(tuple(map(str, kinds)))
        assert isinstance(given, (list, tuple))  # noqa: S101 - likewise
        rtol, atol = (float(value) for value in given)
        return Allowed(tuple(map(str, kinds)), (rtol, atol))


@dataclass(frozen=True)
class Fed:
    """A layer of both sides on the source's inputs.

    Attributes:
        info: The node, as the referee met it.
        position: Which of its outputs.
        inputs: What it reads on the source's side.
        nodes: How many nodes were judged together.
        ours: What the source has.
        theirs: What the target's layer makes of the source's inputs.
    """

    info: NodeInfo
    position: int
    inputs: Sequence[Value]
    nodes: int
    ours: Value
    theirs: Value


def fed(
    info: NodeInfo, position: int, inputs: Sequence[Value], sides: Sequence[tuple[Value, Value]], nodes: int
) -> Fed | None:
    """From ``(exact, held)`` of source and target; where one is missing, the other is held against its own graph."""
    (exact, ours), (other, theirs) = sides
    if ours is None or theirs is None:
        exact, held = (exact, ours) if theirs is None else (other, theirs)
        return None if exact is None or held is None else Fed(info, position, inputs, nodes, exact, held)
    arrays = all(isinstance(v, np.ndarray) for v in (exact, ours, other, theirs))
    if not arrays or len({v.shape for v in (exact, ours, other, theirs)}) > 1:
        return None
    return Fed(info, position, inputs, nodes, ours, put_onto(theirs, other, exact))


def excuse(allowed: Allowed, layer: Fed | None, local: Measure) -> str | None:
    """What allows a layer's local error; empty where nothing does, ``None`` where nothing was asked that applies.

    With a tolerance the answer counts whatever the rounding noise says.
    """
    if allowed.tolerance is not None:
        if layer is None or local.problem:
            return "" if local.problem else None
        rtol, atol = allowed.tolerance
        found = within([{"": np.asarray(layer.ours)}], [{"": np.asarray(layer.theirs)}], rtol, atol)
        return "within --rtol and --atol" if found.ratio <= 1 and not found.problem else ""
    if not allowed.kinds or layer is None or local.problem or local.ratio <= AMPLITUDE:
        return None
    for kind in allowed.kinds:
        if _as_computed_in(kind, layer) <= REDUCED or (layer.nodes > 1 and _carried_over(kind, layer, local) <= 1):
            return f"accepted as {kind}"
    return None


def _carried_over(kind: str, layer: Fed, local: Measure) -> float:
    """The local error of several nodes in the noise that a type would make of them."""
    if kind == "int8":
        ours = layer.ours
        if not isinstance(ours, np.ndarray) or ours.dtype != np.float64 or not np.isfinite(ours).all() or not ours.size:
            return math.inf
        step = float(np.abs(ours).max()) / _STEPS
        return gauge(ours, layer.theirs, np.full(ours.shape, step / 2), 2.0**-24).measure.ratio
    return local.ratio * UNIT_ROUNDOFF.get(_dtype(layer), 2.0**-24) / _ROUNDOFF[kind]


def _as_computed_in(kind: str, layer: Fed) -> float:
    """The error of one node in units of what computing it in the type does."""
    ours = layer.ours
    if layer.nodes > 1 or not isinstance(ours, np.ndarray) or ours.dtype != np.float64:
        return math.inf
    unit = reduced_unit(kind, layer.info, layer.inputs, layer.position, ours, _dtype(layer))
    return math.inf if unit is None else gauge(ours, layer.theirs, unit, 2.0**-24).measure.ratio


def _dtype(layer: Fed) -> str:
    return layer.info.dtypes[layer.position] if layer.position < len(layer.info.dtypes) else ""


def at_outputs(allowed: Allowed, executor: Executor, feed: Feed, ours: Feed, theirs: Feed) -> dict[str, float]:
    """How far the outputs are apart by what is allowed: ``tolerance`` or a type's name, and the largest ratio.

    A type's unit is what it does to the outputs of this graph, see :class:`onnxeq.reduced.Reduced`.
    """
    held = {name: value for name, value in ours.items() if name in theirs}
    if allowed.tolerance is not None:
        return {"tolerance": _worst(within([held], [theirs], *allowed.tolerance))}
    found = {}
    base = executor.run(feed) if allowed.kinds else {}
    for kind in allowed.kinds:
        moved = executor.run(feed, hook=Reduced(kind))
        unit = {n: _moved(base[n], moved[n]) for n in held if n in base and n in moved}
        found[kind] = _worst(compare([held], [theirs], [unit], step=2.0**-24))
    return found


def _worst(found: Measure) -> float:
    return math.inf if found.problem else found.ratio


def _moved(base: Value, moved: Value) -> Value:
    if np.shape(base) != np.shape(moved):
        return np.full(np.shape(base), math.inf)
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.abs(np.asarray(moved, np.float64) - np.asarray(base, np.float64)))
