"""Small networks for the ledger's tests: native tensors, and the ONNX models that converters make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.types import Array

Weights = dict[str, Array]
Edit = Callable[[Weights], None]


def model_of(nodes: list[onnx.NodeProto], weights: Mapping[str, Array], x: list[object], y: str) -> onnx.ModelProto:
    """A model with one input ``x`` and one output."""
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", "M"])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def native_conv_net(seed: int, channels: int = 16, bias: bool = True) -> Weights:
    """Two convolutions of one shape, each with a BatchNormalization, and a square linear layer, by torch's names."""
    rng = np.random.default_rng(seed)
    found: Weights = {}
    for k in ("1", "2"):
        inner = 4 if k == "1" else channels
        found[f"conv{k}.weight"] = rng.standard_normal((channels, inner, 3, 3)) * 0.2
        if bias:
            found[f"conv{k}.bias"] = rng.standard_normal(channels) * 0.1
        found[f"bn{k}.weight"] = rng.uniform(0.5, 1.5, channels)
        found[f"bn{k}.bias"] = rng.standard_normal(channels)
        found[f"bn{k}.running_mean"] = rng.standard_normal(channels)
        found[f"bn{k}.running_var"] = np.exp(rng.standard_normal(channels))
    found["fc.weight"] = rng.standard_normal((channels, channels))
    found["fc.bias"] = rng.standard_normal(channels)
    found["head.weight"] = rng.standard_normal((5, channels))
    return {k: v.astype(np.float32) for k, v in found.items()}


def unfolded(native: Weights) -> onnx.ModelProto:
    """The network as its exporter writes it, constants under their native names."""
    nodes = []
    for k, source in (("1", "x"), ("2", "r1")):
        inputs = [source, f"conv{k}.weight", *([f"conv{k}.bias"] if f"conv{k}.bias" in native else [])]
        nodes.append(helper.make_node("Conv", inputs, [f"c{k}"], name=f"conv{k}", pads=[1, 1, 1, 1]))
        norm = [f"c{k}", *(f"bn{k}.{p}" for p in ("weight", "bias", "running_mean", "running_var"))]
        nodes.append(helper.make_node("BatchNormalization", norm, [f"b{k}"], name=f"bn{k}", epsilon=1e-5))
        nodes.append(helper.make_node("Relu", [f"b{k}"], [f"r{k}"], name=f"relu{k}"))
    nodes += [
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["g"], name="fc", transB=1),
        helper.make_node("Gemm", ["g", "head.weight"], ["y"], name="head", transB=1),
    ]
    return model_of(nodes, native, ["N", 4, 8, 8], "y")


def folded(native: Weights, edit: Edit | None = None, rename: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """The same network with BatchNormalization folded in float32, as exporters do, and then perhaps damaged.

    ``s = gamma / sqrt(var + eps)``, ``W*s`` and ``(b - mean)*s + beta``.
    """
    stored: Weights = {}
    nodes = []
    for k, source in (("1", "x"), ("2", "r1")):
        gamma, beta, mean, var = (native[f"bn{k}.{p}"] for p in ("weight", "bias", "running_mean", "running_var"))
        s = gamma / np.sqrt(var + np.float32(1e-5))
        stored[f"conv{k}.weight"] = native[f"conv{k}.weight"] * s[:, None, None, None]
        stored[f"conv{k}.bias"] = (native.get(f"conv{k}.bias", np.zeros_like(mean)) - mean) * s + beta
        nodes.append(
            helper.make_node("Conv", [source, f"conv{k}.weight", f"conv{k}.bias"], [f"b{k}"], name=f"conv{k}",
                             pads=[1, 1, 1, 1])
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"b{k}"], [f"r{k}"], name=f"relu{k}"))
    stored |= {k: native[k] for k in ("fc.weight", "fc.bias", "head.weight")}
    nodes += [
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["g"], name="fc", transB=1),
        helper.make_node("Gemm", ["g", "head.weight"], ["y"], name="head", transB=1),
    ]
    stored = {k: v.copy() for k, v in stored.items()}
    if edit:
        edit(stored)
    model = model_of(nodes, stored, ["N", 4, 8, 8], "y")
    return renamed(model, rename) if rename is not None else model


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """The model with other initializer names."""
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    return model


def nameless(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as simplifiers leave it: initializers numbered, nodes without names."""
    names = {t.name: f"t{i}" for i, t in enumerate(reversed(model.graph.initializer))}
    for node in model.graph.node:
        node.name = ""
    return renamed(model, names)


class Nets:
    """The helpers above, for tests that cannot import this file by name."""

    model_of = staticmethod(model_of)
    native = staticmethod(native_conv_net)
    unfolded = staticmethod(unfolded)
    folded = staticmethod(folded)
    nameless = staticmethod(nameless)
    renamed = staticmethod(renamed)


@pytest.fixture(scope="session")
def nets() -> type[Nets]:
    """Makes networks and artifacts."""
    return Nets


@pytest.fixture
def native() -> Weights:
    """One network's native tensors."""
    return native_conv_net(0)
