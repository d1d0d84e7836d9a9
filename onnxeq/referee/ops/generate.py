"""Operators that make tensors: constants, ranges, identity matrices; random ones are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee.ops.tensors import as_int, as_ints, held_type
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


@op("ConstantOfShape", witnesses=("suite", "onnxruntime", "not onnx.reference: the default is float32 there"))
def constant_of_shape(call: Call, sizes: Any) -> Any:
    """A tensor of the given sizes filled with ``value`` (float 0 by default)."""
    value = call.get("value")
    if value is None:
        return np.zeros(as_ints(sizes), dtype=held_type(1, call.exact))
    value = np.asarray(value)
    return np.full(as_ints(sizes), value.reshape(-1)[0], dtype=value.dtype)


@op("EyeLike", witnesses=("suite", "onnxruntime", "not onnx.reference: float32 there"))
def eye_like(call: Call, X: Any) -> Any:
    """Ones on diagonal ``k`` of a matrix of the input's shape."""
    dtype = X.dtype if call.get("dtype") is None else held_type(call.get("dtype"), call.exact)
    rows, columns = X.shape
    return np.eye(rows, columns, k=call.get("k", 0), dtype=dtype)


@op("Range", witnesses=("suite", "onnxruntime", "not onnx.reference: float32 there"))
def arange(call: Call, start: Any, limit: Any, delta: Any) -> Any:
    """``start + i * delta`` for ``i < max(ceil((limit - start) / delta), 0)``."""
    first, last, step = (np.asarray(v).reshape(())[()] for v in (start, limit, delta))
    if start.dtype.kind not in "iu":
        count = max(math.ceil((float(last) - float(first)) / float(step)), 0)
        return (first + np.arange(count, dtype=start.dtype) * step).astype(start.dtype, copy=False)
    count = max(-((int(first) - int(last)) // int(step)), 0)
    return (int(first) + np.arange(count, dtype=np.int64) * int(step)).astype(start.dtype)


@op("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
def random(call: Call, *values: Any) -> Any:
    """Refused: the specification does not fix the generator, so there is nothing to judge with."""
    name = call.node.name or call.node.output[0]
    raise UnsupportedOperator(
        f"{call.node.op_type} at {name} is random: the specification does not say which numbers it draws",
        hint="Export in inference mode, or feed the random tensor as an input.",
    )


def _cosine_window(call: Call, size: Any, weights: tuple[float, ...]) -> Any:
    """``sum((-1)^k * w_k * cos(2 pi k n / N))``; ``N`` is the size, or one less when not periodic."""
    count = as_int(size)
    period = count if call.get("periodic", 1) else count - 1
    phase = 2 * np.pi * np.arange(count) / period if period else np.zeros(count)
    window = sum((-1) ** k * w * np.cos(k * phase) for k, w in enumerate(weights))
    return np.asarray(window).astype(held_type(call.get("output_datatype", 1), call.exact))


@op("HannWindow", witnesses=("suite", "onnxruntime"))
def hann_window(call: Call, size: Any) -> Any:
    """``0.5 - 0.5 cos(2 pi n / N)``."""
    return _cosine_window(call, size, (0.5, 0.5))


@op("HammingWindow", witnesses=("suite", "onnxruntime"))
def hamming_window(call: Call, size: Any) -> Any:
    """``25/46 - 21/46 cos(2 pi n / N)``."""
    return _cosine_window(call, size, (25 / 46, 21 / 46))


@op("BlackmanWindow", witnesses=("suite", "onnxruntime"))
def blackman_window(call: Call, size: Any) -> Any:
    """``0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)``."""
    return _cosine_window(call, size, (0.42, 0.5, 0.08))
