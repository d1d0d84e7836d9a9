"""From a rung that broke to the cause, the place and the proof.

The ladder says which rung broke. Each module here knows how to ask one kind of rung further: it is given the
cause as the ladder saw it and gives it back with its place, or several in its stead, each with its own proof.

=================  =====================================================================
:mod:`.exporter`   which native operator the exporter translated wrongly, in an export of our own
:mod:`.lowering`   which node's rounding makes an output inaccurate
:mod:`.native`     what in the framework itself makes its float32 run differ
=================  =====================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from onnxeq.attribution import exporter, lowering, native
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import Units
from onnxeq.types import Cause

__all__ = ["LOCATORS", "Locator", "explain"]

Locator: TypeAlias = Callable[[Jobs, Evidence, Cause, Units], tuple[Cause, ...]]
"""Takes a broken rung's cause, gives the causes that a person can act on; the same one where nothing was found."""

LOCATORS: Mapping[str, Locator] = {
    "graph": exporter.locate,
    "lowering": lowering.locate,
    "native-rounding": native.locate,
}
"""Rung -> who finds the place."""


def explain(jobs: Jobs, found: Evidence, causes: Sequence[Cause], units: Units) -> tuple[Cause, ...]:
    """The causes with their places, worst first."""
    located = [c for cause in causes for c in LOCATORS.get(cause.rung, _as_it_is)(jobs, found, cause, units)]
    return tuple(sorted(located, key=lambda c: -c.ratio if not math.isnan(c.ratio) else 0.0))


def _as_it_is(_jobs: Jobs, _found: Evidence, cause: Cause, _units: Units) -> tuple[Cause, ...]:
    return (cause,)
