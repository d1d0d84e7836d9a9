"""Attention is one layer however it is written, with the referee as the witness; another attention is told in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxeq.compare.figures import figures
from onnxeq.compare.values import Same, Topic
from onnxeq.referee import Executor

from .computing import computed
from .conftest import Held, Net, Read
from .stored import File

Write = Callable[[Net], str]

_T, _WIDTH, _HEADS = 5, 12, 3
_SIZE = _WIDTH // _HEADS
_SCALE = _SIZE**-0.5


def _number(net: Net, value: float) -> str:
    return net.store(f"k{len(net.stored)}", np.float32(value))


def _whole(net: Net, *values: int) -> str:
    return net.store(f"i{len(net.stored)}", np.array(values, np.int64))


def _matrices() -> dict[str, np.ndarray]:
    """Weights ``[out, in]`` and biases of q, k and v."""
    rng = np.random.default_rng(7)
    shapes = {"weight": (_WIDTH, _WIDTH), "bias": (_WIDTH,)}
    return {f"{n}.{p}": rng.standard_normal(s).astype(np.float32) * 0.5 for n in "qkv" for p, s in shapes.items()}


def _dense(net: Net, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
    y = net.node("MatMul", [x, net.store(f"{name}.weight", weight.T.copy())])
    return y if bias is None else net.node("Add", [y, net.store(f"{name}.bias", bias)])


def _heads(net: Net, x: str, *perm: int, heads: int = _HEADS) -> str:
    apart = net.node("Reshape", [x, _whole(net, 0, 0, heads, _WIDTH // heads)])
    return net.node("Transpose", [apart], perm=perm) if perm else apart


def _apart(net: Net, *, heads: int = _HEADS, **bias: bool) -> list[str]:
    """Three dense layers with their heads apart, ``[N, T, heads, size]``."""
    held = _matrices()
    dense = [_dense(net, "x", n, held[f"{n}.weight"], held[f"{n}.bias"] if bias.get(n, True) else None) for n in "qkv"]
    return [_heads(net, y, heads=heads) for y in dense]


def _turned(net: Net, x: str, *perm: int) -> str:
    return net.node("Transpose", [x], perm=list(perm))


def _joined(net: Net, y: str) -> str:
    return net.node("Reshape", [_turned(net, y, 0, 2, 1, 3), _whole(net, 0, 0, _WIDTH)])


def _usual(
    net: Net,
    *,
    scale: float = _SCALE,
    mask: Callable[[Net, str], str] | None = None,
    heads: int = _HEADS,
    exchanged: bool = False,
    **bias: bool,
) -> str:
    """Three dense layers, MatMul, a scale behind, a mask, Softmax, MatMul."""
    q, k, v = _apart(net, heads=heads, **bias)
    k, v = (v, k) if exchanged else (k, v)
    scores = net.node("MatMul", [_turned(net, q, 0, 2, 1, 3), _turned(net, k, 0, 2, 3, 1)])
    scores = net.node("Mul", [scores, _number(net, scale)])
    scores = mask(net, scores) if mask else scores
    seen = net.node("Softmax", [scores], axis=-1)
    return _joined(net, net.node("MatMul", [seen, _turned(net, v, 0, 2, 1, 3)]))


def _fused(net: Net, form: str) -> str:
    """One dense layer for all three: parts one after another, or head by head; roots of the scale on both sides."""
    held = _matrices()
    order = (3, _HEADS, _SIZE) if form == "parts" else (_HEADS, 3, _SIZE)
    weight, bias = (np.stack([held[f"{n}.{p}"].reshape(_HEADS, _SIZE, -1) for n in "qkv"]) for p in ("weight", "bias"))
    if form != "parts":
        weight, bias = weight.swapaxes(0, 1), bias.swapaxes(0, 1)
    y = _dense(net, "x", "qkv", weight.reshape(3 * _WIDTH, _WIDTH), bias.reshape(-1))
    y = net.node("Reshape", [y, _whole(net, 0, 0, *order)])
    axis = 2 if form == "parts" else 3
    parts = [net.node("Gather", [y, net.store(f"g{i}", np.array(i))], axis=axis) for i in range(3)]
    q, k, v = (_turned(net, p, 0, 2, 1, 3) for p in parts)
    q, k = (net.node("Mul", [p, _number(net, _SCALE**0.5)]) for p in (q, _turned(net, k, 0, 1, 3, 2)))
    seen = net.node("Softmax", [net.node("MatMul", [q, k])], axis=-1)
    return _joined(net, net.node("MatMul", [seen, v]))


def _einsum(net: Net, form: str) -> str:
    """Keras' forms: the products as Einsum, the biases behind the reshape, the scale on the queries."""
    held = _matrices()
    apart = []
    for name in "qkv":
        y = _heads(net, _dense(net, "x", name, held[f"{name}.weight"], None))
        y = net.node("Add", [y, net.store(f"{name}.bias", held[f"{name}.bias"].reshape(_HEADS, _SIZE))])
        apart.append(y)
    q = net.node("Div", [apart[0], _number(net, 1 / _SCALE)])
    if form == "queries first":
        scores = net.node("Einsum", [q, apart[1]], equation="btnh,bsnh->bnts")
    else:
        scores = net.node("Einsum", [apart[1], q], equation="aecd,abcd->acbe")
    seen = net.node("Softmax", [scores], axis=-1)
    y = net.node("Einsum", [seen, apart[2]], equation="bnts,bsnh->btnh")
    return net.node("Reshape", [y, _whole(net, 0, 0, _WIDTH)])


