"""The examiner of attribution, itself examined: its corpus follows from names, its proofs hold, its score is strict."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Imports a module of the corpus by name."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield lambda name: importlib.import_module(f"attribution_corpus.{name}")
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "attribution_corpus":
            del sys.modules[name]


def _network() -> onnx.ModelProto:
    """Convolution with padding, Relu twice, global average, a linear layer."""
    rng = np.random.default_rng(0)
    held = {"w": rng.standard_normal((4, 3, 3, 3)), "b": rng.standard_normal(4), "m": rng.standard_normal((5, 4)),
            "c": rng.standard_normal(5)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["z"], name="first"),
        helper.make_node("Relu", ["z"], ["v"], name="again"),
        helper.make_node("GlobalAveragePool", ["v"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "m", "c"], ["out"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def shop(load: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workshop of the small network."""
    path = tmp_path_factory.mktemp("base") / "healthy.onnx"
    onnx.save(_network(), path)
    bases = load("bases")
    base = bases.Base("small/as-is", "file", "small", "as-is")
    return load("corpus")._workshop(bases.Built(base, path, path))


def _kind(load: Any, name: str) -> Any:
    load("corpus")
    return load("faults").KINDS[name]


def test_the_corpus_is_as_large_as_it_must_be(load: Any) -> None:
    """By the plan, at least 15 base models, 35 kinds, 400 singles, 50 doubles, 200 benign variants; every exporter."""
    corpus, pairs, bases = load("corpus"), load("pairs"), load("bases")
    kinds = load("faults").KINDS
    assert {b.exporter for b in bases.BASES} == {"dynamo", "script", "unfolded", "tf2onnx", "as-is"}
    assert len({b.model for b in bases.BASES if not b.real}) >= 15
    assert {k.cause for k in kinds.values()} >= {"weights", "graph", "nondeterminism"}
    assert len(kinds) + len(load("faulty_runner").FAULTS) >= 35
    assert len(kinds) * corpus.PER_KIND >= 400
    assert pairs.DOUBLES >= 50
    assert len(load("rewrites").BENIGN) * pairs.PER_VARIANT >= 200


def test_singles_follow_from_names(load: Any, shop: Any, tmp_path: Path) -> None:
    """Built twice, every file has the same bytes and every record is the same but for its folder."""
    corpus = load("corpus")
    built = [list(corpus.singles([shop], tmp_path / k, per_kind=1)) for k in "ab"]
    assert len(built[0]) > 25
    assert len({m.expected[0].kind for m in built[0]}) == len(built[0])
    for a, b in zip(*built, strict=True):
        assert Path(a.target).read_bytes() == Path(b.target).read_bytes()
        assert dataclasses.replace(a, target="", relative=0) == dataclasses.replace(b, target="", relative=0)


def test_a_fault_is_where_its_record_says(load: Any, shop: Any, tmp_path: Path) -> None:
    """Of the weights only the named initializers differ; every named node is in the file or was in the healthy one."""
    healthy = {t.name: t.raw_data for t in shop.subject.model.graph.initializer}
    names = {n.name for n in shop.subject.model.graph.node}
    for mutant in load("corpus").singles([shop], tmp_path, per_kind=2):
        (fault,) = mutant.expected
        model = onnx.load(mutant.target)
        assert set(fault.nodes) <= names | {n.name for n in model.graph.node}
        if fault.cause == "weights":
            changed = {t.name for t in model.graph.initializer if healthy.get(t.name) != t.raw_data}
            assert changed <= set(fault.initializers), mutant.id


def test_what_changes_nothing_is_no_fault(load: Any, shop: Any) -> None:
    """Of two Relus in a row either may be missing; without both there is a fault."""
    entry, proven = _kind(load, "activation-missing"), load("corpus").proven
    model = shop.fresh()
    for fault, expected in zip(sorted(entry.find(shop.subject), key=lambda f: f.site), ("v", "z"), strict=True):
        assert fault.site == f"{expected}:0"
        alone = shop.fresh()
        fault.apply(alone, shop.rng())
        assert proven(shop, entry, alone) is None
        fault.apply(model, shop.rng())
    assert proven(shop, entry, model) is not None


def test_an_ulp_is_a_fault_of_the_weights_only(load: Any, shop: Any) -> None:
    """The last bit of a weight counts; a faint change of the graph counts when a bit of the outputs moves."""
    entry = _kind(load, "element-ulp")
    model = shop.fresh()
    next(entry.find(shop.subject)).apply(model, shop.rng())
    assert load("corpus").proven(shop, entry, model) is not None
    assert load("corpus").proven(shop, entry, shop.fresh()) is None
    assert load("corpus").proven(shop, _kind(load, "epsilon-1.1"), shop.fresh()) is None


def test_a_file_that_no_runtime_loads_is_left_out(load: Any, shop: Any) -> None:
    """A node that reads nothing that exists makes no mutant."""
    model = shop.fresh()
    model.graph.node[1].input[0] = "nowhere"
    assert load("corpus").proven(shop, _kind(load, "relu-leaky"), model) is None


def test_doubles_are_apart_and_both_matter(load: Any, shop: Any, tmp_path: Path) -> None:
    """The two places have no name in common, and there are two kinds."""
    found = list(load("pairs").doubles([shop], tmp_path, count=6))
    assert len(found) == 6
    for mutant in found:
        a, b = mutant.expected
        assert a.kind != b.kind
        assert not set(a.nodes) & set(b.nodes)
        assert not set(a.initializers) & set(b.initializers)


