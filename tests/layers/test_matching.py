"""Pairs of a framework's values with a graph's: where names and surroundings tell one thing and numbers another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxeq.layers.likeness import Layout
from onnxeq.layers.matching import Bridge, Matched, reconciled, through
from onnxeq.layers.walking.alignment import State
from onnxeq.traces import StoredArray, Trace
from onnxeq.types import PairedBy
from tests.layers.conftest import Walk

EPSILON = 0.25


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    held: dict[str, np.ndarray] = {}
    for k in (0, 1):
        held[f"w{k}"] = rng.standard_normal((4, 4, 3, 3)).astype(np.float32)
        held |= {f"{n}{k}": rng.uniform(0.5, 2.0, 4).astype(np.float32) for n in ("scale", "shift", "mean", "var")}
    return held


def _net(folded: bool) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu; Conv, BatchNormalization and the sum of it with the Relu's result.

    Folded, the Conv takes the BatchNormalization in and keeps its own name, as torch's older exporter leaves it.
    """
    held = _weights()
    nodes = []
    for k, read, after in ((0, "x", "r0"), (1, "r0", "y")):
        made = [f"c{k}", f"n{k}"]
        if folded:
            gain = held[f"scale{k}"].astype(np.float64) / np.sqrt(held[f"var{k}"].astype(np.float64) + EPSILON)
            held[f"b{k}"] = (held[f"shift{k}"] - held[f"mean{k}"] * gain).astype(np.float32)
            held[f"w{k}"] = (held[f"w{k}"] * gain[:, None, None, None]).astype(np.float32)
            nodes.append(helper.make_node("Conv", [read, f"w{k}", f"b{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
            made[1] = f"c{k}"
        else:
            nodes.append(helper.make_node("Conv", [read, f"w{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
            norm = [f"c{k}", *(f"{n}{k}" for n in ("scale", "shift", "mean", "var"))]
            nodes.append(helper.make_node("BatchNormalization", norm, [f"n{k}"], epsilon=EPSILON))
        operands = [made[1]] if k == 0 else [made[1], "r0"]
        nodes.append(helper.make_node("Relu" if k == 0 else "Add", operands, [after]))
    return _model(nodes, held)


def _model(nodes: list[onnx.NodeProto], held: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [1, 4, 5, 5])],
        [helper.make_tensor_value_info("y", 1, [1, 4, 5, 5])],
        [numpy_helper.from_array(v, k) for k, v in held.items() if any(k in node.input for node in nodes)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _found(
    artifact: onnx.ModelProto, bridge: onnx.ModelProto, *, content: bool = True
) -> dict[str, tuple[str, PairedBy]]:
    """Pairs of an artifact with a source that made every value of the bridge; which they are needs no arrays."""
    names = [n for node in bridge.graph.node for n in node.output]
    known = Trace(Path(), {n: StoredArray(n, "float32", (), "") for n in names})
    feed = {"x": np.random.default_rng(0).standard_normal((1, 4, 5, 5)).astype(np.float32)}
    through_it = Bridge(bridge, Path(), {"x": "x"}, {"y": "y"}, feed)
    pairs = through(known, artifact, Path(), through_it, content=content)
    return {name: (row.source, row.by) for name, row in pairs.items()}


def test_a_conv_that_kept_its_name_is_what_was_folded_into_it() -> None:
    """A folded Conv named as before makes the BatchNormalization's value, whether or not the numbers are asked."""
    expected = {"c0": "n0", "r0": "r0", "c1": "n1", "y": "y"}
    for content in (False, True):
        found = _found(_net(folded=True), _net(folded=False), content=content)
        assert {name: source for name, (source, _) in found.items()} == expected


def test_a_name_that_a_folded_conv_kept_is_no_departure(walk: Walk) -> None:
    """The walk by names takes the folded Conv's value for the BatchNormalization's, and finds no fault."""
    found = walk(_net(folded=True), _net(folded=False))
    assert found.by_name
    assert not found.departures
    assert {n: c.name for n, c in found.counterparts.items()} == {
        "x": "x", "c0": "n0", "r0": "r0", "c1": "n1", "y": "y"
    }  # fmt: skip
    assert set(found.states.values()) == {State.SAME}


def test_a_folded_conv_with_another_bias_is_a_departure(walk: Walk) -> None:
    """What the name says is what a value is held against where it is not the BatchNormalization's either."""
    broken = _net(folded=True)
    bias = next(t for t in broken.graph.initializer if t.name == "b0")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.5, "b0"))
    found = walk(broken, _net(folded=False))
    assert [d.value for d in found.departures] == ["c0"]


def _branches(names: tuple[str, str], *, rewritten: bool) -> onnx.ModelProto:
    """``relu(conv(x)) + relu(conv(x))`` whose convolutions are called so; rewritten, each is twice one of half weights.

    No weight is in both graphs, and the sum does not tell its operands apart.
    """
    held = {n: a for n, a in _weights().items() if n in ("w0", "w1")}
    nodes = []
    for k, name in enumerate(names):
        if rewritten:
            held[f"half{k}"], held["two"] = held[f"w{k}"] / 2, np.array(2, np.float32)
            nodes.append(helper.make_node("Conv", ["x", f"half{k}"], [f"h{k}"], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Mul", [f"h{k}", "two"], [name]))
        else:
            nodes.append(helper.make_node("Conv", ["x", f"w{k}"], [name], pads=[1, 1, 1, 1]))
    nodes += [helper.make_node("Relu", [name], [f"relu_{name}"]) for name in names]
    nodes.append(helper.make_node("Add", [f"relu_{name}" for name in names], ["y"]))
    return _model(nodes, held)


def _row(source: str, by: PairedBy, sure: float, layouts: tuple[Layout, ...] = ()) -> Matched:
    return Matched(source, by, sure, layouts)


def test_numbers_go_before_names_and_surroundings_and_behind_structure() -> None:
    """Each rule of the reconciliation on a pair of its own."""
    turned = (Layout((2, 3), (1, 0), (3, 2)),)
    told = {
        "alike": _row("s1", PairedBy.STRUCTURE, 1.0),  # 1: stays, whatever the numbers say
        "named": _row("s2", PairedBy.NAME, 0.95),  # 2: the numbers say s3
        "same": _row("s4", PairedBy.CONTEXT, 0.8),  # 2: and the numbers, with a layout
        "lost": _row("s3", PairedBy.CONTEXT, 0.8),  # 3: the numbers find s3 elsewhere, and nothing here
        "placed": _row("s6", PairedBy.CONTEXT, 0.8),  # 3: the numbers find s6 elsewhere, and s7 by what follows
        "alone": _row("s8", PairedBy.NAME, 0.95),  # the numbers say nothing
    }
    walked = {
        "alike": _row("s0", PairedBy.VALUE, 0.95),
        "named": _row("s3", PairedBy.VALUE, 0.95),
        "same": _row("s4", PairedBy.VALUE, 0.95, turned),
        "new": _row("s6", PairedBy.VALUE, 0.95),
        "placed": _row("s7", PairedBy.CONTEXT, 0.8),
        "faulty": _row("s9", PairedBy.CONTEXT, 0.8),  # 4: fills what is open
        "second": _row("s8", PairedBy.CONTEXT, 0.8),  # 4: s8 has its place
    }
    assert reconciled(told, walked) == {
        "alike": told["alike"],
        "named": walked["named"],
        "same": _row("s4", PairedBy.CONTEXT, 0.95, turned),
        "new": walked["new"],
        "placed": walked["placed"],
        "alone": told["alone"],
        "faulty": walked["faulty"],
    }


def test_a_value_that_the_numbers_find_is_nowhere_else() -> None:
    """Without a name in common the halves have no partner, and the doubled halves have the right one."""
    found = _found(_branches(("a", "b"), rewritten=True), _branches(("p", "q"), rewritten=False))
    assert {name: source for name, (source, _) in found.items()} == {
        "a": "p", "b": "q", "relu_a": "relu_p", "relu_b": "relu_q", "y": "y"
    }  # fmt: skip