def _dense_einsum(net: Net) -> str:
    """Dense layers as Einsum, too, with weights of three axes."""
    held = _matrices()
    apart = []
    for name in "qkv":
        kernel = net.store(f"{name}.weight", held[f"{name}.weight"].T.reshape(_WIDTH, _HEADS, _SIZE).copy())
        y = net.node("Einsum", ["x", kernel], equation="abc,cde->abde")
        apart.append(net.node("Add", [y, net.store(f"{name}.bias", held[f"{name}.bias"].reshape(_HEADS, _SIZE))]))
    scores = net.node("Einsum", apart[:2], equation="btnh,bsnh->bnts")
    seen = net.node("Softmax", [net.node("Mul", [scores, _number(net, _SCALE)])], axis=-1)
    y = net.node("Einsum", [seen, apart[2]], equation="bnts,bsnh->btnh")
    return net.node("Reshape", [y, _whole(net, 0, 0, _WIDTH)])


def _by_heads(net: Net) -> str:
    """Items and heads as one axis, as torch's own layer has it."""
    q, k, v = (_turned(net, y, 0, 2, 1, 3) for y in _apart(net))
    flat = [net.node("Reshape", [y, _whole(net, -1, _T, _SIZE)]) for y in (q, k, v)]
    scores = net.node("MatMul", [flat[0], _turned(net, flat[1], 0, 2, 1)])
    seen = net.node("Softmax", [net.node("Mul", [scores, _number(net, _SCALE)])], axis=-1)
    y = net.node("Reshape", [net.node("MatMul", [seen, flat[2]]), _whole(net, 1, _HEADS, _T, _SIZE)])
    return _joined(net, y)


def _one_node(net: Net, **attributes: Any) -> str:
    held = _matrices()
    values = [_dense(net, "x", n, held[f"{n}.weight"], held[f"{n}.bias"]) for n in "qkv"]
    return net.node("Attention", values, q_num_heads=_HEADS, kv_num_heads=_HEADS, **attributes)


def _of_runtime(net: Net, form: str, **attributes: Any) -> str:
    held = _matrices()
    biases = net.store("bias", np.concatenate([held[f"{n}.bias"] for n in "qkv"]))
    if form == "Attention":
        matrix = net.store("qkv", np.concatenate([held[f"{n}.weight"].T for n in "qkv"], axis=1))
        inputs = ["x", matrix, biases]
    else:
        inputs = [*(_dense(net, "x", n, held[f"{n}.weight"], None) for n in "qkv"), biases]
    return net.node(form, inputs, num_heads=_HEADS, domain="com.microsoft", **attributes)


_BELOW = np.triu(np.full((_T, _T), -np.inf, np.float32), 1)


def _causal(net: Net, scores: str) -> str:
    return net.node("Add", [scores, net.store("mask", _BELOW)])


def _chosen(net: Net, scores: str) -> str:
    return net.node("Where", [net.store("mask", _BELOW == 0), scores, _number(net, -1e9)])


def _net(write: Write, opset: int = 17) -> onnx.ModelProto:
    net = Net(1, _T, _WIDTH, opset=opset)
    model = net.model(write(net))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.ir_version = 10
    return model


def _feed() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, _T, _WIDTH)).astype(np.float32)


def _run(model: onnx.ModelProto) -> np.ndarray:
    (value,) = Executor(model).run({"x": _feed()}).values()
    return np.asarray(value)


