"""Sliding windows: kernel shape, strides, dilations, padding and output sizes of Conv and the pools."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.referee.registry import Call

__all__ = ["Windows", "padded", "windows_of"]


@dataclass(frozen=True)
class Windows:
    """The geometry of a sliding window over the spatial axes.

    Attributes:
        kernel: Window size for each spatial axis.
        strides: Step.
        dilations: Distance of neighbouring taps.
        before: Padding before the first element; negative values crop.
        after: Padding after the last, as declared.
        size: Input size.
        output: Output size.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    size: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Length of padded input that the windows touch: ``(output - 1) * stride + effective kernel``."""
        return tuple(
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(self.output, self.strides, self.kernel, self.dilations, strict=True)
        )

    @property
    def plain(self) -> bool:
        """Whether every window is one element and each element has its window."""
        return set(self.kernel) <= {1} and set(self.strides) <= {1} and not any(self.before + self.after)

    def taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """For each position in the kernel, the strided slice of the padded input that it meets."""
        for tap in itertools.product(*map(range, self.kernel)):
            yield (
                tap,
                tuple(
                    slice(t * d, t * d + (o - 1) * s + 1, s)
                    for t, d, o, s in zip(tap, self.dilations, self.output, self.strides, strict=True)
                ),
            )


def _ints(call: Call, name: str, default: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in call.get(name) or default)


def windows_of(call: Call, size: Sequence[int], kernel: Sequence[int], *, ceil: bool = False) -> Windows:
    """The geometry that a node's attributes give for an input of spatial ``size``.

    ``floor((in + pads - dilation * (kernel - 1) - 1) / stride + 1)``, or the ceiling; a last window that
    would begin in the padding behind the input is dropped. ``SAME_*`` gives ``ceil(in / stride)``.
    """
    rank = len(size)
    strides = _ints(call, "strides", (1,) * rank)
    dilations = _ints(call, "dilations", (1,) * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    mode = call.get("auto_pad", "NOTSET") or "NOTSET"
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        output = tuple(-(-n // s) for n, s in zip(size, strides, strict=True))
        totals = [max((o - 1) * s + e - n, 0) for o, s, e, n in zip(output, strides, spans, size, strict=True)]
        half = tuple(t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in totals)
        rest = tuple(t - h for t, h in zip(totals, half, strict=True))
        return Windows(tuple(kernel), strides, dilations, half, rest, tuple(size), output)
    if mode not in ("NOTSET", "VALID"):
        raise ValueError(f"auto_pad {mode!r} is not one of NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    pads = _ints(call, "pads", (0,) * (2 * rank)) if mode == "NOTSET" else (0,) * (2 * rank)
    before, after = pads[:rank], pads[rank:]
    sizes = []
    for n, b, a, e, s in zip(size, before, after, spans, strides, strict=True):
        room = n + b + a - e
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + b:
            count -= 1
        sizes.append(max(count, 0))
    return Windows(tuple(kernel), strides, dilations, before, after, tuple(size), tuple(sizes))


def padded(x: NDArray[Any], windows: Windows, fill: float = 0) -> NDArray[Any]:
    """``x`` cut or filled so that exactly the elements that the windows touch remain; a view if it can be."""
    rank = len(windows.size)
    lead = x.shape[: x.ndim - rank]
    inner: list[slice] = []
    target: list[slice] = []
    for n, b, length in zip(windows.size, windows.before, windows.reach, strict=True):
        first, last = max(-b, 0), min(n, length - b)
        inner.append(slice(first, max(last, first)))
        target.append(slice(first + b, max(last, first) + b))
    lead_all = (slice(None),) * len(lead)
    body = x[(*lead_all, *inner)]
    if body.shape[len(lead) :] == windows.reach:
        return body
    result = np.full(lead + windows.reach, fill, dtype=x.dtype)
    result[(*lead_all, *target)] = body
    return result
