"""``onnxeq.diff`` on small files: the layer at fault is told, and what is only rounding is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

import onnxeq
from onnxeq import saved_traces, traces
from onnxeq.errors import CannotRun, OnnxeqError, UnusableModel, UsageError
from onnxeq.executions import RUNGS
from onnxeq.types import CauseKind, PairedBy, Report, Role, Status, Verdict

MakeConvNet = Callable[..., onnx.ModelProto]
FAULTY = Path(__file__).parent / "faulty_runner.py"


def scaled(weights: dict[str, np.ndarray]) -> None:
    weights["w2"][3] *= np.float32(1.01)


def creating(report: Report) -> list[str]:
    """The nodes that create error, with those that they were judged together with."""
    return [n for row in report.layers if row.role is Role.CREATES for n in (row.node, *row.region)]


def role(report: Report, value: str) -> Role:
    """What the layer of a value does."""
    return next(row.role for row in report.layers if row.value == value)


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same under other names; inputs and outputs keep theirs."""
    kept = {v.name for v in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        node.name = f"n_{node.name}"
        for names in (node.input, node.output):
            names[:] = [n if n in kept else f"v_{n}" for n in names]
    for tensor in model.graph.initializer:
        tensor.name = f"v_{tensor.name}"
    return model


def test_a_file_and_itself_are_equivalent(conv_net: MakeConvNet) -> None:
    """Every value is paired by structure and equal, both outputs are compared, there is nothing to tell."""
    report = onnxeq.diff(conv_net(), conv_net())
    assert report.verdict is Verdict.EQUIVALENT
    assert report.causes == ()
    assert {row.role for row in report.layers} == {Role.QUIET}
    assert {row.propagated.ratio for row in report.layers} == {0.0}
    assert {row.paired_by for row in report.layers} == {PairedBy.STRUCTURE}
    assert (report.coverage.outputs_compared, report.coverage.outputs_total) == (2, 2)
    (rung,) = report.rungs
    assert (rung.source, rung.target, rung.status) == ("source ort/cpu", "ort/cpu", Status.PASS)


def test_a_lone_file_is_held_against_float64(conv_net: MakeConvNet) -> None:
    """The reference is the graph in float64; rounding stays a sixth of what is allowed, and nobody creates error."""
    report = onnxeq.diff(conv_net())
    assert report.verdict is Verdict.EQUIVALENT
    assert report.rungs[0].source == "referee/f64"
    assert 0 < report.rungs[0].ratio < 2
    assert max(row.local.ratio for row in report.layers) < 2
    assert report.coverage.nodes_compared <= report.coverage.nodes_total == 9


@pytest.mark.parametrize("names", [lambda model: model, renamed])
def test_a_changed_weight_is_told_at_its_layer(
    conv_net: MakeConvNet, names: Callable[[onnx.ModelProto], onnx.ModelProto]
) -> None:
    """One channel of the second convolution is 1 % off, under its own names and under others: that layer creates
    error, the weight is named, what lies behind passes it on and what lies before is quiet.
    """
    report = onnxeq.diff(conv_net(), names(conv_net(edit=scaled)))
    prefix = "n_" if names is renamed else ""
    assert report.verdict is Verdict.DIVERGENT
    (cause,) = report.causes
    assert (cause.cause, cause.where.node) == (CauseKind.WEIGHTS, f"{prefix}conv2")
    assert "w2" in cause.where.initializer
    assert "1.01 times it in index 3 of axis 0" in cause.evidence
    assert f"{prefix}conv2" in creating(report)
    assert {f"{prefix}pool", f"{prefix}head"}.isdisjoint(creating(report))
    assert role(report, "logits") is Role.PASSES
    assert report.layers[0].role is Role.QUIET


def test_a_changed_attribute_is_told_at_its_layer(conv_net: MakeConvNet) -> None:
    """A pad of the first convolution moved to the other side: shapes and weights are equal."""
    report = onnxeq.diff(conv_net(), conv_net(pads=(0, 1, 2, 1)))
    (cause,) = report.causes
    assert (cause.cause, cause.where.node) == (CauseKind.GRAPH, "conv1")
    assert "pads is [0, 1, 2, 1], the reference has [1, 1, 1, 1]" in cause.evidence


def test_two_faults_are_both_told(conv_net: MakeConvNet) -> None:
    """A weight and a pad at once, the larger error first."""
    report = onnxeq.diff(conv_net(), conv_net(edit=scaled, pads=(0, 1, 2, 1)))
    assert [c.where.node for c in report.causes] == ["conv1", "conv2"]
    assert report.causes[0].ratio > report.causes[1].ratio


def test_other_names_are_equivalent(conv_net: MakeConvNet) -> None:
    """Names of nodes, values and constants change nothing, and are not needed."""
    report = onnxeq.diff(conv_net(), renamed(conv_net()))
    assert report.verdict is Verdict.EQUIVALENT
    assert {row.paired_by for row in report.layers} == {PairedBy.STRUCTURE}
    assert all(row.value == f"v_{row.source_value}" or row.value == row.source_value for row in report.layers)


@pytest.mark.parametrize("rung", ["kernels", "optimizer", "stability", "normalize"])
def test_every_rung_of_a_file_can_be_compared(conv_net: MakeConvNet, rung: str) -> None:
    """The executions are the rung's two, under its name, and a healthy file passes."""
    report = onnxeq.diff(conv_net(), rung=rung)
    (found,) = report.rungs
    assert (found.name, (found.source, found.target)) == (rung, RUNGS[rung])
    assert report.verdict is Verdict.EQUIVALENT
    assert report.coverage.outputs_compared == 2


@pytest.mark.parametrize(("rung", "when"), [("kernels", "always"), ("optimizer", "optimized")])
def test_a_runtimes_fault_is_told_at_its_node(conv_net: MakeConvNet, rung: str, when: str) -> None:
    """A third party's runtime is 0.1 % off at the second convolution, in every graph or in optimised ones only: the
    cause is the runtime's.
    """
    report = onnxeq.diff(conv_net(), rung=rung, runner=f"{FAULTY}:Faulty?kind=scale&node=conv2&when={when}")
    (cause,) = report.causes
    assert (cause.cause, cause.rung, cause.where.node) == (CauseKind.RUNTIME, rung, "conv2")
    assert report.verdict is Verdict.DIVERGENT


def test_any_amount_of_memory_gives_the_same_report(conv_net: MakeConvNet) -> None:
    """One value at a time: every number of every layer is as with all at once."""
    report = onnxeq.diff(conv_net(), conv_net(edit=scaled))
    small = onnxeq.diff(conv_net(), conv_net(edit=scaled), memory=1)
    assert repr(small.layers) == repr(report.layers)


def test_a_saved_trace_is_a_side(conv_net: MakeConvNet, tmp_path: Path) -> None:
    """The model of the trace equals it bit by bit on the trace's own inputs, whatever the seed; another model is
    divergent at the layer that was changed.
    """
    first = onnxeq.diff(conv_net(), seed=5, save_trace=tmp_path / "t")
    assert first.verdict is Verdict.EQUIVALENT
    again = onnxeq.diff(conv_net(), load_trace=tmp_path / "t")
    assert again.verdict is Verdict.EQUIVALENT
    assert again.rungs[0].source == "saved ort/cpu"
    assert {row.propagated.ratio for row in again.layers if row.role is not Role.UNKNOWN} == {0.0}
    assert {row.paired_by for row in again.layers if row.role is not Role.UNKNOWN} == {PairedBy.STRUCTURE}
    other = onnxeq.diff(conv_net(edit=scaled), load_trace=tmp_path / "t")
    assert other.verdict is Verdict.DIVERGENT
    assert "conv2" in creating(other)
    assert {"conv1", "pool", "head"}.isdisjoint(creating(other))
    assert {row.paired_by for row in other.layers if row.paired_by} == {PairedBy.NAME}


@pytest.mark.parametrize("named", [True, False])
def test_the_standards_test_data_are_a_side(conv_net: MakeConvNet, tmp_path: Path, named: bool) -> None:
    """``test_data_set_0`` with or without names in it: its outputs are compared; with another model they differ."""
    onnx.save(conv_net(), tmp_path / "m.onnx")
    report = onnxeq.diff(tmp_path / "m.onnx", save_trace=tmp_path / "t")
    saved = saved_traces.open_saved(tmp_path / "t", tmp_path)
    trace = traces.load(saved.folder)
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    arrays = [("input_0", "x", saved.feed["x"])]
    arrays += [(f"output_{i}", n, trace.array(n)) for i, n in enumerate(("logits", "tiny"))]
    for file, name, array in arrays:
        tensor = numpy_helper.from_array(array, name if named else "")
        (folder / f"{file}.pb").write_bytes(tensor.SerializeToString())
    report = onnxeq.diff(tmp_path / "m.onnx", load_trace=folder)
    assert report.verdict is Verdict.EQUIVALENT
    assert report.coverage.outputs_compared == 2
    assert onnxeq.diff(conv_net(edit=scaled), load_trace=folder).verdict is Verdict.DIVERGENT


def test_an_output_that_is_missing_is_not_equivalent(conv_net: MakeConvNet) -> None:
    """All that is there is equal, and one output is not there: another interface, and said."""
    less = conv_net()
    del less.graph.output[1]
    report = onnxeq.diff(conv_net(), less)
    assert report.verdict is Verdict.DIVERGENT
    assert (report.coverage.outputs_compared, report.coverage.outputs_total) == (1, 2)
    assert [(c.rung, c.evidence) for c in report.causes] == [
        ("interface", "the artifact lacks the source's output 'tiny'")
    ]


def test_an_output_too_many_is_named_with_its_node(conv_net: MakeConvNet) -> None:
    """All that the source has is equal, and the artifact gives one value more: the node that makes it."""
    more = conv_net()
    inner = more.graph.node[0]
    more.graph.output.append(onnx.ValueInfoProto(name=inner.output[0]))
    report = onnxeq.diff(conv_net(), more)
    assert report.verdict is Verdict.DIVERGENT
    assert [(c.rung, c.where.node, c.where.value) for c in report.causes] == [
        ("interface", inner.name, inner.output[0])
    ]


def test_a_constant_that_rounding_hides_is_told(conv_net: MakeConvNet) -> None:
    """One weight is off by an ulp, which no layer shows at these inputs: it is named, and its layer creates error."""

    def nudged(weights: dict[str, np.ndarray]) -> None:
        weights["w2"][3, 0, 0, 0] = np.nextafter(np.float32(weights["w2"][3, 0, 0, 0]), np.float32(9))

    report = onnxeq.diff(conv_net(), conv_net(edit=nudged))
    assert report.verdict is Verdict.DIVERGENT
    (cause,) = report.causes
    assert (cause.cause, cause.where.initializer) == (CauseKind.WEIGHTS, "w2")
    assert cause.ratio < 6


def test_a_node_that_fails_is_told(conv_net: MakeConvNet, tmp_path: Path) -> None:
    """The artifact cannot be run on what the source takes: divergent, at the node, with what it says."""
    text = "<ir_version: 8, opset_import: ['' : 17]> g (float[2,6] x) => (float[N,M] y) <int64[2] s = {%s}> {{ %s }}"
    body = "[a] t = Tanh(x) [r] u = Reshape(t, s) [e] y = Exp(u)"
    good, bad = (parser.parse_model((text % (s, body)).replace("{{", "{").replace("}}", "}").replace("'", '"'))
                 for s in ("3, 4", "5, 4"))  # fmt: skip
    report = onnxeq.diff(good, bad)
    assert report.verdict is Verdict.DIVERGENT
    assert [c.where.node for c in report.causes] == ["r"]
    assert "failed on inputs" in report.causes[0].evidence


SHIFTED = "<ir_version: 8, opset_import: ['' : 17]> g (float[64] x) => (float[64] y) <float c = {%s}> { %s }".replace(
    "'", '"'
)
THROUGH = "[t] t = Tanh(x) [up] u = Add(t, c) [down] v = Sub(u, c) [e] y = Exp(v)"
PLAIN = "[t] t = Tanh(x) [e] y = Exp(t)"


@pytest.mark.parametrize(
    ("source", "constant", "verdict"),
    [(PLAIN, 65536.0, Verdict.DIVERGENT), (PLAIN, 0.5, Verdict.EQUIVALENT), (THROUGH, 65536.0, Verdict.EQUIVALENT)],
)
def test_what_only_the_graph_rounds_away_is_told(source: str, constant: float, verdict: Verdict) -> None:
    """2^16 added and taken away again costs sixteen bits: told where the source has no such pair, not elsewhere."""
    models = [parser.parse_model(SHIFTED % (constant, body)) for body in (source, THROUGH)]
    report = onnxeq.diff(*models)
    assert report.verdict is verdict
    named = creating(report)
    assert {"up", "down"} <= set(named) if verdict is Verdict.DIVERGENT else not named
    for cause in report.causes:
        assert cause.cause is CauseKind.GRAPH
        assert "inferior lowering" in cause.evidence


def test_a_trace_without_the_outputs_decides_nothing(conv_net: MakeConvNet, tmp_path: Path) -> None:
    """Inner values that are equal are no evidence of the outputs."""
    onnxeq.diff(conv_net(), save_trace=tmp_path / "t")
    document = json.loads((tmp_path / "t" / "trace.json").read_text())
    document["values"] = [r for r in document["values"] if r["name"] not in ("logits", "tiny")]
    (tmp_path / "t" / "trace.json").write_text(json.dumps(document))
    report = onnxeq.diff(conv_net(), load_trace=tmp_path / "t")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.rungs[0].status is Status.NOT_RUN


def _control(tanh: str = "Tanh") -> onnx.ModelProto:
    """An If, a Loop, a mask, an index, a sequence; three rows at a time, or any number."""
    text = f"""<ir_version: 10, opset_import: ["" : 20]> main (float[N,12] x) => (float[N,4] y, int64[N,1] i) {{
      r = Relu(x)
      sum = ReduceSum <keepdims = 0> (r)
      big = Greater(sum, zero)
      a = If (big) <
        then_branch = yes () => (float[N,12] t) {{ t1 = MatMul(r, w) t = {tanh}(t1) }},
        else_branch = no () => (float[N,12] e) {{ e = Neg(r) }}
      >
      h = Loop (rounds, yes, a) <
        body = step (int64 n, bool c, float[N,12] b) => (bool d, float[N,12] o) {{
          d = Identity(c) o1 = MatMul(b, w) o = Tanh(o1)
        }}
      >
      b = Greater(h, zero)
      k = Where(b, h, never)
      p = Softmax(k)
      left, right = Split <axis = 1> (p, sizes)
      q = SequenceConstruct(left, right)
      y = SequenceAt(q, zeroth)
      none = Slice(y, zeroth_row, zeroth_row, zeroth_row)
      i = ArgMax <axis = 1> (h)
    }}"""
    model = parser.parse_model(text)
    w = np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32) / 3
    constants = {
        "w": w, "zero": np.float32(0), "never": np.float32(-np.inf), "rounds": np.int64(3), "yes": np.array(True),
        "sizes": np.array([4, 8]), "zeroth": np.int64(0), "zeroth_row": np.array([0]),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return model


@pytest.mark.parametrize("batch", [1, 3])
def test_control_flow_masks_sequences_and_indices(batch: int) -> None:
    """Equal to itself and to float64 at any batch; with another function inside of a branch, the If creates error."""
    for report in (onnxeq.diff(_control(), _control(), batch=batch), onnxeq.diff(_control(), batch=batch)):
        assert report.verdict is Verdict.EQUIVALENT
        assert max(row.local.ratio for row in report.layers) < 2
        assert report.coverage.outputs_compared == 2
    report = onnxeq.diff(_control(), _control("Sigmoid"), batch=batch)
    assert report.verdict is Verdict.DIVERGENT
    assert {row.op_type for row in report.layers if row.role is Role.CREATES} == {"If"}


def test_an_output_that_rounding_alone_may_change_is_undecided() -> None:
    """How many elements are above zero: one of them is zero up to rounding, so that rounding decides the shape."""
    text = """<ir_version: 10, opset_import: ["" : 20]> main (float[1,8] x) => (int64[2,K] y) {
      a = Mul(x, third)
      b = Mul(a, three)
      c = Sub(b, x)
      d = Abs(c)
      g = Greater(d, zero)
      y = NonZero(g)
    }"""
    model = parser.parse_model(text)
    constants = {"third": np.float32(1 / 3), "three": np.float32(3), "zero": np.float32(2**-26)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    report = onnxeq.diff(model, rung="kernels")
    assert report.verdict is not Verdict.EQUIVALENT
    assert "rounding alone changes the shape" in report.layers[-1].note


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"rung": "nonsense"}, UsageError, "no rung 'nonsense'"),
        ({"rung": "native-rounding"}, UsageError, "an ONNX file has no rung native-rounding"),
        ({"rung": "graph"}, UsageError, "an ONNX file has no rung graph"),
        ({"memory": "lots"}, UsageError, "no amount of memory"),
        ({"memory": 0}, UsageError, "no amount of memory"),
        ({"load_trace": "absent"}, UsageError, "no such file"),
        ({"load_trace": "."}, UnusableModel, "holds neither"),
        ({"save_trace": "."}, UsageError, "something already"),
        ({"runner": "nonsense"}, UsageError, "no runner 'nonsense'"),
    ],
)
def test_wrong_usage_is_said(
    conv_net: MakeConvNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any],
    kind: type[OnnxeqError], said: str,
) -> None:  # fmt: skip
    """Each with its own sentence and what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(kind, match=said) as caught:
        onnxeq.diff(conv_net(), **arguments)
    assert caught.value.hint


def test_an_operator_without_float64_semantics_is_said(conv_net: MakeConvNet) -> None:
    """Nothing can be judged: it cannot run, and the operator is named."""
    model = conv_net()
    model.graph.node[1].CopyFrom(helper.make_node("Gelu", ["c1"], ["r1"], domain="nobody"))
    model.opset_import.add(domain="nobody", version=1)
    with pytest.raises(CannotRun, match="Gelu"):
        onnxeq.diff(model, rung="kernels")
