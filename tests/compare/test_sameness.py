"""When two graphs are called one graph, and which layers an alignment pairs."""

from __future__ import annotations

import random

from onnxeq.compare.aligning import align
from onnxeq.compare.ordering import in_order
from onnxeq.compare.sameness import digests, one_to_one
from onnxeq.compare.values import Graph, Layer

from .conftest import Net, Read, network


def _graph(rows: list[tuple[str, tuple[int, ...]]], *outputs: int) -> Graph:
    layers = [Layer(kind, inputs, {}, (1, 2), f"{kind}{i}") for i, (kind, inputs) in enumerate(rows)]
    return Graph(tuple(layers), outputs)


def test_digests_alone_are_no_proof() -> None:
    """Two equal layers of which one is read twice and the other once, against the other way round: each layer's digest
    has its like, and no pairing of the layers fits.
    """
    rows = [("input", ()), ("relu", (0,)), ("relu", (0,))]
    left = _graph([*rows, ("tanh", (1,)), ("abs", (2,)), ("exp", (2,)), ("concat", (3, 4, 5))], 6)
    right = _graph([*rows, ("tanh", (1,)), ("abs", (1,)), ("exp", (2,)), ("concat", (3, 4, 5))], 6)
    assert sorted(digests(left)) == sorted(digests(right))
    assert one_to_one(left, right) is None
    assert one_to_one(left, left) == {i: i for i in range(7)}


def test_what_is_added_may_come_in_any_order() -> None:
    """An addition's operands are paired by what they are; a subtraction's are not."""
    rows = [("input", ()), ("relu", (0,)), ("tanh", (0,))]
    assert one_to_one(_graph([*rows, ("add", (1, 2))], 3), _graph([*rows, ("add", (2, 1))], 3)) is not None
    assert one_to_one(_graph([*rows, ("sub", (1, 2))], 3), _graph([*rows, ("sub", (2, 1))], 3)) is None


def test_the_order_of_layers_does_not_matter(read: Read) -> None:
    """A graph whose layers are written in any other order is the same, and is brought into one order."""
    graph = read(network())
    drawn = random.Random(5)  # noqa: S311 - a test's own choice
    for _ in range(5):
        ready, order = [i for i, layer in enumerate(graph.layers) if not layer.inputs], list[int]()
        while ready:
            order.append(ready.pop(drawn.randrange(len(ready))))
            waiting = [i for i in range(len(graph.layers)) if i not in order and i not in ready]
            ready += [i for i in waiting if set(graph.layers[i].inputs) <= set(order)]
        place = {old: new for new, old in enumerate(order)}
        moved = Graph(
            tuple(
                Layer(la.kind, tuple(place[i] for i in la.inputs), la.attributes, la.shape, la.name)
                for la in (graph.layers[i] for i in order)
            ),
            tuple(place[i] for i in graph.outputs),
        )
        assert one_to_one(graph, moved) == place
        names = [graph.layers[i].name for i in in_order(graph)]
        assert [moved.layers[i].name for i in in_order(moved)] == names


def _chain(read: Read, kernels: list[int]) -> Graph:
    net = Net(1, 4, 16, 16)
    x = "x"
    for index, kernel in enumerate(kernels):
        x = net.node("Relu", [net.conv(x, f"c{index}", 4, 4, kernel)])
    return read(net.model(x))


def test_a_missing_layer_shifts_nothing(read: Read) -> None:
    """Seven convolutions against the same without the third: each is paired with its own, the third with nothing."""
    kernels = [1, 3, 7, 5, 1, 3, 5]
    left, right = _chain(read, kernels), _chain(read, kernels[:2] + kernels[3:])
    pairs = align(left, right)
    alone = [i for i, j in pairs if j is None]
    assert [left.layers[i].kind for i in alone if i is not None] == ["conv", "relu"]
    assert left.layers[alone[0] or 0].attributes["kernel"] == (7, 7)
    paired = [(left.layers[i], right.layers[j]) for i, j in pairs if i is not None and j is not None]
    assert all(a.attributes == b.attributes for a, b in paired)
    assert len(paired) == len(right.layers)


def test_each_layer_stands_once(read: Read) -> None:
    """Whatever is aligned, every layer of both graphs is in the result exactly once."""
    left, right = read(network(extra=True)), _chain(read, [3, 1])
    pairs = align(left, right)
    assert sorted(i for i, _ in pairs if i is not None) == list(range(len(left.layers)))
    assert sorted(j for _, j in pairs if j is not None) == list(range(len(right.layers)))
