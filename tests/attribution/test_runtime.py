"""Runtime faults: the node, the optimiser pass or the setting is named, each fault by itself, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import onnxeq
from onnxeq.attribution import _once, _placed, _told_once
from onnxeq.types import Cause, CauseKind, Report, Status, Verdict, Where

pytestmark = pytest.mark.usefixtures("inline_jobs")

MakeConvNet = Callable[..., onnx.ModelProto]
FAULTY = Path(__file__).parents[1] / "faulty_runner.py"


def faulty(**settings: Any) -> str:
    """The runner with a fault, see ``tests/faulty_runner.py``."""
    return f"{FAULTY}:Faulty?" + "&".join(f"{key}={quote(str(value), safe=',')}" for key, value in settings.items())


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Any]],
    outputs: dict[str, Sequence[Any]],
    stored: dict[str, NDArray[Any]],
    opset: int = 17,
) -> onnx.ModelProto:
    def declared(values: dict[str, Sequence[Any]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in values.items()]

    graph = helper.make_graph(
        nodes, "g", declared(inputs), declared(outputs), [numpy_helper.from_array(v, n) for n, v in stored.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def runtime_causes(report: Report) -> list[Cause]:
    assert report.verdict is Verdict.DIVERGENT
    assert {c.cause for c in report.causes} == {CauseKind.RUNTIME}
    return list(report.causes)


def node_of(name: str, model: onnx.ModelProto) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


@pytest.mark.parametrize(
    ("node", "settings"),
    [
        ("conv1", {"kind": "scale", "size": 1e-4}),
        ("relu1", {"kind": "large", "size": 1e-2}),
        ("conv2", {"kind": "batch", "size": 1e-3}),
        ("head", {"kind": "tf32"}),
    ],
)
def test_a_broken_kernel_is_named_and_what_it_spoils_is_not(
    conv_net: MakeConvNet, node: str, settings: dict[str, Any]
) -> None:
    """Early, late, and in the middle; all elements, large ones, batches above one: one cause, which is the node."""
    report = onnxeq.check(conv_net(), runner=faulty(node=node, **settings))
    causes = [c for c in report.causes if c.cause is CauseKind.RUNTIME]
    assert [(c.rung, c.where.node) for c in causes] == [("kernels", node)]
    assert causes[0].where.value == node_of(node, conv_net()).output[0]
    assert causes[0].where.op_type == node_of(node, conv_net()).op_type


def test_a_kernel_that_draws_numbers_is_no_wrong_kernel(conv_net: MakeConvNet) -> None:
    """What differs from run to run is told as that, with the node, and not by the rungs that follow from it."""
    report = onnxeq.check(conv_net(), runner=faulty(node="pool", kind="random", size=1e-3))
    assert [(c.cause, c.where.node) for c in report.causes] == [(CauseKind.NONDETERMINISM, "pool")]


def test_the_evidence_says_how_far_the_node_is_off(conv_net: MakeConvNet) -> None:
    """A result that is 1/8192 too large is said to be 0.00012 of its size off, and float64 with that error moves as far
    as the runtime's output is away.
    """
    (cause,) = runtime_causes(onnxeq.check(conv_net(), runner=faulty(node="conv2", kind="scale", size=2**-13)))
    assert "0.00012 of its size" in cause.evidence
    assert "made at node conv2 (Conv)" in cause.evidence
    assert "consistent with" not in cause.evidence  # a coincidence of sizes: no other node is off


def test_two_faults_at_once_are_two_causes(conv_net: MakeConvNet) -> None:
    """One behind the other, of different size: both are named, the one that moves the outputs more first."""
    report = onnxeq.check(conv_net(), runner=faulty(node="conv1,head", kind="scale", size=1e-3))
    causes = runtime_causes(report)
    assert {c.where.node for c in causes} == {"conv1", "head"}
    assert causes[0].ratio >= causes[1].ratio


def test_an_ignored_attribute_names_its_node() -> None:
    """LeakyRelu without its slope of 0.3 falls back to 0.01: wrong for negative values only."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="mix"),
        helper.make_node("LeakyRelu", ["h"], ["r"], name="leaky", alpha=0.3),
        helper.make_node("Tanh", ["r"], ["y"], name="squash"),
    ]
    w = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    model = model_of(nodes, {"x": ["N", 8]}, {"y": ["N", 8]}, {"w": w})
    (cause,) = runtime_causes(onnxeq.check(model, runner=faulty(node="leaky", kind="attribute", name="alpha")))
    assert cause.where.node == "leaky"


