"""Recurrent layers are read alike as operators, in either layout, and as loops; the referee is the witness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.compare.values import Same, Topic
from onnxeq.referee import Executor

from .computing import computed
from .conftest import Held, Net, Read
from .stored import File

Write = Callable[[Net], str]

_T, _IN, _HIDDEN = 6, 3, 4
_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def _whole(net: Net, *values: int) -> str:
    return net.store(f"i{len(net.stored)}", np.array(values, np.int64))


def _kernels(op_type: str, directions: int = 1, hidden: int = _HIDDEN) -> list[np.ndarray]:
    """``W``, ``R`` and ``B`` as ONNX has them."""
    rng, rows = np.random.default_rng(5), _GATES[op_type] * hidden
    shapes = [(directions, rows, _IN), (directions, rows, hidden), (directions, 2 * rows)]
    return [rng.standard_normal(s).astype(np.float32) * 0.7 for s in shapes]


def _layer(
    net: Net,
    op_type: str = "GRU",
    *,
    given: str = "sequence",
    layout: int = 0,
    direction: str = "forward",
    hidden: int = _HIDDEN,
    bias: bool = True,
    zeros: bool = False,
    **attributes: Any,
) -> str:
    """A layer over ``x[1, T, in]``: its sequence ``[1, T, hidden]`` or its last state ``[1, hidden]``."""
    held = _kernels(op_type, 2 if direction == "bidirectional" else 1, hidden)
    stored = [net.store(f"r.{i}", value) for i, value in enumerate(held[: 3 if bias else 2])]
    x = "x" if layout else net.node("Transpose", ["x"], perm=[1, 0, 2])
    inputs = [x, *stored]
    if zeros:
        shape = (1, held[1].shape[0], hidden) if layout else (held[1].shape[0], 1, hidden)
        inputs += [*([""] * (5 - len(inputs))), net.store("start", np.zeros(shape, np.float32))]
    outputs = [f"{op_type}.sequence", f"{op_type}.state"]
    if layout:
        attributes["layout"] = 1
    net.nodes.append(
        helper.make_node(op_type, inputs, outputs, name="r", hidden_size=hidden, direction=direction, **attributes)
    )
    if given == "state":
        return net.node("Reshape", [outputs[1], _whole(net, 1, hidden)])
    ways = 2 if direction == "bidirectional" else 1
    turned = net.node("Transpose", [outputs[0]], perm=[0, 1, 2, 3] if layout else [2, 0, 1, 3])
    y = net.node("Reshape", [turned, _whole(net, 1, _T, ways * hidden)])
    if given == "sequence":
        return y
    at = _T - 1 if given == "last step" else 0
    return net.node("Gather", [y, net.store("at", np.array(at))], axis=1)


def _kept(net: Net, x: str) -> str:
    return net.node("Tanh", [x])


def _net(write: Write, opset: int = 17) -> onnx.ModelProto:
    net = Net(1, _T, _IN, opset=opset)
    return net.model(_kept(net, write(net)))


def _feed() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, _T, _IN)).astype(np.float32)


def _run(model: onnx.ModelProto) -> np.ndarray:
    (value,) = Executor(model).run({"x": _feed()}).values()
    return np.asarray(value)


def _keras(op_type: str) -> tuple[list[str], list[np.ndarray]]:
    """The same numbers as Keras keeps them: names, and kernel, recurrent kernel, bias."""
    held = _kernels(op_type)
    order = {"GRU": (0, 1, 2), "LSTM": (0, 2, 3, 1), "RNN": (0,)}[op_type]  # ONNX' gates in Keras' order
    gates = [
        np.concatenate([np.split(part, _GATES[op_type], axis=0)[i] for i in order], axis=0)
        for part in (held[0][0], held[1][0], *np.split(held[2][0], 2))
    ]
    bias = np.stack(gates[2:]) if op_type == "GRU" else gates[2] + gates[3]
    return ["kernel", "again", "bias"], [gates[0].T.copy(), gates[1].T.copy(), bias]


def _turn(op_type: str) -> tuple[list[onnx.NodeProto], str, list[str]]:
    """One turn of a loop, spelled in a way of our own: its nodes, its output, the states behind it."""
    nodes: list[onnx.NodeProto] = []

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}.{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def cut(value: str) -> list[str]:
        names = [f"cut.{len(nodes)}.{i}" for i in range(_GATES[op_type])]
        nodes.append(helper.make_node("Split", [value], names, axis=-1))
        return names

    x = node("MatMul", node("Gather", "steps", "turn"), "kernel")
    h = node("MatMul", "h", "again")
    if op_type == "GRU":
        rows = ["row.0", "row.1"]
        nodes.append(helper.make_node("Split", ["bias"], rows, axis=0))
        (zx, rx, nx), (zh, rh, nh) = cut(node("Add", x, rows[0])), cut(node("Add", h, rows[1]))
        update, reset = (node("Sigmoid", node("Add", a, b)) for a, b in ((zx, zh), (rx, rh)))
        new = node("Tanh", node("Add", nx, node("Mul", reset, nh)))
        away = node("Sub", "h", new)
        state = node("Add", new, node("Mul", update, away))  # another spelling than Keras' own
        return nodes, state, [state]
    total = node("Add", node("Add", x, h), "bias")
    if op_type == "RNN":
        state = node("Tanh", total)
        return nodes, state, [state]
    entry, forget, new, out = cut(total)
    kept = node("Mul", node("Sigmoid", forget), "c")
    cell = node("Add", kept, node("Mul", node("Sigmoid", entry), node("Tanh", new)))
    state = node("Mul", node("Sigmoid", out), node("Tanh", cell))
    return nodes, state, [state, cell]


def _loop(net: Net, op_type: str, *, given: str = "sequence", wrong: bool = False) -> str:
    """A Loop over the steps with a counter, states from zeros and the weights carried along."""
    names, weights = _keras(op_type)
    steps = net.node("Transpose", ["x"], perm=[1, 0, 2])
    nodes, state, after = _turn(op_type)
    for item in nodes:
        for index, name in enumerate(item.input):
            item.input[index] = steps if name == "steps" else name
    if wrong:
        nodes.append(helper.make_node("Neg", [state], ["wrong"]))
        state, after = "wrong", ["wrong", *after[1:]]
    nodes += [
        helper.make_node("Add", ["turn", "one"], ["next"]),
        helper.make_node("Less", ["next", "end"], ["goes"]),
        helper.make_node("Identity", [state], ["step"]),
    ]
    info = helper.make_tensor_value_info
    whole, real = TensorProto.INT32, TensorProto.FLOAT
    states = ["h", "c"][: len(after)]
    body = helper.make_graph(
        nodes,
        "body",
        [info("i", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("turn", whole, []),
         *(info(s, real, [None, _HIDDEN]) for s in states),
         *(info(n, real, list(w.shape)) for n, w in zip(names, weights, strict=True))],
        [info("goes", TensorProto.BOOL, []), info("next", whole, []), *(info(a, real, None) for a in after),
         *(info(n, real, list(w.shape)) for n, w in zip(names, weights, strict=True)), info("step", real, None)],
        [numpy_helper.from_array(np.array(1, np.int32), "one"), numpy_helper.from_array(np.array(_T, np.int32), "end")],
    )  # fmt: skip
    starts = [net.store(f"start.{s}", np.zeros((1, _HIDDEN), np.float32)) for s in states]
    outer = [net.store(f"held.{n}", w) for n, w in zip(names, weights, strict=True)]
    inputs = [net.store("turns", np.array(_T)), net.store("go", np.array(True)),
              net.store("zero", np.array(0, np.int32)), *starts, *outer]  # fmt: skip
    outputs = [f"loop.{i}" for i in range(len(states) + len(outer) + 2)]
    net.nodes.append(helper.make_node("Loop", inputs, outputs, name="loop", body=body))
    if given == "state":
        return outputs[1]
    y = net.node("Transpose", [outputs[-1]], perm=[1, 0, 2])
    return y if given == "sequence" else net.node("Gather", [y, net.store("at", np.array(_T - 1))], axis=1)


def _keras_like(net: Net, op_type: str, **more: Any) -> str:
    """What the Loop computes, as the operator: of a bias with one row the other is zeros."""
    y = _layer(net, op_type, **more)
    if op_type != "GRU":
        first, second = np.split(net.stored["r.2"], 2, axis=1)
        net.stored["r.2"] = np.concatenate([first + second, np.zeros_like(second)], axis=1)
    return y


SAME: dict[str, tuple[Write, Write]] = {
    "items first": (lambda n: _layer(n), lambda n: _layer(n, layout=1)),
    "items first, last state": (lambda n: _layer(n, given="state"), lambda n: _layer(n, given="state", layout=1)),
    "the last step": (lambda n: _layer(n, given="state"), lambda n: _layer(n, given="last step")),
    "the last step of the reverse direction": (
        lambda n: _layer(n, given="state", direction="reverse"),
        lambda n: _layer(n, given="first step", direction="reverse"),
    ),
    "an initial state of zeros": (lambda n: _layer(n, "LSTM"), lambda n: _layer(n, "LSTM", zeros=True)),
    "both directions, items first": (
        lambda n: _layer(n, "LSTM", direction="bidirectional"),
        lambda n: _layer(n, "LSTM", direction="bidirectional", layout=1),
    ),
    "activations that are the usual ones": (
        lambda n: _layer(n),
        lambda n: _layer(n, activations=["Sigmoid", "Tanh"]),
    ),
    "a loop for a GRU": (lambda n: _layer(n, linear_before_reset=1), lambda n: _loop(n, "GRU")),
    "a loop for a GRU's last step": (
        lambda n: _layer(n, linear_before_reset=1, given="state"),
        lambda n: _loop(n, "GRU", given="last step"),
    ),
    "a loop for a GRU's last state": (
        lambda n: _layer(n, linear_before_reset=1, given="last step"),
        lambda n: _loop(n, "GRU", given="state"),
    ),
    "a loop for an LSTM": (lambda n: _keras_like(n, "LSTM"), lambda n: _loop(n, "LSTM")),
    "a loop for an RNN": (lambda n: _keras_like(n, "RNN"), lambda n: _loop(n, "RNN")),
}


@pytest.mark.parametrize("name", SAME)
def test_another_spelling_is_the_same_layer(name: str, held: Held, read: Read, tmp_path: Path) -> None:
    """Both give the same numbers in float64 and are called equivalent: one layer and what is behind it. What those
    compute, by what they say and with the weights where they tell them to lie, is what the file computes.
    """
    a, b = (_net(write) for write in SAME[name])
    np.testing.assert_allclose(_run(a), _run(b), rtol=0, atol=2e-6)
    pair = held(a, b)
    assert pair.same in (Same.EQUIVALENT, Same.IDENTICAL), [d.sentence for d in pair.differences]
    for model in (a, b):
        onnx.save(model, tmp_path / "net.onnx")
        made = computed(read(model), File(tmp_path / "net.onnx"), _feed())
        np.testing.assert_allclose(made.reshape(-1), _run(model).reshape(-1), rtol=0, atol=1e-9)
    kinds = [layer.kind for layer in read(b).layers]
    assert kinds[0] == "input"
    assert kinds[1] in ("gru", "lstm", "rnn")
    assert set(kinds[2:]) <= {"tanh", "reshape"}


OTHER: dict[str, tuple[Write, Write, list[str]]] = {
    "linear before reset": (lambda n: _layer(n), lambda n: _layer(n, linear_before_reset=1),
        ["the GRU resets before the recurrent product in A and behind the recurrent product in B"]),
    "hidden size": (lambda n: _layer(n), lambda n: _layer(n, hidden=5),
        ["the GRU has a hidden size of 4 in A and a hidden size of 5 in B"]),
    "direction": (lambda n: _layer(n), lambda n: _layer(n, direction="reverse"),
        ["the GRU runs forward in A and reverse in B"]),
    "given": (lambda n: _layer(n), lambda n: _layer(n, given="state"),
        ["the GRU gives the whole sequence in A and the last state in B"]),
    "activations": (lambda n: _layer(n), lambda n: _layer(n, activations=["HardSigmoid", "Tanh"]),
        ["the GRU has the activations sigmoid, tanh in A and the activations hardsigmoid, tanh in B"]),
    "bias": (lambda n: _layer(n), lambda n: _layer(n, bias=False), ["the GRU has a bias in A and none in B"]),
    "kind": (lambda n: _layer(n), lambda n: _layer(n, "RNN"), ["at the size of the input: 1 GRU in A; 1 RNN in B"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_another_layer_is_told(name: str, held: Held) -> None:
    """One thing changed: the words say which thing."""
    first, second, wanted = OTHER[name]
    pair = held(_net(first), _net(second))
    assert pair.same is Same.DIFFERENT
    told = [d.sentence for d in pair.differences if d.topic in (Topic.RECURRENT, Topic.BIAS, Topic.LAYERS)]
    assert told == wanted


def test_the_figures_of_a_layer(read: Read) -> None:
    """Three gates of ``hidden * (in + hidden)`` products at each step, and the numbers of W, R and B; the last state
    costs as many.
    """
    for given in ("sequence", "state"):
        layer = read(_net(lambda n, given=given: _layer(n, given=given))).layers[1]  # type: ignore[misc]
        assert layer.macs == _T * 3 * _HIDDEN * (_IN + _HIDDEN)
        assert layer.parameters == 3 * _HIDDEN * (_IN + _HIDDEN + 2)


@pytest.mark.parametrize("op_type", ["GRU", "LSTM", "RNN"])
def test_a_loops_weights_lie_as_the_operators(op_type: str, read: Read, tmp_path: Path) -> None:
    """Kernels of a Loop, gate by gate in ONNX' order, are the operator's number by number."""
    files = []
    for index, write in enumerate((lambda n: _layer(n, op_type), lambda n: _loop(n, op_type))):
        model, path = _net(write), tmp_path / f"{index}.onnx"
        onnx.save(model, path)
        files.append(File(path).of_layer(read(model).layers[1]))
    first, second = files
    for role in ("weight", "recurrent weight"):
        np.testing.assert_array_equal(first[role], second[role])
    if op_type == "GRU":
        np.testing.assert_array_equal(first["bias"], second["bias"])
    else:  # one row for both
        np.testing.assert_allclose(first["bias"].reshape(2, -1).sum(0), second["bias"], rtol=1e-6)


def test_a_loop_that_computes_something_else_stays_one(held: Held, read: Read) -> None:
    """A body whose new state has the other sign is no GRU, however alike its nodes are."""
    model = _net(lambda n: _loop(n, "GRU", wrong=True))
    assert "Loop" in {layer.kind for layer in read(model).layers}
    assert held(model, _net(lambda n: _layer(n, linear_before_reset=1))).same is Same.DIFFERENT


@pytest.mark.parametrize("op_type", ["Slice", "Squeeze", "Softmax", "ReduceMean", "Transpose", "Gather", "Split"])
def test_a_tensor_of_unknown_rank_stops_no_reading(op_type: str, read: Read) -> None:
    """Behind a domain that nobody knows the shape is unknown: the operator is a layer of its own kind."""
    net = Net(1, 4, 6, opset=13)
    net.nodes.append(helper.make_node("Unheard", ["x"], ["y"], domain="of.somebody"))
    more = {"Slice": [_whole(net, 0), _whole(net, 1), _whole(net, 1)], "Squeeze": [_whole(net, 0)],
            "Gather": [net.store("at", np.array(0))]}  # fmt: skip
    model = net.model(net.node(op_type, ["y", *more.get(op_type, [])]))
    model.opset_import.append(helper.make_opsetid("of.somebody", 1))
    kinds = [layer.kind for layer in read(model).layers]
    assert kinds == ["input", "of.somebody::Unheard", op_type]
