"""Activations against torch in float64, math.erf, and onnxruntime for the axis rules before opset 13."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxeq.errors import UnsupportedOperator
from onnxeq.referee.erf import erf
from onnxeq.referee.ops.activation import gelu

Check = Callable[..., None]
Run = Callable[..., list[Any]]


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


_ALPHA = float(np.float32(0.3))

_TORCH: dict[str, tuple[int, dict[str, Any], Any]] = {
    "Relu": (14, {}, lambda f, x: f.relu(x)),
    "LeakyRelu": (16, {"alpha": 0.3}, lambda f, x: f.leaky_relu(x, _ALPHA)),
    "Elu": (6, {"alpha": 0.3}, lambda f, x: f.elu(x, _ALPHA)),
    "Celu": (12, {"alpha": 0.3}, lambda f, x: f.celu(x, _ALPHA)),
    "Gelu": (20, {}, lambda f, x: f.gelu(x)),
    "HardSwish": (14, {}, lambda f, x: f.hardswish(x)),
    "Sigmoid": (13, {}, lambda f, x: x.sigmoid()),
    "Softplus": (1, {}, lambda f, x: f.softplus(x, threshold=40.0)),
    "Softsign": (1, {}, lambda f, x: f.softsign(x)),
    "Mish": (18, {}, lambda f, x: f.mish(x)),
    "Tanh": (13, {}, lambda f, x: x.tanh()),
    "Erf": (13, {}, lambda f, x: x.erf()),
    "ThresholdedRelu": (10, {"alpha": 0.3}, lambda f, x: f.threshold(x, _ALPHA, 0.0)),
    "Swish": (24, {}, lambda f, x: f.silu(x)),
}


@pytest.mark.torch
@pytest.mark.parametrize("op", _TORCH)
def test_elementwise(run_node: Run, op: str) -> None:
    """To float64 rounding, from tiny to saturated inputs; no hidden float32."""
    import torch

    opset, attributes, function = _TORCH[op]
    x = np.concatenate([_f(200) * 4, np.float32([0, -0.0, 1e-20, -1e-20, 90, -90, 800, -800])])
    expected = function(torch.nn.functional, torch.from_numpy(x).double()).numpy()
    (got,) = run_node(op, opset, (x,), attributes)
    np.testing.assert_allclose(got, expected, rtol=4e-15, atol=2e-15)


@pytest.mark.parametrize("op", [*_TORCH, "Selu", "HardSigmoid"])
def test_elementwise_against_onnxruntime(against_onnxruntime: Check, op: str) -> None:
    """The same over the finite range, in onnxruntime's float32."""
    opset, attributes, _ = _TORCH.get(op, (6, {}, None))
    against_onnxruntime(op, opset, (_f(200) * 4,), attributes)


@pytest.mark.torch
@pytest.mark.parametrize("op", ["Selu", "HardSigmoid", "PRelu", "Softmax", "LogSoftmax"])
def test_more_against_torch(run_node: Run, op: str) -> None:
    """Those whose parameters or axes differ between the two worlds, in float64."""
    import torch

    x = _f(3, 4, 5) * 4
    wide, slope = torch.from_numpy(x).double(), _f(4, 1)
    gamma, alpha = float(np.float32(1.0507009873554805)), float(np.float32(1.6732632423543772))
    expected = {
        "Selu": lambda: gamma * torch.where(wide > 0, wide, alpha * torch.expm1(wide)),
        "HardSigmoid": lambda: (wide * float(np.float32(0.2)) + 0.5).clamp(0, 1),
        "PRelu": lambda: torch.nn.functional.prelu(wide, torch.from_numpy(slope[:, 0]).double()),
        "Softmax": lambda: wide.softmax(1),
        "LogSoftmax": lambda: wide.log_softmax(1),
    }[op]()
    inputs = (x, slope) if op == "PRelu" else (x,)
    (got,) = run_node(op, 16, inputs, {"axis": 1} if "Softmax" in op else {})
    np.testing.assert_allclose(got, expected.numpy(), rtol=4e-15, atol=2e-15)


@pytest.mark.torch
def test_gelu_tanh(run_node: Run) -> None:
    """The tanh approximation."""
    import torch

    x = _f(100) * 3
    expected = torch.nn.functional.gelu(torch.from_numpy(x).double(), approximate="tanh")
    (got,) = run_node("Gelu", 20, (x,), {"approximate": "tanh"})
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-14)


def test_erf_against_libm() -> None:
    """Relative error below 1e-15 on both sides of every change of formula, and the limits."""
    halves = (np.arange(2048) + 0.5) / 1024  # where the nearest node of the table changes
    edges = np.array([5.9, 6.0, 7.0, 1e-310, 1e-300, 1e-9, 27.0, *halves, *np.nextafter(halves, 9)])
    x = np.concatenate([np.linspace(-7, 7, 20011), edges, -edges])
    expected = np.array([math.erf(v) for v in x])
    error = np.abs(erf(x) - expected) / np.maximum(np.abs(expected), 5e-324)
    assert error.max() < 1e-15
    np.testing.assert_array_equal(erf(np.array([np.inf, -np.inf, 0.0, np.nan])), [1, -1, 0, np.nan])
    assert math.copysign(1, float(erf(np.array([-0.0]))[0])) == -1


