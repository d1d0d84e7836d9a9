"""A node computed once more for other inputs, also one that holds graphs or calls a function of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnxeq.errors import OnnxeqError
from onnxeq.referee.again import compute_again
from onnxeq.referee.elements import lift
from onnxeq.referee.frames import Entry, Kind
from onnxeq.referee.plan import captured_by

if TYPE_CHECKING:
    import onnx

    from onnxeq.referee import Executor, Hook, NodeInfo, Value
    from onnxeq.types import Feed

__all__ = ["Recomputer"]


class Recomputer:
    """Computes nodes of a main graph beside the run that has just computed them.

    What a node's bodies read from around it is an operand as its inputs are, so that it can be another value as well.

    Args:
        executor: The referee of the graph.
        graph: The graph.
        feed: Its inputs.
    """

    def __init__(self, executor: Executor, graph: onnx.GraphProto, feed: Feed) -> None:
        self._executor = executor
        self._feed = feed
        self._made = {name for node in graph.node for name in node.output if name and node.op_type != "Constant"}
        self._captured = {n for node in graph.node for n in captured_by(node)} & self._made
        self._kept: dict[str, tuple[Value, str]] = {}

    def keep(self, name: str, value: Value, dtype: str) -> None:
        """Remembers a value that a body reads."""
        if name in self._captured:
            self._kept[name] = value, dtype

    def forget(self, name: str) -> None:
        """Nobody reads it any more."""
        self._kept.pop(name, None)

    def names(self, info: NodeInfo) -> tuple[str, ...]:
        """A node's inputs, and what its bodies read of the values that other nodes have made."""
        captured = sorted(captured_by(info.node) & self._kept.keys()) if info.composite else ()
        return (*info.node.input, *captured)

    def operands(self, info: NodeInfo, inputs: Sequence[Value]) -> list[Value]:
        """The main run's values of :meth:`names`."""
        return [*inputs, *(self._kept[n][0] for n in self.names(info)[len(inputs) :])]

    def outputs(self, info: NodeInfo, given: Sequence[Value], hook: Hook | None = None) -> list[Value] | None:
        """What the node makes of other operands; ``None`` where the referee cannot tell.

        Args:
            info: The node.
            given: A value for each of :meth:`names`.
            hook: Sees the nodes inside of it.
        """
        if any(name and value is None for name, value in zip(info.node.input, given, strict=False)):
            return None
        try:
            with np.errstate(all="ignore"):
                made = None if info.composite else compute_again(info, given)
                made = self._run(info, given, hook) if made is None else made
        except (OnnxeqError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return None
        asked = made[: len(info.dtypes)]  # an operator may give more than the node asks for
        return [np.asarray(v) if isinstance(v, np.generic) else v for v in asked]

    def _run(self, info: NodeInfo, given: Sequence[Value], hook: Hook | None) -> list[Value]:
        """Runs the node alone in its graph."""
        names = self.names(info)
        dtypes = [*info.input_dtypes, *(self._kept[n][1] for n in names[len(info.input_dtypes) :])]
        known = {
            name: Entry(lift(value), dtype, Kind.DATA)
            for name, value, dtype in zip(names, given, dtypes, strict=True)
            if name in self._made
        }
        wanted = [name for name in info.node.output if name]
        found = self._executor.run_entries(self._feed, outputs=wanted, known=known, hook=hook)
        return [lift(found[name].value) if name else None for name in info.node.output]