def test_benign_variants_compute_the_same(load: Any, shop: Any, tmp_path: Path) -> None:
    """Their outputs differ by rounding, and most are other files."""
    found = list(load("pairs").benigns([shop], tmp_path, per_kind=1))
    assert len(found) >= 20
    outputs = load("observe").outputs
    (expected,) = outputs(shop.subject.model, shop.feeds[:1])
    other = 0
    for mutant in found:
        model = onnx.load(mutant.target)
        other += model.SerializeToString() != shop.subject.model.SerializeToString()
        (got,) = outputs(model, shop.feeds[:1])
        np.testing.assert_allclose(got["out"], expected["out"], rtol=1e-4, atol=1e-4 * np.abs(expected["out"]).max())
    assert other >= 18


def test_the_faulty_runner_damages_one_node_only(load: Any, shop: Any, tmp_path: Path) -> None:
    """Values in front of the broken node are right, the node's own is damaged, the output follows from that."""
    runner = load("faulty_runner").Faulty()
    model = shop.fresh()
    for name in ("y", "z"):
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    path = tmp_path / "probed.onnx"
    onnx.save(model, path)
    options = type("Options", (), {"optimize": False, "threads": 1, "settings": {"fault": "gain", "value": "z"}})
    found = runner.open(path, options).run(shop.feeds[0])
    (right,) = load("observe").outputs(model, shop.feeds[:1])
    assert np.array_equal(found["y"], right["y"])
    np.testing.assert_allclose(found["z"], right["z"] * 1.002, rtol=1e-6)
    assert not np.array_equal(found["out"], right["out"])


def _mutant(load: Any, *faults: tuple[str, str, str]) -> Any:
    """A mutant with faults of (cause, node, initializer)."""
    corpus = load("corpus")
    expected = tuple(
        corpus.Expected("kind", cause, (), (node,) if node else (), (held,) if held else (), ("value",), "")
        for cause, node, held in faults
    )
    return corpus.Mutant("single/kind/base/0", "double" if len(faults) > 1 else "single", "base", "s", "t", expected)


def _row(load: Any, verdict: str, *causes: tuple[str, str, str]) -> Any:
    found = tuple(
        {
            "cause": c,
            "rung": "graph",
            "ratio": 9.0,
            "where": {"node": n, "initializer": i, "value": "value"},
            "evidence": "",
        }
        for c, n, i in causes
    )
    return load("score").Row("single/kind/base/0", "", verdict, found, 1.0)


@pytest.mark.parametrize(
    ("causes", "cause", "place", "first"),
    [
        ([("graph", "n", "")], True, True, True),
        ([("graph", "other", "")], True, False, False),  # the right class at a wrong place
        ([("weights", "n", "")], False, False, False),  # the right place of a wrong class
        ([("weights", "n", ""), ("graph", "n", "")], False, True, False),  # right, but behind a wrong one
        ([("graph", "", "")], True, False, False),  # the value of an output is no place
        ([], False, False, False),
    ],
)
def test_a_wrong_answer_is_scored_as_wrong(load: Any, causes: Any, cause: bool, place: bool, first: bool) -> None:
    """Class and place are judged each on its own, and the place only by causes of the right class."""
    judged = load("score").judge(_mutant(load, ("graph", "n", "i")), _row(load, "divergent", *causes))
    assert (judged.detected, judged.cause, judged.place, judged.first) == (True, cause, place, first)


def test_only_divergent_is_detected(load: Any) -> None:
    """An undecided or failed check detects nothing, whatever causes it lists."""
    for verdict in ("equivalent", "inconclusive", "error"):
        judged = load("score").judge(_mutant(load, ("graph", "n", "")), _row(load, verdict, ("graph", "n", "")))
        assert (judged.detected, judged.cause, judged.place) == (False, False, False)


def test_one_cause_is_not_two(load: Any) -> None:
    """Both faults of a double need a cause each; one that names neither counts beside them."""
    judge = load("score").judge
    double = _mutant(load, ("graph", "n", ""), ("weights", "m", "w"))
    assert judge(double, _row(load, "divergent", ("graph", "n", ""))).named == 1
    assert judge(double, _row(load, "divergent", ("graph", "n", ""), ("graph", "n", ""))).named == 1
    both = judge(double, _row(load, "divergent", ("runtime", "x", ""), ("weights", "", "w"), ("graph", "n", "")))
    assert (both.named, both.cause, both.beside) == (2, False, 1)


def test_values_count_where_nodes_have_no_names(load: Any) -> None:
    """A file without names of nodes is located by the names of values."""
    judged = load("score").judge(_mutant(load, ("graph", "", "")), _row(load, "divergent", ("graph", "", "")))
    assert judged.place


def test_the_matrix_counts_every_single_once(load: Any) -> None:
    """What was is against what was said; a benign variant called divergent is in the row ``none``."""
    corpus, score = load("corpus"), load("score")
    faulty = dataclasses.replace(_mutant(load, ("graph", "n", "")), id="a")
    benign = corpus.Mutant("b", "benign", "base", "s", "t", ())
    rows = [
        dataclasses.replace(_row(load, "divergent", ("weights", "n", "")), id="a"),
        dataclasses.replace(_row(load, "divergent", ("graph", "n", "")), id="b"),
    ]
    found = score.score([faulty, benign], rows)
    assert found.confusion == {("graph", "weights"): 1, ("none", "graph"): 1}


def test_a_runtime_fault_must_show_on_every_input(load: Any, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is right in one run of five is no site; one that is always wrong is, and tells how far it goes."""
    faults, made = load("runtime_faults"), load("faulty_runner").FAULTS
    assert 1e-3 < faults._moves(shop, "z", "gain") < 1e-2
    runs = iter(range(100))
    monkeypatch.setitem(made, "some", lambda y, x: y if next(runs) % 5 == 4 else made["gain"](y, x))
    assert faults._moves(shop, "z", "some") == 0.0
