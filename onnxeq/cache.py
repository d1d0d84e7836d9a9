"""The folder of jobs: finding finished ones, keeping failed ones for replay, staying under a size.

``jobs/KEY`` is a finished job, ``jobs/KEY.PID-RANDOM.tmp`` one that is being built, ``failed/`` holds the
last failed ones.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxeq import fingerprint
from onnxeq.errors import UsageError

__all__ = ["cache_root", "keep_failed", "limit_bytes", "lookup", "place", "prune", "prune_now_and_then", "sweep"]

_KEEP_FAILED = 20
_RECENT_S = 3600.0
"""Jobs used within the last hour may be in another process's hands: they are not pruned."""

DEFAULT_LIMIT_GIB = 20.0
"""Size that the cache is kept under; ``ONNXEQ_CACHE_LIMIT`` (GiB) overrides it."""


def cache_root() -> Path:
    """Where jobs are kept: ``$ONNXEQ_CACHE``, else the user's cache folder."""
    given = os.environ.get("ONNXEQ_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "onnxeq"


def lookup(final: Path) -> Mapping[str, Any] | None:
    """The result record of the finished job in ``final`` when every file it produced is still what it was."""
    try:
        record: dict[str, Any] = json.loads((final / "result.json").read_text())
        whole = all(fingerprint.of_path(final / name) == mark for name, (_, mark) in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError):  # damaged, or written by another version
        return None
    if not whole:
        return None
    with contextlib.suppress(OSError):
        os.utime(final)  # pruning goes by last use
    return record


def place(work: Path, final: Path, seconds: float) -> Path:
    """Puts a finished job into its place and says where that is.

    What stood there (damaged, or asked to be redone) goes. A result that another thread or process has put there
    while this job ran, ``seconds`` long, may be being read: it stays, and this one gets a name of its own.
    """
    beside = final.with_name(f"{final.name}-{uuid.uuid4().hex[:8]}")
    if _age(final / "result.json") < seconds:
        work.rename(beside)
        return beside
    stale = final.with_name(f"{final.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    with contextlib.suppress(OSError):  # there is none, or another process has taken it away
        final.rename(stale)
        shutil.rmtree(stale, ignore_errors=True)
    try:
        work.rename(final)
    except OSError:  # another process has just put one there
        work.rename(beside)
        return beside
    return final


def _age(path: Path) -> float:
    """Seconds since a file was written; infinite where there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf


def keep_failed(root: Path, work: Path, command: Sequence[str]) -> str:
    """Moves a failed job where it can be replayed; returns what to type for that: ``command`` and the folder."""
    kept = root / "failed" / work.name.removesuffix(".tmp")
    work.rename(kept)
    with contextlib.suppress(OSError):  # another process may be doing the same
        old = sorted((root / "failed").iterdir(), key=lambda p: p.stat().st_mtime)
        for path in old[:-_KEEP_FAILED]:
            shutil.rmtree(path, ignore_errors=True)
    return shlex.join([*command, str(kept)])


def sweep(jobs: Path) -> None:
    """Removes what interrupted hosts left behind: temporary folders whose process is gone."""
    for path in jobs.glob("*.tmp"):
        pid = path.name.split(".")[1].split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
    for path in jobs.glob("live-*"):  # cannot be found again, kept a day for bug reports
        with contextlib.suppress(OSError):  # another process may be renaming it
            if time.time() - path.stat().st_mtime > 86400:
                shutil.rmtree(path, ignore_errors=True)


def limit_bytes() -> float:
    """The size that the cache is kept under.

    Raises:
        UsageError: ``ONNXEQ_CACHE_LIMIT`` is no number.
    """
    asked = os.environ.get("ONNXEQ_CACHE_LIMIT", "")
    try:
        return (float(asked) if asked else DEFAULT_LIMIT_GIB) * 2**30
    except ValueError:
        raise UsageError(f"ONNXEQ_CACHE_LIMIT is '{asked}', no number of GiB", hint="set it to 20, say") from None


def prune_now_and_then(root: Path) -> None:
    """:func:`prune`, unless that was done a moment ago: it looks at every file that there is."""
    stamp = root / "pruned"
    with contextlib.suppress(OSError):
        if time.time() - stamp.stat().st_mtime < _PAUSE_S:
            return
    prune(root)
    with contextlib.suppress(OSError):
        stamp.touch()


_PAUSE_S = 60.0


def _size_of(folder: str | os.PathLike[str]) -> int:
    """Bytes of the files in a folder and below."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            directory = entry.is_dir(follow_symlinks=False)
            total += _size_of(entry.path) if directory else entry.stat(follow_symlinks=False).st_size
    return total


def prune(root: Path) -> None:
    """Removes the finished jobs that were not used for longest until the cache is under its limit."""
    limit = limit_bytes()
    jobs: list[tuple[float, int, Path]] = []
    for path in (p for p in (root / "jobs").iterdir() if p.suffix != ".tmp"):
        with contextlib.suppress(OSError):  # another process may be pruning it
            size = _size_of(path)
            jobs.append((path.stat().st_mtime, size, path))
    used = sum(size for _, size, _ in jobs)
    for last_use, size, path in sorted(jobs):
        if used <= limit or time.time() - last_use < _RECENT_S:
            break
        # Renamed first, so that nobody finds it half removed.
        going = path.with_name(f"{path.name}.{os.getpid()}-pruned.tmp")
        with contextlib.suppress(OSError):
            path.rename(going)
            shutil.rmtree(going, ignore_errors=True)
        used -= size


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would be Ctrl-C there; leftovers are then left to the user
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
