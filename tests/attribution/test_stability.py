"""The stability battery: what is unsteady is named with its node, and healthy models near it are left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxeq
from onnxeq.types import Cause, CauseKind, Report, Status, Verdict

RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((8, 8)) / 3).astype(np.float32)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    x: Sequence[int | str] = ("N", 8),
    y: Sequence[int | str] = ("N", 8),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model from ``x`` to ``y``; ``w: float32[8,8]`` is there for every node."""
    stored = {"w": WEIGHT, **(constants or {})}
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        list(nodes),
        "g",
        [info("x", TensorProto.FLOAT, list(x))],
        [info("y", TensorProto.FLOAT, list(y))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def node(kind: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    inputs_ = ["" if n == "-" else n for n in inputs.split()]
    return helper.make_node(kind, inputs_, outputs.split(), name=name or f"n_{outputs}", **attributes)


def dense(*after: onnx.NodeProto, **options: Any) -> onnx.ModelProto:
    """``h = x . w`` and what follows it."""
    return graph([node("MatMul", "x w", "h", "dense"), *after], **options)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def only(report: Report) -> Cause:
    assert report.verdict is Verdict.DIVERGENT
    assert len(report.causes) == 1, [(c.cause, c.rung, c.where, c.evidence) for c in report.causes]
    return report.causes[0]


NORM = {
    "scale": np.ones(8, np.float32),
    "bias": np.zeros(8, np.float32),
    "mean": np.zeros(8, np.float32),
    "variance": np.ones(8, np.float32),
    "tiny": np.array([1e-3], np.float32),
}
TANH = dense(node("Tanh", "h", "y"))


@pytest.mark.parametrize(
    "random",
    [
        [node("RandomNormalLike", "h", "r", "culprit", scale=0.1), node("Add", "h r", "y")],
        [node("RandomUniformLike", "h", "r", "culprit", seed=1.0), node("Add", "h r", "y")],
        [node("Sigmoid", "h", "p"), node("Bernoulli", "p", "r", "culprit"), node("Mul", "h r", "y")],
        [node("Dropout", "h ratio on", "y", "culprit")],
    ],
)
def test_a_random_operator_is_named(random: list[onnx.NodeProto]) -> None:
    """Whatever draws numbers in each run, with or without a seed, is the one cause, found by its node."""
    cause = only(onnxeq.check(dense(*random, constants={"ratio": f32(0.5).reshape(()), "on": np.array(True)})))
    assert (cause.cause, cause.rung) == (CauseKind.NONDETERMINISM, "stability")
    assert (cause.where.node, cause.where.op_type) == (
        "culprit",
        random[-2 if random[-1].name != "culprit" else -1].op_type,
    )


def test_a_random_operator_in_a_branch_is_named_by_its_own_name() -> None:
    """A node inside a sub-graph is named, not only the If that runs it."""
    info = helper.make_tensor_value_info
    out = [info("b", TensorProto.FLOAT, None)]
    noisy = [node("RandomNormalLike", "h", "r", "inner"), node("Add", "h r", "b", "sum")]
    then = helper.make_graph(noisy, "then", [], out)
    plain = helper.make_graph([node("Identity", "h", "c")], "else", [], [info("c", TensorProto.FLOAT, None)])
    choose = node("If", "on", "y", "choice", then_branch=then, else_branch=plain)
    cause = only(onnxeq.check(dense(choose, constants={"on": np.array(True)})))
    assert (cause.where.node, cause.where.op_type) == ("inner", "RandomNormalLike")


def test_two_kinds_of_random_operator_are_two_causes() -> None:
    """Noise and dropout in one graph are both told."""
    nodes = [
        node("RandomNormalLike", "h", "r", "noise"),
        node("Add", "h r", "s"),
        node("Dropout", "x ratio on", "d", "drop"),
        node("Add", "s d", "y"),
    ]
    report = onnxeq.check(dense(*nodes, constants={"ratio": f32(0.5).reshape(()), "on": np.array(True)}))
    assert {c.where.node for c in report.causes} == {"noise", "drop"}


def batch_norm(*, training: bool, kept: bool = True) -> onnx.ModelProto:
    """A normalisation; ``kept`` says whether anything reads the moved statistics."""
    if not training:
        return dense(node("BatchNormalization", "h scale bias mean variance", "y", "norm"), constants=NORM)
    last = [node("Mul", "m tiny", "little"), node("Add", "n little", "y")] if kept else [node("Identity", "n", "y")]
    norm = node("BatchNormalization", "h scale bias mean variance", "n m v", "norm", training_mode=1)
    return dense(norm, *last, constants=NORM)


@pytest.mark.parametrize("kept", [True, False])
def test_batch_statistics_in_the_artifact_are_a_graph_fault(kept: bool) -> None:
    """The source normalises by stored statistics, the artifact by those of its batch: one cause, at that node.

    Where nothing reads the moved statistics, onnxruntime 1.31 normalises by what the last run has left of them, so that
    its repeats differ as well.
    """
    cause = only(onnxeq.check(batch_norm(training=False), batch_norm(training=True, kept=kept)))
    assert cause.cause is CauseKind.GRAPH
    assert (cause.where.node, cause.where.op_type) == ("norm", "BatchNormalization")
    assert "training mode" in cause.evidence


def test_batch_statistics_without_a_source_are_nondeterminism() -> None:
    """Nobody vouches for a training mode that was left on: an item's result depends on its company."""
    cause = only(onnxeq.check(batch_norm(training=True)))
    assert (cause.cause, cause.where.node) == (CauseKind.NONDETERMINISM, "norm")


def test_what_mixes_a_batch_on_both_sides_is_a_note() -> None:
    """What the source does as well is its design."""
    report = onnxeq.check(centred(0), centred(0))
    assert report.verdict is Verdict.EQUIVALENT
    assert any("in the source as well" in note for note in report.notes)


def centred(axis: int) -> onnx.ModelProto:
    return dense(node("ReduceMean", "h", "m", "mean", axes=[axis]), node("Sub", "h m", "y"))


def test_a_mean_over_the_batch_is_named() -> None:
    """Statistics that were taken apart into a ReduceMean over axis 0 are found by value."""
    cause = only(onnxeq.check(centred(1), centred(0)))
    assert (cause.cause, cause.where.node, cause.where.op_type) == (CauseKind.GRAPH, "mean", "ReduceMean")


def test_a_softmax_over_the_batch_is_named() -> None:
    """An axis that became 0 lets the items compete."""
    source, target = (dense(node("Softmax", "h", "y", "soft", axis=axis)) for axis in (1, 0))
    cause = only(onnxeq.check(source, target))
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "soft")


def test_what_mixes_a_batch_on_its_own_is_a_note() -> None:
    """Without a source, axis 0 may be anything: a softmax over it is no fault."""
    report = onnxeq.check(dense(node("Softmax", "h", "y", axis=0)))
    assert report.verdict is Verdict.EQUIVALENT
    assert any("Softmax" in note for note in report.notes)


def flat(first: int) -> onnx.ModelProto:
    return graph(
        [node("Reshape", "x shape", "f", "flat"), node("MatMul", "f w", "y", "dense")],
        {"shape": i64(first, 8)},
        x=("N", 2, 4),
    )


def test_a_batch_baked_into_a_reshape_is_named() -> None:
    """One item runs and three do not: a graph fault at the Reshape, and the rungs are judged on what runs."""
    cause = only(onnxeq.check(flat(-1), flat(1)))
    assert (cause.cause, cause.where.node, cause.where.op_type) == (CauseKind.GRAPH, "flat", "Reshape")
    assert "[3, 2, 4]" in cause.evidence


def test_a_batch_baked_in_does_not_hide_a_weight() -> None:
    """The feed that runs still shows the second fault."""
    damaged = flat(1)
    tensor = next(t for t in damaged.graph.initializer if t.name == "w")
    tensor.CopyFrom(numpy_helper.from_array(WEIGHT * np.float32(1.01), "w"))
    report = onnxeq.check(flat(-1), damaged)
    assert {(c.cause, c.rung) for c in report.causes} >= {(CauseKind.GRAPH, "stability"), (CauseKind.WEIGHTS, "ledger")}


def test_a_batch_baked_in_behind_which_another_node_fails_is_named() -> None:
    """The Reshape runs with three items, too, and makes one long row of them: the MatMul behind it fails."""
    nodes = [node("Reshape", "x shape", "f", "flat"), node("Relu", "f", "r"), node("MatMul", "r w", "y", "dense")]
    source, baked = (graph(nodes, {"shape": i64(*shape)}, x=("N", 2, 4)) for shape in ((-1, 8), (1, -1)))
    cause = only(onnxeq.check(source, baked))
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "flat")


