"""Pairs of values of two graphs that differ in a known way: every pair is known beforehand."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from onnxeq.layers.pairing.pairs import Pair, pair_graphs
from onnxeq.types import PairedBy

Edit = Callable[[onnx.GraphProto], None]


def graph(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """``x: float[N,8]`` to ``y: float[N,8]`` by these nodes, each on a line."""
    body = "\n".join(line.strip() for line in text.strip().splitlines())
    head = '<ir_version: 10, opset_import: ["" : 20]> main (float[N,8] x) => (float[N,8] y)'
    model = parser.parse_model(f"{head} {{ {body} }}")
    model.graph.initializer.extend(numpy_helper.from_array(w, name) for name, w in weights.items())
    return model


def weights(*names: str) -> dict[str, np.ndarray]:
    """Distinct weights ``float32[8,8]``."""
    return {n: np.random.default_rng(i).standard_normal((8, 8)).astype(np.float32) for i, n in enumerate(names)}


CHAIN = """
a1 = MatMul(x, w1)
r1 = Relu(a1)
a2 = MatMul(r1, w2)
r2 = Relu(a2)
a3 = MatMul(r2, w3)
r3 = Relu(a3)
a4 = MatMul(r3, w4)
y = Softmax(a4)
"""
INNER = ("a1", "r1", "a2", "r2", "a3", "r3", "a4")


def chain() -> onnx.ModelProto:
    """Four layers with a Relu between them and a Softmax behind."""
    return graph(CHAIN, **weights("w1", "w2", "w3", "w4"))


def renamed(model: onnx.ModelProto, seed: int = 0) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The same with new names for inner values, in another valid order; and the old name of each new one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    draw = random.Random(seed)  # noqa: S311 - any order will do
    ends = {v.name for v in (*copy.graph.input, *copy.graph.output)}
    inner = [n for node in copy.graph.node for n in node.output if n not in ends]
    inner += [t.name for t in copy.graph.initializer]
    new = {name: f"v{i}" for i, name in enumerate(draw.sample(inner, len(inner)))}
    for node in copy.graph.node:
        node.input[:] = [new.get(n, n) for n in node.input]
        node.output[:] = [new.get(n, n) for n in node.output]
        node.name = ""
    for tensor in copy.graph.initializer:
        tensor.name = new[tensor.name]
    left = list(copy.graph.node)
    known = {"", *ends, *(t.name for t in copy.graph.initializer)} - {v.name for v in copy.graph.output}
    del copy.graph.node[:]
    while left:
        ready = [n for n in left if set(n.input) <= known]
        node = draw.choice(ready)
        left.remove(node)
        known |= set(node.output)
        copy.graph.node.append(node)
    return copy, {b: a for a, b in new.items()}


def node_of(g: onnx.GraphProto, value: str) -> onnx.NodeProto:
    """The node that makes a value."""
    return next(n for n in g.node if value in n.output)


def other_weight(name: str) -> Edit:
    """Adds one to a weight's first element."""

    def edit(g: onnx.GraphProto) -> None:
        tensor = next(t for t in g.initializer if t.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[0] += 1
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return edit


def without(value: str) -> Edit:
    """Takes the node out that makes a value; its readers read what it read."""

    def edit(g: onnx.GraphProto) -> None:
        node = node_of(g, value)
        g.node.remove(node)
        for reader in g.node:
            reader.input[:] = [node.input[0] if n == value else n for n in reader.input]

    return edit


def replaced(value: str, op_type: str) -> Edit:
    """Another operator with the same operands."""

    def edit(g: onnx.GraphProto) -> None:
        node_of(g, value).op_type = op_type

    return edit


def inserted(value: str, op_type: str) -> Edit:
    """A node of one operand behind a value, read by all its readers."""

    def edit(g: onnx.GraphProto) -> None:
        position = next(i for i, n in enumerate(g.node) if value in n.output) + 1
        for reader in g.node:
            reader.input[:] = ["extra" if n == value else n for n in reader.input]
        g.node.insert(position, helper.make_node(op_type, [value], ["extra"]))

    return edit


def edited(model: onnx.ModelProto, *edits: Edit) -> onnx.ModelProto:
    """A copy with faults in it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for edit in edits:
        edit(copy.graph)
    return copy


def paired(source: onnx.ModelProto, target: onnx.ModelProto) -> dict[str, Pair]:
    """The pairs, with inputs and outputs under their own names."""
    inputs = {v.name: v.name for v in source.graph.input}
    return pair_graphs(source, target, inputs, {v.name: v.name for v in source.graph.output})


def blind(source: onnx.ModelProto, target: onnx.ModelProto) -> dict[str, str]:
    """The target's inner values, by the name that they had before every name was taken away, and their partners."""
    nameless, old = renamed(target)
    return {old.get(n, n): p.source for n, p in paired(source, nameless).items()}


def itself(names: Mapping[str, str] | tuple[str, ...]) -> dict[str, str]:
    """Every name with itself."""
    return {name: name for name in names}


def test_identical_graphs_are_paired_by_structure() -> None:
    """Every value of a graph is computed as in the same graph."""
    found = paired(chain(), chain())
    assert {n: found[n] for n in (*INNER, "y")} == {n: Pair(n, PairedBy.STRUCTURE, 1.0) for n in (*INNER, "y")}


def test_neither_names_nor_order_count() -> None:
    """With every inner name new and the nodes in another order, all is paired as before, and by structure."""
    nameless, old = renamed(chain(), seed=3)
    found = paired(chain(), nameless)
    assert {old[n]: p.source for n, p in found.items() if n in old} == itself(INNER)
    assert {p.by for n, p in found.items() if n in old} == {PairedBy.STRUCTURE}


FAULTS: dict[str, tuple[Edit, ...]] = {
    "a weight": (other_weight("w2"),),
    "another operator": (replaced("r2", "Sigmoid"),),
    "two weights in series": (other_weight("w1"), other_weight("w4")),
    "every weight": tuple(other_weight(f"w{i}") for i in range(1, 5)),
    "a weight, then another operator": (other_weight("w1"), replaced("r3", "Sigmoid")),
    "two other operators, and a weight between them": (
        replaced("r1", "Tanh"),
        other_weight("w3"),
        replaced("r3", "Tanh"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_around_a_fault_everything_is_paired(name: str) -> None:
    """Whatever is wrong with a node, each of the values keeps its partner, without any name."""
    assert blind(chain(), edited(chain(), *FAULTS[name])) == itself(("x", *INNER, "y"))


def test_behind_a_fault_values_are_paired_by_what_becomes_of_them() -> None:
    """What is behind the one changed weight is paired by structure, too, a little less surely."""
    nameless, old = renamed(edited(chain(), other_weight("w2")))
    found = {old[n]: p for n, p in paired(chain(), nameless).items() if n in old}
    assert [found[n].confidence for n in INNER] == [1.0, 1.0, 0.99, 0.99, 0.99, 0.99, 0.99]
    assert {p.by for p in found.values()} == {PairedBy.STRUCTURE}


def test_between_two_faults_context_pairs() -> None:
    """Between two changed weights no hash is equal; what is unchanged there is next to pairs."""
    nameless, old = renamed(edited(chain(), other_weight("w1"), other_weight("w4")))
    found = {old[n]: p for n, p in paired(chain(), nameless).items() if n in old}
    assert {found[n].by for n in INNER[:-1]} == {PairedBy.CONTEXT}
    assert {found[n].confidence for n in INNER[1:6]} == {0.9}


def test_an_attribute_is_no_name() -> None:
    """A Softmax over another axis, with another weight before it, stays the Softmax."""
    model = graph(
        CHAIN.replace("Softmax(a4)", "Relu(s)").replace("y =", "s = Softmax(a4)\ny ="),
        **weights("w1", "w2", "w3", "w4"),
    )

    def axis(g: onnx.GraphProto) -> None:
        node_of(g, "s").attribute.append(helper.make_attribute("axis", 0))

    assert blind(model, edited(model, axis, other_weight("w1"))) == itself(("x", *INNER, "s", "y"))


def test_an_attribute_at_its_default_says_nothing() -> None:
    """Softmax and Softmax with axis -1, which is the default, are one operator."""
    explicit = chain()
    node_of(explicit.graph, "y").attribute.append(helper.make_attribute("axis", -1))
    assert paired(chain(), explicit)["y"] == Pair("y", PairedBy.STRUCTURE, 1.0)


@pytest.mark.parametrize(
    "faults", [(), (other_weight("w1"), other_weight("w4")), (other_weight("w2"), other_weight("w3"))]
)
def test_a_missing_node_leaves_its_neighbours_paired(faults: tuple[Edit, ...]) -> None:
    """Without one Relu, all else is paired, whether or not weights are wrong on both sides of it."""
    kept = tuple(n for n in INNER if n != "r2")
    assert blind(chain(), edited(chain(), without("r2"), *faults)) == itself(("x", *kept, "y"))


@pytest.mark.parametrize(
    "faults", [(), (other_weight("w1"), other_weight("w4")), (other_weight("w2"), other_weight("w3"))]
)
def test_an_extra_node_has_no_partner(faults: tuple[Edit, ...]) -> None:
    """With one Tanh too many, all else is paired and the Tanh is not."""
    target = edited(chain(), inserted("r2", "Tanh"), *faults)
    assert blind(chain(), target) == itself(("x", *INNER, "y"))


def test_a_whole_layer_missing_shifts_nothing() -> None:
    """Without the second layer, the third is not taken for it: its weights say which it is."""
    target = edited(chain(), without("r2"), without("a2"), other_weight("w1"), replaced("y", "LogSoftmax"))
    found = blind(chain(), target)
    assert {n: found[n] for n in ("a3", "r3", "a4")} == itself(("a3", "r3", "a4"))


BRANCHES = """
a1 = MatMul(x, {0})
r1 = Relu(a1)
b1 = MatMul(x, {1})
r2 = Relu(b1)
a2 = MatMul(r1, {2})
b2 = MatMul(r2, {3})
j = Concat <axis = 1> (a2, b2)
y = MatMul(j, last)
"""


def branches(*names: str) -> onnx.ModelProto:
    """Two branches, joined in order."""
    last = np.ones((16, 8), np.float32)
    return graph(BRANCHES.format(*names), last=last, **weights("u", "v", "w"))


@pytest.mark.parametrize(
    "used", [("w", "u", "v", "v"), ("u", "w", "v", "v"), ("u", "u", "w", "v"), ("u", "u", "v", "w")]
)
def test_equal_branches_are_not_crossed(used: tuple[str, ...]) -> None:
    """Two branches with the same weights, one of them wrong: each is paired with the one in its place."""
    values = ("x", "a1", "r1", "b1", "r2", "a2", "b2", "j", "y")
    assert blind(branches("u", "u", "v", "v"), branches(*used)) == itself(values)


def test_duplicates_are_paired_with_what_computes_the_same() -> None:
    """What a tool has merged, or doubled, is one value: several may stand for it."""
    once = graph("a = Relu(x)\ny = Add(a, a)")
    twice = graph("a = Relu(x)\nb = Relu(x)\ny = Add(a, b)")
    assert {n: p.source for n, p in paired(once, twice).items()} == {"x": "x", "a": "a", "b": "a", "y": "y"}
    assert {n: p.by for n, p in paired(twice, once).items() if n != "x"} == {
        "a": PairedBy.STRUCTURE,
        "y": PairedBy.STRUCTURE,
    }


def test_identity_and_inference_dropout_are_looked_through() -> None:
    """An Identity or a Dropout between two nodes changes no pair, and is paired with what it hands on."""
    target = edited(chain(), inserted("r2", "Identity"), other_weight("w1"), other_weight("w4"))
    found = paired(chain(), target)
    assert found["extra"].source == "r2"
    assert {n: found[n].source for n in INNER} == itself(INNER)
    found = paired(chain(), edited(chain(), inserted("r2", "Dropout")))
    assert found["extra"] == Pair("r2", PairedBy.STRUCTURE, 1.0)
    assert found["y"] == Pair("y", PairedBy.STRUCTURE, 1.0)


def test_names_that_lie_are_not_believed() -> None:
    """With the names of two layers exchanged, structure decides, and with wrong weights around, context."""
    swap = {"a2": "a3", "a3": "a2", "r2": "r3", "r3": "r2"}

    def lie(g: onnx.GraphProto) -> None:
        for node in g.node:
            node.input[:] = [swap.get(n, n) for n in node.input]
            node.output[:] = [swap.get(n, n) for n in node.output]

    for faults in ((), (other_weight("w1"), other_weight("w4"))):
        found = paired(chain(), edited(chain(), *faults, lie))
        assert {n: found[n].source for n in INNER} == {n: swap.get(n, n) for n in INNER}


def test_a_name_decides_between_equals() -> None:
    """Two branches whose weights are all wrong, added up: nothing but the names tells them apart."""
    text = "a = MatMul(x, u)\nb = MatMul(x, v)\ns = Add(b, a)\ny = Relu(s)"
    source = graph(text, **weights("u", "v"))
    target = edited(source, other_weight("u"), other_weight("v"))
    found = paired(source, target)
    assert (found["a"], found["b"]) == (Pair("a", PairedBy.NAME, 0.95), Pair("b", PairedBy.NAME, 0.95))
    assert set(blind(source, target)) == {"x", "s", "y"}


def test_names_that_count_up_decide_nothing() -> None:
    """The same branches, where the value before them has another name: an exporter has counted anew."""
    text = "n0 = Abs(x)\nn1 = MatMul(n0, u)\nn2 = MatMul(n0, v)\ns = Add(n2, n1)\ny = Relu(s)"
    source = graph(text, **weights("u", "v"))
    again = text.replace("n2", "n3").replace("n1", "n2").replace("n0", "n1").replace("s ", "t ").replace("(s", "(t")
    target = edited(graph(again, **weights("u", "v")), other_weight("u"), other_weight("v"))
    assert {n: p.source for n, p in paired(source, target).items()} == {"x": "x", "n1": "n0", "t": "s", "y": "y"}


def test_a_sum_is_the_same_both_ways() -> None:
    """Operands of an Add may change places, those of a Sub may not."""
    text = "a = Abs(x)\nb = Neg(x)\ny = {}"
    source = graph(text.format("Add(a, b)"))
    assert paired(source, graph(text.format("Add(b, a)")))["y"] == Pair("y", PairedBy.STRUCTURE, 1.0)
    source = graph(text.format("Sub(a, b)"))
    assert paired(source, graph(text.format("Sub(b, a)")))["y"].by is PairedBy.NAME


def test_the_node_behind_a_missing_one_is_found_from_above() -> None:
    """What follows a missing node is next to a pair through it, also where below all weights are wrong."""
    text = "{}a = MatMul({}, u)\nb = MatMul(a, v)\nc = MatMul(b, w)\ns = Add(c, a)\nt = Mul(s, b)\ny = Softmax(t)"
    source = graph(text.format("n = Neg(x)\n", "n"), **weights("u", "v", "w"))
    target = edited(graph(text.format("", "x"), **weights("u", "v", "w")), *map(other_weight, "uvw"))
    target = edited(target, replaced("s", "Sub"), replaced("t", "Div"))
    found = blind(source, target)
    assert found["a"] == "a"
    assert all(found[n] == n for n in found)


def test_exchanged_weights_do_not_exchange_their_nodes() -> None:
    """Two layers with each other's weights are in their places, with the wrong weights."""

    def crossed(g: onnx.GraphProto) -> None:
        node_of(g, "a2").input[1], node_of(g, "a3").input[1] = "w3", "w2"

    assert blind(chain(), edited(chain(), crossed)) == itself(("x", *INNER, "y"))
    assert blind(chain(), edited(chain(), crossed, other_weight("w4"))) == itself(("x", *INNER, "y"))


def conv(name: str, read: str, weight: str, bias: str = "") -> str:
    """A line that makes ``name`` by a Conv."""
    return f"{name} = Conv({read}, {weight}{', ' + bias if bias else ''})"


def test_a_folded_batch_norm_is_part_of_its_conv() -> None:
    """A Conv that BatchNormalization was folded into makes what the BatchNormalization made."""
    rng = np.random.default_rng(0)
    w = {n: rng.standard_normal((8, 8, 1, 1)).astype(np.float32) for n in ("w1", "w2")}
    b = {n: rng.standard_normal(8).astype(np.float32) ** 2 for n in ("s1", "b1", "m1", "v1", "s2", "b2", "m2", "v2")}
    lines = []
    for i, read in ((1, "x"), (2, "r1")):
        lines += [conv(f"c{i}", read, f"w{i}"), f"n{i} = BatchNormalization(c{i}, s{i}, b{i}, m{i}, v{i})"]
        lines += [f"r{i} = Relu(n{i})"]
    source = graph("\n".join([*lines, "y = Neg(r2)"]), **w, **b)
    lines = [conv("k1", "x", "w1", "b1"), "q1 = Relu(k1)", conv("k2", "q1", "w2", "b2"), "q2 = Relu(k2)"]
    folded = graph(
        "\n".join([*lines, "y = Neg(q2)"]),
        **{n: 2 * a for n, a in w.items()}, b1=b["b1"], b2=b["b2"],
    )  # fmt: skip
    expected = {"x": "x", "k1": "n1", "q1": "r1", "k2": "n2", "q2": "r2", "y": "y"}
    assert {n: p.source for n, p in paired(source, folded).items()} == expected
    back = {n: p.source for n, p in paired(folded, source).items() if n not in ("c1", "c2")}
    assert back == {b: a for a, b in expected.items()}


def test_subgraphs_count_by_what_they_compute() -> None:
    """Two If nodes are the same when their branches are, under any names; not when a branch captures another value."""
    text = """
    a = Relu(x)
    b = Neg(x)
    c = Cast <to = 9> (m)
    y = If (c) <
    then_branch = g () => (float[N,8] {0}) {{ {0} = Abs({1}) }},
    else_branch = h () => (float[N,8] e) {{ e = Add(a, b) }}
    >
    """
    one = np.ones((), np.float32)
    source = graph(text.format("t", "a"), m=one)
    assert paired(source, graph(text.format("u", "a"), m=one))["y"] == Pair("y", PairedBy.STRUCTURE, 1.0)
    assert paired(source, graph(text.format("u", "b"), m=one))["y"].by is PairedBy.NAME


def test_constants_count_by_content(tmp_path: Path) -> None:
    """A Constant node, an initializer and external data with the same numbers are the same."""
    source = chain()
    target = chain()
    node = helper.make_node("Constant", [], ["w1"], value=target.graph.initializer[0])
    del target.graph.initializer[0]
    target.graph.node.insert(0, node)
    onnx.save(target, tmp_path / "m.onnx", save_as_external_data=True, location="d", size_threshold=0)
    target = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    ends = {"x": "x"}, {"y": "y"}
    found = pair_graphs(source, target, *ends, target_dir=tmp_path)
    assert {found[n].confidence for n in INNER} == {1.0}
    assert "w1" not in found


def test_two_thousand_nodes_take_a_second() -> None:
    """A chain of 2,000 nodes in which every second weight is wrong is paired in about linear time."""
    lines, stored, last = [], {}, "x"
    for i in range(1000):
        lines += [f"m{i} = Mul({last}, k{i})", f"t{i} = Tanh(m{i})"]
        stored[f"k{i}"] = np.full(8, 1 + i / 1000, np.float32)
        last = f"t{i}"
    source = graph("\n".join([*lines, f"y = Neg({last})"]), **stored)
    target = edited(source, *(other_weight(f"k{i}") for i in range(0, 1000, 2)))
    for node in target.graph.node:
        node.input[:] = [f"q{n}" if n[0] in "mt" else n for n in node.input]
        node.output[:] = [f"q{n}" if n[0] in "mt" else n for n in node.output]
    begin = time.process_time()
    found = paired(source, target)
    spent = time.process_time() - begin
    assert {n.removeprefix("q"): p.source for n, p in found.items()} == itself(tuple(p.source for p in found.values()))
    assert len(found) == 2002
    assert spent < 5
