"""Reduced precision, emulated: graphs that round their operands, run by onnxruntime on the CPU.

TF32 is emulated exactly: ``c = x*(2^13 + 1); c - (c - x)`` in float32 is ``x`` rounded to 11 significant bits
(Veltkamp's splitting: J.-M. Muller et al., "Handbook of Floating-Point Arithmetic", section 4.4.1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.ladder import LIMITS, REDUCED, Execution, Rules, RungPlan, Units, climb, recognised
from onnxeq.measure import compare
from onnxeq.reduced import KINDS
from onnxeq.runners import referee
from onnxeq.types import Feed, Status
from onnxeq.worker import Job

PRODUCTS = ("Conv", "MatMul", "Gemm")


def _network(seed: int = 0) -> onnx.ModelProto:
    """Four convolutions with a residual, attention over the pixels, and a head: ``x[2,3,24,24] -> logits[2,16]``."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], {}

    def weight(name: str, *shape: int) -> str:
        weights[name] = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    h = node("Relu", [node("Conv", ["x", weight("w0", 32, 3, 3, 3)], "c0", pads=[1] * 4)], "r0")
    for i in range(3):
        c = node("Conv", [h, weight(f"w{i + 1}", 32, 32, 3, 3)], f"c{i + 1}", pads=[1] * 4)
        h = node("Add", [h, node("Relu", [c], f"r{i + 1}")], f"h{i + 1}")
    weights["rows"] = np.array([2, 32, 576], np.int64)
    rows = node("Transpose", [node("Reshape", [h, "rows"], "flat")], "pixels", perm=[0, 2, 1])
    query = node("MatMul", [rows, weight("wq", 32, 32)], "q")
    key = node("Transpose", [node("MatMul", [rows, weight("wk", 32, 32)], "k")], "kt", perm=[0, 2, 1])
    weights["scale"] = np.float32(32**-0.5)
    scores = node("Mul", [node("MatMul", [query, key], "s"), "scale"], "scaled")
    mixed = node("MatMul", [node("Softmax", [scores], "p"), rows], "mixed")
    mean = node("ReduceMean", [mixed], "mean", axes=[1], keepdims=0)
    node("Gemm", [mean, weight("wh", 32, 16)], "logits")
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 24, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, 16])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _rounded(name: str, kind: str, size: float, nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto]) -> str:
    """Adds the nodes that round value ``name`` to ``kind``; its new name. ``size`` is its largest element."""
    out = f"{name}.{len(nodes)}"
    if kind == "tf32":
        stored.append(numpy_helper.from_array(np.float32(2**13 + 1), f"{out}.split"))
        nodes.append(helper.make_node("Mul", [name, f"{out}.split"], [f"{out}.c"]))
        nodes.append(helper.make_node("Sub", [f"{out}.c", name], [f"{out}.d"]))
        nodes.append(helper.make_node("Sub", [f"{out}.c", f"{out}.d"], [out]))
    elif kind == "int8":
        stored.append(numpy_helper.from_array(np.float32(size / 127), f"{out}.scale"))
        stored.append(numpy_helper.from_array(np.int8(0), f"{out}.zero"))
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{out}.scale", f"{out}.zero"], [f"{out}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{out}.q", f"{out}.scale", f"{out}.zero"], [out]))
    else:
        target = TensorProto.FLOAT16 if kind == "float16" else TensorProto.BFLOAT16
        nodes.append(helper.make_node("Cast", [name], [f"{out}.n"], to=target))
        nodes.append(helper.make_node("Cast", [f"{out}.n"], [out], to=TensorProto.FLOAT))
    return out


