"""The split of a functional difference, on files whose numbers are worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import onnxeq
from onnxeq.compare.figures import figures
from onnxeq.compare.function.common import common_part
from onnxeq.compare.function.tensors import from_file, into_file, own_order, with_own_order
from onnxeq.compare.function.values import Origin, Split
from onnxeq.compare.values import Comparison, Side, Weight
from onnxeq.compare.verdicts import matched
from onnxeq.types import Array

from .conftest import Net, network

RNG = np.random.default_rng(7)
X = RNG.standard_normal((1, 6)).astype(np.float32)
W, V = (RNG.standard_normal((4, 6)).astype(np.float32) for _ in range(2))
B = RNG.standard_normal(4).astype(np.float32) - np.array([1, 0, 2, 0], np.float32)  # so that some are negative


def _gemm(weight: Array, bias: Array, alpha: float = 0.0) -> onnx.ModelProto:
    """``leaky_relu(x W^T + b)`` as one Gemm of a matrix with outputs first."""
    net = Net(1, 6)
    y = net.node("Gemm", ["x", net.store("w", weight), net.store("b", bias)], transB=1)
    return net.model(net.node("LeakyRelu", [y], alpha=alpha) if alpha else net.node("Relu", [y]))


def _matmul(weight: Array, bias: Array | None) -> onnx.ModelProto:
    """The same with inputs first, and the bias added behind, where there is one."""
    net = Net(1, 6)
    y = net.node("MatMul", ["x", net.store("kernel", np.ascontiguousarray(weight.T))])
    y = y if bias is None else net.node("Add", [y, net.store("offset", bias)])
    return net.model(net.node("Relu", [y]))


def _split(*models: Any, **options: Any) -> Split:
    (pair,) = onnxeq.compare(*models, parts=["function"], inputs=[{"x": X}], **options).pairs
    assert pair.function is not None, pair.not_split
    return pair.function


def _rms(value: Array) -> float:
    return float(np.sqrt(np.mean(np.square(value))))


def _relative(a: Array, b: Array) -> float:
    return _rms(b - a) / max(_rms(a), _rms(b))


def _relu(weight: Array, bias: Array, alpha: float = 0.0) -> Array:
    y = X.astype(np.float64) @ weight.astype(np.float64).T + bias.astype(np.float64)
    return np.where(y > 0, y, alpha * y)


def _effects(split: Split, origin: Origin) -> list[float]:
    return [e.relative for e in split.effects if e.origin is origin]


def test_the_sizes_are_the_formulas() -> None:
    """All four effects are ``rms(after - before) / rms`` of numpy's float64 results; weights lie otherwise in each."""
    found = _split(_gemm(W, B, alpha=0.5), _matmul(V, B))
    slope = float(np.float32(0.5))
    a_a, a_b, b_b, b_a = _relu(W, B, slope), _relu(V, B, slope), _relu(V, B), _relu(W, B)
    assert found.whole
    assert set(found.origins) == {Origin.WEIGHTS, Origin.GRAPH}
    assert (found.identical, found.tensors) == (1, 2)
    assert _effects(found, Origin.WEIGHTS) == pytest.approx([_relative(a_a, a_b), _relative(b_b, b_a)], rel=1e-12)
    assert _effects(found, Origin.GRAPH) == pytest.approx([_relative(a_a, b_a), _relative(b_b, a_b)], rel=1e-12)
    assert found.total.relative == pytest.approx(_relative(a_a, b_b), rel=1e-12)
    assert found.total.max_abs == pytest.approx(np.abs(b_b - a_a).max(), rel=1e-12)


def test_a_bias_that_one_side_lacks_is_graph() -> None:
    """It stays where it is while the weights are exchanged; one of zeros is as good as none."""
    found = _split(_gemm(W, B), _matmul(W, None))
    apart = _relative(_relu(W, B), _relu(W, np.zeros(4, np.float32)))
    assert found.origins == (Origin.GRAPH,)
    assert _effects(found, Origin.GRAPH) == pytest.approx([apart, apart], rel=1e-12)
    assert _effects(found, Origin.WEIGHTS) == [0.0, 0.0]
    (note,) = found.notes
    assert "'b' of ModelProto (1) (bias) cannot be exchanged with ModelProto (2), which has none" in note
    same = _split(_gemm(W, np.zeros(4, np.float32)), _matmul(W, None))
    assert (same.origins, same.notes) == ((), ())


