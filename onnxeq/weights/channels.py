"""A weight as its operator sees it: one row for each output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from onnxeq.types import Array
from onnxeq.weights.inventory import Inventory, Reader

__all__ = ["Channels", "channels_of", "moved_before"]


@dataclass(frozen=True)
class Channels:
    """Where the output channels of a stored weight are.

    Attributes:
        shape: The stored shape.
        axis: The axis of output channels.
        group: Of a ConvTranspose: the first axis holds so many groups, which come before the channel.
    """

    shape: tuple[int, ...]
    axis: int
    group: int = 1

    @property
    def count(self) -> int:
        """Number of output channels."""
        return self.shape[self.axis] * self.group

    def rows(self, stored: Array) -> Array:
        """``[C, K]``: a row for each output channel; a view where that can be had."""
        if self.group > 1:
            split = stored.reshape(self.group, self.shape[0] // self.group, self.shape[1], -1)
            return split.transpose(0, 2, 1, 3).reshape(self.count, -1)
        return np.moveaxis(stored, self.axis, 0).reshape(self.count, -1)

    def back(self, rows: Array) -> Array:
        """The stored form of ``[C, K]``."""
        if self.group > 1:
            split = rows.reshape(self.group, self.shape[1], self.shape[0] // self.group, -1)
            return np.ascontiguousarray(split.transpose(0, 2, 1, 3)).reshape(self.shape)
        rest = [size for axis, size in enumerate(self.shape) if axis != self.axis]
        moved = np.moveaxis(rows.reshape(self.shape[self.axis], *rest), 0, self.axis)
        return np.ascontiguousarray(moved).reshape(self.shape)


def channels_of(artifact: Inventory, user: Reader | None, name: str, shape: tuple[int, ...]) -> Channels | None:
    """Where a constant's output channels are, by the node that uses it; ``None`` where that is unknown."""
    if user is None or len(shape) < 2:
        return None
    node = artifact.nodes[user.index]
    if node.op_type in ("Conv", "FusedConv", "NhwcConv", "QLinearConv", "ConvInteger"):
        return Channels(shape, 0)
    if node.op_type == "ConvTranspose":
        group = _int(node, "group", 1)
        return Channels(shape, 1, group) if shape[0] % group == 0 else None
    if "Gemm" in node.op_type or "MatMul" in node.op_type:
        flipped = bool(_int(node, "transB", 0)) != _transposed_before(artifact, name, user)
        second = user.slot != 0
        return Channels(shape, len(shape) - 2 if flipped == second else len(shape) - 1)
    return None


def _transposed_before(artifact: Inventory, name: str, user: Reader) -> bool:
    """Whether an odd number of Transpose nodes lies between the constant and its user."""
    flips = False
    for _ in range(6):
        rows = artifact.readers.get(name, ())
        if not rows or rows[0][0] == user.index:
            break
        node = artifact.nodes[rows[0][0]]
        flips ^= node.op_type == "Transpose"
        name = node.output[0]
    return flips


def moved_before(artifact: Inventory, name: str, user: Reader | None) -> tuple[int, ...] | None:
    """The order in which its user sees a constant's axes, behind Transpose nodes; ``None`` where that is its own.

    Where a node between them gives it another shape, nothing is known, and that counts as its own.
    """
    order: tuple[int, ...] | None = None
    for _ in range(6):
        rows = artifact.readers.get(name, ())
        if user is None or not rows or rows[0][0] == user.index:
            break
        node = artifact.nodes[rows[0][0]]
        if node.op_type == "Transpose":
            turn = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
            order = turn if order is None else tuple(order[i] for i in turn)
        elif node.op_type not in _KEEPING:
            return None
        name = node.output[0]
    return order or None


_KEEPING = ("Identity", "Cast", "DequantizeLinear")
"""Operators that hand a tensor on in its own shape."""


def _int(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
