"""From what a pass has seen at a value to its row: does the layer create error, amplify it, or hand it on?"""

from __future__ import annotations

import math
from dataclasses import replace

from onnxeq.layers.judging.sweep import Found
from onnxeq.layers.matching import Matched
from onnxeq.measure import Measure
from onnxeq.noise import AMPLITUDE
from onnxeq.referee.plan import node_label
from onnxeq.types import Layer, LayerError, Role

__all__ = ["AMPLIFYING", "LOCAL", "PROPAGATED", "as_undone", "layer_of"]

LOCAL = AMPLITUDE
"""Local error, in the layer's own rounding noise, up to which rounding explains it."""

PROPAGATED = AMPLITUDE
"""The same of the error as it ran, in the noise that rounding has made from the start on; the ladder's factor."""

AMPLIFYING = 10.0
"""Growth of the relative error through a layer from which on it is told."""


def layer_of(found: Found, index: int, matched: Matched | None, native: str) -> Layer:
    """The row of a value."""
    region = tuple(dict.fromkeys((*found.regions[0], *found.regions[1])))
    undecided = found.propagated.undecided
    excuse = (found.excuse or "") if found.local.ratio > LOCAL else ""
    note = found.local.problem or found.propagated.problem or excuse or undecided or found.note or _one_sided(found)
    return Layer(
        index=index,
        node=node_label(found.node),
        op_type=found.node.op_type,
        value=found.value,
        native=native,
        source_value="" if matched is None else matched.source,
        region=region,
        paired_by=None if matched is None else matched.by,
        confidence=0.0 if matched is None else matched.confidence,
        dtype=found.dtype,
        shape=found.shape,
        propagated=_error(found.propagated, known=all(found.known) and not undecided),
        local=_error(found.local, known=True),
        source_ratio=found.source.ratio,
        target_ratio=found.target.ratio,
        role=_role(found),
        condition=found.condition,
        note=note,
    )


def as_undone(layer: Layer) -> Layer:
    """A row of :func:`onnxeq.layers.judging.doubts.undone`."""
    return replace(layer, role=Role.UNDONE, note="computes something else, which layers behind it undo")


def _role(found: Found) -> Role:
    if found.local.ratio > LOCAL if found.excuse is None else not found.excuse:
        return Role.CREATES
    if not all(found.known) or found.propagated.undecided:
        return Role.UNKNOWN
    if found.propagated.ratio <= PROPAGATED:
        return Role.QUIET
    return Role.AMPLIFIES if found.condition >= AMPLIFYING else Role.PASSES


def _error(found: Measure, *, known: bool) -> LayerError:
    if not known:
        return LayerError(math.nan, math.nan, math.nan)
    return LayerError(found.max_abs, found.noise, found.ratio)


def _one_sided(found: Found) -> str:
    if found.known == (True, False):
        return "the target has no such value"
    return "the source has no such value" if found.known == (False, True) else ""
