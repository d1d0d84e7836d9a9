"""Recurrent layers, quantisation and control flow."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .builder import Builder, Value

__all__ = ["branch", "loop", "quantized", "recurrent", "scan"]


def recurrent(b: Builder) -> Any:
    """``LSTM``, ``GRU``, ``RNN`` with the options of the specification."""
    op = b.choice(("LSTM", "GRU", "RNN"))
    x = b.pick(3, 3)
    steps, batch, size = x.shape
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    direction = b.choice((None, "reverse", "bidirectional"))
    ways = 2 if direction == "bidirectional" else 1
    hidden = b.integer(1, 4)
    scale = b.choice((0.5, 0.2))
    w = b.constant(b.healthy((ways, gates * hidden, size), scale))
    r = b.constant(b.healthy((ways, gates * hidden, hidden), scale))
    inputs: list[Value | None] = [x, w, r]
    inputs.append(b.constant(b.healthy((ways, 2 * gates * hidden), scale)) if b.flag() else None)
    lengths = b.rng().integers(1, steps + 1, batch).astype(np.int32)
    inputs.append(b.supply(lengths) if b.integer(0, 2) == 2 else None)
    inputs.append(b.supply(b.healthy((ways, batch, hidden), scale)) if b.flag() else None)
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op == "LSTM":
        inputs.append(b.supply(b.healthy((ways, batch, hidden), scale)) if b.flag() else None)
        inputs.append(b.constant(b.healthy((ways, 3 * hidden), scale)) if b.flag() else None)
        attributes["input_forget"] = b.choice((None, 1))
    if op == "GRU":
        attributes["linear_before_reset"] = b.choice((None, 1))
    if b.integer(0, 3) == 3:
        attributes["clip"] = 1.5
    if b.integer(0, 3) == 3:
        per = {"LSTM": ["Sigmoid", "Tanh", "Relu"], "GRU": ["Sigmoid", "Softsign"], "RNN": ["Relu"]}[op]
        attributes["activations"] = per * ways
    return b.node(op, inputs, 3 if op == "LSTM" else 2, **attributes)


def quantized(b: Builder) -> Any:
    """``QuantizeLinear`` and ``DequantizeLinear``, per tensor and (from opset 13) per axis."""
    if b.opset < 10:
        return None
    x = b.pick(1, 4)
    kind = b.choice((np.uint8, np.int8))
    if b.opset >= 13 and b.flag():
        axis = b.integer(0, x.rank - 1)
        shape: tuple[int, ...] = (x.shape[axis],)
    else:
        axis, shape = 1, ()
    scale = b.constant(np.abs(b.healthy(shape, 0.3)) + 0.02, np.float32)
    zero = b.constant(b.rng().integers(0, 100, shape), kind)
    extra: dict[str, Any] = {"axis": axis} if b.opset >= 13 else {}
    if b.flag():
        raw = b.supply(b.rng().integers(0, 127, x.shape).astype(kind))
        return b.node("DequantizeLinear", [raw, scale, zero if b.flag() else None], **extra)
    made = b.node("QuantizeLinear", [x, scale, zero], **extra)
    return made and b.node("DequantizeLinear", [made[0], scale, zero], **extra)


def _body(b: Builder, x: Value, source: str, count: int) -> tuple[list[Any], str, list[Value]]:
    """A chain of small nodes from ``source``, shaped like ``x``, which may read outer values."""
    nodes, outer, name = [], [], source
    for _ in range(count):
        target = b.name("s")
        op = b.choice(("Tanh", "Add", "Mul", "Neg", "Sigmoid", "Sub"))
        if op in ("Tanh", "Neg", "Sigmoid"):
            nodes.append(helper.make_node(op, [name], [target]))
        else:
            other = b.supply(b.healthy((1,) * b.integer(0, min(1, x.rank)), 0.5))
            outer.append(other)
            nodes.append(helper.make_node(op, [name, other.name], [target]))
        name = target
    return nodes, name, outer


def branch(b: Builder) -> Any:
    """``If`` on a fed or computed boolean; both branches read outer values."""
    x = b.pick(0, 4)
    condition = b.supply(np.array(b.flag()))
    graphs, captured = {}, [x]
    for side in ("then_branch", "else_branch"):
        nodes, name, outer = _body(b, x, x.name, b.integer(1, 3))
        captured += outer
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        graphs[side] = helper.make_graph(nodes, side, [], [out])
    return b.node("If", [condition], captured=captured, **graphs)


def loop(b: Builder) -> Any:
    """``Loop`` that carries one value, gathers another, and may stop early."""
    if b.opset < 11:
        return None
    x = b.pick(0, 3)
    names = [b.name("s") for _ in range(5)]
    turn, go, state, on, seen = names
    nodes, last, outer = _body(b, x, state, b.integer(1, 2))
    if b.flag():
        limit = b.constant(np.array(b.integer(0, 2), np.int64))
        outer.append(limit)
        nodes.append(helper.make_node("Less", [turn, limit.name], [on]))
    else:
        nodes.append(helper.make_node("Identity", [go], [on]))
    nodes.append(helper.make_node("Abs", [last], [seen]))
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes, "body",
        [info(turn, TensorProto.INT64, []), info(go, TensorProto.BOOL, []), info(state, TensorProto.FLOAT, None)],
        [info(on, TensorProto.BOOL, []), info(last, TensorProto.FLOAT, None), info(seen, TensorProto.FLOAT, None)],
    )  # fmt: skip
    trips = b.supply(np.array(b.integer(1, 4), np.int64))
    return b.node("Loop", [trips, b.constant(np.array(True)), x], 2, captured=outer, body=body)


def scan(b: Builder) -> Any:
    """``Scan`` over the first or last axis, either direction, with one state."""
    if b.opset < 9:
        return None
    x = b.pick(2, 3)
    axis = b.choice((0, x.rank - 1))
    element = tuple(n for a, n in enumerate(x.shape) if a != axis)
    state, item, total, shown = (b.name("s") for _ in range(4))
    nodes, name, outer = _body(b, x, item, 1)
    nodes.append(helper.make_node("Add", [state, name], [total]))
    nodes.append(helper.make_node("Tanh", [total], [shown]))
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, element) for n in (state, item, total, shown)]
    body = helper.make_graph(nodes, "body", info[:2], info[2:])
    start = b.supply(b.healthy(element))
    return b.node(
        "Scan", [start, x], 2, captured=outer, body=body, num_scan_inputs=1,
        scan_input_axes=[axis] if axis or b.flag() else None,
        scan_input_directions=[1] if b.flag() else None, scan_output_directions=[1] if b.flag() else None,
        scan_output_axes=[len(element)] if b.flag() else None,
    )  # fmt: skip
