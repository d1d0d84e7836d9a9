"""What the stability battery asks of both sides once something hints at a fault; an answer may always be missing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxeq.artifact import ArtifactRuns
from onnxeq.errors import OnnxeqError
from onnxeq.jobs import JobResult, Jobs, JobSpec
from onnxeq.ladder import Units
from onnxeq.sides import NativeSide, native_trace
from onnxeq.types import Feed

__all__ = ["Tried", "native_repeat", "native_sizes", "referee_sizes", "sizes", "sizes_unit", "unsteady_nodes"]

Tried = tuple[tuple[Feed, ...], tuple[str, ...]]
"""The outputs on each feed, and for each feed why there are none; both empty when nothing could be run."""


def unsteady_nodes(jobs: Jobs, runs: ArtifactRuns, how: str, **params: Any) -> list[Mapping[str, str]]:
    """Which nodes make two runs differ, see :mod:`onnxeq.runners.steadiness`."""
    asked = {**runs.question.params, "runner": runs.runtime.params(), "how": how, "feed": 0, **params}
    done = _ask(jobs, replace(runs.question, kind="steadiness", label="steadiness", params=asked))
    return [] if done is None else list(done.data["nodes"])


def sizes(jobs: Jobs, runs: ArtifactRuns, feeds: Path) -> Tried:
    """The artifact on feeds of other sizes, its graph run as literally as the runtime can."""
    params = {**runs.question.params, "runner": runs.runtime.params(), "optimize": bool(runs.no_plain)}
    inputs = {**runs.question.inputs, "feeds": feeds}
    asked = replace(runs.question, kind="sizes", label="other sizes", params=params, inputs=inputs, threads=0)
    done = _ask(jobs, asked)
    return ((), ()) if done is None else (runs.renamed(done.out / "trace"), tuple(done.data["errors"]))


def sizes_unit(jobs: Jobs, runs: ArtifactRuns, feeds: Path) -> Units:
    """The rounding noise on feeds of other sizes."""
    params = {**runs.question.params, "rounding": True}
    inputs = {**runs.question.inputs, "feeds": feeds}
    done = _ask(jobs, replace(runs.question, label="other sizes", params=params, inputs=inputs))
    return Units(missing="not measured") if done is None else Units(runs.renamed(done.out / "rounding"))


def referee_sizes(jobs: Jobs, runs: ArtifactRuns, feeds: Path) -> tuple[Feed, ...]:
    """The artifact in float64 on feeds of other sizes; empty where the referee cannot run them."""
    inputs = {**runs.question.inputs, "feeds": feeds}
    done = _ask(jobs, replace(runs.question, label="other sizes, float64", inputs=inputs))
    return () if done is None else runs.renamed(done.out / "trace")


def native_sizes(native: NativeSide, feeds: Path) -> Tried:
    """The framework's model in float32 on feeds of other sizes."""
    with contextlib.suppress(OnnxeqError):
        done = native.question("native-sizes", "native other sizes", {}, {"feeds": feeds}).result()
        return native_trace(done, "f32"), tuple(done.data["errors"])
    return (), ()


def native_repeat(native: NativeSide) -> Mapping[str, Any]:
    """Why two identical calls give different results (:func:`onnxeq.runners.native_again.repeat`); may be empty."""
    with contextlib.suppress(OnnxeqError):
        return native.question("native-repeat", "native repeat", {}, {"feeds": native.feeds}).result().data
    return {}


def _ask(jobs: Jobs, spec: JobSpec) -> JobResult | None:
    with contextlib.suppress(OnnxeqError):
        return jobs.start(spec).result()
    return None
