"""BN(L(x; W, b)) = L(x; sW, s(b - mean) + bias)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

ROUNDED = 2.0**-21
RNG = np.random.default_rng(7)
NORM = "y = BatchNormalization(h, s, b, m, v)"


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def statistics(channels, dtype=np.float32):
    return {
        "s": RNG.uniform(0.5, 2, channels).astype(dtype),
        "b": normal(channels, dtype=dtype),
        "m": normal(channels, dtype=dtype),
        "v": RNG.uniform(0.1, 2, channels).astype(dtype),
    }


@pytest.mark.parametrize("bias", [True, False])
def test_conv(build, same, ops, stored, bias):
    """BN(Conv(x)) is one Conv, whose weight is the float64 formula rounded once; with and without bias."""
    constants = {"w": normal(4, 3, 3, 3), **({"c": normal(4)} if bias else {}), **statistics(4)}
    model = build(
        f"g (float[N,3,6,6] x) => (float[N,4,4,4] y) {{ h = Conv(x, w{', c' if bias else ''}) {NORM} }}",
        **constants,
    )
    result = same(model, relative=ROUNDED)
    assert ops(result) == ["Conv"]
    wide = {k: v.astype(np.float64) for k, v in constants.items()}
    factor = wide["s"] / np.sqrt(wide["v"] + float(np.float32(1e-5)))
    want = (wide["w"] * factor[:, None, None, None]).astype(np.float32)
    node = result.model.graph.node[0]
    held = stored(result)
    np.testing.assert_array_equal(held[node.input[1]], want)
    shift = (wide.get("c", 0) - wide["m"]) * factor + wide["b"]
    np.testing.assert_allclose(held[node.input[2]], shift, rtol=2.0**-23)
    assert node.input[1] == "w", "a weight keeps the name that its owner knows"


@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(build, same, ops, group):
    """The output channels of a grouped ConvTranspose are group-major: W[Cin, Cout/group, ...]."""
    model = build(
        f"g (float[N,4,5,5] x) => (float[N,6,7,7] y) {{ h = ConvTranspose <group={group}> (x, w) {NORM} }}",
        w=normal(4, 6 // group, 3, 3),
        **statistics(6),
    )
    assert ops(same(model, relative=ROUNDED)) == ["ConvTranspose"]


@pytest.mark.parametrize("attributes", ["", "<transB=1>", "<alpha=0.5, beta=2.0>"])
def test_gemm(build, same, ops, attributes):
    """BN(alpha AB + beta C) = A(alpha s B) + s(beta C - mean) + bias."""
    shape = (5, 3) if "transB" in attributes else (3, 5)
    model = build(
        f"g (float[N,3] x) => (float[N,5] y) {{ h = Gemm {attributes} (x, w, c) {NORM} }}",
        w=normal(*shape),
        c=normal(5),
        **statistics(5),
    )
    assert ops(same(model, relative=ROUNDED, passes=["infer-shapes", "fold-batch-norm"])) == ["Gemm"]


def test_matmul(build, same, ops):
    """BN(xW) of a matrix is a Gemm."""
    model = build(f"g (float[N,3] x) => (float[N,5] y) {{ h = MatMul(x, w) {NORM} }}", w=normal(3, 5), **statistics(5))
    assert ops(same(model, relative=ROUNDED)) == ["Gemm"]


def test_matmul_of_three_dimensions_stays(build, same, ops):
    """In [N,5,5] the channel axis of BN is 1 and that of MatMul is 2: not the same, although sizes fit."""
    model = build(
        f"g (float[N,5,3] x) => (float[N,5,5] y) {{ h = MatMul(x, w) {NORM} }}",
        w=normal(3, 5),
        **statistics(5),
    )
    assert "BatchNormalization" in ops(same(model))


def test_output_used_elsewhere_stays(build, same, ops):
    """Conv -> BN and Conv -> Relu: folding would change what Relu sees."""
    model = build(
        f"""g (float[N,3,4,4] x) => (float[N,4,4,4] y, float[N,4,4,4] z) {{
            h = Conv(x, w) {NORM} z = Relu(h) }}""",
        w=normal(4, 3, 1, 1),
        **statistics(4),
    )
    assert "BatchNormalization" in ops(same(model))


def test_output_captured_by_a_subgraph_stays(build, same, ops):
    """A value that only an If branch reads besides BN has another reader all the same."""
    model = build(
        f"""g (float[N,3,4,4] x, bool k) => (float[N,4,4,4] y, float[N,4,4,4] z) {{
            h = Conv(x, w) {NORM}
            z = If (k) <then_branch = t () => (float[N,4,4,4] a) {{ a = Relu(h) }},
                        else_branch = e () => (float[N,4,4,4] c) {{ c = Neg(h) }}>
        }}""",
        w=normal(4, 3, 1, 1),
        **statistics(4),
    )
    assert "BatchNormalization" in ops(same(model))


def test_graph_output_stays(build, same, ops):
    """The Conv's result is itself asked for."""
    model = build(
        f"g (float[N,3,4,4] x) => (float[N,4,4,4] y, float[N,4,4,4] h) {{ h = Conv(x, w) {NORM} }}",
        w=normal(4, 3, 1, 1),
        **statistics(4),
    )
    assert "BatchNormalization" in ops(same(model))


