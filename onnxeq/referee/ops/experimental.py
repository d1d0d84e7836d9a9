"""Experimental operators that ONNX removed at opset 8 or earlier, and that files of 2017-2019 still carry.

Their schemas are gone from the onnx package; the texts are in its first releases.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxeq.referee.registry import Call, op

__all__: list[str] = []

_LAST = 10
"""onnxruntime still runs them in models of these opsets."""


@op("Affine", until=_LAST, witnesses=("onnxruntime",))
def affine(call: Call, X: Any) -> Any:
    """``alpha * X + beta``."""
    return X * call.get("alpha", 1.0) + call.get("beta", 0.0)


@op("ImageScaler", until=_LAST, witnesses=("onnxruntime",))
def image_scaler(call: Call, X: Any) -> Any:
    """``scale * X + bias[c]`` for ``X[N,C,H,W]``."""
    return X * call.get("scale", 1.0) + np.asarray(call.get("bias")).reshape(-1, 1, 1)


@op("Crop", until=_LAST, witnesses=("onnxruntime",))
def crop(call: Call, X: Any) -> Any:
    """Cuts ``border`` (left, top, right, bottom) off, or takes ``scale`` (height, width) from its corner."""
    left, top, right, bottom = call.get("border")
    size = call.get("scale")
    if size:
        return X[:, :, top : top + size[0], left : left + size[1]]
    return X[:, :, top : X.shape[2] - bottom, left : X.shape[3] - right]


@op("ScaledTanh", until=_LAST, witnesses=("onnxruntime",))
def scaled_tanh(call: Call, X: Any) -> Any:
    """``alpha * tanh(beta * X)``."""
    return call.get("alpha", 1.0) * np.tanh(call.get("beta", 1.0) * X)


@op("ParametricSoftplus", until=_LAST, witnesses=("onnxruntime",))
def parametric_softplus(call: Call, X: Any) -> Any:
    """``alpha * log(1 + exp(beta * X))``."""
    return call.get("alpha", 1.0) * np.logaddexp(call.get("beta", 1.0) * X, 0)
