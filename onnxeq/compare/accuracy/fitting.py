"""An item's axes as a model takes them: where channels stand, and whether there is an axis for them at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxeq.arrays import dtype_name, dtype_of
from onnxeq.errors import BadInputs
from onnxeq.types import Array, Dim, TensorSpec

__all__ = ["FREE_BATCH", "Fit", "fit"]

FREE_BATCH = 16
"""Items in a batch where the model takes any number: enough for the cores, little enough for the memory."""

_TURNS: Mapping[str, Callable[[Array], Array]] = {
    "": lambda x: x,
    "channels first": lambda x: np.moveaxis(x, -1, 1),
    "channels last": lambda x: np.moveaxis(x, 1, -1),
    "an axis for one channel added first": lambda x: x[:, np.newaxis],
    "an axis for one channel added last": lambda x: x[..., np.newaxis],
    "its first axis of one channel left out": lambda x: x[:, 0],
    "its last axis of one channel left out": lambda x: x[..., 0],
}
"""In words, what is done to a batch of items."""


@dataclass(frozen=True)
class Fit:
    """How items of one shape become a model's input.

    Attributes:
        turn: What is done to their axes, in words; empty where they fit as they are.
        dtype: The element type that the model takes.
        batch: Items in a batch.
        padded: Whether the model takes that number and no other.
    """

    turn: str
    dtype: str
    batch: int
    padded: bool

    def input(self, items: Sequence[Array]) -> Array:
        """The model's input for some items, at most :attr:`batch`; a last one stands in for those that are lacking."""
        stacked = np.stack(items)
        if self.padded and len(items) < self.batch:
            stacked = np.concatenate([stacked, np.repeat(stacked[-1:], self.batch - len(items), axis=0)])
        return np.ascontiguousarray(_TURNS[self.turn](stacked).astype(dtype_of(self.dtype), copy=False))


def fit(item: Array, spec: TensorSpec, *, layout: str = "", wanted: str = "") -> Fit:
    """How items like ``item``, which has no batch axis, are fed to the input ``spec``.

    Args:
        item: One of them.
        spec: What the model declares.
        layout: The order of a picture's axes, where a recipe says it: ``NCHW``, ``NHWC`` or ``CHW``.
        wanted: The order that the model's own recipe makes.

    Raises:
        BadInputs: They do not fit, with both shapes and element types.
    """
    given = f"{dtype_name(item)}[{','.join(map(str, item.shape))}]"
    problem = BadInputs(f"it takes {spec.text()}, and an item is {given}")
    if not _convertible(item, spec.dtype, picture=bool(layout)):
        if not layout:
            problem.hint = f"convert the items: x.astype('{spec.dtype}')"
        raise problem
    if spec.shape is None:
        return Fit(_known_turn(layout, wanted) or "", spec.dtype, 1, padded=False)
    first: Dim = spec.shape[0] if spec.shape else "?"
    batch, padded = (first, True) if isinstance(first, int) else (FREE_BATCH, False)
    for turn in _candidates(item, len(spec.shape) - 1, layout, wanted):
        if _fits(_TURNS[turn](item[np.newaxis]).shape[1:], spec.shape[1:]):
            return Fit(turn, spec.dtype, batch, padded)
    raise problem


def _convertible(item: Array, dtype: str, *, picture: bool) -> bool:
    """Whether values keep their meaning: a picture's 8-bit levels may become floats, an array's integers may not."""
    try:
        wanted = dtype_of(dtype)
    except TypeError:  # a sequence, an optional
        return False
    floats = [kind.kind in "fV" for kind in (item.dtype, wanted)]  # V: bfloat16 and its like
    if floats[0] != floats[1]:
        return picture and floats[1]
    return floats[0] or bool(np.can_cast(item.dtype, wanted)) or item.dtype.kind == wanted.kind


def _known_turn(layout: str, wanted: str) -> str | None:
    """What makes one layout of another; ``None`` where one of them is not known."""
    if not layout or not wanted:
        return None
    last = [axes == "NHWC" for axes in (layout, wanted)]
    return "" if last[0] == last[1] else ("channels first" if last[0] else "channels last")


def _candidates(item: Array, rank: int, layout: str, wanted: str) -> Iterator[str]:
    if item.ndim == rank:
        known = _known_turn(layout, wanted)
        if known is not None:
            yield known
            return
        yield ""
        if rank == 3:
            yield from (turn for turn, axes in (("channels first", "NHWC"), ("channels last", "NCHW"))
                        if layout in ("", axes) or (layout == "CHW" and axes == "NCHW"))  # fmt: skip
    elif item.ndim == 2 and rank == 3:
        yield "an axis for one channel added first"
        yield "an axis for one channel added last"
    elif item.ndim == 3 and rank == 2:
        if item.shape[0] == 1:
            yield "its first axis of one channel left out"
        if item.shape[-1] == 1:
            yield "its last axis of one channel left out"


def _fits(shape: Sequence[int], declared: Sequence[Dim]) -> bool:
    """Whether sizes are those that are declared; a channel axis that is added has the size 1 only."""
    return len(shape) == len(declared) and all(
        isinstance(want, str) or want == got for want, got in zip(declared, shape, strict=True)
    )
