"""Each kind of difference between two networks is told, in words, and no other is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxeq.compare.places import scale
from onnxeq.compare.values import Graph, Layer, Same, Topic

from .conftest import Held, Net, network


def _relu6(net: Net, x: str) -> str:
    return net.node("Clip", [x, net.store("low", np.float32(0)), net.store("high", np.float32(6))])


CASES: list[tuple[dict[str, Any], dict[str, Any], list[tuple[Topic, str, int]]]] = [
    ({}, {"first": True}, [
        (Topic.STRIDE, "the stride of 2 is on the 3x3 convolution in A and on the 1x1 convolution in B, in one block,"
         " at 1/8 of the input", 1)]),
    ({"first": True}, {}, [
        (Topic.STRIDE, "the stride of 2 is on the 1x1 convolution in A and on the 3x3 convolution in B, in one block,"
         " at 1/8 of the input", 1)]),
    ({}, {"bias": True}, [(Topic.BIAS, "all 5 convolutions have a bias in B and none in A", 5)]),
    ({}, {"epsilon": 1e-3}, [(Topic.EPSILON, "epsilon of all 5 BatchNorms is 1e-05 in A and 0.001 in B", 5)]),
    ({}, {"activation": _relu6}, [(Topic.ACTIVATION, "A has ReLU where B has ReLU6 (4 places, at 1/2, 1/4 and 1/8 of"
     " the input)", 4)]),
    ({}, {"pool": "AveragePool"}, [(Topic.POOLING, "A has 3x3 max pooling where B has 3x3 average pooling (one place,"
     " at 1/4 of the input)", 1)]),
    ({}, {"stem_pads": [2, 2, 3, 3]}, [(Topic.PADDING, "the 7x7 convolution pads 3 on each side in A and 2 before and 3"
     " after (asymmetric) in B, at 1/2 of the input", 1)]),
    ({}, {"classes": 11}, [(Topic.CLASSES, "A has 10 classes, B has 11", 1)]),
    ({}, {"softmax": True}, [(Topic.SOFTMAX, "B ends in a softmax, A gives what goes into it", 1)]),
    ({}, {"groups": 2}, [(Topic.GROUPS, "groups of the 3x3 convolution is 1 in A and 2 in B", 1)]),
    ({}, {"groups": 8}, [(Topic.GROUPS, "A has 3x3 convolution where B has 3x3 depthwise convolution (one place, at 1/8"
     " of the input)", 1)]),
    ({}, {"stem": 5}, [(Topic.KERNEL, "kernel of one convolution is 7x7 in A and 5x5 in B, at 1/2 of the input", 1)]),
    ({}, {"width": 12}, [(Topic.WIDTH, "the number of channels differs in 2 layers: 8 against 12 (A against B)", 2)]),
    ({}, {"extra": True}, [(Topic.LAYERS, "B has 3 layers in a row that A has not: 3x3 convolution, BatchNorm, ReLU, at"
     " 1/8 of the input", 1)]),
    ({}, {"norms": False}, [(Topic.NORMALISATION, "A has 5 BatchNorms that B has not, at 1/2, 1/4 and 1/8 of the"
     " input", 5)]),
    ({}, {"size": 64}, [(Topic.INPUT, "the input is 3x32x32 in A and 3x64x64 in B", 1)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "wanted"), CASES, ids=lambda value: " ".join(value) if isinstance(value, dict) else ""
)
def test_one_change_is_one_difference(
    a: dict[str, Any], b: dict[str, Any], wanted: list[tuple[Topic, str, int]], held: Held
) -> None:
    """One keyword changed: exactly that is told, with the number of its places."""
    pair = held(network(**a), network(**b))
    assert pair.same is Same.DIFFERENT
    assert [(d.topic, d.sentence, len(d.places)) for d in pair.differences] == wanted


def test_several_differences_are_told_one_by_one(held: Held) -> None:
    """All of them at once: each is told, the more consequential first, and the places bear both sides' names."""
    pair = held(network(), network(first=True, bias=True, epsilon=1e-3, softmax=True, classes=11))
    assert [d.topic for d in pair.differences] == [
        Topic.STRIDE, Topic.CLASSES, Topic.SOFTMAX, Topic.BIAS, Topic.EPSILON,
    ]  # fmt: skip
    assert [(p.left, p.right) for p in pair.differences[0].places] == [("block.1 to block.2", "block.1 to block.2")]
    assert [p.left for p in pair.differences[3].places] == ["stem", "block.1", "block.2", "block.3", "block.0"]
    assert (pair.aligned, pair.layers) == (18, (18, 19))