FORMS: dict[str, tuple[Write, Write, int]] = {
    "one product, part after part": (_usual, lambda n: _fused(n, "parts"), 17),
    "one product, head by head": (_usual, lambda n: _fused(n, "heads"), 17),
    "Einsum": (_usual, lambda n: _einsum(n, "queries first"), 17),
    "Einsum, keys first": (_usual, lambda n: _einsum(n, "keys first"), 17),
    "dense layers as Einsum": (_usual, _dense_einsum, 17),
    "items and heads as one axis": (_usual, _by_heads, 17),
    "the standard's node": (_usual, _one_node, 23),
    "the standard's node, causal": (lambda n: _usual(n, mask=_causal), lambda n: _one_node(n, is_causal=1), 23),
    "onnxruntime's node": (_usual, lambda n: _of_runtime(n, "Attention"), 17),
    "onnxruntime's node of three": (_usual, lambda n: _of_runtime(n, "MultiHeadAttention"), 17),
    "a causal mask by choice": (lambda n: _usual(n, mask=_causal), lambda n: _usual(n, mask=_chosen), 17),
}


@pytest.mark.parametrize("name", FORMS)
def test_another_spelling_is_the_same_attention(name: str, held: Held, read: Read, tmp_path: Path) -> None:
    """Both give the same numbers in float64, are called equivalent, and are four layers each: queries, keys, values,
    attention; the parameters are those of three dense layers and the MACs those of three and of two products. What
    those layers compute, by what they say and with the weights where they tell them to lie, is what the file computes.
    """
    first, second, opset = FORMS[name]
    a, b = (_net(write, opset) for write in (first, second))
    np.testing.assert_allclose(_run(a), _run(b), rtol=0, atol=1e-6)
    pair = held(a, b)
    assert pair.same is Same.EQUIVALENT, [d.sentence for d in pair.differences]
    for model in (a, b):
        graph = read(model)
        assert [layer.kind for layer in graph.layers] == ["input", "linear", "linear", "linear", "attention"]
        found = figures(graph)
        assert found.parameters == 3 * (_WIDTH * _WIDTH + _WIDTH)
        assert found.macs == 3 * _T * _WIDTH * _WIDTH + 2 * _HEADS * _T * _T * _SIZE
        held_ = graph.layers[4].attributes
        assert (held_["heads"], held_["head size"], held_["scale"]) == (_HEADS, _SIZE, 0.5)
        _computed(model, read, tmp_path)


