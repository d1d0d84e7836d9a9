"""From what an executor says when it fails to the place in the graph, in the host and without running anything."""

from __future__ import annotations

from collections.abc import Sequence

from onnxeq.evidence import Evidence
from onnxeq.types import Feed, Where

__all__ = ["at_node", "before_output", "near_failure", "shapes_of", "varied"]


def near_failure(found: Evidence, messages: Sequence[str], sizes: Sequence[int], axis: int | None) -> Where:
    """The nearest node that holds a size, at or before the one that the messages name; see ``onnxeq.graph.baked``."""
    from onnxeq.graph.baked import baked_near, failing_node
    from onnxeq.graph.files import read

    model = read(found.artifact.path)
    node = failing_node(model, messages)
    return Where() if node is None else baked_near(model, node, sizes, axis)


def before_output(found: Evidence, output: str, sizes: Sequence[int], axis: int | None) -> Where:
    """The nearest node that holds a size, at or before what makes an output (by the source's name)."""
    from dataclasses import replace

    from onnxeq.graph.baked import baked_near
    from onnxeq.graph.files import read

    names = {theirs: mine for mine, theirs in found.runs.outputs["referee/f64"].items()}
    model = read(found.artifact.path)
    maker = next((n for n in model.graph.node if names.get(output, output) in n.output), None)
    return Where(value=output) if maker is None else replace(baked_near(model, maker, sizes, axis), value=output)


def varied(ran: Sequence[Feed], other: Feed) -> tuple[list[int], int | None]:
    """The sizes that ran on the axes on which another feed differs, and the axis if it is the first everywhere."""
    differ = [
        (axis, feed[name].shape[axis])
        for feed in ran
        for name, value in other.items()
        if feed[name].ndim == value.ndim
        for axis in range(value.ndim)
        if feed[name].shape[axis] != value.shape[axis]
    ]
    return sorted({size for _, size in differ}), 0 if {axis for axis, _ in differ} == {0} else None


def shapes_of(feed: Feed) -> str:
    """``x [3, 8], mask [3]``."""
    return ", ".join(f"{name} {list(value.shape)}" for name, value in feed.items())


def at_node(where: Where) -> str:
    """The node in words, with a blank before; empty where none is known."""
    return f" at node {where.node} ({where.op_type})" if where.node else ""
