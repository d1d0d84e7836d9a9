"""Graphs that onnxruntime has optimised, against what they were made from: numbers, names, and pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.layers.optimized.blocks import NCHWC, Filter
from onnxeq.layers.optimized.observed import observed_in_optimized
from onnxeq.layers.optimized.standard import block_size, blocked_values, former_names, meaning, unblock
from onnxeq.layers.pairing.pairs import Pair, pair_graphs
from onnxeq.referee import Executor
from onnxeq.types import PairedBy

BLOCK = block_size()
Weights = dict[str, np.ndarray]
Node = onnx.NodeProto


def model(
    nodes: list[Node], weights: Weights, shape: tuple[int, ...], *outputs: str, opset: int = 20
) -> onnx.ModelProto:
    """A model of ``x`` with these nodes and float32 weights."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def conv_net() -> onnx.ModelProto:
    """20 channels, which fill no block; a residual sum; depthwise; a BatchNormalization on its own; nearest Resize."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * (2 / max(1, np.prod(shape[1:]))) ** 0.5).astype(np.float32)

    weights = {
        "w1": drawn(20, 3, 3, 3), "b1": drawn(20), "w2": drawn(32, 20, 3, 3), "w3": drawn(32, 32, 3, 3),
        "w4": drawn(32, 1, 3, 3), "w5": drawn(16, 64, 1, 1), "w6": drawn(16, 10),
        "s": drawn(64), "b": drawn(64), "m": drawn(64), "v": drawn(64) ** 2 + np.float32(0.5),
        "low": np.float32(0), "high": np.float32(6), "scales": np.array([1, 1, 2, 2], np.float32),
        "axes": np.array([2, 3]),
    }  # fmt: skip
    same = {"pads": [1, 1, 1, 1]}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], **same), node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2"], ["c2"], **same), node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "w3"], ["c3"], **same), node("Add", ["c3", "r2"], ["a3"]), node("Relu", ["a3"], ["r3"]),
        node("Conv", ["r3", "w4"], ["c4"], group=32, **same), node("Clip", ["c4", "low", "high"], ["k4"]),
        node("Concat", ["k4", "r3"], ["j"], axis=1),
        node("BatchNormalization", ["j", "s", "b", "m", "v"], ["n"]), node("Relu", ["n"], ["r"]),
        node("AveragePool", ["r"], ["q"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["q", "w5"], ["c5"]),
        node("Resize", ["c5", "", "scales"], ["u"], mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor"),
        node("Sigmoid", ["u"], ["g"]), node("ReduceMean", ["g", "axes"], ["e"], keepdims=0),
        node("MatMul", ["e", "w6"], ["y"]),
    ]  # fmt: skip
    return model(nodes, weights, (1, 3, 12, 12), "y")


VALUES = ("c1", "r1", "p1", "c2", "r2", "c3", "a3", "r3", "c4", "k4", "j", "n", "r", "q", "c5", "u", "g", "e", "y")
UNFOLDED = frozenset(VALUES[: VALUES.index("n")])
"""What the BatchNormalization, which onnxruntime folds in float32, has no part in."""


def optimised(original: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, Any]:
    """What onnxruntime makes of a model, and its session."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    session = onnxruntime.InferenceSession(original.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path), session


