"""Operators that do nothing."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    "body",
    [
        "a = Identity(x) y = Relu(a)",
        "a = Dropout(x) y = Relu(a)",
        "a = Dropout(x, r, no) y = Relu(a)",
        "a = Cast <to=1> (x) y = Relu(a)",
        "a = CastLike(x, r) y = Relu(a)",
        "a = Reshape(x, s) y = Relu(a)",
        "a = Flatten(x) y = Relu(a)",
        "a = Concat <axis=0> (x) y = Relu(a)",
        "a = Sum(x) y = Relu(a)",
        "a = Relu(x) y = Identity(a)",
    ],
)
def test_removed(build, same, ops, body):
    """f(no-op(x)) = f(x), also when the no-op makes the graph output."""
    model = build(
        f"g (float[N,3] x) => (float[N,3] y) {{ {body} }}",
        r=np.float32(0.5),
        no=np.bool_(False),
        s=np.array([0, -1], np.int64),
    )
    assert ops(same(model)) == ["Relu"]


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Cast <to=11> (x) b = Relu(a) y = Cast <to=1> (b)", ["Cast", "Relu", "Cast"]),
        ("a = Reshape(x, s) y = Reshape(a, t)", ["Reshape", "Reshape"]),
        ("y = Identity(x)", ["Identity"]),
    ],
)
def test_kept(build, same, ops, body, left):
    """A cast that changes the type, a Reshape that moves sizes, and the only node from input to output."""
    model = build(
        f"g (float[2,3] x) => (float[2,3] y) {{ {body} }}",
        s=np.array([3, 2], np.int64),
        t=np.array([2, 3], np.int64),
    )
    assert ops(same(model)) == left


def test_reshape_of_unknown_sizes_stays(build, same, ops):
    """[N,M] -> [-1,3] splits M unless it is 3: with M unknown it stays."""
    model = build("g (float[2,M] x) => (float[A,1] y) { a = Reshape(x, s) y = Relu(a) }", s=np.array([-1, 1], np.int64))
    assert ops(same(model)) == ["Reshape", "Relu"]


def test_dropout_mask_read_stays(build, ops, same):
    """The mask is an output of its own."""
    model = build("g (float[N,3] x) => (float[N,3] y, bool[N,3] m) { y, m = Dropout(x) }", opset=13)
    assert ops(same(model)) == ["Dropout"]


def test_dropout_in_training_stays(build, ops):
    """training_mode=1 drops."""
    from onnxeq.graph.normalize import normalize

    model = build(
        "g (float[N,3] x) => (float[N,3] y) { a = Dropout(x, r, t) y = Relu(a) }",
        r=np.float32(0.5),
        t=np.bool_(True),
    )
    assert ops(normalize(model)) == ["Dropout", "Relu"]


def test_stale_shape_is_not_believed(build, same, ops):
    """A value_info that says [1,6] where the graph says [N,6] must not remove Reshape to [1,6]."""
    model = build("g (float[N,6] x) => (float[A,B] y) { h = Relu(x) y = Reshape(h, s) }", s=np.array([1, -1], np.int64))
    import onnx

    model.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, [1, 6]))
    assert ops(same(model)) == ["Relu", "Reshape"]


def test_inside_a_subgraph(build, same):
    """If branches are cleaned too; an Identity of a captured value is the branch's output and stays."""
    model = build(
        """g (float[3] x, bool k) => (float[3] y) {
            h = Relu(x)
            y = If (k) <then_branch = t () => (float[3] p) { a = Identity(h) p = Neg(a) },
                        else_branch = e () => (float[3] q) { q = Identity(h) }> }"""
    )
    result = same(model)
    branches = {a.name: [n.op_type for n in a.g.node] for a in result.model.graph.node[1].attribute}
    assert branches == {"then_branch": ["Neg"], "else_branch": ["Identity"]}
