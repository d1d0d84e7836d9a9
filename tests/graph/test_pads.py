"""Pad merged into the next operator only where the semantics is exactly the same."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(3)
PADS = np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64)
WEIGHT = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)


def graph(last, extra=""):
    return f"g (float[N,3,6,6] x) => (float[N,A,B,C] y) {{ p = Pad {extra} y = {last} }}"


def test_conv(build, same, ops):
    """Conv(Pad(x, p, 0)) = Conv(x; pads + p)."""
    model = build(graph("Conv <pads=[1,0,0,1]> (p, w)", "(x, a)"), a=PADS, w=WEIGHT)
    result = same(model)
    assert ops(result) == ["Conv"]
    (pads,) = [a.ints for a in result.model.graph.node[0].attribute if a.name == "pads"]
    assert list(pads) == [2, 2, 2, 2]


def test_opset_2_form(build, same, ops):
    """Before opset 11 the amounts are an attribute."""
    model = build(graph("Conv(p, w)", "<pads=[0,0,1,2,0,0,2,1]> (x)"), opset=9, ir=4, w=WEIGHT)
    assert ops(same(model)) == ["Conv"]


@pytest.mark.parametrize(
    ("value", "amounts", "mode"),
    [
        (1.0, [0, 0, 1, 1, 0, 0, 1, 1], "constant"),
        (0.0, [0, 0, 1, 1, 0, 0, 1, 1], "reflect"),
        (0.0, [0, 0, 1, 1, 0, 0, 1, 1], "edge"),
        (0.0, [0, 0, -1, 1, 0, 0, 1, 1], "constant"),
        (0.0, [1, 0, 1, 1, 0, 0, 1, 1], "constant"),
    ],
)
def test_conv_stays(build, same, ops, value, amounts, mode):
    """Another value, another mode, a crop, or a pad of the batch: Conv cannot do that."""
    model = build(
        graph("Conv(p, w)", f'<mode="{mode}"> (x, a, v)'),
        a=np.array(amounts, np.int64),
        v=np.float32(value),
        w=WEIGHT,
    )
    assert ops(same(model)) == ["Pad", "Conv"]


def test_conv_same_stays(build, same, ops):
    """SAME_UPPER computes its pads from the padded size: stride 2 shifts."""
    model = build(graph('Conv <auto_pad="SAME_UPPER", strides=[2,2]> (p, w)', "(x, a)"), a=PADS, w=WEIGHT)
    assert ops(same(model)) == ["Pad", "Conv"]


def test_other_reader_stays(build, same, ops):
    """The padded value is read twice."""
    text = """g (float[N,3,6,6] x) => (float[N,A,B,C] y, float[N,D,E,F] z) {
        p = Pad(x, a) y = Conv(p, w) z = Neg(p) }"""
    assert "Pad" in ops(same(build(text, a=PADS, w=WEIGHT)))


def test_max_pool_with_zeros_stays(build, same, ops):
    """Max over a window with zeros is not max over the window: all inputs may be negative."""
    model = build(graph("MaxPool <kernel_shape=[3,3]> (p)", "(x, a)"), a=PADS)
    assert ops(same(model)) == ["Pad", "MaxPool"]


def test_max_pool_with_infinity(build, same, ops):
    """MaxPool(Pad(x, p, -inf)) = MaxPool(x; p)."""
    model = build(graph("MaxPool <kernel_shape=[3,3]> (p)", "(x, a, v)"), a=PADS, v=np.float32(-np.inf))
    assert ops(same(model)) == ["MaxPool"]


def test_max_pool_window_inside_the_padding_stays(build, same, ops):
    """A pad as wide as the kernel makes a window of padding only, which no MaxPool may have."""
    wide = np.array([0, 0, 3, 0, 0, 0, 0, 0], np.int64)
    model = build(graph("MaxPool <kernel_shape=[3,3]> (p)", "(x, a, v)"), a=wide, v=np.float32(-np.inf))
    assert ops(same(model)) == ["Pad", "MaxPool"]


def test_max_pool_ceil_stays(build, same, ops):
    """With ceil_mode, windows that start in the padding are dropped: inside is not outside."""
    model = build(
        graph("MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (p)", "(x, a, v)"),
        a=PADS,
        v=np.float32(-np.inf),
    )
    assert ops(same(model, runtime=False)) == ["Pad", "MaxPool"]


@pytest.mark.parametrize("attributes", ["", ", count_include_pad=1", ", count_include_pad=1, pads=[0,0,0,1]"])
def test_average_pool(build, same, ops, attributes):
    """The zeros of Pad are counted, so the merged pool counts its padding."""
    small = np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64)
    model = build(graph(f"AveragePool <kernel_shape=[3,3]{attributes}> (p)", "(x, a)"), a=small)
    result = same(model)
    assert ops(result) == ["AveragePool"]
    attrs = {a.name: a.i for a in result.model.graph.node[0].attribute}
    assert attrs["count_include_pad"] == 1


def test_average_pool_with_own_uncounted_pads_stays(build, same, ops):
    """Its own pads are not counted, Pad's are: one operator cannot do both."""
    model = build(graph("AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (p)", "(x, a)"), a=PADS)
    assert ops(same(model)) == ["Pad", "AveragePool"]


def test_empty_pad_goes(build, same, ops):
    """A Pad by 0 in any mode is no operation."""
    model = build(graph("Relu(p)", '<mode="reflect"> (x, a)'), a=np.zeros(8, np.int64))
    assert ops(same(model)) == ["Relu"]


def test_one_form(build, same, ops, stored):
    """axes=[-2] becomes amounts for all axes; a value of 0 is left out."""
    model = build(
        graph("Relu(p)", '<mode="constant"> (x, a, v, axes)'),
        opset=18,
        a=np.array([1, 2], np.int64),
        v=np.float32(0),
        axes=np.array([-2], np.int64),
    )
    result = same(model)
    node = result.model.graph.node[0]
    assert (ops(result), len(node.input), len(node.attribute)) == (["Pad", "Relu"], 2, 0)
    assert stored(result)[node.input[1]].tolist() == [0, 0, 1, 0, 0, 0, 2, 0]