def test_reduced_precision_everywhere_is_one_cause(conv_net: MakeConvNet) -> None:
    """Both convolutions with operands rounded to 11 bits: one cause that says TF32 and counts them."""
    (cause,) = runtime_causes(onnxeq.check(conv_net(), runner=faulty(op="Conv", kind="tf32")))
    assert "computed in tf32: each of 2 nodes (2 of 2 Conv)" in cause.evidence
    assert cause.where.op_type == "Conv"


def test_a_fault_of_the_optimised_run_alone_is_on_the_optimizer_rung(conv_net: MakeConvNet) -> None:
    """The plain run is right, so that the kernels rung passes and the node is looked for in the optimised run."""
    report = onnxeq.check(conv_net(), runner=faulty(node="conv2", kind="scale", size=1e-3, when="optimized"))
    (cause,) = runtime_causes(report)
    assert (cause.rung, cause.where.node) == ("optimizer", "conv2")


def test_a_fault_of_the_plain_run_alone_is_no_second_fault(conv_net: MakeConvNet) -> None:
    """Kernels and optimizer both break, since the optimised run is right; there is one fault."""
    report = onnxeq.check(conv_net(), runner=faulty(node="conv2", kind="scale", size=1e-3, when="plain"))
    assert {r.name for r in report.rungs if r.status is Status.FAIL} == {"kernels", "optimizer"}
    (cause,) = runtime_causes(report)
    assert (cause.rung, cause.where.node) == ("kernels", "conv2")


def test_a_node_inside_a_branch_is_named_by_the_node_around_it() -> None:
    """A fault in an If's branch: the If is named, and what it holds."""
    branch = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["then"], name="inner")], "b", [],
        [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["else"])], "o", [],
        [helper.make_tensor_value_info("else", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("If", ["yes"], ["h"], name="choice", then_branch=branch, else_branch=other),
        helper.make_node("Tanh", ["h"], ["y"], name="squash"),
    ]
    model = model_of(nodes, {"x": ["N", 8]}, {"y": ["N", 8]}, {"yes": np.array(True)})
    (cause,) = runtime_causes(onnxeq.check(model, runner=faulty(node="choice", kind="scale", size=1e-3)))
    assert cause.where.node == "choice"
    assert "If around" in cause.evidence
    assert "Exp" in cause.evidence


def transposed_times_vector() -> onnx.ModelProto:
    """Onnxruntime's MatmulTransposeFusion ignores the transposition before a vector."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="first"),
        helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0], name="turn"),
        helper.make_node("MatMul", ["t", "v"], ["m"], name="product"),
        helper.make_node("Sigmoid", ["m"], ["y"], name="last"),
    ]
    return model_of(nodes, {"x": [4, 6]}, {"y": [6]}, {"v": np.linspace(-1, 1, 4, dtype=np.float32)})


def test_a_fault_of_onnxruntimes_optimiser_is_named_by_level_pass_and_node() -> None:
    """The pass is found by halving the list, with what is left without it; the level is the one that has it."""
    (cause,) = runtime_causes(onnxeq.check(transposed_times_vector()))
    assert (cause.rung, cause.where.node, cause.where.op_type) == ("optimizer", "product", "MatMul")
    assert "the pass MatmulTransposeFusion makes it" in cause.evidence
    assert "disabled_optimizers=['MatmulTransposeFusion'] the error is" in cause.evidence
    assert "the level ORT_ENABLE_EXTENDED brings it, ORT_ENABLE_BASIC does not" in cause.evidence
    assert "FusedMatMul" in cause.evidence


def test_a_model_that_is_refused_once_optimised_is_divergent() -> None:
    """Onnxruntime takes this int8 model plain and refuses it optimised: a fault of the runtime, with its pass."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="to_int8"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="from_int8"),
        helper.make_node("Transpose", ["d"], ["y"], name="turn"),
    ]
    stored: dict[str, NDArray[Any]] = {"scale": np.array(0.5, np.float32), "zero": np.array(3, np.int8)}
    (cause,) = runtime_causes(onnxeq.check(model_of(nodes, {"x": [2, 3]}, {"y": [3, 2]}, stored, opset=21)))
    assert (cause.rung, cause.where.node) == ("optimizer", "turn")
    assert "the pass QDQPropagationTransformer makes it" in cause.evidence