def test_a_last_place_is_no_discrepancy_and_is_counted() -> None:
    """Weights one unit in the last place apart are told as other tensors, and as no reason to differ."""
    found = _split(_gemm(W, B), _matmul(np.nextafter(W, np.float32(9)), B))
    assert (found.identical, found.tensors) == (1, 2)
    assert found.origins == ()
    assert 0 < found.total.relative < 1e-6


def test_another_number_of_classes_leaves_the_part_before_it() -> None:
    """Heads of 10 and 11 classes cannot exchange weights: the networks are compared up to the head."""
    (pair,) = onnxeq.compare(network(), network(classes=11), parts=["function"]).pairs
    assert pair.function is not None
    found = pair.function
    assert not found.whole
    assert (found.begins, found.ends, found.origins) == ("stem", "globalaveragepool16", ())
    plain = onnxeq.compare(network(), network(), parts=["function"]).pairs[0].function
    assert plain is not None
    assert plain.whole
    head = 32 * 10 + 10
    parameters = 3 * 16 * 49 + 16 * 8 + 8 * 8 * 9 + 8 * 32 + 16 * 32 + 2 * (16 + 8 + 8 + 32 + 32)
    assert found.share == pytest.approx(parameters / (parameters + head))


def test_a_stride_that_moved_is_graph() -> None:
    """The common part is the whole, weights and all, whatever the layers do otherwise."""
    (pair,) = onnxeq.compare(network(), network(first=True), parts=["function"]).pairs
    assert pair.function is not None
    assert pair.function.whole
    assert pair.function.origins == (Origin.GRAPH,)
    assert _effects(pair.function, Origin.WEIGHTS) == [0.0, 0.0]


def test_a_softmax_at_the_end_is_looked_past() -> None:
    """What goes into it is compared with what the other gives."""
    (pair,) = onnxeq.compare(network(), network(softmax=True), parts=["function"]).pairs
    assert pair.function is not None
    assert (pair.function.whole, pair.function.origins, pair.function.ends) == (True, (), "head")


def test_what_differs_in_size_is_compared_between_its_ends() -> None:
    """A layer whose weights have no counterpart ends the part, and the larger part is taken, fed with one side's."""
    (pair,) = onnxeq.compare(network(), network(stem=5), parts=["function"]).pairs
    assert pair.function is not None
    found = pair.function
    assert (found.whole, found.begins, found.ends) == (False, "stem.norm", "head")
    assert found.origins == ()


def test_a_folded_file_is_held_against_the_other_folded_alike() -> None:
    """Weights of one network with its BatchNorms folded by hand are the other's, up to the rounding of the fold."""
    net = Net(1, 3, 8, 8)
    plain = net.model(net.node("Relu", [net.norm(net.conv("x", "c", 3, 4, 3), "n", 4)]))
    held = {k: v.astype(np.float64) for k, v in net.stored.items()}
    factor = held["n.weight"] / np.sqrt(held["n.running_var"] + np.float32(1e-5))
    other = Net(1, 3, 8, 8)
    weight = other.store("w", (held["c.weight"] * factor[:, None, None, None]).astype(np.float32))
    bias = other.store("b", (held["n.bias"] - held["n.running_mean"] * factor).astype(np.float32))
    y = other.node("Conv", ["x", weight, bias], kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], group=1)
    (pair,) = onnxeq.compare(plain, other.model(other.node("Relu", [y])), parts=["function"]).pairs
    assert pair.function is not None, pair.not_split
    assert (pair.function.whole, pair.function.origins, pair.function.tensors) == (True, (), 2)
    assert pair.function.total.relative < 1e-6
    assert "were folded first" in pair.function.notes[0]
    bias_moved = Net(1, 3, 8, 8)
    weight, bias = bias_moved.store("w", other.stored["w"]), bias_moved.store("b", other.stored["b"] * 1.5)
    y = bias_moved.node("Conv", ["x", weight, bias], kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], group=1)
    (pair,) = onnxeq.compare(plain, bias_moved.model(bias_moved.node("Relu", [y])), parts=["function"]).pairs
    assert pair.function is not None
    assert pair.function.origins == (Origin.WEIGHTS,)


