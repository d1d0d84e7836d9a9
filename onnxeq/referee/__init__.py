"""The referee: an independent float64 executor of ONNX, written to the specification."""

from __future__ import annotations

from onnxeq.referee.executor import Executor, Hook, NodeInfo
from onnxeq.referee.registry import Value

__all__ = ["Executor", "Hook", "NodeInfo", "Value"]
