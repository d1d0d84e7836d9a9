"""Cells of one framework in another one's loop: the order of the gates."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.types import Array
from onnxeq.weights.match import match
from onnxeq.weights.types import EntryStatus

ORDER = [1, 0, 2]
"""Keras' gates by their number in torch."""


def _native() -> dict[str, Array]:
    """A GRU of torch: 5 inputs, 4 units."""
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (12, 5), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}
    return {f"gru.{name}": rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _turned(value: Array, order: list[int]) -> Array:
    return value.reshape(3, 4, *value.shape[1:])[order].reshape(value.shape)


def _artifact(kernel: Array, recurrent: Array, bias: Array) -> onnx.ModelProto:
    """``x @ kernel + bias[0]`` and ``h @ recurrent + bias[1]``, as a step of a loop has them."""
    held = {"kernel": kernel, "recurrent": recurrent, "first": bias[0], "second": bias[1]}
    nodes = [
        helper.make_node("MatMul", ["x", "kernel"], ["a"]),
        helper.make_node("Add", ["a", "first"], ["y"]),
        helper.make_node("MatMul", ["h", "recurrent"], ["b"]),
        helper.make_node("Add", ["b", "second"], ["z"]),
    ]
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "h", "y", "z")}
    graph = helper.make_graph(
        nodes, "step", [values["x"], values["h"]], [values["y"], values["z"]],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _of(native: dict[str, Array], orders: list[list[int]]) -> onnx.ModelProto:
    turned = [_turned(v, order) for v, order in zip(native.values(), orders, strict=True)]
    return _artifact(turned[0].T, turned[1].T, np.stack(turned[2:]))


def test_one_order_for_a_whole_cell_is_accounted_for() -> None:
    """Torch's reset, update, new stand as update, reset, new in both kernels and both biases: nothing is wrong."""
    native = _native()
    ledger = match(native, _of(native, [ORDER] * 4))
    assert [e.transform for e in ledger.entries] == ["gates (1, 0, 2)"] * 4
    assert (ledger.natives_accounted, ledger.initializers_accounted) == (4, 4)
    assert not ledger.faults


@pytest.mark.parametrize("odd", [0, 1, 2, 3])
def test_another_order_in_one_of_them_is_a_near_miss(odd: int) -> None:
    """One tensor that keeps torch's order, or takes a third one, beside three in Keras' is no cell's order."""
    native = _native()
    for other in ([0, 1, 2], [2, 0, 1]):
        orders = [ORDER] * 4
        orders[odd] = other
        ledger = match(native, _of(native, orders))
        assert any(e.status is EntryStatus.NEAR_MISS for e in ledger.entries)


def _packed(native: dict[str, Array], recurrent: list[int]) -> onnx.ModelProto:
    """A GRU node as torch's exporter writes it: the input weight is packed, the graph orders the recurrent one."""
    kernel = native["gru/kernel"].T
    pieces = native["gru/recurrent_kernel"].T.reshape(3, 4, 4)[recurrent].reshape(12, 4)
    held = {
        "w": kernel[None],
        "r": pieces,
        "b": native["gru/bias"].reshape(1, -1),
        "rows": np.array([0]),
    }
    nodes = [helper.make_node("Split", ["r"], ["first", "second", "third"], axis=0, num_outputs=3)]
    names = [["first", "second", "third"][recurrent.index(gate)] for gate in range(3)]
    nodes += [
        helper.make_node("Concat", names, ["joined"], axis=0),
        helper.make_node("Unsqueeze", ["joined", "rows"], ["whole"]),
        helper.make_node("GRU", ["x", "w", "whole", "b"], ["y", ""], hidden_size=4, linear_before_reset=1),
    ]
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")}
    weights = [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in held.items()]
    graph = helper.make_graph(nodes, "net", [values["x"]], [values["y"]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_what_the_graph_puts_in_order_is_accounted_for() -> None:
    """A Keras cell whose recurrent kernel alone is in torch's order, behind Split and Concat: nothing is wrong."""
    rng = np.random.default_rng(1)
    shapes = {"gru/kernel": (5, 12), "gru/recurrent_kernel": (4, 12), "gru/bias": (2, 12)}
    native = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    ledger = match(native, _packed(native, ORDER))
    assert not ledger.faults
    assert ledger.of("r").transform == "gates (1, 0, 2)"  # type: ignore[union-attr]


def test_biases_of_zero_are_in_any_order() -> None:
    """What is the same in every order does not speak against the order of the rest."""
    native = _native() | {name: np.zeros(12, np.float32) for name in ("gru.bias_ih_l0", "gru.bias_hh_l0")}
    assert not match(native, _of(native, [ORDER] * 4)).faults