def test_inputs_of_another_size_leave_what_is_behind_the_pooling() -> None:
    """Images of 32 and of 48 pixels give one vector: the head is compared, fed with the left one's."""
    (pair,) = onnxeq.compare(network(), network(size=48), parts=["function"]).pairs
    assert pair.function is not None, pair.not_split
    found = pair.function
    assert (found.whole, found.ends, found.origins, found.total.missing) == (False, "head", (), "")
    assert found.tensors == found.identical == 2


def test_nothing_in_common_is_said() -> None:
    """Of two dense layers of other sizes nothing can be exchanged."""
    wide = Net(1, 7)
    other = wide.model(wide.node("Gemm", ["x", wide.weight("w", 3, 7)], transB=1))
    (pair,) = onnxeq.compare(_gemm(W, B), other, parts=["function"]).pairs
    assert pair.function is None
    assert pair.not_split == "no part of them takes the same inputs and weights of the same sizes"


def test_the_exit_status_counts_weights_that_somebody_chose() -> None:
    """Other weights make a comparison unlike; where an architecture was given random ones, they do not."""
    found = onnxeq.compare(_gemm(W, B), _matmul(V, B), parts=["function"])
    assert not found.alike
    drawn = Comparison(tuple(_drawn(side) for side in found.sides), found.pairs)
    assert drawn.alike
    assert onnxeq.compare(_gemm(W, B), _matmul(V, B), parts=["architecture"]).alike


def _drawn(side: Any) -> Any:
    import dataclasses

    return dataclasses.replace(side, random=True)


@pytest.mark.parametrize(
    ("weight", "shape"),
    [
        (Weight("weight", "w", 24), (4, 6)),
        (Weight("weight", "w", 24, axes=(1, 0)), (6, 4)),
        (Weight("weight", "w", 24, viewed=(3, 1, 2, 4), axes=(2, 3, 1, 0)), (6, 4)),
        (Weight("weight", "w", 8, axes=(1, 0), part=(1, 3)), (4, 6)),
    ],
)
def test_a_stored_tensor_is_put_back_as_it_was_taken(weight: Weight, shape: tuple[int, ...]) -> None:
    """Its own numbers in its own order change nothing; other numbers come back as they were given."""
    stored = RNG.standard_normal(shape)
    numbers = own_order(weight, stored)
    assert numbers.size == weight.elements
    assert np.array_equal(with_own_order(weight, stored, numbers), stored)
    other = RNG.standard_normal(numbers.size)
    changed = with_own_order(weight, stored, other)
    assert np.array_equal(own_order(weight, changed), other)
    assert np.sum(changed != stored) == weight.elements


def test_an_order_is_the_axes_in_ascending_place() -> None:
    """``[I,O]`` with axes (1, 0) is read outputs first; a flattened ``[H,W,C]`` channels first."""
    stored = np.arange(24.0).reshape(6, 4)
    assert np.array_equal(own_order(Weight("weight", "w", 24, axes=(1, 0)), stored), stored.T.ravel())
    seen = stored.reshape(3, 2, 4)
    flattened = Weight("weight", "w", 24, viewed=(3, 2, 4), axes=(3, 2, 0))
    assert np.array_equal(own_order(flattened, stored), seen.transpose(2, 1, 0).ravel())


def test_results_lie_as_their_layers_have_them() -> None:
    """Channels last in the file and channels first in the layer; a further axis of size 1 goes and comes."""
    value = RNG.standard_normal((1, 4, 5, 3))
    result = from_file(value, (0, 2, 3, 1), (1, 3, 4, 5))
    assert np.array_equal(result, value.transpose(0, 3, 1, 2))
    assert np.array_equal(into_file(result, (0, 2, 3, 1)), value)
    assert into_file(np.ones((1, 3)), (0, 1, -1, -1)).shape == (1, 3, 1, 1)


def test_a_part_is_entered_by_pairs_only(read: Any) -> None:
    """A shortcut that only one side has from elsewhere is inside the whole, whose only entry is the input."""
    graphs = [read(model) for model in (network(), network(outer=False))]
    sides = [Side(n, n, graph, figures(graph)) for n, graph in zip("AB", graphs, strict=True)]
    found = common_part(graphs[0], graphs[1], matched(*sides).in_order)
    assert found is not None
    assert [graphs[0].layers[i].kind for i, _ in found.entries] == ["input"]
    assert found.whole
