"""Comparison, logic and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxeq.referee.ops.tensors import legacy_operand
from onnxeq.referee.registry import Call, op

__all__: list[str] = []

_COMPARE: dict[str, Callable[..., Any]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@op(*_COMPARE, witnesses=("suite", "onnxruntime"))
def compare(call: Call, A: Any, B: Any) -> Any:
    """The comparison or logical function of the operator's name; bool result."""
    return np.asarray(_COMPARE[call.node.op_type](A, legacy_operand(call, A, B)), dtype=bool)


@op("Not", witnesses=("suite", "onnxruntime"))
def logical_not(call: Call, X: Any) -> Any:
    """``not X``."""
    return np.logical_not(X)


@op("Where", witnesses=("suite", "onnxruntime"))
def where(call: Call, condition: Any, X: Any, Y: Any) -> Any:
    """``X`` where the condition holds, else ``Y``; all three broadcast."""
    return np.where(condition, X, Y)


@op("IsNaN", witnesses=("suite", "onnxruntime"))
def is_nan(call: Call, X: Any) -> Any:
    """Whether an element is not a number."""
    return np.isnan(X)


@op("IsInf", witnesses=("suite", "onnxruntime"))
def is_inf(call: Call, X: Any) -> Any:
    """Whether an element is infinite, of the signs asked for."""
    positive = np.isposinf(X) if call.get("detect_positive", 1) else np.zeros(X.shape, bool)
    negative = np.isneginf(X) if call.get("detect_negative", 1) else np.zeros(X.shape, bool)
    return positive | negative
