"""Duplicates, dead code, shapes, inlining and opset conversion."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxeq.errors import CannotRun
from onnxeq.graph.normalize import normalize


def test_duplicates_merge(build, same, stored):
    """Equal type, shape and bytes: one initializer, whichever branch reads it."""
    model = build(
        "g (float[N,2] x) => (float[N,2] y) { p = Add(x, a) q = Mul(p, b) y = Sub(q, c) }",
        a=np.float32([1, 2]),
        b=np.float32([1, 2]),
        c=np.float32([1, 3]),
    )
    assert sorted(stored(same(model))) == ["a", "c"]


def test_near_duplicates_stay(build, same, stored):
    """Another type (int32 0 against float32 0), another shape, or -0 against 0 is another tensor."""
    model = build(
        """g (float[N,2] x) => (float[N,2] y, int32[2] z) {
            p = Add(x, a) q = Div(p, b) y = Sub(q, c) z = Add(i, j) }""",
        a=np.float32([0, 0]),
        b=np.float32([-0.0, -0.0]),
        c=np.float32([[0, 0]]),
        i=np.int32([0, 0]),
        j=np.int32([1, 1]),
    )
    assert {"a", "b", "c"} <= set(stored(same(model)))


def test_duplicate_inputs_stay(build, same, stored):
    """An overridable initializer equals another only until it is overridden."""
    model = build(
        "g (float[N,2] x, float[2] a) => (float[N,2] y) { p = Add(x, a) y = Mul(p, b) }",
        a=np.float32([1, 2]),
        b=np.float32([1, 2]),
    )
    assert sorted(stored(same(model))) == ["a", "b"]


def test_dead_code_goes_inputs_stay(build, same, ops, stored):
    """A chain that nobody reads and its initializer go; an input that nobody reads stays."""
    model = build(
        "g (float[N,2] x, float[N] unused) => (float[N,2] y) { p = Add(x, a) q = Neg(p) y = Relu(x) }",
        a=np.float32([1, 2]),
    )
    result = same(model)
    assert (ops(result), stored(result)) == (["Relu"], {})
    assert [v.name for v in result.model.graph.input] == ["x", "unused"]


def test_captured_values_live(build, same, ops):
    """What only a branch reads is not dead; what only a dead If read is."""
    model = build(
        """g (float[3] x, bool k) => (float[3] y) {
            h = Relu(x) d = Abs(x)
            u = If (k) <then_branch = a () => (float[3] p) { p = Neg(d) },
                        else_branch = b () => (float[3] q) { q = Sqrt(d) }>
            y = If (k) <then_branch = t () => (float[3] r) { r = Neg(h) },
                        else_branch = e () => (float[3] s) { s = Exp(h) }> }"""
    )
    assert ops(same(model)) == ["Relu", "If"]


def test_shapes_are_derived(build):
    """Intermediate shapes are written, with the batch's own name."""
    model = build("g (float[N,3] x) => (float[N,5] y) { h = Relu(x) y = MatMul(h, w) }", w=np.ones((3, 5), np.float32))
    result = normalize(model)
    (value,) = [v for v in result.model.graph.value_info if v.name == "h"]
    dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    assert dims == ["N", 3]


def test_functions_are_inlined(same, ops):
    """f(x) = x * x + x, called twice, once nested in a branch-free main graph."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17, "my": 1]>
        g (float[N] x) => (float[N] y) { a = my.f(x) y = my.f(a) }
        <domain: "my", opset_import: ["": 17]> f (x) => (y) { s = Mul(x, x) y = Add(s, x) }"""
    )
    result = same(model)
    assert ops(result) == ["Mul", "Add", "Mul", "Add"]
    assert not result.model.functions


def test_optional_inputs_survive(build, same, ops):
    """Clip(x, , max): an absent input in the middle stays absent."""
    model = build('g (float[N] x) => (float[N] y) { y = Clip(x, "", m) }', m=np.float32(0.5))
    assert ops(same(model)) == ["Clip"]


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_opset(build, same, opset):
    """Squeeze moved its axes from an attribute to an input in opset 13; large tensors pass unharmed."""
    weight = np.random.default_rng(0).standard_normal((1, 40, 50)).astype(np.float32)
    model = build(
        """g (float[N,40] x) => (float[N,50] y) { v = Squeeze <axes=[0]> (w) y = MatMul(x, v) }""",
        opset=12,
        ir=6,
        w=weight,
    )
    result = same(model, opset=opset)
    assert {o.domain: o.version for o in result.model.opset_import}[""] == opset
    assert result.model.ir_version >= 6


@pytest.mark.parametrize("opset", [3, 9999])
def test_opset_out_of_range(build, opset):
    """One line that says what is allowed."""
    model = build("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    with pytest.raises(CannotRun, match=rf"opset {opset}: allowed 7 to \d+$"):
        normalize(model, opset=opset)


def test_opset_impossible(build):
    """GridSample does not exist in opset 13: the message names both versions in one line."""
    model = build("g (float[1,1,4,4] x, float[1,2,2,2] s) => (float[1,1,2,2] y) { y = GridSample(x, s) }")
    with pytest.raises(CannotRun, match="opset 17 to 13") as caught:
        normalize(model, opset=13)
    assert "\n" not in caught.value.line()


@pytest.mark.slow
def test_onnxsim_on_request(build, ops, capfd):
    """Onnxsim runs when it is named, in a process of its own, and prints nothing of ours."""
    model = build("g (float[2,3] x) => (float[2,3] y) { a = Identity(x) b = Relu(a) y = Relu(b) }")
    result = normalize(model, passes=["onnxsim"])
    assert "Identity" not in ops(result)
    assert capfd.readouterr().out == ""