def test_a_batch_baked_in_that_was_never_tried_is_named() -> None:
    """An example of two items fails for one and for three."""
    cause = only(onnxeq.check(flat(-1), flat(2)))
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "flat")


def test_rows_of_another_number_are_named() -> None:
    """The artifact runs with every batch and makes one row of each: the shape is wrong for three, and right for one."""
    source, target = (
        graph([node("Reshape", "x shape", "y", "flat")], {"shape": i64(*shape)}, x=("N", 2, 4), y=("N", "M"))
        for shape in ((-1, 8), (1, -1))
    )
    cause = only(onnxeq.check(source, target))
    assert (cause.cause, cause.rung, cause.where.node) == (CauseKind.GRAPH, "interface", "flat")


def test_a_batch_of_three_baked_in_is_seen_in_a_batch_of_two() -> None:
    """Inputs of one batch size only, which is the one that was baked in: fewer of these items fail."""
    feed = {"x": RNG.standard_normal((3, 2, 4)).astype(np.float32)}
    cause = only(onnxeq.check(flat(-1), flat(3), inputs=[feed]))
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "flat")
    assert onnxeq.check(flat(-1), flat(-1), inputs=[feed]).verdict is Verdict.EQUIVALENT


def positions(*, baked: bool) -> onnx.ModelProto:
    """``y = x + table[:T]``, or ``x + table16``."""
    table = RNG.standard_normal((64, 8)).astype(np.float32)
    if baked:
        nodes, constants = [node("Add", "x table", "y", "add")], {"table": table[:16]}
    else:
        nodes = [
            node("Shape", "x", "s", start=1, end=2),
            node("Slice", "table zero s zero", "t", "slice"),
            node("Add", "x t", "y", "add"),
        ]
        constants = {"table": table, "zero": i64(0)}
    return graph(nodes, constants, x=("N", "T", 8), y=("N", "T", 8))


