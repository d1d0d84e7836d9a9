"""Loops that compute what GRU, LSTM or RNN computes, as those.

Keras writes a recurrent layer as a Loop over its steps. How the body spells it is not looked at: what one turn of it
gives is computed by the referee for drawn states, inputs and weights, and held against the formula of each kind of
layer. Two functions of this kind that agree on drawn numbers to float64 rounding are one.

The formulas, for ``x`` of one step and the state ``h``, with kernel ``K[in, gates * hidden]``, recurrent kernel
``R[hidden, gates * hidden]`` and bias ``b`` as Keras keeps them (Keras' own sources, ``keras/layers/rnn``):

1. GRU, gates update, reset, new: ``z h + (1 - z) tanh(...)``, with the reset gate behind the product where the bias has
   two rows, before it where it has one.
2. LSTM, gates input, forget, new, output.
3. RNN: ``tanh(x K + h R + b)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onnxeq.compare.values import Weight
from onnxeq.errors import OnnxeqError
from onnxeq.graph.edit import array, attribute, constant, is_standard, normal_opset, static_shape
from onnxeq.graph.frame import inner_graphs

__all__ = ["without_loops"]

_Real = NDArray[np.float64]
_NEAR = 1e-9
"""Of numbers around 1 that are computed in float64: the formulas take fewer than a hundred operations."""
_LARGEST = 4096
"""Hidden numbers up to which a body is computed: it takes a few products of matrices of that size."""
_SEED = 5


@dataclass(frozen=True)
class _Loop:
    """A Loop over the steps of one tensor.

    Attributes:
        node: It.
        body: Its graph.
        steps: How often it turns.
        sequence: What it runs over, ``[T, N, in]``.
        counters: Positions of states that count the turns.
        states: Positions of states of numbers.
        weights: Stored tensors of numbers, by the name that they have in the body.
        given: Everything else that the body reads, by name.
        inside: The name of the sequence in the body.
    """

    node: ir.Node
    body: ir.Graph
    steps: int
    sequence: ir.Value
    counters: tuple[int, ...]
    states: tuple[int, ...]
    weights: Mapping[str, ir.Value]
    given: Mapping[str, NDArray[np.generic]]
    inside: str


@dataclass(frozen=True)
class _Formula:
    """What one turn of a recurrent layer computes.

    Attributes:
        op_type: ONNX' operator.
        gates: How many gates its kernels hold.
        states: How many states it has.
        rows: Of the bias; 0 for none.
        turn: ``x, states, K, R, b`` -> the new states.
        order: Which of Keras' gates each of ONNX' gates is.
        attributes: Of the operator.
    """

    op_type: str
    gates: int
    states: int
    rows: int
    turn: Callable[[_Real, Sequence[_Real], _Real, _Real, _Real], tuple[_Real, ...]]
    order: tuple[int, ...]
    attributes: Mapping[str, int]


def _sigmoid(x: _Real) -> _Real:
    held: _Real = 1 / (1 + np.exp(-x))
    return held


def _gru(x: _Real, states: Sequence[_Real], kernel: _Real, again: _Real, bias: _Real) -> tuple[_Real, ...]:
    (h,) = states
    size = h.shape[-1]
    after = bias.shape[0] == 2
    one = x @ kernel + bias[0]
    two = h @ again + (bias[1] if after else 0)
    update, reset = (_sigmoid(one[:, i * size : (i + 1) * size] + two[:, i * size : (i + 1) * size]) for i in range(2))
    behind = reset * two[:, 2 * size :] if after else (reset * h) @ again[:, 2 * size :]
    return (update * h + (1 - update) * np.tanh(one[:, 2 * size :] + behind),)


def _lstm(x: _Real, states: Sequence[_Real], kernel: _Real, again: _Real, bias: _Real) -> tuple[_Real, ...]:
    h, c = states
    entry, forget, new, out = np.split(x @ kernel + h @ again + bias[0], 4, axis=-1)
    cell = _sigmoid(forget) * c + _sigmoid(entry) * np.tanh(new)
    return _sigmoid(out) * np.tanh(cell), cell


def _rnn(x: _Real, states: Sequence[_Real], kernel: _Real, again: _Real, bias: _Real) -> tuple[_Real, ...]:
    return (np.tanh(x @ kernel + states[0] @ again + bias[0]),)


_FORMULAS = (
    *(_Formula("GRU", 3, 1, rows, _gru, (0, 1, 2), {"linear_before_reset": int(rows == 2)}) for rows in (2, 1, 0)),
    *(_Formula("LSTM", 4, 2, rows, _lstm, (0, 3, 1, 2), {}) for rows in (1, 0)),
    *(_Formula("RNN", 1, 1, rows, _rnn, (0,), {}) for rows in (1, 0)),
)


def without_loops(model: ir.Model) -> dict[ir.Node, tuple[Weight, ...]]:
    """Puts a recurrent operator in the place of each Loop that is one; constants are to be folded before.

    Returns:
        For each new node the stored tensors that its weights are, in ONNX' order of gates.
    """
    found: dict[ir.Node, tuple[Weight, ...]] = {}
    for node in list(model.graph):
        loop = _loop(node) if is_standard(node, "Loop") else None
        if loop is None:
            continue
        for formula, names in _candidates(loop):
            held = _agrees(loop, formula, names, normal_opset(model))
            if held is not None:
                new, weights = _replaced(model, loop, formula, names, held)
                found[new] = weights
                break
    return found


def _loop(node: ir.Node) -> _Loop | None:
    """A Loop of a known number of turns over one computed tensor; else ``None``."""
    turns, going, body = array(node.inputs[0]), array(node.inputs[1]), attribute(node, "body")
    if turns is None or turns.size != 1 or (going is not None and not going.all()) or not isinstance(body, ir.Graph):
        return None
    if any(inner_graphs(n) for n in body) or len(node.inputs) != len(body.inputs):
        return None
    steps = int(turns.reshape(()).item())
    counters, states = [], []
    read: dict[str, ir.Value | None] = {str(v.name): v for v in _around(body)}
    for position, (outer, inner, after) in enumerate(
        zip(node.inputs[2:], body.inputs[2:], body.outputs[1:], strict=False)
    ):
        if _same(after, inner):
            read[str(inner.name)] = outer
        elif (held := array(outer)) is not None and held.dtype.kind == "i" and held.size == 1 and not held.any():
            counters.append(position)
        elif held is not None and held.dtype.kind == "f" and held.ndim == 2 and not held.any():
            states.append(position)
        else:
            return None
    computed = {name: v for name, v in read.items() if constant(v) is None}
    weights = {n: v for n, v in read.items() if v is not None and (t := array(v)) is not None and t.dtype.kind == "f"}
    given = {n: t for n, v in read.items() if n not in weights and (t := array(v)) is not None}
    if len(computed) != 1 or not 1 <= len(states) <= 2 or steps < 1:
        return None
    ((inside, sequence),) = computed.items()
    shape = static_shape(sequence)
    if sequence is None or shape is None or len(shape) != 3 or shape[0] != steps:
        return None
    return _Loop(node, body, steps, sequence, tuple(counters), tuple(states), weights, given, inside)


def _same(after: ir.Value, inner: ir.Value) -> bool:
    """Whether a turn gives a state as it was."""
    while after is not inner:
        maker = after.producer()
        if maker is None or not is_standard(maker, "Identity") or maker.inputs[0] is None:
            return False
        after = maker.inputs[0]
    return True


def _around(body: ir.Graph) -> list[ir.Value]:
    own = {*body.inputs, *body.initializers.values(), *(v for node in body for v in node.outputs)}
    return list({v: None for node in body for v in node.inputs if v is not None and v not in own})


def _candidates(loop: _Loop) -> Iterator[tuple[_Formula, tuple[str, ...]]]:
    """Formulas whose weights have the shapes of the stored tensors, with the names in the order K, R, b."""
    inner = (static_shape(loop.sequence) or (0,))[-1]
    hidden = _shape(loop.node.inputs[2 + loop.states[0]])[-1]
    if hidden > _LARGEST or inner > _LARGEST:
        return
    for formula in _FORMULAS:
        if len(loop.weights) != 2 + bool(formula.rows) or formula.states != len(loop.states):
            continue
        width = formula.gates * hidden
        wanted: list[list[tuple[int, ...]]] = [[(inner, width)], [(hidden, width)]]
        if formula.rows:
            wanted.append([(formula.rows, width), *([(width,)] if formula.rows == 1 else [])])
        for names in itertools.permutations(loop.weights):
            if all(_shape(loop.weights[n]) in shapes for n, shapes in zip(names, wanted, strict=True)):
                yield formula, names


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    held = constant(value)
    return () if held is None else tuple(int(n) for n in held.shape)


def _agrees(loop: _Loop, formula: _Formula, names: Sequence[str], opset: int) -> dict[str, int] | None:
    """Which of its results a Loop gives where (``h``, ``c`` as states, ``steps`` as the sequence of ``h``), if one turn
    computes what a formula says; else ``None``.
    """
    from onnxeq.referee import Executor  # only files with a Loop need it

    rng = np.random.default_rng(_SEED)
    orders = list(itertools.permutations(loop.states))
    try:
        run = Executor(_turn(loop, opset))
        for turn in sorted({0, loop.steps - 1}):
            feed = _feed(loop, rng, turn)
            outputs = {str(k): np.asarray(v) for k, v in run.run(feed, outputs=_wanted(loop)).items()}
            if not _counts(loop, outputs, turn):
                return None
            orders = [order for order in orders if _fits(loop, formula, names, feed, outputs, turn, order)]
    except (OnnxeqError, ValueError, IndexError):
        return None
    if not orders:
        return None
    scans = len(loop.body.outputs) - 1 - (len(loop.node.inputs) - 2)
    first = len(loop.node.inputs) - 2
    used = [i for i, v in enumerate(loop.node.outputs) if v.uses() and i not in orders[0] and i != first]
    if scans > 1 or used:
        return None
    return {**dict(zip(("h", "c"), orders[0], strict=False)), **({"steps": first} if scans else {})}


def _turn(loop: _Loop, opset: int) -> onnx.ModelProto:
    """The body as a model of its own."""
    graph = ir.serde.serialize_graph(loop.body)
    for name, value in (*loop.weights.items(), (loop.inside, loop.sequence)):
        if name not in {v.name for v in graph.input}:
            kind = onnx.TensorProto.FLOAT if value.dtype is None else int(value.dtype.value)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    for name, held in loop.given.items():
        if name not in {v.name for v in graph.input}:
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(held), name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.ClearField("shape")
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _feed(loop: _Loop, rng: np.random.Generator, turn: int) -> dict[str, NDArray[np.generic]]:
    """Drawn states, inputs and weights; counters and what else is whole as it would be."""
    feed: dict[str, NDArray[np.generic]] = {}
    names = [str(v.name) for v in loop.body.inputs]
    feed[names[0]], feed[names[1]] = np.asarray(turn, np.int64), np.asarray(True)
    for position in loop.counters:
        held = array(loop.node.inputs[2 + position])
        if held is not None:
            feed[names[2 + position]] = np.full(held.shape, turn, held.dtype)
    for position in loop.states:
        feed[names[2 + position]] = rng.standard_normal(_shape(loop.node.inputs[2 + position]))
    for name, value in loop.weights.items():
        feed[name] = rng.standard_normal(_shape(value)) * 0.5
    feed[loop.inside] = rng.standard_normal(static_shape(loop.sequence) or ())
    for name in names:
        if name in loop.given:
            feed[name] = np.asarray(loop.given[name])
    return feed


def _wanted(loop: _Loop) -> list[str]:
    names = [str(v.name) for v in loop.body.outputs]
    scans = names[1 + len(loop.node.inputs) - 2 :]
    kept = [names[1 + p] for p in (*loop.counters, *loop.states)]
    return list(dict.fromkeys([names[0], *kept, *scans]))


def _counts(loop: _Loop, outputs: Mapping[str, NDArray[np.generic]], turn: int) -> bool:
    """Whether a turn goes on to the next one, and counts one more."""
    names = [str(v.name) for v in loop.body.outputs]
    goes = bool(np.asarray(outputs[names[0]]).all()) or turn == loop.steps - 1
    return goes and all(bool((outputs[names[1 + p]] == turn + 1).all()) for p in loop.counters)


def _fits(
    loop: _Loop,
    formula: _Formula,
    names: Sequence[str],
    feed: Mapping[str, NDArray[np.generic]],
    outputs: Mapping[str, NDArray[np.generic]],
    turn: int,
    order: Sequence[int],
) -> bool:
    """Whether the new states are those of the formula, and what is given of each step is the first of them."""
    inside, after = ([str(v.name) for v in held] for held in (loop.body.inputs, loop.body.outputs))
    kernel, again, *rest = (np.asarray(feed[n], np.float64) for n in names)
    bias = rest[0].reshape(formula.rows, -1) if rest else np.zeros((1, kernel.shape[-1]))
    states = [np.asarray(feed[inside[2 + p]], np.float64) for p in order]
    wanted = formula.turn(np.asarray(feed[loop.inside], np.float64)[turn], states, kernel, again, bias)
    pairs = [(outputs[after[1 + p]], w) for p, w in zip(order, wanted, strict=True)]
    pairs += [(outputs[name], wanted[0]) for name in after[1 + len(loop.node.inputs) - 2 :]]
    return all(np.shape(a) == b.shape and bool(np.allclose(a, b, rtol=0, atol=_NEAR)) for a, b in pairs)


def _replaced(
    model: ir.Model, loop: _Loop, formula: _Formula, names: Sequence[str], given: Mapping[str, int]
) -> tuple[ir.Node, tuple[Weight, ...]]:
    node, name = loop.node, str(loop.node.outputs[0].name)
    held = [loop.weights[n] for n in names]
    hidden = _shape(held[1])[0]
    turned = [np.zeros((1, *_shape(v)[::-1]), np.float32) for v in held[:2]]  # the shapes are read, the numbers are not
    stored = [_stored(model, f"{name}.{i}", value) for i, value in enumerate(turned)]
    if formula.rows:
        bias = np.zeros((1, 2 * formula.gates * hidden), np.float32)
        stored.append(_stored(model, f"{name}.2", bias))
    attributes = [ir.AttrInt64("hidden_size", hidden)]
    attributes += [ir.AttrInt64(key, value) for key, value in formula.attributes.items()]
    new = ir.Node("", formula.op_type, [loop.sequence, *stored], attributes, num_outputs=1 + formula.states)
    new.name = node.name
    new.metadata_props.update(node.metadata_props)
    for index, output in enumerate(new.outputs):
        output.name = f"{name}.given.{index}"
    model.graph.insert_before(node, new)
    items = (static_shape(loop.sequence) or (0, 1, 0))[1]
    for what, position in given.items():
        shape = (loop.steps, items, hidden) if what == "steps" else (items, hidden)
        source = new.outputs[{"steps": 0, "h": 1, "c": 2}[what]]
        sizes = _stored(model, f"{name}.{what}.shape", np.array(shape, np.int64))
        laid = ir.Node("", "Reshape", [source, sizes], num_outputs=1)
        laid.outputs[0].name = f"{name}.{what}"
        model.graph.insert_before(node, laid)
        ir.convenience.replace_all_uses_with(node.outputs[position], laid.outputs[0])
    model.graph.remove(node)
    return new, _weights(held, formula, hidden)


def _weights(held: Sequence[ir.Value], formula: _Formula, hidden: int) -> tuple[Weight, ...]:
    """The stored tensors gate by gate where ONNX has the gates in another order."""
    found: list[Weight] = []
    in_order = list(formula.order) == sorted(formula.order)
    for role, value in zip(("weight", "recurrent weight", "bias"), held, strict=False):
        whole = Weight(role, str(value.name), int(np.prod(_shape(value))), axes=() if role == "bias" else (1, 0))
        if in_order:
            found.append(whole)
            continue
        for gate in formula.order:
            part = (gate * hidden, (gate + 1) * hidden)
            found.append(Weight(role, whole.name, whole.elements // formula.gates, axes=whole.axes, part=part))
    return tuple(found)


def _stored(model: ir.Model, name: str, held: NDArray[np.generic]) -> ir.Value:
    tensor = ir.Tensor(held, name=name)
    value = ir.Value(name=name, shape=ir.Shape(held.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value
