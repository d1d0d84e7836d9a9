"""Half precision in the float64 run: conversions round, arithmetic does not, and the program sees its own types."""

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip
from torch.nn import functional as F  # noqa: E402, N812  # its usual name

from onnxeq_converters.from_torch.float64 import Float64Mode, lift  # noqa: E402  # after the skip
from onnxeq_converters.from_torch.halves import held  # noqa: E402  # after the skip

HALVES = [torch.float16, torch.bfloat16]


def _run(function, *args):
    with torch.no_grad(), Float64Mode():
        return held(function(*args))


def _to(values, dtype):
    return values.to(dtype).double()


@pytest.fixture
def x():
    return torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", HALVES)
def test_arithmetic_is_not_rounded(dtype, x):
    """float(half(x) * half(x) + half(x)) is the float64 value of the rounded operands, which no half number equals."""
    h = _to(x, dtype)
    got = _run(lambda v: (v.to(dtype) * v.to(dtype) + v.to(dtype)).float(), x)
    assert torch.equal(got, h * h + h)
    assert not torch.equal(got, _to(got, dtype))


def test_a_layer_in_half_precision_computes_in_float64(x):
    """Parameters in half precision are exact: y = half(x) W' + b in float64, in the layer and behind its export."""
    layer = nn.Linear(12, 5).half()
    lift(layer)
    assert layer.weight.dtype is torch.float16
    want = _to(x, torch.float16) @ layer.weight.detach().double().T + layer.bias.detach().double()
    assert torch.allclose(_run(lambda v: layer(v.half()), x), want, rtol=0, atol=1e-15)


def test_a_second_conversion_rounds_again(x):
    """From half to bfloat16 to float rounds the unrounded product to bfloat16; half to half does not."""
    square = _to(x, torch.float16) ** 2
    got = _run(lambda v: (v.half() * v.half()).bfloat16().float(), x)
    assert torch.equal(got, _to(square, torch.bfloat16))
    assert torch.equal(_run(lambda v: (v.half() * v.half()).half(), x), square)


def test_the_program_sees_its_own_types(x):
    """dtype, finfo, type_as and promotion answer as in the float32 program."""

    def look(v):
        h = v.half()
        seen = [h.dtype, torch.finfo(h.dtype).min, v.type_as(h).dtype, torch.zeros_like(h).dtype, h[h > 0].dtype]
        return torch.tensor(0), [*seen, (h + v).dtype, h.sum(dtype=torch.bfloat16).dtype]

    with torch.no_grad(), Float64Mode():
        _, seen = look(x)
    half = torch.float16
    assert seen == [half, -65504.0, half, half, half, torch.float64, torch.bfloat16]


def test_numbers_are_constants_of_the_type_that_they_meet(x):
    """h*0.1 and clamp(h, -0.3, 0.3) take float16's 0.1 and 0.3; leaky_relu's slope is float32's, an attribute."""
    h = _to(x, torch.float16)
    tenth, third = float(np.float16(0.1)), float(np.float16(0.3))
    assert torch.equal(_run(lambda v: v.half() * 0.1, x), h * tenth)
    assert torch.equal(_run(lambda v: v.half().clamp(-0.3, 0.3), x), h.clamp(-third, third))
    slope = float(np.float32(0.1))
    assert torch.equal(_run(lambda v: F.leaky_relu(v.half(), 0.1), x), torch.where(h > 0, h, h * slope))


def test_what_is_made_in_half_precision_has_its_values():
    """A constant and a range are rounded to the type: full(0.1), and 2049 that float16 does not have."""
    assert _run(lambda: torch.full((2,), 0.1, dtype=torch.float16)).tolist() == [float(np.float16(0.1))] * 2
    assert _run(lambda: torch.arange(2048, 2050, dtype=torch.float16)).tolist() == [2048.0, 2048.0]


def test_writing_into_a_half_tensor_rounds_what_is_wider(x):
    """Adding float32 in place is a conversion and rounds; adding half is arithmetic and does not."""

    def add(v, other):
        h = v.half()
        h += other(v)
        return h

    h = _to(x, torch.float16)
    assert torch.equal(_run(add, x, lambda v: v), _to(h + x, torch.float16))
    assert torch.equal(_run(add, x, lambda v: v.half() * v.half()), h + h * h)


def test_writing_into_a_tensor_that_the_module_keeps_is_not_lost(x):
    """A float16 buffer holds what was written, rounded, also after the run."""
    kept = torch.zeros(4, 12, dtype=torch.float16)
    _run(lambda v: kept.copy_(v).mul_(2), x)
    assert torch.equal(kept, (_to(x, torch.float16) * 2).half())


def test_autocast_casts_as_in_the_float32_program(x):
    """Under autocast a Linear rounds its operands to bfloat16; a normalisation stays in float32."""
    linear, norm = nn.Linear(12, 12).double(), nn.LayerNorm(12, eps=2**-16).double()

    def forward(v):
        with torch.autocast("cpu", torch.bfloat16):
            return norm(linear(norm(v)).float())

    with torch.no_grad():
        rounded = _to(norm(x), torch.bfloat16) @ _to(linear.weight, torch.bfloat16).T
        want = norm(rounded + _to(linear.bias, torch.bfloat16))
    assert torch.allclose(_run(forward, x), want, rtol=0, atol=1e-13)
