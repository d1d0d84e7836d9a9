"""The float64 run is float64 throughout, with the scalars that ONNX stores."""

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip
from torch.nn import functional as F  # noqa: E402, N812  # its usual name


def _run(function, *args):
    from onnxeq_converters.from_torch.float64 import Float64Mode

    with torch.no_grad(), Float64Mode():
        return function(*args)


def test_scalars_are_rounded_to_float32():
    """x*0.1 + 1/3 equals x*f32(0.1) + f32(1/3) in float64, bit for bit, and not the unrounded value."""
    x = torch.randn(100, dtype=torch.float64)
    got = _run(lambda v: v * 0.1 + 1 / 3, x).numpy()
    want = x.numpy() * np.float64(np.float32(0.1)) + np.float64(np.float32(1 / 3))
    assert np.array_equal(got, want)
    assert not np.array_equal(got, x.numpy() * 0.1 + 1 / 3)


def test_epsilon_of_batch_norm_is_rounded():
    """An operator's epsilon counts as a scalar: y = x / sqrt(v + f32(eps))."""
    x, v = torch.randn(4, 3, dtype=torch.float64), torch.full((3,), 1e-5, dtype=torch.float64)
    got = _run(lambda a: F.batch_norm(a, torch.zeros_like(v), v, eps=1.001e-3), x)
    want = x / torch.sqrt(v + float(np.float32(1.001e-3)))
    assert torch.allclose(got, want, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: torch.arange(0, 1, 0.1),
        lambda x: torch.zeros(3),
        lambda x: torch.full((2,), 0.1),
        lambda x: torch.linspace(0, 1, 7),
        lambda x: torch.tensor([0.1, 0.2]),
        lambda x: x.float(),
        lambda x: x.to(torch.float32),
        lambda x: torch.ones(2, dtype=torch.float32),
        lambda x: torch.arange(4).float() * 0.5,
        lambda x: torch.empty(3).fill_(0.25),
    ],
)
def test_float32_made_inside_forward_is_lifted(make):
    """Factories, casts and literals give float64; the default dtype is what it was."""
    assert _run(make, torch.ones(2, dtype=torch.float64)).dtype is torch.float64
    assert torch.get_default_dtype() is torch.float32
    assert torch.zeros(1).dtype is torch.float32


def test_linspace_is_computed_not_widened():
    """A factory's float64 values are its own, not float32 ones widened."""
    assert _run(lambda: torch.linspace(0, 1, 7))[2].item() == pytest.approx(1 / 3, abs=1e-16)


def test_rounding_a_step_does_not_change_a_length():
    """ceil((f32(0.3) - 0) / f32(0.1)) is 4, but torch's arange(0, 0.3, 0.1) has 3 elements."""
    native = torch.arange(0, 0.3, 0.1)
    got = _run(lambda: torch.arange(0, 0.3, 0.1))
    assert len(got) == len(native) == 3
    assert got[2].item() == 2 * float(np.float32(0.1))


def test_other_casts_keep_their_meaning():
    """A cast to bfloat16, int or bool is part of the program and stays."""
    x = torch.tensor([1.01], dtype=torch.float64)
    assert _run(lambda v: v.bfloat16().float(), x).item() == 1.0078125
    assert _run(lambda v: v.long(), x).dtype is torch.int64


def test_masks_keep_finite_numbers_finite():
    """finfo(x.dtype).min is float32's in the lifted program, and never becomes -inf; -inf stays."""
    x = torch.zeros(2, dtype=torch.float64)
    lowest = float(np.finfo(np.float32).min)
    assert _run(lambda v: v + torch.finfo(v.dtype).min, x)[0].item() == lowest
    assert _run(lambda v: v + -1.7e308, x)[0].item() == lowest
    assert _run(lambda v: v + float("-inf"), x)[0].item() == float("-inf")


def test_writing_into_a_float32_tensor_is_not_lost():
    """An in-place write reaches a plain float32 tensor that numpy made."""
    made = torch.from_numpy(np.zeros(2, np.float32))
    _run(lambda v: made.add_(v), torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert made.tolist() == [0.1, 0.2]


def test_default_attention_scale_is_not_rounded():
    """softmax(q k' / sqrt(d)) v with the exact 1/sqrt(32), with and without a mask."""
    q, k, v = (torch.randn(1, 2, 5, 32, dtype=torch.float64) for _ in range(3))
    want = torch.softmax(q @ k.transpose(-1, -2) / np.sqrt(32), -1) @ v
    open_mask = torch.ones(5, 5, dtype=torch.bool)
    for mask in (None, open_mask):
        got = _run(lambda m=mask: F.scaled_dot_product_attention(q, k, v, attn_mask=m))
        assert torch.allclose(got, want, rtol=0, atol=1e-14)


def test_hardsigmoid_uses_the_stored_slope():
    """hardsigmoid(x) = clip(f32(1/6) x + 1/2, 0, 1), as its ONNX attribute says."""
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    want = np.clip(float(np.float32(1 / 6)) * x.numpy() + 0.5, 0, 1)
    assert np.array_equal(_run(F.hardsigmoid, x).numpy(), want)


def test_angles_use_the_stored_pi():
    """deg2rad, rad2deg and sinc take f32(pi/180), f32(180/pi) and f32(pi), which the kernels and ONNX have."""
    x = torch.tensor([-1.25, 0.0, 0.3, 2.5], dtype=torch.float64)
    pi = float(np.float32(np.pi))
    assert torch.equal(_run(torch.deg2rad, x), x * float(np.float32(np.pi / 180)))
    assert torch.equal(_run(torch.rad2deg, x), x * float(np.float32(180 / np.pi)))
    want = np.where(x == 0, 1.0, np.sin(x.numpy() * pi) / np.where(x == 0, 1.0, x.numpy() * pi))
    assert np.abs(_run(torch.sinc, x).numpy() - want).max() < 1e-15


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 3, "dilation": 2}, {"padding": (1, 0)}])
def test_depthwise_taps_equal_torch(options):
    """The tap-by-tap sum is torch's own float64 convolution to 1e-14."""
    layer = nn.Conv2d(6, 6, 3, groups=6, **options).double()
    x = torch.randn(2, 6, 17, 15, dtype=torch.float64)
    with torch.no_grad():
        want = layer(x)
    assert torch.allclose(_run(layer, x), want, rtol=0, atol=1e-14)


def test_patches_are_undone_after_an_error():
    """torch.finfo and the attention function are torch's own again, even after an exception."""
    before = (torch.finfo, F.scaled_dot_product_attention)
    with pytest.raises(ZeroDivisionError):
        _run(lambda: 1 // 0)
    assert (torch.finfo, F.scaled_dot_product_attention) == before


@pytest.mark.parametrize("make", [lambda a, b: a / b, lambda a, b: torch.sqrt(a), lambda a, b: torch.sin(b)])
def test_a_float_made_of_integers_is_computed_in_float64(make):
    """A quotient or a root of integers follows the default dtype: it is float64's, not float32's widened."""
    a, b = torch.arange(1, 20), torch.arange(3, 22)
    got = _run(make, a, b)
    assert got.dtype is torch.float64
    assert torch.equal(got, make(a.double(), b.double()))
