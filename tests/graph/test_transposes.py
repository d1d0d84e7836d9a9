"""Redundant Transpose removal."""

from __future__ import annotations

import numpy as np

RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_identity(build, same, ops):
    """T([0,1,2])(x) = x."""
    model = build("g (float[N,3,4] x) => (float[N,3,4] y) { a = Transpose <perm=[0,1,2]> (x) y = Relu(a) }")
    assert ops(same(model)) == ["Relu"]


def test_inverse_pair(build, same, ops):
    """T(q)(T(p)(x)) = x for q inverse to p, a 3-cycle, which is not its own inverse."""
    model = build(
        """g (float[2,3,4] x) => (float[2,3,4] y) {
            a = Transpose <perm=[1,2,0]> (x) b = Transpose <perm=[2,0,1]> (a) y = Relu(b) }"""
    )
    assert ops(same(model)) == ["Relu"]


def test_composition(build, same, ops):
    """T([1,2,0])(T([1,2,0])(x)) = T([2,0,1])(x)."""
    model = build(
        """g (float[2,3,4] x) => (float[4,2,3] y) {
            a = Transpose <perm=[1,2,0]> (x) y = Transpose <perm=[1,2,0]> (a) }"""
    )
    result = same(model)
    assert ops(result) == ["Transpose"]
    assert list(result.model.graph.node[0].attribute[0].ints) == [2, 0, 1]


def test_sandwich(build, same, ops):
    """NHWC -> NCHW, bias of shape [C] and a scalar in NHWC, NCHW -> NHWC: both Transposes go."""
    model = build(
        """g (float[N,4,5,3] x) => (float[N,4,5,3] y) {
            a = Transpose <perm=[0,3,1,2]> (x)
            b = Add(a, c) d = Mul(b, e) f = Clip(d, lo, hi)
            y = Transpose <perm=[0,2,3,1]> (f) }""",
        c=normal(3, 1, 1),
        e=np.float32(1.5),
        lo=np.float32(-1),
        hi=np.float32(1),
    )
    assert ops(same(model)) == ["Add", "Mul", "Clip"]


def test_residual_sandwich(build, same, ops):
    """T(T(x) + Relu(T(z))) = x + Relu(z): every leaf is a Transpose."""
    model = build(
        """g (float[N,4,5,3] x, float[N,4,5,3] z) => (float[N,4,5,3] y) {
            a = Transpose <perm=[0,3,1,2]> (x) b = Transpose <perm=[0,3,1,2]> (z)
            c = Relu(b) d = Add(a, c) y = Transpose <perm=[0,2,3,1]> (d) }"""
    )
    assert ops(same(model)) == ["Relu", "Add"]


def test_two_closing_transposes(build, same, ops):
    """The middle value is read by two equal Transposes: all go."""
    model = build(
        """g (float[N,4,5,3] x) => (float[N,4,5,3] y, float[N,4,5,3] z) {
            a = Transpose <perm=[0,3,1,2]> (x) b = Relu(a)
            c = Transpose <perm=[0,2,3,1]> (b) d = Transpose <perm=[0,2,3,1]> (b) y = Neg(c) z = Abs(d) }"""
    )
    assert ops(same(model)) == ["Relu", "Neg", "Abs"]


def test_other_operand_stays(build, same, ops):
    """T(T(x) + z) with a plain z: moving would add a Transpose, so nothing moves."""
    model = build(
        """g (float[N,4,5,3] x, float[N,3,4,5] z) => (float[N,4,5,3] y) {
            a = Transpose <perm=[0,3,1,2]> (x) b = Add(a, z) y = Transpose <perm=[0,2,3,1]> (b) }"""
    )
    assert ops(same(model)) == ["Transpose", "Add", "Transpose"]


def test_not_elementwise_stays(build, same, ops):
    """Softmax along an axis does not commute with Transpose."""
    model = build(
        """g (float[N,4,5,3] x) => (float[N,4,5,3] y) {
            a = Transpose <perm=[0,3,1,2]> (x) b = Softmax <axis=1> (a)
            y = Transpose <perm=[0,2,3,1]> (b) }"""
    )
    assert ops(same(model)) == ["Transpose", "Softmax", "Transpose"]


def test_captured_middle_stays(build, same, ops):
    """The middle value is captured by an If: it must keep its layout."""
    model = build(
        """g (float[N,4,5,3] x, bool k) => (float[N,4,5,3] y, float[N,3,4,5] z) {
            a = Transpose <perm=[0,3,1,2]> (x) b = Relu(a) y = Transpose <perm=[0,2,3,1]> (b)
            z = If (k) <then_branch = t () => (float[N,3,4,5] p) { p = Neg(b) },
                        else_branch = e () => (float[N,3,4,5] q) { q = Abs(b) }> }"""
    )
    assert ops(same(model)).count("Transpose") == 2


def test_higher_rank_constant_stays(build, same, ops):
    """A constant of more dimensions broadcasts the operand up: the permutation no longer fits."""
    model = build(
        """g (float[2,3] x) => (float[1,2,3] y) {
            a = Transpose <perm=[1,0]> (x) b = Add(a, c) y = Transpose <perm=[0,2,1]> (b) }""",
        c=normal(1, 3, 2),
    )
    assert ops(same(model)) == ["Transpose", "Add", "Transpose"]


def test_into_gemm(build, same, ops):
    """Gemm(T(x), T(z)) = Gemm(x, z; transA=1, transB=1)."""
    model = build(
        """g (float[3,N] x, float[5,3] z) => (float[N,5] y) {
            a = Transpose <perm=[1,0]> (x) b = Transpose (z) y = Gemm(a, b) }"""
    )
    result = same(model)
    assert ops(result) == ["Gemm"]
    assert {a.name: a.i for a in result.model.graph.node[0].attribute} == {"transA": 1, "transB": 1}
