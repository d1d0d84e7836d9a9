"""Axes of size 1 that come and go, and operators of a runtime: both are read as what a network usually says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxeq.compare.values import Same
from onnxeq.referee import Executor

from .conftest import Held, Net, Read

_T, _WIDTH = 5, 6


def _whole(net: Net, *values: int) -> str:
    return net.store(f"i{len(net.stored)}", np.array(values, np.int64))


def _norm(net: Net, x: str) -> str:
    return net.node("LayerNormalization", [x, net.weight("n.scale", _WIDTH), net.weight("n.shift", _WIDTH)], axis=-1)


def _wide(net: Net) -> str:
    """A dense layer, GELU, another, a sum, a normalisation, the first place."""
    y = net.node("Add", [net.node("MatMul", ["x", net.weight("a", _WIDTH, 8)]), net.weight("b", 8)])
    y = net.node("MatMul", [net.node("Gelu", [y]), net.weight("c", 8, _WIDTH)])
    return net.node("Gather", [_norm(net, net.node("Add", [y, "x"])), net.store("first", np.array(0))], axis=1)


def _rows(net: Net) -> str:
    """The same with items and places as rows of a matrix, and places first."""
    turned = net.node("Transpose", ["x"], perm=[1, 0, 2])
    rows = net.node("Reshape", [turned, _whole(net, _T, _WIDTH)])
    y = net.node("Gemm", [rows, net.weight("a", _WIDTH, 8), net.weight("b", 8)])
    y = net.node("Gemm", [net.node("Gelu", [y]), net.weight("c", 8, _WIDTH)])
    back = net.node("Transpose", [net.node("Reshape", [y, _whole(net, _T, 1, _WIDTH)])], perm=[1, 0, 2])
    return net.node("Gather", [_norm(net, net.node("Add", [back, "x"])), net.store("first", np.array(0))], axis=1)


def _optimised(net: Net) -> str:
    """The same as onnxruntime writes it."""
    matrix = net.stored[net.weight("a", _WIDTH, 8)]
    net.stored["a"] = np.ascontiguousarray(matrix.T)
    y = net.node("FusedMatMul", ["x", "a"], domain="com.microsoft", transB=1, alpha=1.0)
    y = net.node("BiasGelu", [y, net.weight("b", 8)], domain="com.microsoft")
    y = net.node("MatMul", [y, net.weight("c", 8, _WIDTH)])
    held = [net.weight("n.scale", _WIDTH), net.weight("n.shift", _WIDTH)]
    y = net.node("SkipLayerNormalization", [y, "x", *held], domain="com.microsoft", epsilon=1e-5)
    return net.node("Gather", [y, net.store("first", np.array(0))], axis=1)


def _net(write: Callable[[Net], str]) -> onnx.ModelProto:
    net = Net(1, _T, _WIDTH, opset=20)
    model = net.model(write(net))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def _run(model: onnx.ModelProto) -> np.ndarray:
    feed = np.random.default_rng(3).standard_normal((1, _T, _WIDTH)).astype(np.float32)
    (value,) = Executor(model).run({"x": feed}).values()
    return np.asarray(value)


@pytest.mark.parametrize("write", [_rows, _optimised])
def test_it_is_the_usual_network(write: Callable[[Net], str], held: Held, read: Read) -> None:
    """The same numbers, one graph, and the axes that the usual way of writing has."""
    a, b = _net(_wide), _net(write)
    np.testing.assert_allclose(_run(a), _run(b), rtol=0, atol=1e-6)
    pair = held(a, b)
    assert pair.same is Same.EQUIVALENT, [d.sentence for d in pair.differences]
    kinds = ["input", "linear", "gelu", "linear", "add", "layer_norm", "slice"]
    for model in (a, b):
        graph = read(model)
        assert [layer.kind for layer in graph.layers] == kinds
        assert graph.layers[4].shape == (1, _T, _WIDTH)
