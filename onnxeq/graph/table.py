"""The passes in the order in which they run. This table is all that :mod:`normalize` knows of them."""

from __future__ import annotations

from onnxeq.graph.batch_norm import FOLD_BATCH_NORM
from onnxeq.graph.dead import REMOVE_DEAD
from onnxeq.graph.duplicates import MERGE_DUPLICATES
from onnxeq.graph.fold import FOLD_CONSTANTS
from onnxeq.graph.frame import Pass
from onnxeq.graph.gemm import GEMM
from onnxeq.graph.inline import INLINE
from onnxeq.graph.lift_constants import LIFT_CONSTANTS
from onnxeq.graph.no_ops import REMOVE_NO_OPS
from onnxeq.graph.opset import CONVERT_OPSET
from onnxeq.graph.pads import PADS
from onnxeq.graph.shapes import INFER_SHAPES
from onnxeq.graph.simplify import SIMPLIFY
from onnxeq.graph.transposes import TRANSPOSES

__all__ = ["ONCE", "REPEATED", "passes"]

ONCE: tuple[Pass, ...] = (
    INLINE,
    CONVERT_OPSET,
    SIMPLIFY,
    LIFT_CONSTANTS,
)
"""Run once, first."""

REPEATED: tuple[Pass, ...] = (
    INFER_SHAPES,
    FOLD_CONSTANTS,
    REMOVE_NO_OPS,
    TRANSPOSES,
    PADS,
    GEMM,
    FOLD_BATCH_NORM,
    REMOVE_DEAD,
    MERGE_DUPLICATES,
)
"""Run in turn until a round changes nothing: each can make room for another."""


def passes() -> tuple[Pass, ...]:
    """Every pass, in order."""
    return ONCE + REPEATED
