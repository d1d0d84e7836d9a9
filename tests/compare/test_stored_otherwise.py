"""Weights that are stored otherwise, and layers along one axis written along two: the referee is the witness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxeq.compare.values import Same
from onnxeq.referee import Executor

from .conftest import Held, Net, Read
from .stored import File

_LENGTH, _IN, _OUT = 12, 3, 6


def _whole(net: Net, *values: int) -> str:
    return net.store(f"i{len(net.stored)}", np.array(values, np.int64))


def _along_one(form: str) -> onnx.ModelProto:
    """A convolution, a normalisation and a pooling along one axis; along two with a single row or column."""
    net = Net(1, _IN, _LENGTH, opset=13)
    weight = net.stored[net.weight("c.weight", _OUT, _IN, 3)]
    if form == "one":
        x = net.node("Conv", ["x", "c.weight", net.weight("c.bias", _OUT)], pads=[1, 1], strides=[2])
        x = net.node("MaxPool", [net.norm(x, "n", _OUT)], kernel_shape=[2], strides=[2])
        return net.model(x)
    at = 2 if form == "a row" else 3

    def beside(own: int, other: int) -> list[int]:
        return [other, own] if form == "a row" else [own, other]

    net.stored["c.weight"] = np.expand_dims(weight, at)
    x = net.node("Unsqueeze", ["x", _whole(net, at)])
    x = net.node("Conv", [x, "c.weight", net.weight("c.bias", _OUT)], pads=beside(1, 0) * 2, strides=beside(2, 1))
    x = net.node("MaxPool", [net.norm(x, "n", _OUT)], kernel_shape=beside(2, 1), strides=beside(2, 1))
    return net.model(net.node("Squeeze", [x, _whole(net, at)]))


def _run(model: onnx.ModelProto) -> np.ndarray:
    executor = Executor(model)
    shape = [int(n) for n in executor.inputs[0].shape or ()]
    (value,) = executor.run({"x": np.random.default_rng(3).standard_normal(shape).astype(np.float32)}).values()
    return np.asarray(value)


@pytest.mark.parametrize("form", ["a row", "a column"])
def test_sliding_along_one_axis(form: str, held: Held, read: Read, tmp_path: Path) -> None:
    """The same numbers, one graph, a kernel of one axis, and the kernel's numbers in one order."""
    a, b = _along_one("one"), _along_one(form)
    np.testing.assert_allclose(_run(a), _run(b).reshape(_run(a).shape), rtol=0, atol=1e-12)
    pair = held(a, b)
    assert pair.same is Same.EQUIVALENT, [d.sentence for d in pair.differences]
    assert any("one axis written as along two" in text for text in pair.normalised)
    kernels = []
    for index, model in enumerate((a, b)):
        layer = read(model).layers[1]
        assert (layer.kind, layer.attributes["kernel"]) == ("conv", (3,))
        path = tmp_path / f"{index}.onnx"
        onnx.save(model, path)
        kernels.append(File(path).of_layer(layer)["weight"])
    np.testing.assert_array_equal(*kernels)


def test_an_image_of_one_row_is_no_other_kernel(held: Held) -> None:
    """Two axes of which none is a single element stay two: a 1x3 kernel is no 3x1 kernel."""

    def model(*kernel: int) -> onnx.ModelProto:
        net = Net(1, _IN, 4, 4)
        pads = [n // 2 for n in kernel] * 2
        return net.model(net.node("Conv", ["x", net.weight("c.weight", _OUT, _IN, *kernel)], pads=pads))

    assert held(model(1, 3), model(3, 1)).same is Same.DIFFERENT


def _stored(form: str) -> onnx.ModelProto:
    """A dense layer whose weight is stored in numbers, in whole numbers, or in numbers that are rounded to those."""
    net = Net(1, _IN, opset=13)
    rng = np.random.default_rng(1)
    whole = rng.integers(-128, 128, (_IN, _OUT)).astype(np.int8)
    steps = (rng.random(_OUT) + 0.5).astype(np.float32) / 64
    zero = net.store("zero", np.zeros(_OUT, np.int8))
    real = net.store("real", whole.astype(np.float32) * steps)
    if form == "numbers":
        return net.model(net.node("MatMul", ["x", real]))
    scale = net.store("scale", steps)
    held = net.store("whole", whole) if form == "whole" else net.node("QuantizeLinear", [real, scale, zero], axis=1)
    return net.model(net.node("MatMul", ["x", net.node("DequantizeLinear", [held, scale, zero], axis=1)]))


@pytest.mark.parametrize("form", ["whole", "rounded"])
def test_a_weight_that_is_stored_quantised_is_a_weight(form: str, held: Held, read: Read, tmp_path: Path) -> None:
    """A dense layer of as many parameters, and a remark; the numbers that it tells of are those that the file makes."""
    a, b = _stored("numbers"), _stored(form)
    np.testing.assert_allclose(_run(a), _run(b), rtol=1e-6)
    pair = held(a, b)
    assert pair.same is Same.EQUIVALENT, [d.sentence for d in pair.differences]
    assert pair.normalised == ("a weight that is stored quantised (1 in B)",)
    layer = read(b).layers[1]
    assert (layer.kind, layer.parameters) == ("linear", _IN * _OUT)
    found = []
    for index, model in enumerate((a, b)):
        path = tmp_path / f"{index}.onnx"
        onnx.save(model, path)
        found.append(File(path).of_layer(read(model).layers[1])["weight"])
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_what_rounds_an_input_stays(held: Held) -> None:
    """A pair of QuantizeLinear and DequantizeLinear around a computed tensor changes the numbers: a difference."""

    def model(*, rounds: bool) -> onnx.ModelProto:
        net = Net(1, _IN, opset=13)
        x = net.node("Relu", ["x"])
        if rounds:
            scale, zero = net.store("scale", np.float32(0.1)), net.store("zero", np.int8(0))
            x = net.node("DequantizeLinear", [net.node("QuantizeLinear", [x, scale, zero]), scale, zero])
        return net.model(x)

    assert held(model(rounds=False), model(rounds=True)).same is Same.DIFFERENT
