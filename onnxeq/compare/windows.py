"""The geometry of sliding windows: padding as a rule becomes padding in numbers, for the size at hand.

With input size ``n``, padding ``b`` before and ``e`` after, stride ``s`` and a kernel that extends over
``k = (kernel - 1) * dilation + 1``, there are ``m = floor((n + b + e - k) / s) + 1`` windows. The last one ends at
``(m - 1) * s + k - b``, so that only ``(m - 1) * s + k - b - n`` of the elements after the input are read: with a
stride of 2 the padding after an input of even size often is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Window", "window"]


@dataclass(frozen=True)
class Window:
    """How a kernel slides, per spatial axis.

    Attributes:
        kernel: Elements of the kernel.
        strides: Elements from one window to the next.
        dilations: Elements from one of the kernel's to the next.
        pads: Padding as declared, all begins and then all ends; rules such as SAME in numbers.
        read: The part of it that some window reads. An end may be negative: elements of the input that none reads.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    read: tuple[int, ...]

    def along(self, kept: Sequence[int]) -> Window:
        """The same along some of its axes."""
        both = [*kept, *(len(self.kernel) + i for i in kept)]
        once = [tuple(held[i] for i in kept) for held in (self.kernel, self.strides, self.dilations)]
        return Window(*once, *(tuple(held[i] for i in both) for held in (self.pads, self.read)))


def window(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str = "NOTSET",
    *,
    ceil: bool = False,
) -> Window:
    """Resolves the window of a convolution or pooling for an input of ``sizes``.

    Args:
        sizes: Spatial sizes of the input.
        kernel: Spatial sizes of the kernel.
        strides: ONNX attribute; ``None`` for 1.
        dilations: ONNX attribute; ``None`` for 1.
        pads: ONNX attribute; ``None`` for 0.
        auto_pad: ONNX attribute.
        ceil: Whether a last window that is only partly there counts (pooling).
    """
    rank = len(kernel)
    step = tuple(strides or (1,) * rank)
    spread = tuple(dilations or (1,) * rank)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    begin, end = [0] * rank, [0] * rank
    if auto_pad.startswith("SAME"):
        for axis, (n, k, s) in enumerate(zip(sizes, extent, step, strict=True)):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            small = total // 2
            upper = auto_pad == "SAME_UPPER"
            begin[axis], end[axis] = (small, total - small) if upper else (total - small, small)
    elif auto_pad != "VALID" and pads:
        begin, end = list(pads[:rank]), list(pads[rank:])
    last = []
    for n, k, s, b, e in zip(sizes, extent, step, begin, end, strict=True):
        room = n + b + e - k
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + b:
            count -= 1  # a window that begins behind the input is none
        last.append((count - 1) * s + k - b - n)
    return Window(tuple(kernel), step, spread, (*begin, *end), (*begin, *last))
