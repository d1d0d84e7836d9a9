"""Whether a node may have decided as it did: results that jump, for inputs that differ by a rounding only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnxeq.errors import OnnxeqError
from onnxeq.noise import AMPLITUDE
from onnxeq.perturbation import Signs
from onnxeq.referee.again import compute_again

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["JUMPS", "differs", "explained"]

JUMPS = frozenset(
    "Round Floor Ceil Sign Cast CastLike QuantizeLinear DynamicQuantizeLinear ArgMax ArgMin TopK Hardmax Mod "
    "Equal Less Greater LessOrEqual GreaterOrEqual NonMaxSuppression Unique NonZero MaxPool QLinearConv QLinearMatMul "
    "QLinearAdd QLinearMul QLinearGlobalAveragePool QLinearAveragePool QLinearSigmoid QLinearLeakyRelu QLinearConcat "
    "QLinearSoftmax QGemm RoiAlign GridSample".split()
)
"""Operators of which a result may jump."""

_TRIES = 24
_CLOSE = 2.0**-18
"""Relative difference of float results up to which a decision is the same one: the values selected are rounded."""


def explained(info: NodeInfo, inputs: Sequence[Value], position: int, theirs: Value) -> bool:
    """Whether every element that differs is what the node gives for inputs a few roundings away.

    The inputs are the runtime's own, so only what the operator computes on the way (a quotient that is rounded, an
    overlap that is compared) and the order of equal elements is left to explain.
    """
    if info.node.op_type not in JUMPS or info.composite:
        return False
    signs = Signs(0)
    left: NDArray[np.bool_] | None = None
    for attempt in range(_TRIES):
        moved = [
            v * (1.0 + signs(v.shape) * AMPLITUDE * 2.0**-24)
            if attempt and isinstance(v, np.ndarray) and v.dtype == np.float64 and v.size else v
            for v in inputs
        ]  # fmt: skip
        try:
            given = compute_again(info, moved)
        except (OnnxeqError, ValueError, IndexError, TypeError):
            return False
        if given is None or np.shape(given[position]) != np.shape(theirs):
            continue
        now = differs(given[position], theirs)
        left = now if left is None else left & now
        if not left.any():
            return True
    return False


def differs(ours: Value, theirs: Value) -> NDArray[np.bool_]:
    """The elements that were decided differently."""
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return np.asarray(a != b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray(~np.isclose(a, b, rtol=_CLOSE, atol=0.0, equal_nan=True))