def test_shared_weight_is_copied(build, same, ops, stored):
    """Two convolutions share W; only one is normalised: the other keeps the stored W."""
    weight = normal(4, 3, 1, 1)
    model = build(
        f"""g (float[N,3,4,4] x) => (float[N,4,4,4] y, float[N,4,4,4] z) {{
            h = Conv(x, w) {NORM} z = Conv(x, w) }}""",
        w=weight,
        **statistics(4),
    )
    result = same(model, relative=ROUNDED)
    assert ops(result) == ["Conv", "Conv"]
    np.testing.assert_array_equal(stored(result)["w"], weight)


def test_overridable_weight_stays(build, same, ops):
    """An initializer that is also an input can be overridden by the caller: it is no constant."""
    model = build(
        f"g (float[N,3,4,4] x, float[4,3,1,1] w) => (float[N,4,4,4] y) {{ h = Conv(x, w) {NORM} }}",
        w=normal(4, 3, 1, 1),
        **statistics(4),
    )
    assert "BatchNormalization" in ops(same(model))


def test_training_mode_stays(build, ops):
    """With training_mode=1 the batch's own statistics count."""
    norm = "y, rm, rv = BatchNormalization <training_mode=1> (h, s, b, m, v)"
    model = build(
        f"g (float[N,3,4,4] x) => (float[N,4,4,4] y) {{ h = Conv(x, w) {norm} }}",
        w=normal(4, 3, 1, 1),
        **statistics(4),
    )
    from onnxeq.graph.normalize import normalize

    assert "BatchNormalization" in ops(normalize(model))


@pytest.mark.parametrize(("variance", "folds"), [(1.0, True), (0.0, False)])
def test_float16_overflow_stays(build, ops, variance, folds):
    """S = 1000/sqrt(0 + 1e-5) = 3e5 exceeds the largest float16, 65504."""
    half = np.float16
    model = build(
        f"g (float16[N,3,4,4] x) => (float16[N,4,4,4] y) {{ h = Conv(x, w) {NORM} }}",
        w=np.ones((4, 3, 1, 1), half),
        s=np.full(4, 1000, half),
        b=np.zeros(4, half),
        m=np.zeros(4, half),
        v=np.full(4, variance, half),
    )
    from onnxeq.graph.normalize import normalize

    assert ("BatchNormalization" not in ops(normalize(model))) is folds


@pytest.mark.parametrize(("bias", "folds"), [(1.0, True), (0.0, False)])
def test_float16_underflow(build, ops, bias, folds):
    """Weights of 3e-4 * 1e-3 = 3e-7 are 5 float16 subnormals wide: folded only where a bias hides that."""
    half = np.float16
    model = build(
        f"g (float16[N,3,4,4] x) => (float16[N,4,4,4] y) {{ h = Conv(x, w) {NORM} }}",
        w=np.full((4, 3, 1, 1), 3.3e-4, half),
        s=np.full(4, 1e-3, half),
        b=np.full(4, bias, half),
        m=np.zeros(4, half),
        v=np.ones(4, half),
    )
    from onnxeq.graph.normalize import normalize

    assert ("BatchNormalization" not in ops(normalize(model))) is folds


def test_output_name_survives(build, same):
    """BN's output is a graph output: Conv takes over its name."""
    model = build(
        f"g (float[N,3,4,4] x) => (float[N,4,4,4] y) {{ h = Conv(x, w) {NORM} }}",
        w=normal(4, 3, 1, 1),
        **statistics(4),
    )
    result = same(model, relative=ROUNDED)
    assert isinstance(result.model, onnx.ModelProto)
    assert list(result.model.graph.node[0].output) == ["y"]
