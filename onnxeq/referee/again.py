"""A node computed once more, with other inputs: what a hook needs to say what a change of operands does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onnxeq.errors import CannotRun
from onnxeq.referee.registry import Call, Value, find

if TYPE_CHECKING:
    from onnxeq.referee.frames import NodeInfo

__all__ = ["compute_again"]


def compute_again(info: NodeInfo, inputs: Sequence[Value], *, nudge: float = 0.0) -> list[Value] | None:
    """The outputs of a node for these inputs; ``None`` when it has no implementation of its own.

    ``nudge`` is that of :class:`onnxeq.referee.registry.Call`.

    Raises:
        CannotRun: The node holds a sub-graph, which needs the values around it.
    """
    from onnxeq.referee.attributes import decode_all  # not above: who reads a rule for noise needs no onnx

    operator = find(info.node.domain, info.node.op_type, info.opset)
    if operator is None:
        return None
    call = Call(
        info.node, info.opset, decode_all(info.node.attribute), len(info.node.output), _no_graph,
        input_dtypes=info.input_dtypes, nudge=nudge,
    )  # fmt: skip
    given = operator.run(call, *inputs)
    return list(given) if isinstance(given, tuple) else [given]


def _no_graph(*_call: Any) -> Any:
    raise CannotRun("a node with a sub-graph cannot be computed on its own")
