"""Runs of a runtime that differ in one setting, each judged as the ladder would: what makes a fault go away.

The questions are asked in this order: does it show again; under which experiment does it go away; which optimisation
level brings it; which single optimisation does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq.errors import CannotRun
from onnxeq.measure import Measure, compare
from onnxeq.protocols import Runner, SessionOptions
from onnxeq.runners.runtime import outputs_of
from onnxeq.types import Array, Feed

__all__ = ["Bench", "Tried", "culprits"]


@dataclass(frozen=True)
class Tried:
    """One run: its outputs, how far they are from the rung's source, and whether that breaks the rung."""

    outputs: Mapping[str, Array]
    measure: Measure
    broken: bool
    refused: str = ""


@dataclass(frozen=True)
class Bench:
    """One model on one runtime with one feed, to be run under other settings.

    Attributes:
        runner: The runtime.
        model: The model's file.
        options: As on the rung.
        feed: The inputs.
        base: What the rung compares with.
        exact: What the referee gives.
        unit: The rounding noise of the outputs.
        limit: How many units are allowed.
    """

    runner: Runner
    model: Path
    options: SessionOptions
    feed: Feed
    base: Feed
    exact: Feed
    unit: Feed
    limit: float

    def run(self, settings: Mapping[str, Any] | None = None) -> Tried:
        """The model under further settings; what the runtime refuses is broken."""
        options = replace(self.options, settings={**self.options.settings, **(settings or {})})
        try:
            return self.judge(outputs_of(self.runner.open(self.model, options), self.feed))
        except CannotRun as error:
            return Tried({}, Measure(float("inf"), 0.0, float("inf")), True, error.message)

    def judge(self, outputs: Mapping[str, Array]) -> Tried:
        """Outputs against the rung's source."""
        found = compare([self.base], [outputs], [self.unit], step=2.0**-24)
        return Tried(outputs, found, bool(found.problem) or found.ratio > self.limit)

    def experiments(self) -> dict[str, float]:
        """In words -> the error that is left, for each experiment of the runner that mends the fault."""
        found = {}
        for words, settings in dict(getattr(self.runner, "EXPERIMENTS", {})).items():
            owners = {key.partition(".")[0] for key in settings if "." in key}
            if owners - {self.options.provider}:
                continue
            tried = self.run(settings)
            if not tried.broken:
                found[words] = tried.measure.max_abs
        return found

    def level(self) -> tuple[str, str]:
        """The mildest optimisation level that breaks, and the one before it; empty where there are none."""
        before = ""
        for name, settings in dict(getattr(self.runner, "levels", dict)()).items():
            if self.run(settings).broken:
                return name, before
            before = name
        return "", before

    def passes(self) -> dict[str, float]:
        """The optimisations that make the fault together -> the error that is left without each alone.

        Empty where the runner names no passes, or where disabling all of them does not mend it.
        """
        list_them = getattr(self.runner, "passes", None)
        if list_them is None:
            return {}
        seen: dict[tuple[str, ...], Tried] = {}

        def mends(disabled: Sequence[str]) -> bool:
            key = tuple(disabled)
            if key not in seen:
                seen[key] = self.run({"disabled_passes": list(key)})
            return not seen[key].broken

        found = culprits(list(list_them()), mends)
        return {name: self.run({"disabled_passes": [name]}).measure.max_abs for name in found}


def culprits(names: Sequence[str], mends: Callable[[Sequence[str]], bool]) -> list[str]:
    """A smallest set of names of which every one has to go for the fault to go (delta debugging).

    With one culprit it takes about twice the logarithm of their number of runs. Source: A. Zeller and R.
    Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002 (``ddmin``).
    """
    left = list(names)
    if not mends(left):
        return []
    pieces = 2
    while len(left) > 1:
        size = -(-len(left) // pieces)
        chunks = [left[i : i + size] for i in range(0, len(left), size)]
        one = next((chunk for chunk in chunks if mends(chunk)), None)
        if one is not None:
            left, pieces = one, 2
            continue
        rests = ([n for n in left if n not in chunk] for chunk in chunks) if len(chunks) > 2 else ()
        rest = next((r for r in rests if mends(r)), None)
        if rest is not None:
            left, pieces = rest, max(2, pieces - 1)
        elif pieces >= len(left):
            break
        else:
            pieces = min(len(left), 2 * pieces)
    return left