def literally(optimized: onnx.ModelProto) -> Any:
    """A session that runs a graph as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(optimized.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feed(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A random ``x``."""
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def paired(original: onnx.ModelProto, optimized: onnx.ModelProto) -> dict[str, Pair]:
    """Values of the optimised graph's meaning and what they are in the original."""
    plain = meaning(optimized, BLOCK)
    return pair_graphs(original, plain, {"x": "x"}, {"y": "y"}, names=former_names(optimized))


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The optimised network, on blocked tensors."""
    if BLOCK == 1:
        pytest.skip("this machine's onnxruntime has no blocked tensors")
    return optimised(conv_net(), tmp_path_factory.mktemp("ort") / "o.onnx")[0]


def test_every_value_of_the_original_is_found(blocked: onnx.ModelProto) -> None:
    """All 19 values are paired; those that no folding reaches, by structure, though padded, blocked and fused."""
    found = paired(conv_net(), blocked)
    assert {p.source for p in found.values()} == {"x", *VALUES}
    assert len(blocked.graph.node) < len(VALUES)
    by = {p.source: p for p in found.values()}
    assert {by[name].by for name in UNFOLDED} == {PairedBy.STRUCTURE}
    assert {by[name].confidence for name in UNFOLDED} == {1.0}


def test_only_standard_operators_are_left(blocked: onnx.ModelProto) -> None:
    """The meaning of this graph needs none of onnxruntime's own operators, and passes the ONNX checker."""
    plain = meaning(blocked, BLOCK)
    assert {node.domain for node in plain.graph.node} == {""}
    kept = [o for o in plain.opset_import if o.domain in ("", "com.microsoft")]
    del plain.opset_import[:]
    plain.opset_import.extend(kept)
    onnx.checker.check_model(plain)


def test_the_meaning_computes_what_the_original_computes(blocked: onnx.ModelProto) -> None:
    """In float64 paired values agree to rounding; behind the folded BatchNormalization to that of float32."""
    original, plain = conv_net(), meaning(blocked, BLOCK)
    found = {n: p.source for n, p in paired(original, blocked).items() if n != "x"}
    x = feed((1, 3, 12, 12))
    there = Executor(original).run(x, outputs=list(VALUES))
    here = Executor(plain).run(x, outputs=list(found))
    for name, source in found.items():
        assert here[name].shape == there[source].shape
        limit = 1e-12 if source in UNFOLDED else 1e-6
        assert np.abs(here[name] - there[source]).max() <= limit * np.abs(there[source]).max(), source


def test_a_blocked_value_is_put_back(blocked: onnx.ModelProto) -> None:
    """What onnxruntime returns for blocked values, put in order, is the original's to float32 rounding; and asking for
    them changes no bit of the result.
    """
    original = conv_net()
    shape = blocked_values(blocked, BLOCK)
    found = {n: p.source for n, p in paired(original, blocked).items()}
    probed = onnx.ModelProto()
    probed.CopyFrom(blocked)
    asked = [n for n in shape if n in found]
    probed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in asked)
    x = feed((1, 3, 12, 12))
    raw = dict(zip(["y", *asked], literally(probed).run(None, x), strict=True))
    deployed = onnxruntime.InferenceSession(original.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(raw["y"], deployed.run(None, x)[0])
    there = Executor(original).run(x, outputs=list(VALUES))
    assert len(asked) > 8
    for name in asked:
        want = there[found[name]]
        got = unblock(raw[name], shape[name].channels, BLOCK)
        assert got.shape == want.shape
        assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_padding_is_told_from_channels(blocked: onnx.ModelProto) -> None:
    """The first Conv has 20 channels in 24 or 32, whichever the machine's blocks make of it."""
    found = {value.former: value.channels for value in blocked_values(blocked, BLOCK).values()}
    assert found["r1"] == 20
    assert found["c3"] == 32


def test_without_declared_shapes_the_padding_still_shows(blocked: onnx.ModelProto) -> None:
    """Where the graph declares no shape, channels of zeros at the end are padding."""
    bare = onnx.ModelProto()
    bare.CopyFrom(blocked)
    del bare.graph.value_info[:]
    assert {n: v.channels for n, v in blocked_values(bare, BLOCK).items()} == {
        n: v.channels for n, v in blocked_values(blocked, BLOCK).items()
    }


@pytest.mark.skipif(BLOCK == 1, reason="this machine's onnxruntime has no blocked tensors")
def test_a_blocked_value_of_unknown_width_is_not_taken_for_a_plain_one(tmp_path: Path) -> None:
    """Two pools between a plain tensor whose shape nothing declares and a Concat: what they hold could be put in no
    order, so neither is read; all others are, and each that is blocked has its channels.
    """
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((32, 3, 3, 3)).astype(np.float32)}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "a"), helper.make_node("Elu", ["a"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["s"], "s"), helper.make_node("MaxPool", ["s"], ["p"], "p", **pool),
        helper.make_node("AveragePool", ["s"], ["q"], "q", **pool),
        helper.make_node("Concat", ["q", "p"], ["c"], "c", axis=1), helper.make_node("Elu", ["c"], ["y"], "y"),
    ]  # fmt: skip
    original = model(nodes, weights, (1, 3, 12, 12), "y")
    ran = optimised(original, tmp_path / "o.onnx")[0]
    del ran.graph.value_info[:]
    makers = {name: node for node in ran.graph.node for name in node.output}
    found = {o.value: o for o in observed_in_optimized(original, ran, tmp_path, tmp_path)}
    assert {"a", "b", "s", "c", "y"} <= set(found) <= {"a", "b", "s", "c", "y", "p", "q"}
    blocked = [
        o for o in found.values() if makers[o.name].domain == NCHWC and makers[o.name].op_type != "ReorderOutput"
    ]
    assert blocked
    assert all(o.channels for o in blocked)
    assert found["c"].channels == 64