def test_a_table_as_long_as_the_example_is_named() -> None:
    """At 16 positions all agrees; at another number the table does not fit, which only another size shows."""
    global RNG
    RNG = np.random.default_rng(1)
    source = positions(baked=False)
    RNG = np.random.default_rng(1)
    cause = only(onnxeq.check(source, positions(baked=True)))
    assert (cause.cause, cause.where.node, cause.where.initializer) == (CauseKind.GRAPH, "add", "table")
    assert "[1, 24, 8]" in cause.evidence


def summed(*, baked: bool) -> onnx.ModelProto:
    """``y = sum(x, T) / T`` with the number of positions from the shape, or 16."""
    nodes = [node("ReduceSum", "x one", "s", "sum", keepdims=0)]
    if baked:
        return graph([*nodes, node("Div", "s count", "y", "div")], {"one": i64(1), "count": f32(16)}, x=("N", "T", 8))
    nodes += [
        node("Shape", "x", "shape", start=1, end=2),
        node("Cast", "shape", "count", to=TensorProto.FLOAT),
        node("Div", "s count", "y", "div"),
    ]
    return graph(nodes, {"one": i64(1)}, x=("N", "T", 8))


def test_a_size_used_as_a_number_is_named() -> None:
    """Dividing by the example's 16 gives the right shape and a wrong value at every other size."""
    cause = only(onnxeq.check(summed(baked=False), summed(baked=True)))
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "div")


def cut(*, baked: bool) -> onnx.ModelProto:
    last = i64(16) if baked else i64(2**31)
    return graph(
        [node("Slice", "x zero last one", "c", "cut"), node("Relu", "c", "y")],
        {"zero": i64(0), "one": i64(1), "last": last},
        x=("N", "T", 8),
        y=("N", "U", 8),
    )


def test_a_slice_that_ends_at_the_example_is_named() -> None:
    """More positions than the example had are cut off: another shape than the source's."""
    cause = only(onnxeq.check(cut(baked=False), cut(baked=True)))
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "cut")


def test_a_batch_of_fixed_size_is_no_fault() -> None:
    """What declares one size only is tried at no other."""
    fixed = graph([node("Reshape", "x shape", "y")], {"shape": i64(2, 8)}, x=(2, 2, 4), y=(2, 8))
    assert onnxeq.check(fixed).verdict is Verdict.EQUIVALENT


def recurrent() -> onnx.ModelProto:
    """An RNN with time first: axis 0 is free, and each step depends on those before."""
    weights = {
        "wx": RNG.standard_normal((1, 6, 8)).astype(np.float32) / 3,
        "wh": RNG.standard_normal((1, 6, 6)).astype(np.float32) / 3,
    }
    nodes = [node("RNN", "x wx wh", "r", "rnn", hidden_size=6), node("Squeeze", "r one", "y")]
    return graph(nodes, {**weights, "one": i64(1)}, x=("T", 2, 8), y=("T", 2, 6))


def test_time_on_the_first_axis_is_no_batch() -> None:
    """On its own and against itself, steps that depend on one another are no fault."""
    model = recurrent()
    assert onnxeq.check(model).verdict is Verdict.EQUIVALENT
    assert onnxeq.check(model, model).verdict is Verdict.EQUIVALENT


def test_an_output_without_a_batch_is_not_compared() -> None:
    """A sum over the whole batch has no items."""
    report = onnxeq.check(dense(node("ReduceSum", "h both", "y", keepdims=0), constants={"both": i64(0, 1)}, y=()))
    assert report.verdict is Verdict.EQUIVALENT
    assert not any(r.target == "ort/cpu other batch" for r in report.rungs)