OTHER: dict[str, tuple[Write, Write, list[tuple[Topic, str]]]] = {
    "scale": (_usual, lambda n: _usual(n, scale=1.0), [
        (Topic.ATTENTION, "the attention layer has a scale of 0.5 in A and a scale of 1 in B")]),
    "heads": (_usual, lambda n: _usual(n, heads=2), [
        (Topic.ATTENTION, "the attention layer has 4 numbers of queries and keys in a head in A and 6 numbers of"
         " queries and keys in a head in B"),
        (Topic.ATTENTION, "the attention layer has 3 heads in A and 2 heads in B")]),
    "mask": (_usual, lambda n: _usual(n, mask=_causal), [
        (Topic.ATTENTION, "the attention layer has no mask in A and is causal in B")]),
    "bias": (_usual, lambda n: _usual(n, v=False), [
        (Topic.BIAS, "one dense layer has a bias in A and none in B")]),
    "keys for values": (lambda n: _usual(n, k=False), lambda n: _usual(n, k=False, exchanged=True), [
        (Topic.BIAS, "one dense layer has a bias in B and none in A"),
        (Topic.BIAS, "one dense layer has a bias in A and none in B")]),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_another_attention_is_told(name: str, held: Held) -> None:
    """One thing changed: the numbers are others, and the words say which thing."""
    first, second, wanted = OTHER[name]
    a, b = _net(first), _net(second)
    assert np.abs(_run(a) - _run(b)).max() > 1e-3
    pair = held(a, b)
    assert pair.same is Same.DIFFERENT
    assert [(d.topic, d.sentence) for d in pair.differences] == wanted


def _mixed(net: Net, how: str) -> str:
    """What is no attention, or another one: each must not be taken for the usual."""
    q, k, v = (_turned(net, y, 0, 2, 1, 3) for y in _apart(net))
    scores = net.node("MatMul", [q, _turned(net, k, 0, 1, 3, 2)])
    if how == "a softmax over queries":
        seen = net.node("Softmax", [net.node("Mul", [scores, _number(net, _SCALE)])], axis=-2)
    elif how == "a number added before the scale":
        added = net.node("Add", [scores, net.weight("bias", _HEADS, _T, _T)])
        seen = net.node("Softmax", [net.node("Mul", [added, _number(net, _SCALE)])], axis=-1)
    elif how == "a factor for each head":
        factor = net.weight("factor", _HEADS, 1, 1, positive=True)
        seen = net.node("Softmax", [net.node("Mul", [scores, factor])], axis=-1)
    else:
        seen = net.node("Softmax", [net.node("Mul", [scores, _number(net, _SCALE)])], axis=-1)
        v = net.node("Mul", [v, _number(net, 2.0)])
    return _joined(net, net.node("MatMul", [seen, v]))


@pytest.mark.parametrize(
    "how",
    ["a softmax over queries", "a number added before the scale", "a factor for each head", "values times two"],
)
def test_what_is_not_understood_stays_as_it_is(how: str, held: Held, read: Read) -> None:
    """Something else in the middle: no attention layer is made, and the two are different."""
    a, b = _net(_usual), _net(lambda net: _mixed(net, how))
    assert np.abs(_run(a) - _run(b)).max() > 1e-3
    assert "attention" not in {layer.kind for layer in read(b).layers}
    assert held(a, b).same is Same.DIFFERENT


def _computed(model: onnx.ModelProto, read: Read, folder: Path) -> None:
    """What the layers say computes what the file does."""
    onnx.save(model, folder / "net.onnx")
    made = computed(read(model), File(folder / "net.onnx"), _feed())
    np.testing.assert_allclose(made.reshape(-1), _run(model).reshape(-1), rtol=0, atol=1e-6)


def test_a_position_bias_is_a_part_of_the_layer(held: Held, read: Read, tmp_path: Path) -> None:
    """A stored number for each head, query and key, added behind the scale: its numbers are parameters of the layer."""

    def biased(net: Net, scores: str) -> str:
        return net.node("Add", [scores, net.weight("table", _HEADS, _T, _T)])

    a, b = _net(_usual), _net(lambda net: _usual(net, mask=biased))
    _computed(b, read, tmp_path)
    layer = read(b).layers[4]
    assert (layer.kind, layer.parameters) == ("attention", _HEADS * _T * _T)
    assert [d.sentence for d in held(a, b).differences] == [
        "the attention layer has no position bias in A and a position bias along heads and queries and keys in B"
    ]


def test_a_computed_mask_is_an_input(read: Read, tmp_path: Path) -> None:
    """What is added and computed is read by the layer, behind queries, keys and values."""

    def masked(net: Net, scores: str) -> str:
        row = net.node("ReduceMean", ["x"], axes=[2], keepdims=0)
        return net.node("Add", [scores, net.node("Reshape", [row, _whole(net, 1, 1, 1, _T)])])

    graph = read(_net(lambda net: _usual(net, mask=masked)))
    _computed(_net(lambda net: _usual(net, mask=masked)), read, tmp_path)
    layer = graph.layers[-1]
    assert (layer.kind, layer.attributes["mask"]) == ("attention", "added, along keys")
    assert [graph.layers[i].kind for i in layer.inputs] == ["linear", "linear", "linear", "reduce_mean"]


def test_normalised_queries_and_keys(held: Held, read: Read, tmp_path: Path) -> None:
    """A LayerNorm along a head's numbers: layers of their own between a dense layer with heads apart and the attention,
    whether the heads were brought forward before it or behind it.
    """

    def normed(net: Net, *, before: bool) -> str:
        q, k, v = _apart(net)
        made = []
        for name, y in (("nq", q), ("nk", k)):
            scale, shift = net.weight(f"{name}.weight", _SIZE), net.weight(f"{name}.bias", _SIZE)
            y = _turned(net, y, 0, 2, 1, 3) if before else y
            y = net.node("LayerNormalization", [y, scale, shift])
            made.append(y if before else _turned(net, y, 0, 2, 1, 3))
        scores = net.node("MatMul", [made[0], _turned(net, made[1], 0, 1, 3, 2)])
        seen = net.node("Softmax", [net.node("Mul", [scores, _number(net, _SCALE)])], axis=-1)
        return _joined(net, net.node("MatMul", [seen, _turned(net, v, 0, 2, 1, 3)]))

    a, b = (_net(lambda net, way=way: normed(net, before=way)) for way in (True, False))  # type: ignore[misc]
    np.testing.assert_allclose(_run(a), _run(b), rtol=0, atol=1e-6)
    assert held(a, b).same is Same.EQUIVALENT
    for model in (a, b):
        _computed(model, read, tmp_path)
    graph = read(a)
    attention = graph.layers[-1]
    assert [graph.layers[i].kind for i in attention.inputs] == ["layer_norm", "layer_norm", "linear"]
    assert graph.layers[attention.inputs[0]].shape == (1, _T, _HEADS, _SIZE)