@pytest.mark.parametrize("block", [8, 16])
def test_unblocking_by_hand(block: int) -> None:
    """Element (n, c, h, w) of ``[2,20,3,5]`` lies at block c // b, pixel (h, w), place c % b; for filters likewise."""
    logical = np.arange(2 * 20 * 15).reshape(2, 20, 3, 5)
    width = -(-20 // block) * block
    lying = np.zeros((2, width // block, 3, 5, block), int)
    for c in range(20):
        lying[:, c // block, :, :, c % block] = logical[:, c]
    assert np.array_equal(unblock(lying.reshape(2, width, 3, 5), 20, block), logical)
    assert np.array_equal(unblock(lying, 20, block), logical)
    filters = np.arange(width * width * 6).reshape(width, width, 2, 3)
    both = np.zeros((width // block, width // block, 2, 3, block, block), int)
    outer = np.zeros((width // block, width, 2, 3, block), int)
    for o in range(width):
        outer[o // block, :, :, :, o % block] = filters[o]
        for i in range(width):
            both[o // block, i // block, :, :, i % block, o % block] = filters[o, i]
    assert np.array_equal(Filter(depthwise=False, blocked=True).plain(both.reshape(filters.shape), block), filters)
    assert np.array_equal(Filter(depthwise=False, blocked=False).plain(outer.reshape(filters.shape), block), filters)


def _fused(op_type: str, inputs: list[str], **attributes: Any) -> Node:
    return helper.make_node(op_type, ["x", *inputs], ["y"], domain="com.microsoft", **attributes)


_RNG = np.random.default_rng(2)
_W = {
    "k": _RNG.standard_normal((4, 6, 3, 3)), "z": _RNG.standard_normal((2, 4, 3, 3)), "c": _RNG.standard_normal(4),
    "d": _RNG.standard_normal((5, 7)), "t": _RNG.standard_normal((2, 6, 9, 5)), "g": _RNG.standard_normal(5),
    "h": _RNG.standard_normal(5), "e": _RNG.standard_normal((2, 6, 5, 5)),
}  # fmt: skip
_W = {n: w.astype(np.float32) for n, w in _W.items()}

FUSED: dict[str, tuple[Node, set[str]]] = {
    "conv": (_fused("FusedConv", ["k", "c", "z"], activation="Relu"), {"Conv", "Add", "Relu"}),
    "conv leaky": (
        _fused("FusedConv", ["k"], activation="LeakyRelu", activation_params=[0.25]), {"Conv", "LeakyRelu"},
    ),
    "conv clip": (_fused("FusedConv", ["k"], activation="Clip", activation_params=[-1.0, 2.0]), {"Conv", "Clip"}),
    "conv hard": (
        _fused("FusedConv", ["k"], activation="HardSigmoid", activation_params=[0.25, 0.5]), {"Conv", "HardSigmoid"},
    ),
    "matmul": (_fused("FusedMatMul", ["t"], transB=1, alpha=0.5), {"Transpose", "MatMul", "Mul"}),
    "matmul batch": (
        _fused("FusedMatMul", ["e"], transBatchA=1, transBatchB=1, transB=1),
        {"Transpose", "MatMul"},
    ),
    "gelu": (_fused("Gelu", []), {"Gelu"}),
    "bias gelu": (_fused("BiasGelu", ["g"]), {"Add", "Gelu"}),
    "fast gelu": (_fused("FastGelu", ["g"]), {"Add", "Gelu"}),
    "quick gelu": (_fused("QuickGelu", [], alpha=1.5), {"Mul", "Sigmoid"}),
    "silu": (_fused("QuickGelu", [], alpha=1.0), {"Mul", "Sigmoid"}),
    "skip": (_fused("SkipLayerNormalization", ["e", "g", "h", "g"], epsilon=1e-5), {"Add", "LayerNormalization"}),
    "skip simplified": (
        _fused("SkipSimplifiedLayerNormalization", ["e", "g", "h"], epsilon=1e-5),
        {"Add", "SimplifiedLayerNormalization"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_operator_is_the_sum_of_its_parts(name: str) -> None:
    """The standard operators that a fused one is taken apart into compute the same in float64."""
    node, parts = FUSED[name]
    weights = {n: w for n, w in _W.items() if n in node.input}
    fused = model([node], weights, (2, 6, 5, 5), "y")
    plain = meaning(fused, BLOCK)
    assert {n.op_type for n in plain.graph.node} == parts
    x = feed((2, 6, 5, 5))
    want, got = Executor(fused).run(x)["y"], Executor(plain).run(x)["y"]
    assert np.abs(got - want).max() <= 1e-13 * np.abs(want).max()


def test_a_fused_gemm_is_the_sum_of_its_parts() -> None:
    """FusedGemm, whose parameters are attributes of their own."""
    node = _fused("FusedGemm", ["d"], alpha=0.5, activation="LeakyRelu", activation_alpha=0.1)
    fused = model([node], {"d": _W["d"]}, (3, 5), "y")
    plain = meaning(fused, BLOCK)
    assert [n.op_type for n in plain.graph.node] == ["Gemm", "LeakyRelu"]
    x = feed((3, 5))
    assert np.allclose(Executor(plain).run(x)["y"], Executor(fused).run(x)["y"], rtol=1e-14, atol=0)


def test_a_matmul_with_bias_is_no_gemm(tmp_path: Path) -> None:
    """Of a MatMul and an Add, onnxruntime makes a Gemm between two Reshapes; it is paired with them again."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "d"], ["m"]), node("Add", ["m", "b"], ["a"]), node("Relu", ["a"], ["r"]),
        node("Softmax", ["r"], ["y"]),
    ]  # fmt: skip
    original = model(nodes, {"d": _W["d"], "b": np.arange(7, dtype=np.float32)}, (2, 3, 5), "y")
    optimized, _ = optimised(original, tmp_path / "o.onnx")
    assert "Gemm" in {n.op_type for n in optimized.graph.node}
    found = paired(original, optimized)
    assert {p.source for p in found.values()} == {"x", "m", "a", "r", "y"}
    assert {p.by for n, p in found.items() if n != "x"} == {PairedBy.STRUCTURE}


def test_subgraphs_are_rewritten_too() -> None:
    """A fused operator in the branch of an If is taken apart as in the main graph."""
    out = [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)]
    inner = helper.make_node("QuickGelu", ["x"], ["t"], domain="com.microsoft", alpha=1.0)
    branch = helper.make_graph([inner], "b", [], out)
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["t"])], "c", [], out)
    node = helper.make_node("If", ["k"], ["y"], then_branch=branch, else_branch=other)
    plain = meaning(model([node], {"k": np.array(True)}, (2,), "y"), BLOCK)
    (then,) = [a.g for a in plain.graph.node[0].attribute if a.name == "then_branch"]
    assert [n.op_type for n in then.node] == ["Sigmoid", "Mul"]