def test_gelu_against_libm() -> None:
    """``x / 2 * erfc(-x / sqrt(2))`` to 2 ulp of ``x``, and to 5e-11 of itself where it falls to 1e-87."""
    x = np.concatenate([np.linspace(-20, 9, 20011), (np.arange(-2048, 2048) + 0.5) / 256])
    expected = np.array([v / 2 * math.erfc(-v * math.sqrt(0.5)) for v in x])
    error = np.abs(gelu(x) - expected)
    assert (error <= 2 * 2.0**-52 * np.abs(x)).all()
    assert (error <= 5e-11 * np.abs(expected)).all()
    ends = np.array([np.inf, -np.inf, np.nan, 1e300, -1e300, 0.0])
    np.testing.assert_array_equal(gelu(ends), [np.inf, np.nan, np.nan, 1e300, 0, 0])


@pytest.mark.parametrize("function", [erf, gelu])
def test_an_element_does_not_depend_on_its_neighbours(function: Callable[[Any], Any]) -> None:
    """The same bits alone, in any place of a block, and beside what lies outside the table."""
    values = np.random.default_rng(0).standard_normal(5) * 3
    for value in values:
        alone = function(np.array([value]))[0]
        for count in (2, 7, 64, 1000, 20011):
            assert (function(np.full(count, value)) == alone).all()
        assert function(np.array([np.nan, 1e9, value, -np.inf]))[2] == alone


def test_erf_of_a_view() -> None:
    """A transposed, large array (several threads) gives the elements in their places."""
    x = np.random.default_rng(0).standard_normal((300, 400)).T
    assert erf(x)[7, 11] == erf(x[7:8, 11:12])[0, 0]


def test_selu_defaults(run_node: Run) -> None:
    """The defaults are the float32 numbers nearest to the published constants."""
    (got,) = run_node("Selu", 6, (np.float32([1.0, -1.0]),))
    gamma, alpha = float(np.float32(1.0507009873554805)), float(np.float32(1.6732632423543772))
    np.testing.assert_allclose(got, [gamma, gamma * alpha * math.expm1(-1)], rtol=1e-15)


def test_hard_sigmoid(run_node: Run) -> None:
    """``max(0, min(1, alpha x + beta))`` with alpha the float32 0.2."""
    (got,) = run_node("HardSigmoid", 6, (np.float32([-4, 1, 4]),))
    np.testing.assert_allclose(got, [0, float(np.float32(0.2)) + 0.5, 1], rtol=1e-15)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("opset", [11, 13])
def test_along_an_axis(against_onnxruntime: Check, op: str, axis: int, opset: int) -> None:
    """Before opset 13 all axes from ``axis`` on are one row; from 13 one axis."""
    against_onnxruntime(op, opset, (_f(2, 3, 4),), {"axis": axis})


def test_softmax_is_stable(run_node: Run) -> None:
    """Logits of 1e4 neither overflow nor give log(0)."""
    x = np.float32([[1e4, 0.0, -1e4]])
    (got,) = run_node("LogSoftmax", 13, (x,))
    np.testing.assert_array_equal(got, [[0.0, -1e4, -2e4]])
    (got,) = run_node("Softmax", 13, (x,))
    np.testing.assert_array_equal(got, [[1.0, 0.0, 0.0]])


def test_prelu_broadcasts_its_slope(against_onnxruntime: Check) -> None:
    """One slope for each channel."""
    against_onnxruntime("PRelu", 16, (_f(2, 3, 4, 4), _f(3, 1, 1)))


def test_relu_keeps_nan(run_node: Run) -> None:
    """``max(NaN, 0)`` is NaN."""
    (got,) = run_node("Relu", 14, (np.float32([np.nan, -1, 2]),))
    np.testing.assert_array_equal(got, [np.nan, 0, 2])


def test_dropout(run_node: Run) -> None:
    """The identity in inference; refused, not imitated, where it is random."""
    x = _f(3, 4)
    got, mask = run_node("Dropout", 13, (x, np.array(0.5, np.float32)), {}, 2)
    np.testing.assert_array_equal(got, x)
    assert mask.all()
    with pytest.raises(UnsupportedOperator, match="random"):
        run_node("Dropout", 13, (x, np.array(0.5, np.float32), np.array(True)))


@pytest.mark.parametrize(("op", "opset"), [("Gelu", 20), ("Erf", 13)])
def test_a_scalar_stays_a_scalar(against_onnxruntime: Check, op: str, opset: int) -> None:
    """Rank 0 in, rank 0 out: contiguous copies have an axis."""
    against_onnxruntime(op, opset, (np.array(-0.3, np.float32),))
