"""Locks between processes: one builds or removes an environment, or several use it.

They are the operating system's own and end with the process that holds them, however it ends. A child that is given
the descriptor (``pass_fds``) holds the lock with it: an environment stays in use as long as a worker runs in it, and
stays in the making as long as pip does, even when their host was killed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Busy", "exclusive", "shared"]

_POLL_S = 0.1


class Busy(Exception):
    """Somebody else holds the lock."""


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int, *, alone: bool) -> None:
        # Windows has no shared lock on a descriptor: users there only see that nobody builds.
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        if not alone:
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(descriptor: int, *, alone: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[int]:
    """Holds the lock alone; gives its descriptor.

    Args:
        path: The lock file; it is made, and stays.
        waiting: Called once when somebody else holds the lock, which is then waited for; without it that is an error.

    Raises:
        Busy: Somebody else holds the lock.
    """
    descriptor = _open(path)
    try:
        told = False
        while True:
            try:
                _take(descriptor, alone=True)
                break
            except OSError:
                if waiting is None:
                    raise Busy from None
            if not told:
                waiting()
                told = True
            time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def shared(path: Path) -> Iterator[int]:
    """Holds the lock together with other users; gives its descriptor, for a child to hold on to.

    Raises:
        Busy: Somebody holds it alone.
    """
    descriptor = _open(path)
    try:
        try:
            _take(descriptor, alone=False)
        except OSError:
            raise Busy from None
        yield descriptor
    finally:
        os.close(descriptor)
