"""``onnxeq check`` on ONNX files: healthy pairs are equivalent, and each fault that peers pass is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxeq
from onnxeq.cli.main import run
from onnxeq.types import CauseKind, Report, Status, Verdict

MakeConvNet = Callable[..., onnx.ModelProto]


def rung(report: Report, name: str) -> Status:
    return next(r.status for r in report.rungs if r.name == name)


def test_a_healthy_file_is_equivalent_on_its_own(conv_net: MakeConvNet) -> None:
    """Every rung within the artifact passes, CUDA aside, which is not asked for without a device."""
    report = onnxeq.check(conv_net())
    assert report.verdict is Verdict.EQUIVALENT
    ran = {r.name for r in report.rungs if r.status is Status.PASS}
    assert ran >= {"interface", "normalize", "kernels", "optimizer", "stability"}
    assert report.coverage.inputs_tried == 4
    assert report.coverage.outputs_compared == report.coverage.outputs_total == 2


def test_other_names_and_order_are_equivalent(conv_net: MakeConvNet) -> None:
    """Renamed nodes, values and initializers change nothing that is computed."""
    renamed = conv_net()
    for node in renamed.graph.node:
        node.name = f"n_{node.name}"
        node.input[:] = [n if n == "x" else f"v_{n}" for n in node.input]
        node.output[:] = [n if n in ("logits", "tiny") else f"v_{n}" for n in node.output]
        node.input[:] = ["logits" if n == "v_logits" else n for n in node.input]
    for tensor in renamed.graph.initializer:
        tensor.name = f"v_{tensor.name}"
    assert onnxeq.check(conv_net(), renamed).verdict is Verdict.EQUIVALENT


def scaled(weights: dict[str, np.ndarray]) -> None:
    weights["w2"][3] *= np.float32(1.002)


def flipped(weights: dict[str, np.ndarray]) -> None:
    weights["millionth"] *= -1


def swapped(weights: dict[str, np.ndarray]) -> None:
    weights["w2"][[0, 1]] = weights["w2"][[1, 0]]


@pytest.mark.parametrize(
    ("edit", "name", "said"),
    [(scaled, "w2", "channel 3 is scaled by 1.002"), (flipped, "millionth", "(-1e-06 for 1e-06)"),
     (swapped, "w2", "channels 0 and 1 exchanged")],
)  # fmt: skip
def test_a_changed_weight_is_named_and_nothing_else_blamed(
    conv_net: MakeConvNet, edit: Callable[..., None], name: str, said: str
) -> None:
    """One channel scaled by 1.002, a sign flip in an output of 1e-6, two channels swapped: float64 sees each, the
    ledger names the initializer, putting it back mends the graph rung, and the runtime is not blamed.
    """
    report = onnxeq.check(conv_net(), conv_net(edit=edit))
    assert report.verdict is Verdict.DIVERGENT
    (cause,) = report.causes
    kind = CauseKind.GRAPH if name == "millionth" else CauseKind.WEIGHTS  # a number that the graph multiplies by
    assert (cause.cause, cause.rung, cause.where.initializer) == (kind, "ledger", name)
    assert said in cause.evidence
    assert "the error drops from" in cause.evidence
    assert rung(report, "graph") is Status.PASS
    assert rung(report, "weights") is Status.FAIL
    assert rung(report, "kernels") is rung(report, "optimizer") is Status.PASS


def test_a_weight_and_a_pad_are_told_apart(conv_net: MakeConvNet) -> None:
    """Two faults at once: with the native weights put back the graph rung still breaks, and both are causes."""
    report = onnxeq.check(conv_net(), conv_net(edit=scaled, pads=(0, 1, 2, 1)))
    assert {c.cause for c in report.causes} == {CauseKind.WEIGHTS, CauseKind.GRAPH}
    assert rung(report, "graph") is rung(report, "weights") is Status.FAIL


def test_one_ulp_in_one_weight_is_divergent(conv_net: MakeConvNet) -> None:
    """What no output shows the ledger finds, with the element; every other rung passes."""

    def nudged(weights: dict[str, np.ndarray]) -> None:
        weights["w3"][4, 2] = np.nextafter(weights["w3"][4, 2], np.float32(9))

    report = onnxeq.check(conv_net(), conv_net(edit=nudged))
    assert report.verdict is Verdict.DIVERGENT
    (cause,) = report.causes
    assert (cause.cause, cause.where.initializer, cause.where.node) == (CauseKind.WEIGHTS, "w3", "head")
    assert "[4, 2]" in cause.evidence
    assert [r.name for r in report.rungs if r.status is Status.FAIL] == ["ledger"]
    assert report.coverage.weights_total == 9


def test_weights_only_runs_nothing(conv_net: MakeConvNet) -> None:
    """The ledger alone: a report with one rung, divergent on a damaged file, equivalent on the same one."""
    report = onnxeq.check(conv_net(), conv_net(edit=scaled), weights_only=True)
    assert [r.name for r in report.rungs] == ["ledger"]
    assert (report.verdict, report.causes[0].where.initializer) == (Verdict.DIVERGENT, "w2")
    assert onnxeq.check(conv_net(), conv_net(), weights_only=True).verdict is Verdict.EQUIVALENT
    found = onnxeq.ledger(conv_net(), conv_net(edit=swapped))
    assert [e.initializer for e in found.faults] == ["w2"]


def redrawn(weights: dict[str, np.ndarray]) -> None:
    drawn = np.random.default_rng(9)
    for name in ("w1", "w2", "w3"):
        weights[name][...] = drawn.normal(size=weights[name].shape).astype(np.float32)


def test_weights_that_stand_in_the_place_only_are_not_decided_without_running(conv_net: MakeConvNet) -> None:
    """Other weights under other names: nothing but their place says what they should be, so that weights alone cannot
    tell, and the same file under those names is equivalent.
    """

    def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
        stored = {tensor.name for tensor in model.graph.initializer}
        for tensor in model.graph.initializer:
            tensor.name = f"v_{tensor.name}"
        for node in model.graph.node:
            node.input[:] = [f"v_{name}" if name in stored else name for name in node.input]
        return model

    report = onnxeq.check(conv_net(), renamed(conv_net(edit=redrawn)), weights_only=True)
    assert (report.verdict, report.rungs[0].status) == (Verdict.INCONCLUSIVE, Status.NOT_RUN)
    assert report.rungs[0].reason
    assert onnxeq.check(conv_net(), renamed(conv_net()), weights_only=True).verdict is Verdict.EQUIVALENT


def test_a_pad_moved_to_the_other_side_breaks_the_graph_rung(conv_net: MakeConvNet) -> None:
    """Shapes and weights are equal; the border pixels are not."""
    report = onnxeq.check(conv_net(), conv_net(pads=(0, 1, 2, 1)))
    assert report.verdict is Verdict.DIVERGENT
    assert [c.cause for c in report.causes] == [CauseKind.GRAPH]


def test_a_dropped_output_is_divergent(conv_net: MakeConvNet) -> None:
    """An output that the artifact lacks is named."""
    less = conv_net()
    del less.graph.output[1]
    report = onnxeq.check(conv_net(), less)
    assert report.verdict is Verdict.DIVERGENT
    assert "missing in the artifact: tiny" in report.causes[0].evidence
    assert report.coverage.outputs_compared == 1


def cast_output(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    for node in model.graph.node:
        if node.output[0] == "tiny":
            node.output[0] = "before"
    model.graph.node.append(helper.make_node("Cast", ["before"], ["tiny"], to=kind))
    model.graph.output[1].CopyFrom(helper.make_tensor_value_info("tiny", kind, ["N", 4]))
    return model


def test_another_output_type_is_divergent(conv_net: MakeConvNet) -> None:
    """float64 in place of float32 is a finding although every value agrees."""
    report = onnxeq.check(conv_net(), cast_output(conv_net(), TensorProto.DOUBLE))
    assert report.verdict is Verdict.DIVERGENT
    assert "float32 in the source and float64 in the artifact" in report.causes[0].evidence
    assert rung(report, "graph") is Status.PASS


def test_nan_on_both_sides_is_divergent(conv_net: MakeConvNet) -> None:
    """A model whose output is NaN equals nothing, itself included."""

    def poison(weights: dict[str, np.ndarray]) -> None:
        weights["millionth"][:] = np.nan

    report = onnxeq.check(conv_net(edit=poison), conv_net(edit=poison))
    assert report.verdict is Verdict.DIVERGENT
    assert "NaN on both sides" in report.causes[0].evidence


def test_a_dead_output_is_inconclusive(conv_net: MakeConvNet) -> None:
    """An output that is constant over all inputs proves nothing."""

    def kill(weights: dict[str, np.ndarray]) -> None:
        weights["millionth"][:] = 0

    report = onnxeq.check(conv_net(edit=kill))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.coverage.outputs_compared == 1
    assert any("'tiny' did not vary" in note for note in report.notes)


def test_an_operator_without_semantics_is_named_and_inconclusive() -> None:
    """What the referee lacks is not judged with: the rung says so and the status is 3, not 0."""
    graph = helper.make_graph(
        [helper.make_node("Strange", ["x"], ["y"], name="odd", domain="org.example")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    report = onnxeq.check(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("org.example::Strange" in r.reason for r in report.rungs)


def test_float16_storage_is_divergent_unless_accepted(conv_net: MakeConvNet) -> None:
    """Weights rounded to float16 are far above the float32 floor; ``--accept float16`` passes them, and a
    fault larger than that it does not.
    """

    def halve(weights: dict[str, np.ndarray]) -> None:
        for name in ("w1", "w2", "w3"):
            weights[name][...] = weights[name].astype(np.float16)

    def break_it(weights: dict[str, np.ndarray]) -> None:
        weights["w2"] *= np.float32(1.5)

    refused = onnxeq.check(conv_net(), conv_net(edit=halve))
    assert refused.verdict is Verdict.DIVERGENT
    assert "rounded to float16" in refused.causes[0].evidence
    assert onnxeq.check(conv_net(), conv_net(edit=halve), accept=["float16"]).verdict is Verdict.EQUIVALENT
    assert onnxeq.check(conv_net(), conv_net(edit=break_it), accept=["float16"]).verdict is Verdict.DIVERGENT


@pytest.fixture
def files(tmp_path: Path, conv_net: MakeConvNet, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    data = conv_net().SerializeToString()
    Path("good.onnx").write_bytes(data)
    Path("bad.onnx").write_bytes(conv_net(edit=scaled).SerializeToString())
    Path("truncated.onnx").write_bytes(data[: len(data) // 2])
    Path("text.onnx").write_text("this is no model\n")
    Path("empty.onnx").write_bytes(b"")
    np.savez("wrong_name.npz", z=np.zeros((1, 3, 16, 16), np.float32))
    np.savez("wrong_shape.npz", x=np.zeros((1, 3, 16, 15), np.float32))
    np.savez("wrong_dtype.npz", x=np.zeros((1, 3, 16, 16)))
    np.savez("right.npz", x=np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["good.onnx"], 0, ""),
        (["good.onnx", "good.onnx"], 0, ""),
        (["good.onnx", "bad.onnx"], 1, ""),
        (["good.onnx", "--inputs", "right.npz"], 0, ""),
        (["missing.onnx"], 2, "no file missing.onnx"),
        (["good.onnx", "missing.onnx"], 2, "no file missing.onnx"),
        (["truncated.onnx"], 2, "truncated.onnx"),
        (["text.onnx"], 2, "text.onnx"),
        (["empty.onnx"], 2, "empty.onnx"),
        (["torchvison:resnet18"], 2, "torchvision"),
        (["good.onnx", "--inputs", "wrong_name.npz"], 2, "no input 'z'"),
        (["good.onnx", "--inputs", "wrong_shape.npz"], 2, "float32[1,3,16,15]"),
        (["good.onnx", "--inputs", "wrong_dtype.npz"], 2, "astype('float32')"),
        (["good.onnx", "--inputs", "none.npz"], 2, "none.npz"),
        (["good.onnx", "--accept", "int3"], 2, "float16"),
        (["good.onnx", "--providers", "tpu"], 2, "cpu, cuda"),
        (["good.onnx", "--report", "r.pdf"], 2, ".html"),
        (["good.onnx", "--no-such-option"], 2, "--help"),
    ],
)
def test_exit_status_and_one_line(
    files: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], status: int, says: str
) -> None:
    """0 equivalent, 1 divergent, 2 usage or unusable input: and then one line that says what to type next."""
    assert run(["check", *arguments, "-q"]) == status
    shown = capfd.readouterr()
    if status == 2:
        assert says in shown.err
        assert len(shown.err.strip().splitlines()) == 1
        assert shown.out == ""
    else:
        assert shown.err == ""
        assert shown.out.startswith("equivalent" if status == 0 else "divergent")
        assert len(shown.out.splitlines()) <= 30


def test_json_is_one_document_in_the_documented_shape(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output holds exactly one JSON document with the contract's keys, without NaN tokens."""
    assert run(["check", "good.onnx", "bad.onnx", "--json", "-q"]) == 1

    def refuse(token: str) -> float:
        raise AssertionError(token)

    document = json.loads(capfd.readouterr().out, parse_constant=refuse)
    assert document["schema"] == "onnxeq.report/1"
    assert document["verdict"] == "divergent"
    assert set(document) >= {
        "source", "target", "environment", "causes", "rungs", "outputs", "coverage", "layers",
    }  # fmt: skip
    cause = document["causes"][0]
    assert set(cause) == {"cause", "rung", "ratio", "where", "evidence"}
    assert set(cause["where"]) == {"node", "op_type", "value", "native", "initializer", "step"}
    assert set(document["rungs"][0]) >= {
        "name",
        "from",
        "to",
        "max_abs",
        "noise",
        "ratio",
        "limit",
        "status",
        "reason",
    }
    assert run(["check", "missing.onnx", "--json", "-q"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["type"] == "UnusableModel"


@pytest.mark.parametrize("suffix", [".html", ".json", ".md", ".xml"])
def test_a_report_file_carries_the_verdict(files: Path, capfd: pytest.CaptureFixture[str], suffix: str) -> None:
    """Each form of --report is written and names the verdict and the broken rung."""
    assert run(["check", "good.onnx", "bad.onnx", "--report", f"r{suffix}", "-q"]) == 1
    text = Path(f"r{suffix}").read_text()
    assert "graph" in text
    assert "divergent" in text or suffix == ".xml"
    assert ("<failure" in text) == (suffix == ".xml")


def test_normalize_and_convert_write_whole_files(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Both write a file that is equivalent to its source, refuse to overwrite, and note their version."""
    assert run(["normalize", "good.onnx", "-o", "n.onnx", "-q"]) == 0
    assert run(["normalize", "good.onnx", "-o", "n.onnx", "-q"]) == 2
    assert "--force" in capfd.readouterr().err
    assert run(["convert", "good.onnx", "-o", "n.onnx", "--force", "-q"]) == 0
    assert any(p.key == "onnxeq.version" for p in onnx.load("n.onnx").metadata_props)
    assert onnxeq.check("good.onnx", "n.onnx").verdict is Verdict.EQUIVALENT
    assert sorted(p.name for p in files.glob("n.onnx*")) == ["n.onnx"]


def test_no_weight_is_touched_by_the_test_model(conv_net: MakeConvNet) -> None:
    """The edits of this file change what they say and nothing else, or its verdicts would prove nothing."""
    good = {t.name: numpy_helper.to_array(t) for t in conv_net().graph.initializer}
    bad = {t.name: numpy_helper.to_array(t) for t in conv_net(edit=scaled).graph.initializer}
    assert [n for n in good if not np.array_equal(good[n], bad[n])] == ["w2"]
    assert np.count_nonzero((good["w2"] != bad["w2"]).any(axis=(1, 2, 3))) == 1


def test_changed_external_data_is_another_model(tmp_path: Path, conv_net: MakeConvNet, fresh_cache: Path) -> None:
    """Weights in a file of their own belong to the cache's key: the model file alone did not change."""
    onnx.save(conv_net(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=200)
    (tmp_path / "good.onnx").write_bytes(conv_net().SerializeToString())
    assert onnxeq.check(tmp_path / "good.onnx", tmp_path / "m.onnx").verdict is Verdict.EQUIVALENT
    data = np.fromfile(tmp_path / "m.data", np.float32)
    data[:100] *= 3
    data.tofile(tmp_path / "m.data")
    assert onnxeq.check(tmp_path / "good.onnx", tmp_path / "m.onnx").verdict is Verdict.DIVERGENT


def test_a_number_of_the_computation_is_the_graph_s_and_a_matrix_the_weights(tmp_path: Path) -> None:
    """Between two ONNX files every constant is in the ledger; a power is no weight."""

    def net(name: str, power: float, factor: float) -> Path:
        rng = np.random.default_rng(0)
        weight = rng.standard_normal((4, 4)).astype(np.float32)
        weight[1] *= np.float32(factor)
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            helper.make_node("Abs", ["h"], ["a"], name="size"),
            helper.make_node("Pow", ["a", "p"], ["y"], name="power"),
        ]
        stored = {"w": weight, "p": np.float32(power)}
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 4])],
            [helper.make_tensor_value_info("y", 1, ["N", 4])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
        )  # fmt: skip
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path

    right = net("right.onnx", 2.0, 1.0)
    causes = onnxeq.check(right, net("wrong.onnx", 2.01, 1.01)).causes
    assert {(c.where.node, c.cause.value) for c in causes} == {("power", "graph"), ("product", "weights")}
