"""The figures of a network, derived by hand from its layers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onnxeq.compare.figures import figures
from onnxeq.compare.reading.opening import read_graph
from onnxeq.compare.windows import window

from .conftest import Net, Read, network


def test_the_figures_follow_from_the_layers(read: Read) -> None:
    """Each is the sum over the network's five convolutions, five normalisations and one dense layer."""
    found = figures(read(network()))
    kernels = [3 * 16 * 49, 16 * 8, 8 * 8 * 9, 8 * 32, 16 * 32]
    maps = [16 * 16, 8 * 8, 4 * 4, 4 * 4, 4 * 4]  # 32 pixels, halved by the stem, the pooling and the block
    outs = [16, 8, 8, 32, 32]
    assert found.parameters == sum(kernels) + 2 * sum(outs) + 32 * 10 + 10
    assert found.macs == sum(k * m for k, m in zip(kernels, maps, strict=True)) + 320
    assert found.activations == sum(o * m for o, m in zip(outs, maps, strict=True)) + 10
    assert found.depth == 5  # stem, three of the block, head: the shortcut is shorter
    assert (found.layers, found.nodes) == (18, 19)
    assert found.kinds == {
        "conv": 5,
        "batch_norm": 5,
        "relu": 4,
        "max_pool": 1,
        "add": 1,
        "global_avg_pool": 1,
        "linear": 1,
    }
    assert (found.inputs, found.outputs) == (((1, 3, 32, 32),), ((1, 10),))


def test_the_receptive_field_adds_up(read: Read) -> None:
    """7 pixels of the stem, 2 x 2 of the pooling, 2 x 4 of the 3x3 convolution; with the stride before that, 2 x 8."""
    late, early = figures(read(network())).receptive, figures(read(network(first=True))).receptive
    assert late is not None
    assert early is not None
    assert (late.size, late.stride, late.gated) == ((19, 19), (8, 8), False)
    assert early.size == (27, 27)


def test_a_gate_sees_everything_and_is_told_apart(read: Read) -> None:
    """A map times a function of its own mean: the map's field stays, and it is called gated."""
    net = Net(1, 3, 12, 12)
    x = net.conv("x", "c", 3, 6, 3)
    gate = net.node("Sigmoid", [net.conv(net.node("GlobalAveragePool", [x]), "g", 6, 6, 1)])
    found = figures(read(net.model(net.node("Mul", [x, gate])))).receptive
    assert found is not None
    assert (found.size, found.gated) == ((3, 3), True)


def test_a_tensor_that_is_read_twice_counts_once(read: Read) -> None:
    """Two convolutions that read one kernel have its parameters once and its multiplications twice."""
    net = Net(1, 3, 4, 4)
    kernel = net.weight("k", 3, 3, 1, 1)
    x = net.node("Conv", [net.node("Conv", ["x", kernel]), kernel])
    found = figures(read(net.model(x)))
    assert (found.parameters, found.macs, found.depth) == (9, 2 * 9 * 16, 2)


def test_a_free_size_is_given_one_and_told(read: Read) -> None:
    """A free batch is 1; another free size is said, and one that the user names is taken."""
    net = Net("N", 3, "height", 8)
    net.conv("x", "c", 3, 4, 3)
    graph = read(net.model("conv0"))
    assert graph.layers[0].shape == (1, 3, 224, 8)
    assert graph.notes == ("input 'x' leaves axis 2 free: it is looked at with 224",)
    graph = read(net.model("conv0"), x=(1, 3, 16, 8))
    assert (graph.layers[0].shape, graph.notes) == ((1, 3, 16, 8), ())


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 14), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2),
    st.booleans(),
)  # fmt: skip
def test_what_is_read_of_the_padding(n: int, k: int, s: int, d: int, b: int, e: int, ceil: bool) -> None:
    """Against windows laid one by one: where the last one ends is what is read at the end, before or behind it."""
    extent = (k - 1) * d + 1
    assume(n + b + e >= extent and max(b, e) < extent)  # as operators ask for: no window lies in the padding alone
    starts = list(range(0, n + b + e - extent + 1, s))
    if ceil and starts[-1] + extent < n + b + e and starts[-1] + s < n + b:
        starts.append(starts[-1] + s)
    found = window([n], [k], [s], [d], [b, e], ceil=ceil)
    assert found.read == (b, starts[-1] + extent - b - n)


@pytest.mark.parametrize(("rule", "pads"), [("SAME_UPPER", (0, 1)), ("SAME_LOWER", (1, 0)), ("VALID", (0, 0))])
def test_rules_become_numbers(rule: str, pads: tuple[int, int]) -> None:
    """Ten elements, a kernel of 3, a stride of 2: five windows reach over eleven, one of which is padding."""
    found = window([10], [3], [2], None, None, rule)
    assert found.pads == pads
    assert found.read == (pads if rule != "VALID" else (0, -1))


def test_a_table_is_counted_as_a_table(read: Read) -> None:
    """Rows of a stored table that are looked up are an embedding: its numbers are parameters, none is multiplied."""
    net = Net(1, 3, 4, 4)
    rows = net.node("Cast", [net.node("Reshape", ["x", net.store("s", np.array([1, 48], np.int64))])], to=7)
    found = figures(read(net.model(net.node("Gather", [net.weight("table", 10, 5), rows]))))
    assert (found.parameters, found.macs, found.kinds["embedding"]) == (50, 0, 1)


def test_weights_that_a_file_fills_itself_are_weights() -> None:
    """The light ResNet-50 stores the sizes of its weights and one number for each: 53 convolutions, and the figures of
    the network (He et al., 2015): 25,557,032 parameters, 4.09 G products.
    """
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    graph = read_graph(path)
    counted = Counter(layer.kind for layer in graph.layers)
    assert (counted["conv"], counted["batch_norm"], counted["linear"], counted["constant"]) == (53, 53, 1, 0)
    found = figures(graph)
    assert found.parameters == 25_557_032
    assert round(found.macs / 1e9, 2) == 4.09
