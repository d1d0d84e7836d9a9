"""How long a call takes, warm: the same for every framework and runtime, and free of both."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Clock", "Runs", "Warmth", "peak_resident", "reset_peak", "time_runs", "timed", "waited", "warm_up"]

Clock = Callable[[], float]
"""Seconds since some moment, never going back: ``time.perf_counter``."""

_ROUND_S = 0.05
"""A round of warming up lasts at least so long, in runs of which its median is taken."""

_FEWEST_ROUNDS = 3
_MOST_ROUNDS = 20

_LITTLE = 0.05
"""Two rounds whose medians differ by no more than this share count as alike: it is warm."""

_MOST_RUNS = 1000

_LOOK_S = 0.005
"""Whether other programs took cores away is looked up after so many seconds: looking costs a tenth of a millisecond."""

_UNDISTURBED = 0.02
"""Runs count as undisturbed when all threads together waited for a core for no more than this share of their time."""


@dataclass(frozen=True)
class Runs:
    """Timed runs.

    Attributes:
        times_s: Seconds that each took.
        quiet_s: The same of those in which no other program took a core away; of all where the system does not say.
    """

    times_s: tuple[float, ...]
    quiet_s: tuple[float, ...]


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


def time_runs(
    call: Callable[[], object],
    seconds: float,
    clock: Clock = time.perf_counter,
    waiting: Clock | None = None,
) -> Runs:
    """Runs for about ``seconds``, once at least, and says how long each took.

    A first run brings what it needs back into the caches, out of which others have pushed it, and is not counted,
    unless it alone lasts that long.

    Args:
        call: What to run.
        seconds: How long.
        clock: Seconds since some moment.
        waiting: Seconds that threads of this process have waited for a core so far, by default :func:`waited`.
    """
    waiting = waiting or waited
    before = waiting()
    times = [timed(call, clock)]
    if times[0] >= seconds:
        return Runs(tuple(times), _undisturbed(times, waiting() - before))
    times, quiet = [], list[float]()
    while not times or (sum(times) < seconds and len(times) < _MOST_RUNS):
        before = waiting()
        some = _round(call, min(_LOOK_S, seconds - sum(times)), clock)
        quiet += _undisturbed(some, waiting() - before)
        times += some
    return Runs(tuple(times), tuple(quiet))


def _undisturbed(times: Sequence[float], waited_s: float) -> tuple[float, ...]:
    return tuple(times) if waited_s <= _UNDISTURBED * sum(times) else ()


def _round(call: Callable[[], object], seconds: float, clock: Clock) -> list[float]:
    times: list[float] = []
    while not times or (sum(times) < seconds and len(times) < _MOST_RUNS):
        times.append(timed(call, clock))
    return times


def waited() -> float:
    """Seconds that the threads of this process were ready to run and had no core, all together; 0 where the system does
    not say (``/proc/PID/task/TID/schedstat`` of Linux, the second number, in nanoseconds).
    """
    total = 0
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended
                total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


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
