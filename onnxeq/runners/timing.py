"""How long a call takes, warm: the same for every framework and runtime, and free of both."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Clock", "Warmth", "peak_resident", "reset_peak", "time_runs", "timed", "warm_up"]

Clock = Callable[[], float]
"""Seconds since some moment, never going back: ``time.perf_counter``."""

_ROUND_S = 0.05
"""A round of warming up lasts at least so long, in runs of which its median is taken."""

_FEWEST_ROUNDS = 3
_MOST_ROUNDS = 20

_LITTLE = 0.05
"""Two rounds whose medians differ by no more than this share count as alike: it is warm."""

_MOST_RUNS = 1000


@dataclass(frozen=True)
class Warmth:
    """How warming up went.

    Attributes:
        runs: How many runs it took.
        steady: Whether the last two rounds were alike.
    """

    runs: int
    steady: bool


def timed(call: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Seconds that one call takes."""
    began = clock()
    call()
    return clock() - began


def warm_up(call: Callable[[], object], most_s: float, clock: Clock = time.perf_counter) -> Warmth:
    """Calls until two rounds in a row take alike, at most for ``most_s`` seconds, and two rounds at least.

    What a first call does once (allocating, choosing kernels, compiling) is over then, and so are the caches cold.
    """
    began = clock()
    medians: list[float] = []
    runs = 0
    while len(medians) < _MOST_ROUNDS:
        times = _round(call, _ROUND_S, clock)
        runs += len(times)
        medians.append(statistics.median(times))
        if len(medians) >= _FEWEST_ROUNDS and abs(medians[-1] - medians[-2]) <= _LITTLE * min(medians[-2:]):
            return Warmth(runs, True)
        if len(medians) > 1 and clock() - began >= most_s:
            break
    return Warmth(runs, False)


def time_runs(call: Callable[[], object], seconds: float, clock: Clock = time.perf_counter) -> list[float]:
    """Runs for about ``seconds``, once at least, and says how long each took.

    A first run brings what it needs back into the caches, out of which others have pushed it, and is not counted,
    unless it alone lasts that long.
    """
    first = timed(call, clock)
    return [first] if first >= seconds else _round(call, seconds, clock)


def _round(call: Callable[[], object], seconds: float, clock: Clock) -> list[float]:
    times: list[float] = []
    while not times or (sum(times) < seconds and len(times) < _MOST_RUNS):
        times.append(timed(call, clock))
    return times


def reset_peak() -> None:
    """Lets :func:`peak_resident` count from now, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """The most bytes of this process that were in memory at once since :func:`reset_peak`, or since it began."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
        import sys
    except ImportError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
