"""What both kinds of source need to gather their evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxeq.arrays import load_feeds
from onnxeq.jobs import JobResult, Jobs
from onnxeq.kept import store_feeds
from onnxeq.providers import Provider
from onnxeq.runtimes import Runtime
from onnxeq.sides import Artifact, Request
from onnxeq.sizes import free_axes, other_sizes
from onnxeq.types import TensorSpec

__all__ = ["Setting", "other_sizes_of", "paired", "rows"]


@dataclass(frozen=True)
class Setting:
    """How the artifact is run: by which runtime, on which providers, and in which reduced precisions it may be."""

    runtime: Runtime
    providers: tuple[Provider, ...]
    accept: tuple[str, ...]


def paired(
    ours: Sequence[TensorSpec], artifact: Artifact, names: Mapping[str, str]
) -> tuple[tuple[TensorSpec, TensorSpec], ...]:
    """The source's inputs with the artifact's; ``names`` are the source's -> the artifact's."""
    theirs = {s.name: s for s in artifact.info.inputs}
    return tuple((s, theirs[names[s.name]]) for s in ours if names.get(s.name) in theirs)


def other_sizes_of(
    jobs: Jobs, request: Request, feeds: Path, inputs: Sequence[tuple[TensorSpec, TensorSpec]]
) -> Path | None:
    """Feeds of other sizes, where the artifact leaves axes free and the user has not said what to feed."""
    if request.feeds or not any(free_axes(theirs) for _, theirs in inputs):
        return None
    made = other_sizes(load_feeds(feeds), inputs, seed=request.seed)
    return store_feeds(made, jobs.root) if made else None


def rows(jobs: Mapping[str, JobResult | None]) -> tuple[Mapping[str, Any], ...]:
    """What each job has cost, for the report."""
    return tuple(
        {"job": label, "seconds": round(job.seconds, 3), "peak_bytes": job.peak_bytes, "cached": job.cached}
        for label, job in jobs.items()
        if job is not None
    )
