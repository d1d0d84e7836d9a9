"""How large the rounding of operators is that do several things in one kernel: told from moved operands.

A fused attention rounds its projections, its scores, their exponentials and the sums over them. What each of these does
to the result is not written down here a second time: a kernel's error in a sum of products is that of the exact sum of
operands that are a little off (backward error: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
chapter 3), so the operands are moved, each number for itself, and the referee's own arithmetic says what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from onnxeq.accumulation import ONE, Size, terms
from onnxeq.errors import OnnxeqError
from onnxeq.referee.again import compute_again

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["by_draws", "is_real", "longest", "once"]

Real: TypeAlias = "NDArray[np.float64]"
Length: TypeAlias = "Callable[[NodeInfo, Sequence[Value]], float]"

_DRAWS = 2
_SMALL = 2.0**-24
"""Unit in which operands are moved: small enough for the result to follow in proportion."""


def by_draws(length: Length) -> Callable[[NodeInfo, Sequence[Value], Real], Size]:
    """A rule for operators whose longest sum has so many terms.

    A sum of ``n`` products with squares that add up to ``q`` errs by ``sqrt(q*chain/6)``
    (:func:`onnxeq.rounding_sums.sum_size`); operands that are each off by ``sqrt(chain/12)`` make it err as much. What
    the draws find is averaged along the last axis, whose elements are made alike.
    """

    def rule(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Size:
        amount = max(ONE, (terms(length(info, inputs)) / 12) ** 0.5)
        squares = np.zeros(y.shape)
        for draw in range(_DRAWS):
            result = _result(info, _moved(inputs, amount, draw), y)
            if result is None:
                return Size(ONE, 0.0)
            squares += np.square((result - y) / _SMALL) / _DRAWS
        if not y.ndim:
            return Size(ONE, np.sqrt(squares))
        return Size(ONE, np.sqrt(squares.mean(-1, keepdims=True)))

    return rule


def longest(info: NodeInfo, inputs: Sequence[Value]) -> float:
    """As many terms as the longest axis of the operands has, but for the first, which counts samples."""
    sizes = [d for v in inputs if is_real(v) for d in v.shape[v.ndim > 2 :]]
    return float(max(sizes, default=1))


def once(info: NodeInfo, inputs: Sequence[Value]) -> float:
    """No sum of its own that is long enough to count."""
    return 1.0


def is_real(value: Any) -> TypeGuard[Real]:
    """Whether a value is numbers that the referee holds in float64."""
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def _moved(inputs: Sequence[Value], amount: float, draw: int) -> list[Value]:
    rng = np.random.default_rng(draw)
    return [v * (1 + rng.standard_normal(v.shape) * (amount * _SMALL)) if is_real(v) else v for v in inputs]


def _result(info: NodeInfo, inputs: Sequence[Value], y: Real) -> Real | None:
    """Of what the node makes of moved operands, the result that ``y`` is one of."""
    try:
        made = compute_again(info, inputs) or []
    except (OnnxeqError, ValueError, IndexError, TypeError):
        return None
    alike = [v for v in made if is_real(v) and v.shape == y.shape]
    return min(alike, key=lambda v: float(np.nansum(np.abs(v - y))), default=None)
