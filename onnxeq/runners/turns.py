"""A turn in a comparison of latencies: a few runs of one model, which stays loaded from one turn to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxeq.arrays import load_feeds
from onnxeq.runners.timing import peak_resident, reset_peak, time_runs, warm_up
from onnxeq.worker import Job

__all__ = ["Held", "turn"]


@dataclass
class Held:
    """What stays in the process.

    Attributes:
        run: Runs the model on a feed.
        load_s: Seconds that loading took.
        calls: Feed folder -> a run on that feed, once it is warm.
    """

    run: Callable[[Mapping[str, Any]], object]
    load_s: float
    calls: dict[str, Callable[[], object]] = field(default_factory=dict)


def turn(job: Job, held: Held) -> dict[str, Any]:
    """One turn: warming up, if this feed has not been run here, then runs for ``job.params['seconds']``.

    Returns:
        ``times_s`` of the runs, ``quiet_s`` of those that nothing disturbed; ``load_s``; ``peak_bytes``, the most
        of this process that was in memory during the turn; ``warmed``, the runs that warming up took and whether it
        came to rest, or ``None``.
    """
    key = str(job.inputs["feeds"])
    if not job.objects:  # a live model runs in its owner's process, whose figures are its own
        reset_peak()
    warmed = None
    if key not in held.calls:
        feed = load_feeds(job.inputs["feeds"])[0]
        job.step("warm up")
        held.calls[key] = lambda: held.run(feed)
        warmth = warm_up(held.calls[key], float(job.params["warm_up_s"]))
        warmed = {"runs": warmth.runs, "steady": warmth.steady}
    job.step("run")
    runs = time_runs(held.calls[key], float(job.params["seconds"]))
    return {
        "times_s": runs.times_s,
        "quiet_s": runs.quiet_s,
        "load_s": held.load_s,
        "peak_bytes": peak_resident(),
        "warmed": warmed,
    }