def test_a_kernel_that_gives_another_shape_is_named() -> None:
    """SAME padding with a dilation: the text gives 7 windows, onnxruntime's MaxPool 6."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="first"),
        helper.make_node("MaxPool", ["r"], ["y"], name="pool", kernel_shape=[2], dilations=[2], auto_pad="SAME_UPPER"),
    ]
    (cause,) = runtime_causes(onnxeq.check(model_of(nodes, {"x": [1, 1, 7]}, {"y": [1, 1, None]}, {})))
    assert (cause.where.node, cause.where.op_type) == ("pool", "MaxPool")


def test_a_fault_that_hides_when_it_is_looked_at_is_placed_by_what_hides_it(conv_net: MakeConvNet) -> None:
    """The fault goes away as soon as conv2's result is asked for, as in a fused kernel: its reader is judged together
    with it, and both are named.
    """
    report = onnxeq.check(conv_net(), runner=faulty(node="conv2", kind="scale", size=1e-3, when="unseen"))
    (cause,) = runtime_causes(report)
    assert cause.where.node in ("conv2", "relu2")
    assert "it goes away while 'c2' of conv2 (Conv) is asked for" in cause.evidence


def test_the_settings_of_onnxruntime_are_tried() -> None:
    """No experiment is said to mend what it does not mend."""
    (cause,) = runtime_causes(onnxeq.check(transposed_times_vector()))
    assert "it agrees" not in cause.evidence


def test_what_lies_behind_another_shape_is_not_blamed() -> None:
    """A convolution without its padding gives another shape; all behind it runs on that and is right."""
    w = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["c"], ["h"], name="swish"),
        helper.make_node("GlobalAveragePool", ["h"], ["y"], name="pool"),
    ]
    model = model_of(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 4, 1, 1]}, {"w": w})
    (cause,) = runtime_causes(onnxeq.check(model, runner=faulty(node="conv", kind="attribute", name="pads")))
    assert cause.where.node == "conv"


def test_coordinates_that_are_exact_excuse_no_other_neighbour() -> None:
    """Doubled by the nearest neighbour, a coordinate is a half or whole without any rounding: a kernel that takes the
    element below has another rule, and is not beside a tie.
    """
    nodes = [
        helper.make_node(
            "Resize", ["x", "", "by"], ["r"], name="grow", mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Tanh", ["r"], ["y"], name="squash"),
    ]  # fmt: skip
    model = model_of(nodes, {"x": ["N", 1, 4]}, {"y": ["N", 1, 8]}, {"by": np.array([1, 1, 2], np.float32)})
    runner = faulty(node="grow", kind="attribute", name="coordinate_transformation_mode")
    (cause,) = runtime_causes(onnxeq.check(model, runner=runner))
    assert cause.where.node == "grow"


@pytest.mark.parametrize("sides", [1, 2])
def test_a_kernel_that_is_wrong_in_another_batch_only_is_named(conv_net: MakeConvNet, sides: int) -> None:
    """Batches of one and four are right and two of those four items are not: in float64 they stay the same, so that it
    is no graph that mixes them, and a source that the same runtime runs vouches for nothing.
    """
    report = onnxeq.check(*[conv_net()] * sides, runner=faulty(node="conv2", kind="pairs", size=1e-2))
    (cause,) = runtime_causes(report)
    assert (cause.rung, cause.where.node) == ("stability", "conv2")
    assert "though it does not when the same graph is run in float64" in cause.evidence


def test_a_kernel_that_treats_two_items_otherwise_by_their_order_is_named(conv_net: MakeConvNet) -> None:
    """Where two items are the largest batch, the other one is the same two the other way round. The kernel gives every
    item what the first one should get, and no float64 run of the graph does.
    """
    report = onnxeq.check(conv_net(), batches=(1, 2), runner=faulty(node="relu2", kind="first"))
    assert {(c.cause, c.where.node) for c in report.causes} == {(CauseKind.RUNTIME, "relu2")}
    assert any(r.name == "stability" and r.status is Status.FAIL for r in report.rungs)


def test_what_gets_numbers_that_are_none_is_not_blamed() -> None:
    """One element of the first product overflows; the products behind it are right, and their rounding noise is that of
    their numbers.
    """
    rng = np.random.default_rng(0)
    stored = {n: (rng.standard_normal((32, 32)) / 6).astype(np.float32) for n in "uvw"}
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "v"], ["b"], name="two"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="three"),
    ]
    model = model_of(nodes, {"x": ["N", 8, 32]}, {"y": ["N", 8, 32]}, stored)
    (cause,) = runtime_causes(onnxeq.check(model, model, runner=faulty(node="one", kind="infinite")))
    assert cause.where.node == "one"


def test_a_source_that_the_runtime_runs_as_well_is_no_second_fault(conv_net: MakeConvNet) -> None:
    """Source and artifact are one file, whose kernel is wrong on both sides: one cause, with its place."""
    report = onnxeq.check(conv_net(), conv_net(), runner=faulty(node="conv2", kind="scale", size=1e-3))
    (cause,) = runtime_causes(report)
    assert (cause.rung, cause.where.node) == ("kernels", "conv2")


def test_a_kernel_that_only_the_source_needs_is_named_there(conv_net: MakeConvNet) -> None:
    """The artifact calls the node otherwise and is run rightly: the source's own run has the fault, at its node."""
    other = conv_net()
    node_of("conv2", other).name = "renamed"
    report = onnxeq.check(conv_net(), other, runner=faulty(node="conv2", kind="scale", size=1e-3))
    (cause,) = runtime_causes(report)
    assert (cause.rung, cause.where.node) == ("native-rounding", "conv2")


