"""The native-rounding rung: what in the framework itself makes its float32 run differ from its float64 run."""

from __future__ import annotations

from dataclasses import replace

from onnxeq import ladder
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import RungPlan, Units
from onnxeq.types import Cause, Status

__all__ = ["locate"]


def locate(_jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The cause, with the framework's shortcut named if the error goes away without it."""
    if not found.shortcut:
        return (cause,)
    plain = RungPlan("native-rounding", "native/f64", "native/f32 plain")
    (without,) = ladder.climb([plain], found.executions, units, ladder.Rules())
    if without.status is not Status.PASS:
        return (cause,)
    said = f"it is {found.shortcut}: without it the native float32 run agrees ({without.max_abs:.2g})"
    return (replace(cause, evidence=f"{cause.evidence}; {said}"),)
