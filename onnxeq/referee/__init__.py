"""The referee: an independent float64 executor of ONNX, written to the specification.

The executor and its operators are loaded when they are asked for: the host reads element types from here and runs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxeq.referee.executor import Executor, Hook, NodeInfo
    from onnxeq.referee.registry import Value

__all__ = ["Executor", "Hook", "NodeInfo", "Value"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from onnxeq.referee import executor

    return getattr(executor, name)
