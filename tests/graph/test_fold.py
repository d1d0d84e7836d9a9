"""Constant folding in float64, rounded once."""

from __future__ import annotations

import numpy as np
import pytest

from onnxeq.graph.fold import LARGEST_BYTES
from onnxeq.graph.normalize import normalize


def test_rounded_once(build, same, ops, stored):
    """(a * b) / c in float64, rounded once: three thirds in float32 steps would be 2^-24 off."""
    a, b, c = (np.float32(v) for v in (1 / 3, 7.1, 0.3))
    model = build("g (float[N] x) => (float[N] y) { p = Mul(a, b) q = Div(p, c) y = Add(x, q) }", a=a, b=b, c=c)
    result = same(model, relative=2.0**-23)
    assert ops(result) == ["Add"]
    want = np.float32(np.float64(a) * np.float64(b) / np.float64(c))
    (held,) = stored(result).values()
    assert held == want
    assert held.dtype == np.float32


def test_discontinuity_sees_the_stored_type(build, stored):
    """10 * 0.7, with 0.7 stored as float32, is 7 in float32 and 6.99999988 in float64: Floor must see the
    7 that every runtime sees.
    """
    scale = np.float32(0.7)
    assert np.float64(scale) * 10 < 7
    assert np.float32(10) * scale == 7
    model = build(
        "g (float[N] x) => (float[N] y) { p = Mul(a, b) q = Floor(p) y = Add(x, q) }",
        a=np.float32(10),
        b=scale,
    )
    result = normalize(model)
    assert list(stored(result).values()) == [7.0]


def test_shape_arithmetic(build, same, ops):
    """Reshape(x, Concat(Shape(x)[0], 3*4)): the static part folds, the batch stays dynamic."""
    model = build(
        """g (float[N,3,4] x) => (float[N,M] y) {
            s = Shape(x) n = Gather(s, zero) c = Gather(s, one) d = Gather(s, two) m = Mul(c, d)
            n1 = Unsqueeze(n, axis) m1 = Unsqueeze(m, axis) t = Concat <axis=0> (n1, m1)
            y = Reshape(x, t) }""",
        zero=np.int64(0),
        one=np.int64(1),
        two=np.int64(2),
        axis=np.array([0], np.int64),
    )
    assert ops(same(model)) == ["Shape", "Gather", "Unsqueeze", "Concat", "Reshape"]


def test_static_shape(build, same, ops, stored):
    """Shape and Slice of Shape where the sizes are static, with a dynamic batch."""
    model = build(
        """g (float[N,3,4] x, float[2,5] z) => (int64[2] y, int64[2] w) {
            s = Shape(x) p = Slice(s, one, three) y = Neg(p) t = Shape(z) w = Neg(t) }""",
        one=np.array([1], np.int64),
        three=np.array([3], np.int64),
    )
    result = same(model)
    assert ops(result) == ["Neg", "Neg"], "what makes a graph output is not folded"
    assert sorted(value.tolist() for value in stored(result).values()) == [[2, 5], [3, 4]]


@pytest.mark.parametrize(("length", "folds"), [(LARGEST_BYTES // 4, True), (LARGEST_BYTES // 4 + 1, False)])
def test_size_is_bounded(build, ops, length, folds):
    """Expand of a scalar folds up to LARGEST_BYTES and not beyond."""
    model = build(
        "g (float[N] x) => (float[N] y) { p = Expand(a, s) y = Add(x, p) }",
        a=np.float32(2),
        s=np.array([length], np.int64),
    )
    assert (ops(normalize(model)) == ["Add"]) is folds


@pytest.mark.parametrize(
    "body",
    [
        "p = RandomNormalLike(a) y = Add(x, p)",
        "i, u, z = DynamicQuantizeLinear(v) j = DequantizeLinear(i, u, z) y = Add(x, j)",
        "p = DequantizeLinear(q, a) y = Add(x, p)",
    ],
)
def test_never(build, ops, body):
    """Random numbers stay random; quantised weights stay quantised."""
    model = build(
        f"g (float[N] x) => (float[N] y) {{ {body} }}",
        a=np.float32(0.5),
        q=np.int8(3),
        v=np.ones(3, np.float32),
    )
    assert ops(normalize(model)) == ops(model)


def test_overridable_initializer_is_no_constant(build, same, ops):
    """A is an input with a default: 2a depends on the caller."""
    model = build(
        "g (float[N] x, float[1] a) => (float[N] y) { p = Mul(a, two) y = Add(x, p) }",
        a=np.ones(1, np.float32),
        two=np.float32(2),
    )
    assert ops(same(model)) == ["Mul", "Add"]


def test_ir_3_initializers_are_overridable(build, same, ops):
    """Before IR version 4 every initializer is an input, hence overridable; the IR version stays."""
    model = build(
        "g (float[N] x, float[1] a, float[1] b) => (float[N] y) { p = Mul(a, b) y = Add(x, p) }",
        opset=8,
        ir=3,
        a=np.ones(1, np.float32),
        b=np.ones(1, np.float32),
    )
    result = same(model)
    assert ops(result) == ["Mul", "Add"]
    assert result.model.ir_version == 3


def test_constant_transpose(build, same, ops, stored):
    """A Transpose of a weight moves elements only: the stored bits are the weight's."""
    weight = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    model = build(
        "g (float[N,3] x) => (float[N,5] y) { t = Transpose <perm=[1,0]> (w) y = MatMul(x, t) }",
        w=weight.T.copy(),
    )
    result = same(model)
    assert ops(result) == ["MatMul"]
    (held,) = stored(result).values()
    np.testing.assert_array_equal(held, weight)


def test_float16_overflow_stays(build, ops):
    """60000 * 2 is no float16: folding would bake in an infinity that float64 does not have, also where a
    dead node reads the product.
    """
    model = build(
        "g (float16[N] x) => (float16[N] y) { p = Mul(a, b) q = Div(p, b) y = Add(x, p) }",
        a=np.float16(60000),
        b=np.float16(2),
    )
    assert "Mul" in ops(normalize(model))


def test_inside_a_branch(build, same):
    """Constants fold inside If branches, with captured constants from outside."""
    model = build(
        """g (float[3] x, bool k) => (float[3] y) {
            y = If (k) <then_branch = t () => (float[3] p) { c = Mul(a, b) p = Add(x, c) },
                        else_branch = e () => (float[3] q) { q = Neg(x) }> }""",
        a=np.float32(3),
        b=np.float32(5),
    )
    result = same(model)
    branches = {a.name: [n.op_type for n in a.g.node] for a in result.model.graph.node[0].attribute}
    assert branches["then_branch"] == ["Add"]
