"""Values beside a tie: what a runtime decides the other way is no divergence, and what lies behind is compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxeq
from onnxeq.types import CauseKind, Report, Rung, Status, Verdict

N, OUTPUTS = 200, 64


def _tied() -> float:
    """A half that ``x / 7 * 7`` rounds to one side in float64 and to the other in float32."""
    for k in range(1, 2000):
        v = k + 0.5
        single = np.float32(np.float32(v) / np.float32(7)) * np.float32(7)
        if np.round(single) != np.round(v / 7 * 7):
            return v
    raise AssertionError("there is none below 2000")


def _model(late: float = 1.0, middle: float = 7.0) -> onnx.ModelProto:
    """``y = round(x / 7 * middle) @ V * late``: a jump between two continuous parts."""
    weights = np.random.default_rng(0).uniform(0.5, 1.5, (N, OUTPUTS)).astype(np.float32)
    stored = {"seven": np.float32(7), "middle": np.float32(middle), "V": weights * np.float32(late)}
    nodes = [
        helper.make_node("Div", ["x", "seven"], ["h"], name="divide"),
        helper.make_node("Mul", ["h", "middle"], ["s"], name="multiply"),
        helper.make_node("Round", ["s"], ["r"], name="jump"),
        helper.make_node("MatMul", ["r", "V"], ["y"], name="mix"),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, N])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, OUTPUTS])],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _feed() -> dict[str, np.ndarray]:
    """Half of the elements on the tie, the others well away from any."""
    x = np.random.default_rng(1).integers(-40, 40, (2, N)).astype(np.float32) + np.float32(0.2)
    x[:, ::2] = _tied()
    return {"x": x}


def _rung(report: Report, name: str) -> Rung:
    return next(r for r in report.rungs if r.name == name)


def test_a_decision_beside_a_tie_is_re_anchored() -> None:
    """A hundred elements lie on a half, which float32 leaves on the other side: far above the noise of the draws, in
    which half of them go each way. The rung passes behind the node, which is named.
    """
    report = onnxeq.check(_model(), inputs=[_feed()])
    kernels = _rung(report, "kernels")
    assert kernels.max_abs > 50  # the flips are there: a hundred of them, times weights around one
    assert kernels.status is Status.PASS
    assert "unstable at these inputs: node jump (Round) decides 100 of 400" in kernels.reason or (
        "node jump (Round) decides 200 of 400" in kernels.reason
    )
    assert report.verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize(("late", "middle"), [(1.0005, 7.0), (1.0, 7.5)], ids=["behind", "before"])
def test_a_fault_is_found_on_either_side_of_the_jump(late: float, middle: float) -> None:
    """What changes the computation behind the jump, or moves its inputs by more than rounding, stays a break."""
    report = onnxeq.check(_model(), _model(late, middle), inputs=[_feed()])
    assert report.verdict is Verdict.DIVERGENT
    assert {c.rung for c in report.causes} & {"graph", "weights", "ledger"}


def _resized(scale: float, *, late: float = 1.0, length: int = 68) -> onnx.ModelProto:
    """``y = nearest(x * 1.1) @ V * late``, where some places lie on a half: 7.5 * 1.2 is 9."""
    columns = int(np.float32(length) * np.float32(scale))
    weights = np.random.default_rng(0).uniform(0.5, 1.5, (columns, OUTPUTS)).astype(np.float32) * np.float32(late)
    stored = {"c": np.float32(1.1), "s": np.array([1, 1, 1, scale], np.float32), "V": weights}
    nodes = [
        helper.make_node("Mul", ["x", "c"], ["h"], name="scale"),
        helper.make_node(
            "Resize", ["h", "", "s"], ["r"], name="resample", mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="round_prefer_ceil",
        ),
        helper.make_node("MatMul", ["r", "V"], ["y"], name="mix"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, length])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, OUTPUTS])],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_nearest_neighbour_beside_a_tie_is_re_anchored() -> None:
    """Where a place in the input lies half way between two elements, float32 coordinates choose either."""
    report = onnxeq.check(_resized(1.2))
    kernels = _rung(report, "kernels")
    assert kernels.max_abs > 0.1  # neighbours were chosen differently
    assert kernels.status is Status.PASS
    assert "node resample (Resize) decides" in kernels.reason
    assert report.verdict is Verdict.EQUIVALENT


def test_a_fault_behind_a_nearest_neighbour_is_found() -> None:
    """The anchor hides neither another scale, whose places differ by more than rounding, nor what lies behind."""
    assert onnxeq.check(_resized(1.2), _resized(1.2, late=1.0005)).verdict is Verdict.DIVERGENT
    assert onnxeq.check(_resized(1.2), _resized(1.2004)).verdict is Verdict.DIVERGENT


def _thirds() -> onnx.ModelProto:
    """``y = (floor(x / 3) + x) @ V``, for whole numbers: the quotients of threes are whole, too."""
    weights = np.random.default_rng(0).uniform(0.5, 1.5, (N, OUTPUTS)).astype(np.float32)
    nodes = [
        helper.make_node("Div", ["x", "three"], ["h"], name="divide"),
        helper.make_node("Floor", ["h"], ["f"], name="jump"),
        helper.make_node("Add", ["f", "x"], ["s"], name="add"),
        helper.make_node("MatMul", ["s", "V"], ["y"], name="mix"),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, N])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, OUTPUTS])],
        [numpy_helper.from_array(weights, "V"), numpy_helper.from_array(np.float32(3), "three")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


THREES = {"x": (3 * np.random.default_rng(1).integers(1, 40, (2, N))).astype(np.float32)}
FAULTY = Path(__file__).with_name("faulty_runner.py")


@pytest.mark.parametrize(("kind", "cause"), [("scale", CauseKind.RUNTIME), ("random", CauseKind.NONDETERMINISM)])
def test_ties_that_nobody_crosses_hide_no_fault(kind: str, cause: CauseKind) -> None:
    """Every quotient is whole and every division exact, but the draws of rounding noise carry half of them below the
    next whole number. A kernel behind that is off by a tenth of what such a flip does, and is found all the same.
    """
    report = onnxeq.check(_thirds(), inputs=[THREES], runner=f"{FAULTY}:Faulty?kind={kind}&node=mix&size=1e-4")
    assert [(c.cause, c.where.node) for c in report.causes] == [(cause, "mix")]


def test_ties_that_nobody_crosses_are_no_fault() -> None:
    """The same model on a healthy runtime."""
    assert onnxeq.check(_thirds(), inputs=[THREES]).verdict is Verdict.EQUIVALENT