def test_a_shortcut_from_elsewhere_is_wiring(held: Held) -> None:
    """The same layers, one of which reads another layer: both its stride and where it comes from are told."""
    pair = held(network(), network(outer=False))
    assert [(d.topic, d.sentence) for d in pair.differences] == [
        (Topic.STRIDE, "the stride of one 1x1 convolution is 2 in A and 4 in B, at 1/8 of the input"),
        (Topic.WIRING, "one 1x1 convolution reads other layers in A than in B, at 1/8 of the input"),
    ]


def test_other_blocks_are_told_stage_by_stage(held: Held) -> None:
    """Plain 3x3 convolutions against a bottleneck: the layers of each map's size are counted, and what holds for the
    whole (the epsilon) is kept.
    """
    net = Net(1, 3, 32, 32)
    x = "x"
    for index in range(4):
        x = net.node(
            "Relu", [net.norm(net.conv(x, f"c{index}", 3 if index == 0 else 16, 16, 3, 2), f"n{index}", 16, 1e-3)]
        )
    plain = net.model(net.dense(net.node("Flatten", [net.node("GlobalAveragePool", [x])]), "head", 16, 10))
    pair = held(network(), plain)
    sentences = [d.sentence for d in pair.differences]
    assert sentences[:2] == [
        "at 1/2 of the input: 1 7x7 convolution in A; 1 3x3 convolution in B",
        "at 1/4 of the input: 1 1x1 convolution in A; 1 3x3 convolution in B",
    ]
    assert any(d.topic is Topic.EPSILON for d in pair.differences)
    assert any("stage by stage" in note for note in pair.notes)


def test_a_file_that_may_be_folded_is_compared_folded(held: Held) -> None:
    """Biases and no BatchNorm in a file: the other side is looked at as folding would leave it, and the pair says so;
    an export of ours without BatchNorm has none.
    """
    unfolded, other = network(), network(norms=False, bias=True)
    pair = held(unfolded, other, files=True)
    assert pair.same is Same.EQUIVALENT
    assert "biases and epsilons are not compared" in pair.notes[0]
    pair = held(unfolded, other)
    assert {d.topic for d in pair.differences} == {Topic.NORMALISATION, Topic.BIAS}
    pair = held(unfolded, network(norms=False, bias=True, first=True), files=True)
    assert [d.topic for d in pair.differences] == [Topic.STRIDE]


def test_what_stands_elsewhere_is_one_difference(held: Held) -> None:
    """The same poolings behind other convolutions: not some that are missing and some that are too many."""

    def chain(pooled: int) -> Any:
        net, x = Net(1, 4, 32, 32), "x"
        for index in range(4):
            x = net.node("Relu", [net.conv(x, f"c{index}", 4, 4, 3)])
            if index == pooled:
                x = net.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        return net.model(x)

    pair = held(chain(0), chain(2))
    assert [(d.topic, d.sentence) for d in pair.differences] == [
        (Topic.POOLING, "one 2x2 max pooling is at another place in A than in B")
    ]
    assert [(p.left, p.right) for p in pair.differences[0].places] == [("maxpool2", ""), ("", "maxpool6")]


@pytest.mark.parametrize(
    ("whole", "part", "wanted"), [(224, 13, 16), (299, 147, 2), (299, 8, 32), (96, 32, 3), (32, 32, 1), (64, 128, 1)]
)
def test_the_size_of_a_map_is_told_by_halving(whole: int, part: int, wanted: int) -> None:
    """Inputs of odd sizes lose a little at each step; a third is a third."""
    layers = [
        Layer("input", (), {}, (1, 3, whole, whole), "x"),
        Layer("conv", (0,), {"kernel": (3, 3)}, (1, 8, part, part), "c"),
    ]
    assert scale(Graph(tuple(layers), (1,)), 1) == wanted
