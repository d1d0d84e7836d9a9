"""Elementwise work in blocks that stay in the processor's cache, on as many threads as BLAS would use.

numpy releases the interpreter lock inside its loops, so threads help; blocks bound the temporaries.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "in_blocks", "matmul", "product_threads", "shared_out", "thread_count"]

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


@functools.cache
def product_threads() -> int:
    """To how many threads products are shared out: one, unless BLAS was told to leave that to its caller.

    OpenBLAS' own threads burn the cores while they wait for each other: where other processes run, two of them take
    three times as long as one.
    """
    return thread_count() if os.environ.get("OPENBLAS_NUM_THREADS") == "1" else 1


def shared_out(count: int, work: Callable[[int, int], None], *, weight: int = 1) -> None:
    """Calls ``work(start, stop)`` once for each of :func:`product_threads` parts of ``range(count)``.

    Args:
        count: How many items there are.
        work: Must write to its own part of the result only.
        weight: Elements that one item stands for.
    """
    threads = product_threads()
    if threads == 1:
        work(0, count)
    else:
        in_blocks(count, -(-count // threads), work, weight=weight)


def matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """``np.matmul(a, b)``, its matrices, or the rows or columns of a single product, shared out to the threads."""
    if product_threads() == 1 or a.ndim < 2 or b.ndim < 2:
        return np.asarray(np.matmul(a, b))
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = np.empty((*lead, a.shape[-2], b.shape[-1]), np.result_type(a, b))
    rows, columns = out.shape[-2:]
    if lead and lead[0] > 1:
        first = np.broadcast_to(a, (*lead, *a.shape[-2:]))
        second = np.broadcast_to(b, (*lead, *b.shape[-2:]))

        def work(start: int, stop: int) -> None:
            np.matmul(first[start:stop], second[start:stop], out=out[start:stop])

        shared_out(lead[0], work, weight=out.size // max(1, lead[0]))
    elif rows >= columns:

        def work(start: int, stop: int) -> None:
            np.matmul(a[..., start:stop, :], b, out=out[..., start:stop, :])

        shared_out(rows, work, weight=out.size // max(1, rows))
    else:

        def work(start: int, stop: int) -> None:
            np.matmul(a, b[..., start:stop], out=out[..., start:stop])

        shared_out(columns, work, weight=out.size // max(1, columns))
    return out