def test_as_many_results_as_there_are_in_the_data_is_no_batch() -> None:
    """Non-zero elements are counted, not batched."""
    nodes = [node("Relu", "h", "p"), node("NonZero", "p", "z"), node("Transpose", "z", "t"),
             node("Cast", "t", "y", to=TensorProto.FLOAT)]  # fmt: skip
    assert onnxeq.check(dense(*nodes, y=("count", 2))).verdict is Verdict.EQUIVALENT


def test_a_healthy_model_is_seen_in_another_batch(conv_net: Callable[..., onnx.ModelProto]) -> None:
    """The rung is there, and well within its limit."""
    report = onnxeq.check(conv_net(), conv_net())
    assert report.verdict is Verdict.EQUIVALENT
    (rung,) = [r for r in report.rungs if r.target == "ort/cpu other batch"]
    assert rung.status is Status.PASS
    assert rung.ratio < rung.limit / 3


def test_free_sizes_on_both_sides_are_tried_and_pass() -> None:
    """Positions taken from the shape agree at every size."""
    global RNG
    RNG = np.random.default_rng(1)
    model = positions(baked=False)
    report = onnxeq.check(model, model)
    assert report.verdict is Verdict.EQUIVALENT
    assert any(r.target == "ort/cpu other sizes" and r.status is Status.PASS for r in report.rungs)


FACTORIES = """
import torch
from torch import nn

class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.head = nn.Linear(8, 8)

    def forward(self, x):
        self.count += 1
        return self.head(x) * self.count

class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 8)
        self.last = None

    def forward(self, x):
        h = self.head(x)
        if self.last is not None:
            h = h + self.last
        self.last = h.mean()
        return h

class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 8)
        self.noise = Noise()

    def forward(self, x):
        return self.noise(self.head(x))

class Noise(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)

class Statistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x))

class Centred(nn.Module):
    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        return x - x.mean(self.axis, keepdim=True)

def by_row():
    return Centred(1)

def by_column():
    return Centred(0)

def stateful():
    return Stateful()

def cached():
    return Cached()

def dropping():
    return Dropping()

def left_in_training():
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).train()

def statistics():
    torch.manual_seed(0)
    return Statistics()
"""


@pytest.fixture(scope="module")
def factories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stability") / "unsteady.py"
    path.write_text(FACTORIES)
    return path


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "native", "says"),
    [
        ("stateful", "count", "each call changes 'count'"),
        ("cached", "", "keeps state between calls"),
        ("dropping", "noise", "draws random numbers"),
    ],
)
def test_a_native_model_that_answers_differently_is_said_why(
    factories: Path, name: str, native: str, says: str
) -> None:
    """State and random numbers are told apart, with the module or the buffer."""
    report = onnxeq.check(f"{factories}:{name}", TANH)
    cause = next(c for c in report.causes if "native/f32 again" in c.evidence)
    assert cause.cause is CauseKind.NONDETERMINISM
    assert says in cause.evidence
    assert cause.where.native == native


@pytest.mark.torch
def test_a_native_model_vouches_for_its_batch(factories: Path) -> None:
    """A mean over the batch is a fault against a module that takes it over each row, and none against one that does
    the same, by its own export.
    """
    mixed = graph([node("ReduceMean", "x", "m", "mean", axes=[0]), node("Sub", "x m", "y")])
    cause = only(onnxeq.check(f"{factories}:by_row", mixed))
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "mean")
    own = onnxeq.check(f"{factories}:by_column", shapes={"": (2, 8)})
    assert own.verdict is Verdict.EQUIVALENT
    assert any("in the source as well" in note for note in own.notes)


@pytest.mark.torch
def test_a_module_left_in_training_is_checked_in_inference(factories: Path) -> None:
    """Users run inference; so do we, whatever the factory left on."""
    assert onnxeq.check(f"{factories}:left_in_training", shapes={"": (2, 8)}).verdict is Verdict.EQUIVALENT


def test_a_node_that_draws_is_told_where_the_optimiser_hides_it() -> None:
    """Onnxruntime's optimisations drop a training Dropout behind a MatMul: the file is random all the same."""
    mode = {"ratio": np.asarray(0.5, np.float32), "on": np.asarray(True)}
    after = [node("Identity", "h", "i"), node("Dropout", "i ratio on", "d", "culprit"), node("Tanh", "d", "y")]
    found = only(onnxeq.check(TANH, dense(*after, constants=mode)))
    assert found.cause is CauseKind.NONDETERMINISM
    assert found.where.node == "culprit"
