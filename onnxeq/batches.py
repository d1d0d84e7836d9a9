"""The same items in another batch: fewer of them, in another order.

Only an axis that is plainly a batch is taken for one: the first axis, declared free by every input that takes part, and
of one size. An output takes part where its first axis has the size of the batch in every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxeq.types import Dim, Feed

if TYPE_CHECKING:
    import onnx

__all__ = ["OtherBatch", "Rows", "batched_outputs", "choose_rows", "leading_sizes", "take"]

Rows = tuple[int, tuple[int, ...]]
"""A feed's index, and the items of it that make the other batch, in their new order."""


@dataclass(frozen=True)
class OtherBatch:
    """Items of one feed, run as a batch of their own.

    Attributes:
        feed: Where they come from.
        rows: Which they are, in their new order.
        outputs: What the artifact gives for them, under the source's names.
        error: Why it gives nothing.
    """

    feed: int
    rows: tuple[int, ...]
    outputs: Feed
    error: str = ""


def leading_sizes(model: onnx.ModelProto) -> dict[str, Dim]:
    """Input name -> the first size that it declares, ``?`` for a free one."""
    found: dict[str, Dim] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ()
        if dims:
            found[value.name] = int(dims[0].dim_value) if dims[0].HasField("dim_value") else dims[0].dim_param or "?"
    return found


def choose_rows(feeds: Sequence[Feed], leading: Mapping[str, Dim]) -> Rows | None:
    """The last and the first item of the largest batch.

    Args:
        feeds: The feeds.
        leading: Input name -> the first size that it declares, for those that have a first axis.

    Returns:
        ``None`` when no input declares a free first axis, when sizes differ within a feed, or when no feed holds two.
    """
    free = [name for name, size in leading.items() if not isinstance(size, int)]
    best: Rows | None = None
    most = 1
    for index, feed in enumerate(feeds):
        sizes = {feed[name].shape[0] for name in free if name in feed and feed[name].ndim}
        if len(sizes) == 1 and (size := sizes.pop()) > most:
            best, most = (index, (size - 1, 0)), size
    return best


def take(feed: Feed, leading: Mapping[str, Dim], rows: Sequence[int]) -> dict[str, np.ndarray]:
    """The feed with the chosen items only, in their order; inputs of a fixed first size stay as they are."""
    free = {name for name, size in leading.items() if not isinstance(size, int)}
    return {k: np.ascontiguousarray(v[list(rows)]) if k in free and v.ndim else v for k, v in feed.items()}


def batched_outputs(trace: Sequence[Feed], sizes: Sequence[int], index: int, other: Feed, count: int) -> list[str]:
    """The outputs whose first axis is the batch, in every feed and in the other batch.

    Args:
        trace: The outputs for each feed.
        sizes: The batch size of each feed.
        index: The feed that the other batch was taken from.
        other: The outputs for the other batch.
        count: Its size.
    """
    return [
        name
        for name, value in trace[index].items()
        if all(f[name].ndim and f[name].shape[0] == n for f, n in zip(trace, sizes, strict=True) if name in f)
        and name in other
        and other[name].shape == (count, *value.shape[1:])
    ]
