from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from onnxeq.accumulation import terms
from onnxeq.noise import AMPLITUDE, ConstantFloor, OwnFloor, RoundingNoise, SingleRounding
from onnxeq.referee import Executor
from onnxeq.runners.referee import _movement

U = 2.0**-24


def matmul_model(k: int, b: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", b.shape[1]])],
        [numpy_helper.from_array(b, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def spread(
    executor: Executor, feed: dict[str, np.ndarray], make: object, draws: int = 8, amplitude: float = 1.0
) -> np.ndarray:
    base = executor.run(feed)["y"]
    moved = [executor.run(feed, hook=make(seed))["y"] - base for seed in range(draws)]  # type: ignore[operator]
    return np.sqrt(np.mean(np.square(moved), axis=0)) / amplitude


def sequential_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The real float32 error of a product summed term by term in one accumulator per element."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total += a[:, k : k + 1] * b[k : k + 1]
    return total.astype(np.float64) - a.astype(np.float64) @ b.astype(np.float64)


@pytest.mark.parametrize("positive", [False, True], ids=["random signs", "one sign"])
@pytest.mark.parametrize("k", [16, 64, 128])
def test_the_unit_is_the_size_of_a_real_accumulation(k: int, positive: bool) -> None:
    """Up to a block's length the unit agrees within a factor of 2 with measured float32 accumulation."""
    rng = np.random.default_rng(k)
    a = rng.standard_normal((64, k)).astype(np.float32)
    b = rng.standard_normal((k, 64)).astype(np.float32)
    if positive:
        a, b = np.abs(a), np.abs(b)
    unit = spread(Executor(matmul_model(k, b)), {"a": a}, RoundingNoise, amplitude=AMPLITUDE)
    measured = np.sqrt(np.mean(np.square(sequential_error(a, b))))
    assert 0.5 < np.sqrt(np.mean(np.square(unit))) / measured < 2.0


def test_single_roundings_are_of_the_result_alone() -> None:
    """A product of 4,096 equal terms, rounded once, is off by ``u/sqrt(3)`` of itself, however its kernel adds up."""
    b = np.full((4096, 1), 0.3, np.float32)
    executor, feed = Executor(matmul_model(4096, b)), {"a": np.full((1, 4096), 0.1, np.float32)}
    single = spread(executor, feed, SingleRounding, amplitude=AMPLITUDE) / executor.run(feed)["y"]
    assert single.item() == pytest.approx(U / 3**0.5, rel=1e-6)


def test_a_cancelling_product_keeps_its_noise() -> None:
    """Where the terms cancel to nothing the unit is that of the terms, not of the result."""
    a = np.array([[1.0, 1.0, 1.0, 1.0]], np.float32)
    b = np.array([[1000.0], [-1000.0], [1000.0], [-1000.0]], np.float32)
    unit = spread(Executor(matmul_model(4, b)), {"a": a}, RoundingNoise, amplitude=AMPLITUDE)
    assert Executor(matmul_model(4, b)).run({"a": a})["y"].item() == 0
    assert 100 * U < unit.item() < 10_000 * U


def test_the_floor_of_a_product_is_half_an_ulp_of_its_constant() -> None:
    """With ``y = a*b`` and one constant, every draw moves y by exactly ``|a*b| * 2^-24``."""
    b = np.array([[np.float32(1 / 3)]], np.float32)
    unit = spread(Executor(matmul_model(1, b)), {"a": np.array([[2.0]], np.float32)}, ConstantFloor)
    assert unit.item() == pytest.approx(2 * float(b[0, 0]) * U, rel=1e-6)


def test_constants_that_float32_holds_exactly_have_no_floor() -> None:
    """0.5 and 3 were never rounded on their way into the file, so they do not move."""
    for value in (0.5, 3.0, -1.0, 0.0):
        b = np.array([[value]], np.float32)
        unit = spread(Executor(matmul_model(1, b)), {"a": np.array([[2.0]], np.float32)}, ConstantFloor)
        assert unit.item() == 0


def test_moving_data_makes_no_noise() -> None:
    """Transpose, Relu and MaxPool return what was rounded before."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MaxPool", ["t"], ["y"], kernel_shape=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3, 3])],
    )  # fmt: skip
    executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 4)).astype(np.float32)
    assert spread(executor, {"x": x}, RoundingNoise).max() == 0


def test_a_tiny_running_variance_widens_the_unit() -> None:
    """Dividing by sqrt(variance) multiplies the incoming noise: the unit grows by the same factor."""

    def unit(variance: float) -> float:
        nodes = [
            helper.make_node("Mul", ["x", "third"], ["m"]),
            helper.make_node("BatchNormalization", ["m", "one", "zero", "zero", "var"], ["y"], epsilon=0.0),
        ]
        constants = {
            "third": np.float32(1 / 3),
            "one": np.ones(1, np.float32),
            "zero": np.zeros(1, np.float32),
        }
        constants["var"] = np.full(1, variance, np.float32)
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 1])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        )  # fmt: skip
        executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
        x = np.random.default_rng(0).standard_normal((64, 1)).astype(np.float32)
        return float(np.sqrt(np.mean(np.square(spread(executor, {"x": x}, RoundingNoise)))))

    assert unit(1e-6) / unit(1.0) == pytest.approx(1e3, rel=1e-3)


@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["signs cancel", "one sign"])
@pytest.mark.parametrize("axis", [0, 1], ids=["strided", "along memory"])
def test_a_long_reduction_is_as_inaccurate_as_it_is_summed(axis: int, shift: float) -> None:
    """The unit of a mean over 16,384 elements is that of a real float32 sum within a factor of 4: one
    accumulator along a strided axis, eight along memory.
    """
    rng = np.random.default_rng(0)
    x = (shift + rng.standard_normal((64, 16_384))).astype(np.float32)
    lanes = 8 if axis == 1 else 1
    total = np.zeros((64, lanes), np.float32)
    for k in range(0, x.shape[1], lanes):
        total += x[:, k : k + lanes]
    exact = x.astype(np.float64).sum(1)
    measured = np.sqrt(np.mean(np.square(total.astype(np.float64).sum(1) - exact))) / x.shape[1]
    value = x if axis == 1 else np.ascontiguousarray(x.T)
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[axis], keepdims=0)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(value.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64])],
    )  # fmt: skip
    executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    unit = np.sqrt(np.mean(np.square(spread(executor, {"x": value}, RoundingNoise, amplitude=AMPLITUDE))))
    assert 0.25 < unit / measured < 4.0


def test_what_cancels_in_the_end_was_rounded_in_between() -> None:
    """Half ones and half minus ones average to nothing; the unit is that of the partial sums."""
    x = np.concatenate([np.ones((1, 8192)), -np.ones((1, 8192))], axis=1).astype(np.float32) / 3
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    assert spread(executor, {"x": x}, RoundingNoise, amplitude=AMPLITUDE).item() > U


def test_chains_grow_with_the_block_and_then_with_their_number() -> None:
    """25,088 terms (VGG's first dense layer) make a chain longer than 4,608 (ResNet's longest)."""
    assert terms(1) == pytest.approx(1, abs=0.01)
    assert terms(100) < terms(1000) < terms(25_088)
    assert terms(25_088) < 400


def _kernels() -> list[tuple[str, str, int, list[np.ndarray], dict[str, object]]]:
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return rng.standard_normal(shape) * scale

    near = normal(400, scale=1e-4)
    dominated = normal(100, 8) + np.array([30.0] + [0.0] * 7)
    large = normal(200, scale=1000.0)
    cells = [normal(1, 12, 3, scale=0.5), normal(1, 12, 3, scale=0.5)]
    rows = np.tile(np.arange(4), (100, 1)).astype(np.int64) // 2
    fused: dict[str, object] = {"domain": "com.microsoft"}
    return [
        ("elu near zero", "Elu", 6, [near], {}),
        ("celu near zero", "Celu", 12, [near], {"alpha": 0.5}),
        ("selu near zero", "Selu", 6, [near], {}),
        ("sigmoid far below zero", "Sigmoid", 6, [-14 - 3 * rng.random(400)], {}),
        ("log softmax near zero", "LogSoftmax", 13, [dominated], {"axis": -1}),
        ("a sum that cancels", "Sum", 8, [large, normal(200), -large + normal(200)], {}),
        ("a mean that cancels", "Mean", 8, [large, normal(200), -large + normal(200)], {}),
        ("scatter that adds", "ScatterElements", 18, [normal(100, 4), rows, normal(100, 4, scale=1e3)],
         {"axis": 1, "reduction": "add"}),
        ("root mean squares of 16", "RMSNormalization", 23, [normal(64, 16), 1 + normal(16, scale=0.3)], {}),
        ("root mean squares far from zero", "RMSNormalization", 23, [100 + normal(64, 768), 1 + normal(768, scale=0.3)],
         {}),
        ("instances of one element", "InstanceNormalization", 6, [normal(100, 4, 1), normal(4), normal(4)], {}),
        ("a sliding sum of squares", "LRN", 13, [normal(4, 16, 3, 3, scale=1e3) * (rng.random((1, 16, 1, 1)) < 0.5)
                                                 + normal(4, 16, 3, 3)], {"size": 1, "beta": 0.5, "bias": 2.0}),
        ("equal terms", "ReduceSum", 13, [np.full((8, 20_000), 0.1), np.array([1])], {}),
        ("equal terms along a strided axis", "ReduceMean", 18, [np.full((20_000, 8), 0.1), np.array([0])], {}),
        ("a norm of equal terms", "ReduceL2", 18, [np.full((8, 20_000), 0.1), np.array([1])], {}),
        ("squares that are lost beside their sum", "ReduceSumSquare", 18, [normal(8, 400_000), np.array([1])], {}),
        ("a logarithm of nearly equal terms", "ReduceLogSumExp", 18,
         [1 + 1e-5 * normal(8, 20_000), np.array([1])], {}),
        ("a long product", "ReduceProd", 18, [1 + 0.1 * normal(64, 1000), np.array([1])], {}),
        ("root mean squares of equal terms", "RMSNormalization", 23, [np.full((8, 20_000), 0.1), np.ones(20_000)], {}),
        ("a p-norm of equal terms", "LpNormalization", 22, [np.full((8, 20_000), 0.1)], {"p": 1}),
        ("a pool's norm of equal terms", "GlobalLpPool", 2, [np.full((1, 8, 150, 150), 0.1)], {}),
        ("a wide window of equal terms", "AveragePool", 11, [np.full((1, 2, 66, 66), 0.1)], {"kernel_shape": [64, 64]}),
        ("a running sum", "CumSum", 14, [normal(8, 20_000), np.array(1)], {}),
        ("a running sum of equal terms", "CumSum", 14, [np.full((8, 20_000), 0.1), np.array(1)], {"reverse": 1}),
        ("a softmax of nearly equal terms", "Softmax", 13, [rng.uniform(0.999, 1.001, (4, 50_000))], {}),
        ("a wide image with a bias", "InstanceNormalization", 6, [normal(1, 2, 512, 512), np.ones(2), 2 * np.ones(2)],
         {}),
        ("groups far from zero", "GroupNormalization", 21, [100 + normal(1, 4, 64, 64), np.ones(4), np.zeros(4)],
         {"num_groups": 2}),
        ("an equal row by an equal column", "MatMul", 13, [np.full((4, 4096), 0.1), np.full((4096, 16), 0.3)], {}),
        ("a depthwise window", "Conv", 11, [rng.random((1, 4, 120, 120)), rng.random((4, 1, 110, 110))], {"group": 4}),
        ("a cubic's coefficients", "Resize", 19, [np.full((1, 1, 7, 7), 0.7), np.zeros(0), np.array([1, 1, 7.3, 7.3])],
         {"mode": "cubic"}),
        ("a plain cell near zero", "RNN", 14, [normal(1, 200, 1), normal(1, 1, 1, scale=0.01), np.zeros((1, 1, 1))],
         {"hidden_size": 1}),
        ("gates of large terms", "LSTM", 14, [normal(4, 200, 3, scale=500.0), *cells], {"hidden_size": 3}),
        ("a fused attention", "Attention", 17, [normal(2, 16, 64), normal(64, 192, scale=1 / 8), normal(192)],
         {"num_heads": 4, **fused}),
        ("a fused attention with sharp scores", "Attention", 17, [normal(2, 64, 64), normal(64, 192), normal(192)],
         {"num_heads": 4, **fused}),
        ("attention without projections", "MultiHeadAttention", 17, [normal(2, 64, 256), *normal(2, 2, 67, 256)],
         {"num_heads": 8, **fused}),
        ("a residual normalised", "SkipLayerNormalization", 17, [*normal(2, 2, 9, 768), *normal(3, 768)], fused),
        ("a residual far from zero", "SkipLayerNormalization", 17,
         [30 + normal(2, 9, 4096), normal(2, 9, 4096), np.ones(4096), np.zeros(4096)], fused),
        ("a residual's root mean squares", "SkipSimplifiedLayerNormalization", 17,
         [*normal(2, 2, 9, 768), *normal(2, 768)], fused),
        ("a spectrum", "DFT", 17, [normal(2, 256, 1)], {"axis": 1}),
        ("spectra of frames", "STFT", 17, [normal(2, 400, 1), np.array(8), normal(16)], {}),
        ("an inverse", "Inverse", 17, [normal(3, 20, 20) + 2 * np.eye(20)], fused),
        ("a determinant", "Det", 17, [normal(200, 20, 20, scale=0.2)], {}),
        ("regions between pixels", "RoiAlign", 16,
         [normal(1, 5, 20, 20), np.array([[0, 0, 20, 20], [3, 4, 30, 33.3]]), np.zeros(2, np.int64)],
         {"output_height": 4, "output_width": 4, "sampling_ratio": 2, "spatial_scale": 0.5}),
    ]  # fmt: skip


@pytest.mark.parametrize(("op", "opset", "values", "attributes"), [pytest.param(*c[1:], id=c[0]) for c in _kernels()])
def test_the_unit_covers_what_the_kernel_really_does(
    op: str, opset: int, values: list[np.ndarray], attributes: dict[str, object]
) -> None:
    """The error of onnxruntime's own kernel is of the unit's size, where a rounding of the result would be far less."""
    ort = pytest.importorskip("onnxruntime")
    feed = {f"x{i}": v if v.dtype.kind == "i" else v.astype(np.float32) for i, v in enumerate(values)}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feed.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, list(feed), ["y"], **attributes)], "g", infos, [onnx.ValueInfoProto(name="y")]
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    executor = Executor(model)
    exact = executor.run(feed)["y"]
    error = session.run(None, feed)[0] - exact
    unit = np.hypot(spread(executor, feed, RoundingNoise, amplitude=AMPLITUDE), U / 4 * np.abs(exact))
    assert 1 / 30 < np.sqrt(np.nanmean(np.square(error / np.maximum(unit, 1e-30)))) < 3


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_a_mean_that_is_not_subtracted_costs_nothing(mean: float) -> None:
    """RMSNormalization: three roundings of the result, and half the relative error ``sqrt(n)/(3*4)`` of a sum of
    ``n = 256`` positive terms in four accumulators, wherever the mean lies; a LayerNormalization of the same values
    loses far more.
    """
    x = mean + np.random.default_rng(0).standard_normal((64, 256))
    feed = {"x": x.astype(np.float32)}
    units = {}
    for op in ("RMSNormalization", "LayerNormalization"):
        graph = helper.make_graph(
            [helper.make_node(op, ["x", "s"], ["y"])], "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [64, 256])], [onnx.ValueInfoProto(name="y")],
            [onnx.numpy_helper.from_array(np.ones(256, np.float32), "s")],
        )  # fmt: skip
        executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
        relative = spread(executor, feed, RoundingNoise, amplitude=AMPLITUDE) / np.abs(executor.run(feed)["y"])
        units[op] = float(np.sqrt(np.median(np.square(relative)))) / U
    expected = np.sqrt(1 + (256**0.5 / (2 * 3 * 4)) ** 2)
    assert units["RMSNormalization"] == pytest.approx(expected, rel=0.1)
    if mean:
        assert units["LayerNormalization"] > 30 * units["RMSNormalization"]


@pytest.mark.parametrize("op", ["InstanceNormalization", "LayerNormalization", "GroupNormalization"])
def test_what_a_group_shares_does_not_average_out(op: str) -> None:
    """The mean over 4,096 elements, normalised from far off zero and rectified, has nearly the noise of one of them.

    What each rounds for itself would fall to a 64th; the error of the mean that was subtracted from all does not.
    """
    bias = [1.0, 1.0] if op != "LayerNormalization" else np.ones((64, 64))
    attributes = {"GroupNormalization": {"num_groups": 2}, "LayerNormalization": {"axis": 2}}.get(op, {})
    x = 100 + np.random.default_rng(0).standard_normal((1, 2, 64, 64))
    units = []
    for last in ("ReduceMean", "Identity"):
        nodes = [
            helper.make_node(op, ["x", "s", "b"], ["n"], **attributes),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node(last, ["r", "axes"] if last == "ReduceMean" else ["r"], ["y"]),
        ]
        stored = {"s": np.ones_like(bias), "b": np.asarray(bias)}
        constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()]
        constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
        info = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
        graph = helper.make_graph(nodes, "g", [info], [onnx.ValueInfoProto(name="y")], constants)
        executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
        unit = spread(executor, {"x": x.astype(np.float32)}, RoundingNoise, draws=16, amplitude=AMPLITUDE)
        units.append(float(np.sqrt(np.mean(np.square(unit)))))
    assert units[0] > units[1] / 8


def test_a_pool_over_zeros_has_no_noise() -> None:
    """The mean of a window of zeros is zero in every arithmetic, however large the other windows are."""
    graph = helper.make_graph(
        [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2], strides=[2])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4])],
    )
    executor = Executor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    x = np.array([[[0, 0, 1000, 999, 0, 0, 1, -1]]], np.float32)
    unit = spread(executor, {"x": x}, RoundingNoise, amplitude=AMPLITUDE)[0, 0]
    assert unit[0] == unit[2] == 0.0
    assert unit[1] == pytest.approx(1000 * U, rel=1.0)  # one rounding of the sum, one of the quotient
    assert 0 < unit[3] < 2 * U


def test_a_draw_that_leaves_the_numbers_is_not_taken_for_stillness() -> None:
    """The root of a zero that rounding moved below it is NaN: the unit there is the other elements', never 0."""
    moved = np.array([1.0, np.nan, 3.0])
    squares = _movement(np.array([1.5, 0.0, 3.0]), moved, 1.0)
    assert squares.tolist() == [0.25, 0.125, 0.0]
    assert np.isinf(_movement(np.zeros(2), np.full(2, np.nan), 1.0)).all()
    assert _movement(np.array([np.inf, 1.0]), np.array([np.inf, 1.0]), 1.0).tolist() == [0.0, 0.0]


def test_the_own_floor_moves_what_the_exporter_has_added() -> None:
    """A native weight stays; a constant of the exporter's and what it computes of constants move by half an ulp."""
    model = parse_model("""<ir_version: 9, opset_import: ["": 17]>
    g (float[3] x) => (float[3] a, float[3] b, float[3] c)
        <float[3] w = {0.1, 0.2, 0.3}, float[3] k = {0.1, 0.7, 0.3}> {
        a = Mul(x, w)  b = Mul(x, k)  r = Sqrt(w)  c = Mul(x, r)
    }""")
    executor = Executor(model)
    feed = {"x": np.float32([1, 2, 3])}
    exact = executor.run(feed)
    moved = executor.run(feed, hook=OwnFloor(0, native=["w"]))
    share = {n: np.abs(moved[n] / exact[n] - 1) for n in "abc"}
    assert (share["a"] == 0).all()
    np.testing.assert_allclose(np.concatenate([share["b"], share["c"]]), 2.0**-24, rtol=1e-6)
