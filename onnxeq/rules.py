"""What a user asks for in the place of the measured limits, or besides them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxeq.errors import UsageError
from onnxeq.reduced import KINDS

__all__ = ["Rules", "Tolerance", "rules_of"]


@dataclass(frozen=True)
class Tolerance:
    """A classic tolerance that the user asked for: ``|a-b| <= atol + rtol*|b|`` (numpy's formula)."""

    rtol: float
    atol: float


@dataclass(frozen=True)
class Rules:
    """What the user asked for besides the measured limits.

    Attributes:
        accept: Reduced precisions that are fine, of :data:`onnxeq.reduced.KINDS`.
        tolerance: What replaces the limits.
    """

    accept: tuple[str, ...] = ()
    tolerance: Tolerance | None = None


def rules_of(accept: Sequence[str], rtol: float | None, atol: float | None) -> Rules:
    """The rules from what a user typed.

    Raises:
        UsageError: No such precision, or a tolerance that is no number from zero up.
    """
    for kind in accept:
        if kind not in KINDS:
            raise UsageError(f"'{kind}' is no precision", hint=f"--accept takes {', '.join(KINDS)}")
    tolerance = None if rtol is None and atol is None else Tolerance(rtol or 0.0, atol or 0.0)
    if tolerance and not (0 <= tolerance.rtol < math.inf and 0 <= tolerance.atol < math.inf):
        raise UsageError("a tolerance is no negative or infinite number", hint="write --rtol 1e-3 --atol 1e-5, say")
    return Rules(tuple(accept), tolerance)