def _emulated(model: onnx.ModelProto, kind: str, feed: Feed) -> onnx.ModelProto:
    """The model with every product's operands rounded to ``kind``; half types round every result besides."""
    values = _all_values(model, feed)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = list(model.graph.initializer)
    now: dict[str, str] = {}
    for node in model.graph.node:
        inputs = [now.get(name, name) for name in node.input]
        if node.op_type in PRODUCTS:
            sizes = [float(np.abs(values[name]).max()) for name in node.input]
            inputs = [_rounded(n, kind, s, nodes, stored) for n, s in zip(inputs, sizes, strict=True)]
        new = onnx.NodeProto()
        new.CopyFrom(node)
        del new.input[:]
        new.input.extend(inputs)
        nodes.append(new)
        if kind in ("float16", "bfloat16") and node.output[0] != "logits":
            now[node.output[0]] = _rounded(node.output[0], kind, 0.0, nodes, stored)
    graph = helper.make_graph(nodes, "emulated", model.graph.input, model.graph.output, stored)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=9)


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _all_values(model: onnx.ModelProto, feed: Feed) -> dict[str, Any]:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=n.output[0]) for n in model.graph.node)
    names = [n.output[0] for n in model.graph.node]
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {**feed, **stored, **dict(zip(names, _session(shown).run(names, dict(feed)), strict=True))}


@pytest.fixture(scope="module", params=[0, 1])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Feed, Any, Units]:
    """A network, a feed, its float64 trace, and its units."""
    folder = tmp_path_factory.mktemp("units")
    model = _network(request.param)
    feed = {"x": np.random.default_rng(7).standard_normal((2, 3, 24, 24)).astype(np.float32)}
    onnx.save(model, folder / "net.onnx")
    save_feeds(folder / "feeds", [feed])
    params = {"names": {"x": "x"}, "seed": 0, "rounding": True, "floor": True, "reduced": list(KINDS)}
    inputs = {"model": folder / "net.onnx", "feeds": folder / "feeds"}
    referee.run(Job(params, inputs, folder, lambda _step: None))

    def trace(name: str) -> tuple[Feed, ...]:
        return tuple(load_feeds(Path(folder) / name))

    units = Units(trace("rounding"), trace("floor"), reduced={kind: trace(kind) for kind in KINDS})
    return model, feed, trace("trace"), units


def _climbed(measured: Any, kind: str, accept: tuple[str, ...] = ()) -> tuple[Any, dict[str, Execution]]:
    model, feed, exact, units = measured
    found = {"logits": _session(_emulated(model, kind, feed)).run(None, dict(feed))[0]}
    runs = {"ort/cpu": Execution("ort/cpu", exact), "ort/cuda": Execution("ort/cuda", (found,))}
    return climb([RungPlan("provider", "ort/cpu", "ort/cuda")], runs, units, Rules(accept))[0], runs


@pytest.mark.parametrize("kind", KINDS)
def test_a_reduced_precision_is_within_its_own_unit(measured: Any, kind: str) -> None:
    """An emulated run in each type fails as float32 and lies between a fifth and the limit of the type's own unit."""
    rung, runs = _climbed(measured, kind)
    assert rung.status is Status.FAIL
    assert rung.ratio > 10 * LIMITS["provider"].factor
    own = compare(runs["ort/cpu"].trace, runs["ort/cuda"].trace, measured[3].reduced[kind], step=2.0**-24).ratio
    assert 0.2 < own < 1.2 < REDUCED


@pytest.mark.parametrize(
    ("kind", "said"), [("tf32", "10 mantissa"), ("float16", "10 mantissa"), ("bfloat16", "bfloat16")]
)
def test_a_reduced_precision_is_recognised(measured: Any, kind: str, said: str) -> None:
    """The error alone tells ten mantissa bits from seven."""
    rung, runs = _climbed(measured, kind)
    assert said in recognised(rung, runs, measured[3])


def test_accepting_one_type_accepts_nothing_worse(measured: Any) -> None:
    """TF32 is accepted as TF32; bfloat16 and 8-bit quantisation are not."""
    status = {kind: _climbed(measured, kind, ("tf32",))[0].status for kind in ("tf32", "bfloat16", "int8")}
    assert status == {"tf32": Status.PASS, "bfloat16": Status.FAIL, "int8": Status.FAIL}
