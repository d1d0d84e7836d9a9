"""Elementwise work in blocks that stay in the processor's cache, on as many threads as BLAS would use.

numpy releases the interpreter lock inside its loops, so threads help; blocks bound the temporaries.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

__all__ = ["BLOCK", "in_blocks", "thread_count"]

BLOCK = 1 << 13
"""Elements per block: 64 KiB in float64; an operand and two temporaries fit the second-level cache."""

_WORTH_THREADS = 1 << 16


@functools.cache
def thread_count() -> int:
    """``OMP_NUM_THREADS`` if it is set, else the processors that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="referee")


def in_blocks(count: int, size: int, work: Callable[[int, int], None], *, weight: int = 1) -> None:
    """Calls ``work(start, stop)`` for consecutive blocks of ``size`` that cover ``range(count)``.

    Args:
        count: How many items there are.
        size: Items per block.
        work: Must write to its own part of the result only.
        weight: Elements that one item stands for; small jobs stay on the calling thread.
    """
    size = max(1, size)

    def span(first: int, last: int) -> None:
        with np.errstate(all="ignore"):  # numpy's error state does not carry over to other threads
            for start in range(first, last, size):
                work(start, min(start + size, last))

    threads = thread_count()
    if threads == 1 or count * weight < _WORTH_THREADS or count <= size:
        span(0, count)
        return
    share = -(-count // (threads * size)) * size
    futures = [_pool().submit(span, first, min(first + share, count)) for first in range(0, count, share)]
    for future in futures:
        future.result()
