"""Normalisations against torch in float64, and against onnxruntime where older opsets differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Check = Callable[..., None]
Run = Callable[..., list[Any]]

ROUNDING = 1e-13
EPSILON = float(np.float32(1e-5))


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def _wide(x: Any) -> Any:
    import torch

    return torch.from_numpy(x).double()


def _statistics(channels: int) -> tuple[Any, Any, Any, Any]:
    return _f(channels), _f(channels, seed=1), _f(channels, seed=2), np.abs(_f(channels, seed=3)) + 0.1


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15])
def test_batch_normalization(against_onnxruntime: Check, opset: int) -> None:
    """Inference is the same in every version."""
    against_onnxruntime("BatchNormalization", opset, (_f(2, 3, 4, 5), *_statistics(3)))


def test_batch_normalization_per_feature(run_node: Run) -> None:
    """``spatial=0``: each feature has its own statistics (from the text; no runtime has kept it)."""
    x = _f(2, 3, 4)
    scale, bias, mean, var = _f(3, 4), _f(3, 4, seed=1), _f(3, 4, seed=2), np.abs(_f(3, 4, seed=3)) + 0.1
    (got,) = run_node("BatchNormalization", 7, (x, scale, bias, mean, var), {"spatial": 0})
    wide = [v.astype(np.float64) for v in (x, scale, bias, mean, var)]
    expected = (wide[0] - wide[3]) / np.sqrt(wide[4] + EPSILON) * wide[1] + wide[2]
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING)


@pytest.mark.torch
def test_batch_normalization_training(run_node: Run) -> None:
    """Training: batch statistics (biased variance, as the text has it) and moved running ones."""
    x, (scale, bias, mean, var) = _f(4, 3, 5), _statistics(3)
    y, new_mean, new_var = run_node(
        "BatchNormalization", 15, (x, scale, bias, mean, var), {"training_mode": 1, "momentum": 0.75}, 3
    )
    import torch

    expected = torch.nn.functional.batch_norm(
        _wide(x), None, None, _wide(scale), _wide(bias), training=True, eps=EPSILON
    )
    np.testing.assert_allclose(y, expected.numpy(), rtol=0, atol=ROUNDING)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(new_mean, mean * 0.75 + wide.mean(axis=(0, 2)) * 0.25, atol=1e-12)
    np.testing.assert_allclose(new_var, var * 0.75 + wide.var(axis=(0, 2)) * 0.25, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer_normalization(run_node: Run, axis: int) -> None:
    """Over the axes from ``axis`` on, to float64 rounding (the reference evaluator stops at float32)."""
    import torch

    x = _f(2, 3, 4, 5)
    shape = x.shape[axis:]
    scale, bias = _f(*shape), _f(*shape, seed=7)
    expected = torch.nn.functional.layer_norm(_wide(x), shape, _wide(scale), _wide(bias), EPSILON)
    (got,) = run_node("LayerNormalization", 17, (x, scale, bias), {"axis": axis})
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=ROUNDING)


@pytest.mark.torch
def test_layer_normalization_does_not_cancel(run_node: Run) -> None:
    """A mean of 1e6 and a deviation of 1e-2 are told apart: the variance is taken about the mean."""
    import torch

    x = (1e6 + np.arange(64).reshape(1, 64) * 0.0625).astype(np.float32)
    ones, zeros = np.ones(64, np.float32), np.zeros(64, np.float32)
    expected = torch.nn.functional.layer_norm(_wide(x), (64,), eps=EPSILON).numpy()
    (got,) = run_node("LayerNormalization", 17, (x, ones, zeros))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.torch
def test_rms_normalization(run_node: Run) -> None:
    """``x / rms(x) * scale``."""
    import torch

    x, scale = _f(2, 3, 8), _f(8)
    expected = torch.nn.functional.rms_norm(_wide(x), (8,), _wide(scale), EPSILON)
    (got,) = run_node("RMSNormalization", 23, (x, scale))
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=ROUNDING)


@pytest.mark.torch
def test_group_normalization(run_node: Run) -> None:
    """From opset 21 the parameters are per channel; in opset 18 per group."""
    import torch

    x, scale, bias = _f(2, 6, 4, 3), _f(6), _f(6, seed=3)
    expected = torch.nn.functional.group_norm(_wide(x), 3, _wide(scale), _wide(bias), EPSILON)
    (got,) = run_node("GroupNormalization", 21, (x, scale, bias), {"num_groups": 3})
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=ROUNDING)
    per_group = scale[::2], bias[::2]
    (old,) = run_node("GroupNormalization", 18, (x, *per_group), {"num_groups": 3})
    repeated = [_wide(np.repeat(v, 2)) for v in per_group]
    expected = torch.nn.functional.group_norm(_wide(x), 3, *repeated, EPSILON)
    np.testing.assert_allclose(old, expected.numpy(), rtol=0, atol=ROUNDING)


@pytest.mark.torch
def test_instance_normalization(run_node: Run) -> None:
    """Each channel of each item on its own."""
    import torch

    x, scale, bias = _f(2, 3, 4, 5), _f(3), _f(3, seed=1)
    expected = torch.nn.functional.instance_norm(_wide(x), weight=_wide(scale), bias=_wide(bias), eps=EPSILON)
    (got,) = run_node("InstanceNormalization", 6, (x, scale, bias))
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn(against_onnxruntime: Check, size: int) -> None:
    """Odd sizes, the only ones that onnxruntime takes."""
    against_onnxruntime("LRN", 13, (_f(2, 7, 3, 3),), {"size": size, "alpha": 0.5, "beta": 0.6, "bias": 2.0})


@pytest.mark.torch
@pytest.mark.parametrize("size", [2, 3, 4])
def test_lrn_even(run_node: Run, size: int) -> None:
    """Even sizes: the longer half lies ahead, as the text says (torch puts it behind: channels reversed)."""
    import torch

    x = _f(2, 7, 3, 3)
    expected = torch.nn.functional.local_response_norm(_wide(x[:, ::-1].copy()), size, 0.5, 0.75, 2.0)
    (got,) = run_node("LRN", 13, (x,), {"size": size, "alpha": 0.5, "beta": 0.75, "bias": 2.0})
    np.testing.assert_allclose(got, expected.numpy()[:, ::-1], rtol=0, atol=ROUNDING)


@pytest.mark.torch
@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(run_node: Run, p: int) -> None:
    """``x / norm``; a zero row stays zero."""
    import torch

    x = _f(3, 4, 5)
    x[1, :, 2] = 0
    expected = torch.nn.functional.normalize(_wide(x), p=p, dim=1, eps=0.0).nan_to_num(0.0)
    (got,) = run_node("LpNormalization", 22, (x,), {"p": p, "axis": 1})
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=ROUNDING)


def test_mean_variance_normalization(against_onnxruntime: Check) -> None:
    """Over the given axes."""
    against_onnxruntime("MeanVarianceNormalization", 13, (_f(2, 3, 4, 5),), {"axes": [0, 2, 3]})
