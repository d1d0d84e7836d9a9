"""One value of two executions, judged: how far apart they are, what the layer adds, and on which side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from onnxeq.layers.judging.allowed import Allowed, excuse, fed
from onnxeq.layers.judging.decisions import explained
from onnxeq.layers.judging.gauge import Gauged, gauge, spread
from onnxeq.layers.judging.local import SUSPECT, unit_of
from onnxeq.measure import Measure
from onnxeq.noise import UNIT_ROUNDOFF
from onnxeq.rounding import is_rounded

if TYPE_CHECKING:
    import onnx

    from onnxeq.referee import NodeInfo, Value

__all__ = ["Found", "Judged", "Side", "measured", "with_condition"]


@dataclass(frozen=True)
class Found:
    """What the pass has seen at one value.

    Attributes:
        value: Its name in the judged graph.
        node: The node that makes it.
        dtype: Its declared element type.
        shape: Its shape.
        known: Whether the source and whether the target has it.
        propagated: The target's against the source's; see :class:`onnxeq.measure.Measure`.
        local: The target's layer on the source's inputs, against the source's.
        source: The source's against the graph on the source's inputs.
        target: The target's against the graph on the target's inputs.
        regions: Nodes that were judged together with it, on the source's and on the target's side.
        condition: Relative error of the result by that of the worst input; NaN when nothing came in.
        note: A flip beside a tie, a value that could not be computed.
        excuse: What the user allows that explains the local error; empty where nothing does, ``None`` where that was
            not asked.
    """

    value: str
    node: onnx.NodeProto
    dtype: str
    shape: tuple[int, ...]
    known: tuple[bool, bool]
    propagated: Measure
    local: Measure
    source: Measure
    target: Measure
    regions: tuple[tuple[str, ...], tuple[str, ...]]
    condition: float
    note: str = ""
    excuse: str | None = None


@dataclass(frozen=True)
class Side:
    """One side at one value.

    Attributes:
        exact: What the node makes of the side's inputs; ``None`` where the referee cannot tell.
        held: What the side has; ``None`` where it has none.
        inputs: The side's inputs.
        region: The nodes between the value and the nearest known ones, besides its own.
        variants: Draws of what those nodes' rounding makes of the value; none where the node alone does.
    """

    exact: Value
    held: Value
    inputs: Sequence[Value]
    region: tuple[str, ...] = ()
    variants: tuple[Value, ...] = ()

    def unit(self, info: NodeInfo, position: int) -> Value:
        """The rounding noise of what lies between the value and the nearest known ones; ``None`` for none."""
        if self.variants:
            return spread(self.exact, self.variants)
        return unit_of(info, self.inputs, self.exact, position) if is_rounded(info) else None


@dataclass(frozen=True)
class Judged:
    """A value's measures, before its condition is known."""

    found: Found
    propagated: Gauged


_LOOKED_AT = 1.0
"""Local error from which on the two sides are looked at one by one."""


def measured(
    info: NodeInfo, position: int, sides: tuple[Side, Side], drift: Sequence[Value], allowed: Allowed
) -> Judged:
    """Judges one value."""
    step = UNIT_ROUNDOFF.get(info.dtypes[position] if position < len(info.dtypes) else "", 2.0**-24)
    ours, theirs = sides
    propagated, local = Gauged(), Measure()
    both = ours.held is not None and theirs.held is not None
    if both:
        propagated = gauge(ours.held, theirs.held, None, step, draws=drift)
        local = _combined(info, position, ours, theirs, step)
    alone = [Measure(), Measure()]
    lossy = _lossy(ours, theirs, propagated, step) if both else None
    if lossy is not None:
        local, alone = lossy, [Measure(), lossy]
    elif not both or local.ratio > _LOOKED_AT or local.problem:
        alone = [_against_its_inputs(info, position, side, step) for side in sides]
        local = _told_apart(local, alone, both=both)
    held = ours.held if ours.held is not None else theirs.held
    pairs = tuple((side.exact, side.held) for side in sides)
    nodes = 1 + max(len(side.region) for side in sides)
    found = Found(
        info.node.output[position],
        info.node,
        info.dtypes[position] if position < len(info.dtypes) else "",
        held.shape if isinstance(held, np.ndarray) else (),
        (ours.held is not None, theirs.held is not None),
        propagated.measure,
        local,
        alone[0],
        alone[1],
        (ours.region, theirs.region),
        math.nan,
        next((m.note for m in (local, *alone, propagated.measure) if m.note), ""),
        excuse(allowed, fed(info, position, ours.inputs, pairs, nodes), local) if allowed != Allowed() else None,
    )
    return Judged(found, propagated)