def _caused(rung: str, node: str) -> Cause:
    return Cause(CauseKind.RUNTIME, rung, 10.0, Where(node=node), "")


def test_mixed_items_without_a_place_are_told_by_the_kernel_that_has_one() -> None:
    """The stability rung could not say which kernel mixes items; the kernels rung has found one, and tells it once."""
    placed, unplaced = _caused("kernels", "conv"), _caused("stability", "")
    assert _told_once([placed, unplaced], []) == [placed]
    assert _told_once([unplaced], []) == [unplaced]
    assert len(_told_once([placed, _caused("stability", "other")], [])) == 2


def test_a_kernel_that_draws_numbers_hides_no_wrong_one(conv_net: MakeConvNet) -> None:
    """One node differs from run to run, by about as much as another is wrong: both are told, each as what it is."""
    runner = faulty(node="pool", kind="random", size=1e-3, besides="conv1")
    report = onnxeq.check(conv_net(), runner=runner)
    found = {(c.cause, c.where.node) for c in report.causes}
    assert found == {(CauseKind.NONDETERMINISM, "pool"), (CauseKind.RUNTIME, "conv1")}


def test_a_difference_that_could_not_be_placed_is_where_the_run_was_off() -> None:
    """Whatever differed did not do so again; the node that was off in the run judged has the place. A native model's
    own state is not put there.
    """
    loose = Cause(CauseKind.NONDETERMINISM, "stability", 10.0, Where(), "differs")
    native = Cause(CauseKind.NONDETERMINISM, "stability", 10.0, Where(native="dropout"), "differs")
    (placed, kept) = _placed([loose, native], [_caused("kernels", "conv")])
    assert placed.where.node == "conv"
    assert "in the run judged" in placed.evidence
    assert kept == native


def test_one_kernel_is_one_fault_whatever_it_breaks() -> None:
    """The same node on the rungs of kernels, optimiser, provider and source is told by the first of them."""
    rungs = ["native-rounding", "provider", "optimizer", "kernels"]
    assert [c.rung for c in _once([_caused(r, "conv") for r in rungs])] == ["kernels"]
    assert len(_once([_caused("kernels", "conv"), _caused("optimizer", "other")])) == 2
