"""onnxruntime's fused operators, against onnxruntime, their only witness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Check = Callable[..., None]
MS = "com.microsoft"


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Relu", None),
        ("Clip", [-0.5, 0.5]),
        ("LeakyRelu", [0.1]),
        ("HardSigmoid", [0.2, 0.5]),
        ("Tanh", None),
    ],
)
def test_fused_conv(against_onnxruntime: Check, name: str, parameters: list[float] | None) -> None:
    """``activation(Conv(X, W, B))`` with the activation's parameters in order."""
    attributes: dict[str, Any] = {"activation": name, "pads": [1, 1, 1, 1]}
    if parameters:
        attributes["activation_params"] = parameters
    against_onnxruntime("FusedConv", 1, (_f(1, 3, 6, 5), _f(4, 3, 3, 3), _f(4)), attributes, domain=MS)


def test_fused_conv_adds_the_residual_before_the_activation(against_onnxruntime: Check) -> None:
    """``relu(Conv(X, W, B) + Z)``."""
    inputs = (_f(1, 3, 5, 5), _f(4, 3, 1, 1), _f(4), _f(1, 4, 5, 5, seed=9))
    against_onnxruntime("FusedConv", 1, inputs, {"activation": "Relu"}, domain=MS)


def test_fused_gemm(against_onnxruntime: Check) -> None:
    """``leaky_relu(alpha * A^T @ B + C)``."""
    attributes = {"activation": "LeakyRelu", "activation_alpha": 0.3, "alpha": 0.5, "transA": 1}
    against_onnxruntime("FusedGemm", 1, (_f(4, 3), _f(4, 5), _f(5)), attributes, domain=MS)


@pytest.mark.parametrize("batch_a", [0, 1])
@pytest.mark.parametrize("inner_a", [0, 1])
def test_fused_matmul(against_onnxruntime: Check, batch_a: int, inner_a: int) -> None:
    """Batch and inner transpositions of A, for a cube where every combination is legal."""
    attributes = {"alpha": 0.5, "transBatchA": batch_a, "transA": inner_a, "transB": 1}
    against_onnxruntime("FusedMatMul", 1, (_f(4, 4, 4), _f(4, 4, 4, seed=3)), attributes, domain=MS)


@pytest.mark.parametrize("name", ["Gelu", "BiasGelu", "FastGelu", "QuickGelu"])
def test_gelus(against_onnxruntime: Check, name: str) -> None:
    """The four Gelus of onnxruntime: exact, biased, tanh, sigmoid."""
    inputs = (3 * _f(2, 5, 8), _f(8)) if name in ("BiasGelu", "FastGelu") else (3 * _f(2, 5, 8),)
    against_onnxruntime(name, 1, inputs, domain=MS)


def test_skip_layer_normalization(against_onnxruntime: Check) -> None:
    """LayerNormalization of the sum of input, skip and bias."""
    inputs = (_f(2, 3, 8), _f(2, 3, 8, seed=1), _f(8), _f(8, seed=2), _f(8, seed=3))
    against_onnxruntime("SkipLayerNormalization", 1, inputs, {"epsilon": 1e-5}, domain=MS)


def test_skip_simplified_layer_normalization(against_onnxruntime: Check) -> None:
    """The same by the root mean square alone."""
    inputs = (_f(2, 3, 8), _f(2, 3, 8, seed=1), _f(8))
    against_onnxruntime("SkipSimplifiedLayerNormalization", 1, inputs, {"epsilon": 1e-5}, domain=MS)


def test_simplified_layer_normalization(against_onnxruntime: Check) -> None:
    """``x / rms(x) * scale``, which onnxruntime keeps in the standard's domain."""
    against_onnxruntime("SimplifiedLayerNormalization", 17, (_f(2, 3, 8), _f(8)), {"epsilon": 1e-5})


def test_embed_layer_normalization(against_onnxruntime: Check) -> None:
    """Sum of three embeddings, normalised; and the lengths from the mask."""
    ids = np.array([[1, 4, 2], [0, 3, 3]], dtype=np.int32)
    segments = np.array([[0, 0, 1], [0, 1, 1]], dtype=np.int32)
    mask = np.array([[1, 1, 0], [1, 1, 1]], dtype=np.int32)
    inputs = (ids, segments, _f(6, 8), _f(4, 8), _f(2, 8), _f(8), _f(8, seed=5), mask)
    against_onnxruntime("EmbedLayerNormalization", 1, inputs, {"epsilon": 1e-5}, outputs=2, domain=MS)


_MASKS = {
    "none": None,
    "raw": np.array([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=np.int32),
    "lengths": np.array([3, 4], dtype=np.int32),
    "ends and starts": np.array([3, 4, 1, 0], dtype=np.int32),
    "per query": np.tril(np.ones((2, 4, 4), dtype=np.int32)),
}


@pytest.mark.parametrize("mask", _MASKS)
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(against_onnxruntime: Check, mask: str, causal: int) -> None:
    """Every form of mask, with and without causal masking."""
    inputs = (_f(2, 4, 8), _f(8, 24), _f(24), _MASKS[mask])
    attributes = {"num_heads": 2, "unidirectional": causal}
    against_onnxruntime("Attention", 1, inputs, attributes, domain=MS)


def test_attention_with_past(against_onnxruntime: Check) -> None:
    """Earlier keys and values come first, and ``present`` holds both."""
    inputs = (_f(2, 1, 8), _f(8, 24), _f(24), None, _f(2, 2, 2, 3, 4))
    attributes = {"num_heads": 2, "unidirectional": 1}
    against_onnxruntime("Attention", 1, inputs, attributes, outputs=2, domain=MS)


@pytest.mark.parametrize("masked", [False, True])
def test_multi_head_attention(against_onnxruntime: Check, masked: bool) -> None:
    """Cross attention with biases, with and without a padding mask of the keys."""
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=np.int32) if masked else None
    inputs = (_f(2, 3, 8), _f(2, 5, 8), _f(2, 5, 8, seed=4), _f(24), mask)
    against_onnxruntime("MultiHeadAttention", 1, inputs, {"num_heads": 2}, domain=MS)
