"""How much memory there is, and who has to go when it runs out.

What a model claims is held against the whole memory of this machine (or of the container around it) before anything
is allocated. What it takes while it runs is watched: see :class:`Watch`.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from onnxeq.errors import CannotRun, UsageError

__all__ = ["Watch", "available", "check_trace", "job_limit", "readable", "resident", "total"]

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""An old control group without a limit names a number of about this size."""

_RESERVE_SHARE = 32
_RESERVE_LEAST = 512 << 20
"""What stays free: a 32nd of the memory, at least half a gibibyte. A job is looked at every 20 ms, in which a process
touches less than 100 MiB of new pages."""

_TRACE_SHARE = 16
"""The host holds about a dozen executions of a model at a time: the outputs of one may take a 16th of the memory."""


def readable(count: int) -> str:
    """A number of bytes for a person: ``1.5 GiB``."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"


@functools.cache
def total() -> int:
    """Bytes of memory of this machine, or of the container around this process."""
    try:
        own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        own = 0
    limits = [n for n in (own, *(_number(_CGROUP / name) for name in _LIMITS)) if 0 < n < _UNLIMITED]
    return min(limits, default=_UNLIMITED)


_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_USED = ("memory.current", "memory/memory.usage_in_bytes")
_STATISTICS = ("memory.stat", "memory/memory.stat")


def available() -> int | None:
    """Bytes that can be had without anything being thrown out; ``None`` where the system does not say."""
    found = _entry(Path("/proc/meminfo"), "MemAvailable:")
    if found is None:
        return None
    left = [found * 1024]
    for limit, used, statistics in zip(_LIMITS, _USED, _STATISTICS, strict=True):
        if 0 < (most := _number(_CGROUP / limit)) < _UNLIMITED:
            cached = sum(_entry(_CGROUP / statistics, kind) or 0 for kind in ("inactive_file", "active_file"))
            left.append(max(0, most - _number(_CGROUP / used) + cached))
    return min(left)


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 when it is gone, or the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def job_limit() -> int | None:
    """The most that a job may take, from ``ONNXEQ_JOB_MEMORY`` (GiB); ``None`` for what this machine has.

    Raises:
        UsageError: It is no number.
    """
    text = os.environ.get("ONNXEQ_JOB_MEMORY", "")
    if not text:
        return None
    try:
        asked = float(text)
    except ValueError:
        asked = 0.0
    if not asked > 0:
        raise UsageError(f"ONNXEQ_JOB_MEMORY={text!r} is no number of GiB", hint="write ONNXEQ_JOB_MEMORY=8, say")
    return int(asked * 2**30)


class Watch:
    """Which of some processes has to go before the memory of the machine runs out.

    The system, left alone, would end whom it pleases: the host, or somebody else's work. A process goes when it takes
    more than :func:`job_limit`; or when less than the reserve is left, and none of the others takes more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._reserve = max(_RESERVE_LEAST, total() // _RESERVE_SHARE)

    def add(self, pid: int) -> None:
        """Begins to watch a process."""
        with self._lock:
            self._pids.add(pid)

    def remove(self, pid: int) -> None:
        """Ends watching it."""
        with self._lock:
            self._pids.discard(pid)

    def verdict(self, pid: int) -> str:
        """Why the process has to go, with what it takes and what there is; empty when it may stay."""
        taken = resident(pid)
        limit = job_limit()
        if limit is not None and taken > limit:
            return f"it took {readable(taken)} of memory, {readable(limit)} are allowed by ONNXEQ_JOB_MEMORY"
        if taken < self._reserve:
            return ""
        left = available()
        if left is None or left >= self._reserve:
            return ""
        with self._lock:
            others = [resident(other) for other in self._pids - {pid}]
        if taken < max(others, default=0):
            return ""
        return f"it took {readable(taken)} of memory, {readable(left)} were left of this machine's {readable(total())}"


def check_trace(sizes: Iterable[int], feeds: int) -> None:
    """Whether the outputs of an execution can be held, before they are all there.

    Args:
        sizes: Bytes of the outputs of the first feed.
        feeds: How many feeds there are.

    Raises:
        CannotRun: With what they take, and what may be taken.
    """
    taken, allowed = sum(sizes) * feeds, total() // _TRACE_SHARE
    if taken > allowed:
        raise CannotRun(
            f"the outputs for {feeds} inputs take {readable(taken)} of memory, {readable(allowed)} are allowed here",
            hint="give smaller or fewer inputs with --shape, --batch or --inputs",
        )


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return 0


def _entry(path: Path, key: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] == [key]:
                return int(words[1])
    except (OSError, ValueError, IndexError):
        return None
    return None
