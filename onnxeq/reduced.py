"""What a run in reduced precision does to the outputs, as a hook of the referee: one unit per type.

An error above the float32 limits may be nobody's fault: tensor cores round operands to TF32, a model was stored in
float16, a runtime computes in bfloat16. Each leaves an error of a size that follows from the type and carries the
model's conditioning. So it is computed: the float64 run is repeated with values rounded as the type would round them,
and nothing else.

=========  ==================================================  =========================================
type       what is rounded                                     to
=========  ==================================================  =========================================
tf32       both operands of products (Conv, MatMul, ...)       11 significant bits
float16    every constant and every result                     the type
bfloat16   every constant and every result                     the type
int8       both operands of products                           multiples of ``max/127`` of each tensor
=========  ==================================================  =========================================

Products are summed without further rounding, since kernels sum them in float32 (or in int32).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import ml_dtypes
import numpy as np

from onnxeq.referee.again import compute_again
from onnxeq.rounding import is_rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["KINDS", "REDUCED", "Reduced"]

Real: TypeAlias = "NDArray[np.float64]"

KINDS = ("tf32", "float16", "bfloat16", "int8")
"""The types that are recognised, the closest to float32 first."""

REDUCED = 2.0
"""Units of a reduced precision that an execution in it may be away; see tests/test_reduced.py:
emulated TF32, float16, bfloat16 and int8 runs lie between 0.2 and 1.2 of their own, and bfloat16 at 5 of TF32's."""

_STORED = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

_PRODUCTS = frozenset(
    "Conv ConvTranspose FusedConv MatMul Gemm FusedMatMul FusedGemm Einsum LSTM GRU RNN Attention "
    "MultiHeadAttention DeformConv".split()
)
_OPERANDS = 3
"""Inputs that may be operands: the sequence and both weights of a recurrent layer; a bias is small beside them."""


class Reduced:
    """Rounds the values of a float64 run as computing in ``kind`` would.

    Args:
        kind: One of :data:`KINDS`.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def constant(self, name: str, value: Real, dtype: str) -> Real:
        """The constant as the type stores it."""
        return _rounded(value, self._kind) if self._kind in _STORED else value

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """The node's results as the type gives them; what only moves or selects values stays."""
        if not is_rounded(info):
            return outputs
        if self._kind in _STORED:
            return [_rounded(value, self._kind) for value in outputs]
        if info.node.op_type not in _PRODUCTS:
            return outputs
        operands = [_rounded(value, self._kind) for value in inputs[:_OPERANDS]]
        return compute_again(info, [*operands, *inputs[_OPERANDS:]]) or outputs


def _rounded(value: Value, kind: str) -> Value:
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.size == 0:
        return value
    with np.errstate(all="ignore"):
        if kind in _STORED:
            return value.astype(_STORED[kind]).astype(np.float64)
        if kind == "tf32":
            mantissa, exponent = np.frexp(value)
            return np.ldexp(np.rint(np.ldexp(mantissa, 11)), exponent - 11)
        step = float(np.abs(value).max()) / 127
        return np.rint(value / step) * step if 0 < step < np.inf else value