LOSSY = "inferior lowering: float32 loses here what the source keeps"

_COARSE = 1e-5
"""Rounding of a layer, relative to its values, from which on it is asked whether the source's is as coarse."""

_WORSE = 100.0
"""How many times less accurate than the source's own float32 a layer must be: the ladder's factor for a lowering."""

_EXPLAINED = 10.0
"""Share, one to this many, of what the nodes may round away that the sides must at least differ by."""


def _lossy(ours: Side, theirs: Side, propagated: Gauged, step: float) -> Measure | None:
    """The error of a layer that rounding explains, because the graph rounds far worse there than the source.

    A large number that is added and taken away again is such a thing: every runtime loses what the framework
    keeps. What the nodes that the source lacks round away, seen from the source's own values, must explain what
    the two sides differ by, and the source's own float32 must be far more accurate.
    """
    if not ours.variants or theirs.held is None or not propagated.scale > 0:
        return None
    unit = spread(ours.exact, ours.variants)
    if unit is None or unit.dtype != np.float64:
        return None
    coarse = float(np.sqrt(np.mean(np.square(unit)))) if unit.size else 0.0
    floor = max(gauge(ours.exact, ours.held, None, step).error, step * propagated.scale)
    if not (math.isfinite(coarse) and coarse > max(_WORSE * floor, _COARSE * propagated.scale)):
        return None
    if not propagated.error > max(_WORSE * floor, coarse / _EXPLAINED):
        return None
    return Measure(propagated.measure.max_abs, floor, propagated.error / floor, note=LOSSY)


def with_condition(judged: Judged, relative: dict[str, float]) -> Found:
    """Relative error of the result by that of the worst input; also notes it for those who read the result."""
    found, propagated = judged.found, judged.propagated
    # Where something was made on the way, growth tells nothing: NaN, which comparisons leave alone.
    came = max((relative.get(n, 0.0) for n in found.node.input), key=lambda r: (math.isnan(r), r), default=0.0)
    if not (math.isfinite(propagated.error) and propagated.scale > 0):
        relative[found.value] = math.nan if found.local.ratio > SUSPECT else came
        return found
    own = relative[found.value] = propagated.error / propagated.scale
    return replace(found, condition=own / came) if came > 0 else found


def _combined(info: NodeInfo, position: int, ours: Side, theirs: Side, step: float) -> Measure:
    """The target's own error put onto what is exact for the source, against the source's."""
    if ours.exact is None or theirs.exact is None:
        return Measure(problem="not computed")
    unit = ours.unit(info, position)
    if ours.region or theirs.region:
        other = theirs.unit(info, position)
        comparable = unit is not None and other is not None and np.shape(unit) == np.shape(other)
        unit = np.maximum(unit, other) if comparable else other if unit is None else unit
    return gauge(ours.held, theirs.held, unit, step, exact=(ours.exact, theirs.exact)).measure


def _against_its_inputs(info: NodeInfo, position: int, side: Side, step: float) -> Measure:
    """One side against what the node makes of its own inputs."""
    if side.exact is None or side.held is None:
        return Measure()
    found = gauge(side.exact, side.held, side.unit(info, position), step).measure
    if found.ratio > SUSPECT and not side.region and explained(info, side.inputs, position, side.held):
        return Measure(found.max_abs, found.noise, 0.0, note="beside a tie")
    return found


def _told_apart(local: Measure, alone: Sequence[Measure], *, both: bool) -> Measure:
    """The local error where only one side can be judged, or a decision beside a tie is no error."""
    worse = max(alone, key=lambda m: m.ratio)
    if not both or local.problem or any(m.note for m in alone):
        return worse
    return local
