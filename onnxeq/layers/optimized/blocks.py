"""onnxruntime's blocked tensors: which values are, how many channels they hold, and their filters put back.

On CPUs onnxruntime gives convolutions tensors whose channels lie together in blocks of b: declared ``[N,C,H,W]``, in
memory ``[N,C/b,H,W,b]``, with C padded by zeros to a multiple of b. Nodes of its domain ``com.microsoft.nchwc`` make
them, elementwise operators hand them on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxeq.layers.optimized.sheet import Sheet, attributes_of
from onnxeq.types import Array

__all__ = ["NCHWC", "Blocked", "Filter", "blocked_in", "filter_of", "former_name", "unblock"]

NCHWC = "com.microsoft.nchwc"

_NAME = re.compile(r"^(.*?)(_bn)?_nchwc(_token_\d+)?$", re.DOTALL)


@dataclass(frozen=True)
class Blocked:
    """A blocked value: how many channels it holds, and the value that its node was made from (or empty)."""

    channels: int
    former: str = ""


def unblock(array: Array, channels: int, block: int) -> Array:
    """A blocked value as it lies in memory, in the order that its shape means.

    Args:
        array: ``[N,C,H,W]`` as onnxruntime returns it, or ``[N,C/b,H,W,b]``.
        channels: How many of the C channels are no padding.
        block: The block size b.

    Returns:
        ``[N,channels,H,W]``.
    """
    batch, width = array.shape[0], array.shape[1]
    if array.ndim == 4:
        array = array.reshape(batch, width // block, *array.shape[2:], block)
    _, groups, height, length, inner = array.shape
    return array.transpose(0, 1, 4, 2, 3).reshape(batch, groups * inner, height, length)[:, :channels]


def former_name(node: NodeProto) -> str:
    """The value that a blocked node made before it was blocked: the node is named by it."""
    found = _NAME.match(node.name)
    return found.group(1) if found else ""


@dataclass(frozen=True)
class Filter:
    """How a blocked Conv's filter lies.

    Attributes:
        depthwise: One input channel for each output channel.
        blocked: Whether the input channels lie in blocks, too.
    """

    depthwise: bool
    blocked: bool

    def plain(self, stored: NDArray[Any], block: int) -> NDArray[Any]:
        """The filter in the order ``[O,I,H,W]``, with its padding."""
        out, width, height, length = stored.shape
        if self.blocked:
            lying = stored.reshape(out // block, width // block, height, length, block, block)
            return lying.transpose(0, 5, 1, 4, 2, 3).reshape(stored.shape)
        return stored.reshape(out // block, width, height, length, block).transpose(0, 4, 1, 2, 3).reshape(stored.shape)


def filter_of(sheet: Sheet, node: NodeProto, blocked: Mapping[str, Any]) -> Filter:
    """How a blocked Conv's filter lies, which follows from what it reads."""
    group = attributes_of(node).get("group", 1)
    depthwise = group > 1 and sheet.shapes[node.input[1]][1] == 1
    return Filter(depthwise, not depthwise and (group > 1 or node.input[0] in blocked))


def blocked_in(sheet: Sheet, block: int) -> dict[str, Blocked]:
    """The blocked values of a graph."""
    search = _Search(sheet, block)
    for node in sheet.graph.node:
        search.visit(node)
    return search.found()


class _Search:
    """Blocked values, those that hold equally many channels, and how many where that is known."""

    def __init__(self, sheet: Sheet, block: int) -> None:
        self._sheet, self._block = sheet, block
        self._former: dict[str, str] = {}
        self._same: dict[str, str] = {}
        self._known: dict[str, int] = {}
        self._guesses: dict[str, int] = {}
        self._width: dict[str, int] = {}  # with padding

    def _root(self, name: str) -> str:
        while self._same[name] != name:
            name = self._same[name]
        return name

    def _equal(self, one: str, other: str) -> None:
        if one in self._same and other in self._same:
            self._same[self._root(one)] = self._root(other)

    def visit(self, node: NodeProto) -> None:
        """Takes a node in; those that it reads were before."""
        if node.domain != NCHWC:
            self._hand_on(node)
            return
        result = node.output[0]
        if node.op_type == "ReorderOutput":
            self._known[node.input[0]] = int(attributes_of(node)["channels"])
            return
        self._same[result] = result
        self._former[result] = former_name(node)
        if node.op_type == "Conv":
            self._conv(node)
        elif node.op_type == "ReorderInput":
            last = bool(attributes_of(node).get("channels_last"))
            self._declare(result, node.input[0], 3 if last else 1)
        else:
            self._like(result, node.input[0])
            self._declare(result, self._former[result], 1)

    def _like(self, result: str, name: str) -> None:
        self._equal(result, name)
        if name in self._width:
            self._width[result] = self._width[name]

    def _declare(self, result: str, name: str, axis: int) -> None:
        shape = self._sheet.shapes.get(name, ())
        if len(shape) == 4 and shape[axis] > 0:
            self._known[result] = shape[axis]
            self._width[result] = -(-shape[axis] // self._block) * self._block

    def _conv(self, node: NodeProto) -> None:
        result = node.output[0]
        self._declare(result, self._former[result], 1)
        form = filter_of(self._sheet, node, self._same)
        if form.depthwise:
            self._equal(result, node.input[0])
        if len(node.input) > 3 and node.input[3]:
            self._equal(result, node.input[3])
        stored = self._sheet.array(node.input[1])
        if stored is None:
            return
        self._width[result] = stored.shape[0]
        self._guesses[result] = max(_used(form.plain(stored, self._block), 0), self._biased(node))
        if form.blocked and not form.depthwise and attributes_of(node).get("group", 1) == 1:
            self._guesses.setdefault(node.input[0], _used(form.plain(stored, self._block), 1))

    def _biased(self, node: NodeProto) -> int:
        bias = self._sheet.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        return 1 if bias is None else _used(bias, 0)

    def _hand_on(self, node: NodeProto) -> None:
        """An operator of another domain on blocked values: elementwise, a Concat of whole blocks, or a Reshape."""
        read = [name for name in node.input if name in self._same]
        if not read:
            return
        for result in node.output:
            if result:
                self._same[result] = result
        result = node.output[0]
        if node.op_type == "Concat":
            self._whole(node, result)
            return
        self._like(result, read[0])
        for name in read[1:]:
            self._equal(result, name)

    def _whole(self, node: NodeProto, result: str) -> None:
        """A Concat, which is done on blocked values only where none of them has padding."""
        widths = [self._width.get(name, 0) for name in node.input]
        self._known |= {name: width for name, width in zip(node.input, widths, strict=True) if width}
        if all(widths):
            self._known[result] = self._width[result] = sum(widths)

    def found(self) -> dict[str, Blocked]:
        """Every blocked value with its channels: as declared somewhere, else up to the last one that is not zero."""
        sure: dict[str, int] = {}
        likely: dict[str, int] = {}
        for name, channels in self._known.items():
            if name in self._same:
                sure[self._root(name)] = channels
        for name, channels in self._guesses.items():
            if name in self._same:
                root = self._root(name)
                likely[root] = max(likely.get(root, 1), channels)
        return {
            name: Blocked(sure.get(self._root(name), likely.get(self._root(name), 0)), self._former.get(name, ""))
            for name in self._same
        }


def _used(array: NDArray[Any], axis: int) -> int:
    """Length of an axis up to its last element that is not all zeros; at least 1."""
    used = np.flatnonzero(array.any(axis=tuple(i for i in range(array.ndim) if i != axis)))
    return int(used[-1]) + 1 if used.size else 1
