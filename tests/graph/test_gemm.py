"""Dense layers in one form."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(9)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,), ()])
@pytest.mark.parametrize("add", ["Add(h, c)", "Add(c, h)"])
def test_matmul_add(build, same, ops, bias, add):
    """XW + c = Gemm(x, W, c), whichever operand comes first."""
    model = build(
        f"g (float[N,3] x) => (float[N,5] y) {{ h = MatMul(x, w) y = {add} }}",
        w=normal(3, 5),
        c=normal(*bias),
    )
    result = same(model)
    assert ops(result) == ["Gemm"]
    assert list(result.model.graph.node[0].output) == ["y"]


@pytest.mark.parametrize(
    ("x", "y", "c"), [("N,2,3", "N,2,5", (5,)), ("1,3", "2,5", (2, 5)), ("1,3", "1,1,5", (1, 1, 5))]
)
def test_stays(build, same, ops, x, y, c):
    """Three dimensions, or a bias that broadcasts the product up instead of the other way round."""
    model = build(
        f"g (float[{x}] x) => (float[{y}] y) {{ h = MatMul(x, w) y = Add(h, c) }}",
        w=normal(3, 5),
        c=normal(*c),
    )
    assert ops(same(model)) == ["MatMul", "Add"]


def test_rows_of_unknown_number_stay(build, same, ops):
    """c[2,5] fits N=2 and broadcasts N=1 up: unknown, so it stays."""
    model = build(
        "g (float[N,3] x) => (float[M,5] y) { h = MatMul(x, w) y = Add(h, c) }",
        w=normal(3, 5),
        c=normal(2, 5),
    )
    assert ops(same(model)) == ["MatMul", "Add"]


def test_integers_stay(build, same, ops):
    """Gemm of integers is missing from most runtimes."""
    model = build(
        "g (int32[N,3] x) => (int32[N,2] y) { h = MatMul(x, w) y = Add(h, c) }",
        w=np.ones((3, 2), np.int32),
        c=np.ones(2, np.int32),
    )
    assert ops(same(model)) == ["MatMul", "Add"]


def test_product_used_elsewhere_stays(build, same, ops):
    """The product without the bias is asked for."""
    model = build(
        "g (float[N,3] x) => (float[N,5] y, float[N,5] h) { h = MatMul(x, w) y = Add(h, c) }",
        w=normal(3, 5),
        c=normal(5),
    )
    assert ops(same(model)) == ["MatMul", "Add"]


def test_factors_move(build, same, stored):
    """0.5 xW + 4 c: powers of two move into W and c exactly."""
    weight, bias = normal(3, 5), normal(5)
    model = build(
        "g (float[N,3] x) => (float[N,5] y) { y = Gemm <alpha=0.5, beta=4.0, transA=0> (x, w, c) }",
        w=weight,
        c=bias,
    )
    result = same(model)
    assert not result.model.graph.node[0].attribute
    np.testing.assert_array_equal(stored(result)["w"], weight / 2)
    np.testing.assert_array_equal(stored(result)["c"], bias * 4)


def test_shared_weight_keeps_its_value(build, same, stored):
    """The factor goes into a copy when W has another reader."""
    weight = normal(3, 5)
    model = build(
        "g (float[N,3] x) => (float[N,5] y, float[N,5] z) { y = Gemm <alpha=0.5> (x, w) z = MatMul(x, w) }",
        w=weight,
    )
    np.testing.assert_array_equal(stored(same(model))["w"], weight)


def test_factor_that_overflows_stays(build, same):
    """1e30 * 1e30 is no float32."""
    model = build(
        "g (float[N,3] x) => (float[N,5] y) { y = Gemm <alpha=1e30> (x, w) }",
        w=np.full((3, 5), 1e30, np.float32),
    )
    result = same(model, runtime=False)
    assert [a.name for a in result.model.graph.node[0].attribute] == ["alpha"]
