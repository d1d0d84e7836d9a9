"""What a check says of a golden: the verdict, the cause with its place, and what it leaves for a decision."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.errors import CannotRun, GoldenDisputed, UsageError
from onnxeq.golden import check, pending, prune, record, store
from onnxeq.golden.condense import digest
from onnxeq.golden.findings import CauseKind, Outcome
from onnxeq.golden.reviewing import compared
from onnxeq.golden.values import Golden, Role, Verdict
from onnxeq.types import Array

MakeConvNet = Callable[..., onnx.ModelProto]
FAULTY = Path(__file__).parents[1] / "faulty_runner.py"


def outcome(folder: Path, **options: object) -> Outcome:
    (found,) = check(folder=folder / "golden", **options).outcomes  # type: ignore[arg-type]
    return found


def change(folder: Path, edit: Callable[[Golden, dict[str, Array]], Golden]) -> None:
    """Puts another golden, whole in itself, in the place of the accepted one."""
    stored = store.read(folder / "golden", "net")
    arrays = dict(stored.arrays)
    with store.locked(folder / "golden", "net", wait=False):
        store.commit(folder / "golden", edit(stored.golden, arrays), arrays)


def scaled(golden: Golden, arrays: dict[str, Array], roles: tuple[Role, ...], size: float) -> Golden:
    """The golden with the arrays of some executions made larger, and their digests with them."""
    born = []
    for each in golden.executions:
        if each.role not in roles:
            born.append(each)
            continue
        for output in golden.outputs:
            key = f"{each.role}/{output.feed}/{output.name}"
            arrays[key] = (arrays[key].astype(np.float64) * (1 + size)).astype(arrays[key].dtype)
        sha = tuple(digest(arrays[f"{each.role}/{o.feed}/{o.name}"]) for o in golden.outputs)
        born.append(replace(each, sha256=sha))
    return replace(golden, executions=tuple(born))


def provenance(golden: Golden, **lines: str) -> Golden:
    return replace(golden, provenance={**golden.provenance, **lines})


def test_a_golden_has_two_executions_that_agree(recorded: Path) -> None:
    """The runtime and the referee, within the limit of 6; an error bar, and a digest for each of the nine nodes."""
    golden = store.read(recorded / "golden", "net").golden
    assert [(e.role, e.name) for e in golden.executions] == [
        (Role.RUNTIME, "ort/cpu"), (Role.REFEREE, "referee/f64"),
    ]  # fmt: skip
    assert [(a.first, a.second) for a in golden.agreement] == [("referee/f64", "ort/cpu")]
    assert 0 < golden.agreement[0].ratio < golden.bar.limit == 6.0
    assert golden.layers == 9
    assert all(0 < o.noise < 1e-6 for o in golden.outputs)
    assert {"onnxruntime", "cpu", "provider", "opset", "onnx"} <= set(golden.provenance)


def test_nothing_changed(recorded: Path) -> None:
    """The same bits: status 0, and nothing waits."""
    checked = check(folder=recorded / "golden")
    (found,) = checked.outcomes
    assert (found.verdict, found.ratio, found.changes, checked.exit_status) == (Verdict.UNCHANGED, 0.0, (), 0)
    assert all(d.same for d in found.distances)
    assert pending(recorded / "golden") == ()


def test_a_changed_weight_is_named(recorded: Path, conv_net: MakeConvNet) -> None:
    """One channel of one convolution scaled by 1.002: cause, initializer and layer are told, and the change waits.

    Put back, the golden holds again and nothing waits any more.
    """
    original = (recorded / "net.onnx").read_bytes()
    onnx.save(conv_net(edit=_bump), recorded / "net.onnx")
    checked = check(folder=recorded / "golden")
    (found,) = checked.outcomes
    assert (found.verdict, checked.exit_status, found.pending) == (Verdict.CHANGED, 1, True)
    assert found.ratio > found.limit
    assert [(c.kind, c.proven) for c in found.causes] == [(CauseKind.WEIGHTS, True)]
    assert "1 of 6 weights changed: 'w2' float32[16,16,3,3]" in found.causes[0].evidence
    assert found.layer.startswith("'c2' (Conv)")
    assert [c.key for c in found.changes] == ["onnx_sha256", "weights_sha256"]
    waiting = compared(recorded / "golden", "net")
    assert waiting.waiting.causes[0].startswith("weights: ")
    assert max(o.ratio for o in waiting.outputs if o.execution == "ort/cpu") == pytest.approx(found.ratio, rel=1e-6)
    (recorded / "net.onnx").write_bytes(original)
    assert outcome(recorded).verdict is Verdict.UNCHANGED
    assert pending(recorded / "golden") == ()


def _bump(weights: dict[str, np.ndarray]) -> None:
    weights["w2"][3] *= 1.002


def test_a_changed_attribute_is_named(recorded: Path, conv_net: MakeConvNet) -> None:
    """Other pads of one convolution: the node, the attribute, its value before and now."""
    onnx.save(conv_net(pads=(0, 1, 2, 1)), recorded / "net.onnx")
    found = outcome(recorded, keep_pending=False)
    assert found.verdict is Verdict.CHANGED
    assert [c.kind for c in found.causes] == [CauseKind.GRAPH]
    assert "node conv1 (Conv): attribute pads is [0, 1, 2, 1], it was [1, 1, 1, 1]" in found.causes[0].evidence
    assert found.layer.startswith("'c1' (Conv)")
    assert not found.pending
    assert pending(recorded / "golden") == ()


def test_another_exporter_is_named(recorded: Path, conv_net: MakeConvNet) -> None:
    """A file of another producer with another graph: the exporter, with both versions, and the node that differs."""
    model = conv_net(pads=(0, 1, 2, 1))
    model.producer_name, model.producer_version = "exporter", "2.0"
    onnx.save(model, recorded / "net.onnx")
    change(recorded, lambda golden, _: provenance(golden, producer="exporter 1.0"))
    found = outcome(recorded, keep_pending=False)
    assert [(c.kind, c.proven) for c in found.causes] == [(CauseKind.EXPORTER, True)]
    assert "producer exporter 1.0 -> exporter 2.0" in found.causes[0].evidence
    assert "attribute pads" in found.causes[0].where


def test_a_change_within_the_error_bar_is_named_and_passes(recorded: Path, conv_net: MakeConvNet) -> None:
    """A weight that is a millionth larger moves the outputs by less than rounding may: told with the weight."""
    onnx.save(conv_net(edit=_nudge), recorded / "net.onnx")
    checked = check(folder=recorded / "golden")
    (found,) = checked.outcomes
    assert (found.verdict, checked.exit_status, found.pending) == (Verdict.WITHIN, 0, False)
    assert 0 < found.ratio < found.limit
    assert [(c.kind, c.proven) for c in found.causes] == [(CauseKind.WEIGHTS, False)]
    assert "'w2'" in found.causes[0].where


def _nudge(weights: dict[str, np.ndarray]) -> None:
    weights["w2"][3, 0, 0, 0] *= 1 + 1e-6


def test_tf32_is_recognised(recorded: Path) -> None:
    """A runtime that rounds the operands of products to eleven bits: the runtime, TF32, the first convolution."""
    found = outcome(recorded, runner=f"{FAULTY}:Faulty?kind=tf32&node=conv1,conv2", keep_pending=False)
    assert [(c.kind, c.proven) for c in found.causes] == [(CauseKind.RUNTIME, True)]
    assert "consistent with TF32" in found.causes[0].evidence
    assert "runtime ort -> Faulty" in found.causes[0].evidence
    assert found.layer.startswith("'c1' (Conv)")


def test_another_runtime_version_is_named(recorded: Path) -> None:
    """The golden of a version whose results are 2e-7 off is within the bar, of one that is 1e-3 off it is not.

    In both the version is told. In the second the golden's own float64 values and today's executions agree with each
    other and not with it, which makes the golden suspect: its runtime was at fault, not today's.
    """

    def older(size: float) -> Callable[[Golden, dict[str, Array]], Golden]:
        return lambda g, a: provenance(scaled(g, a, (Role.RUNTIME,), size), onnxruntime="1.0.0")

    change(recorded, older(2e-7))
    found = outcome(recorded)
    assert (found.verdict, [c.kind for c in found.causes]) == (Verdict.WITHIN, [CauseKind.RUNTIME])
    assert found.causes[0].evidence.startswith("onnxruntime 1.0.0 -> ")
    change(recorded, older(1e-3))
    found = outcome(recorded)
    assert (found.verdict, [c.kind for c in found.causes]) == (Verdict.SUSPECT, [CauseKind.GOLDEN])
    assert "from its own float64 values" in found.causes[0].evidence
    assert any(c.key == "onnxruntime" for c in found.changes)


def test_a_version_that_changes_no_bit_is_said_and_passes(recorded: Path) -> None:
    """Unchanged, with the line of the provenance that is another one."""
    change(recorded, lambda golden, _: provenance(golden, onnxruntime="1.0.0"))
    found = outcome(recorded)
    assert found.verdict is Verdict.UNCHANGED
    assert [c.key for c in found.changes] == ["onnxruntime"]


def test_a_golden_of_another_model_is_suspect(recorded: Path) -> None:
    """All its arrays a hundredth larger, its digests of the model today's: three witnesses stand against it."""
    change(recorded, lambda g, a: scaled(g, a, (Role.RUNTIME, Role.REFEREE), 1e-2))
    checked = check(folder=recorded / "golden")
    (found,) = checked.outcomes
    assert (found.verdict, checked.exit_status, found.pending) == (Verdict.SUSPECT, 1, True)
    assert "agree with each other within 6x rounding noise" in found.causes[0].evidence


def test_a_runtime_that_departs_without_a_new_version(recorded: Path) -> None:
    """Nothing in the provenance changed, the float64 values did not move, the runtime did: nondeterminism is left."""
    settings = f"{FAULTY}:Faulty?kind=scale&node=conv2&size=1e-3"
    change(
        recorded,
        lambda g, _: replace(
            provenance(g, **{"runtime": "Faulty", "runtime faulty": "1"}), how=replace(g.how, runner=settings)
        ),
    )
    found = outcome(recorded, keep_pending=False)
    assert [(c.kind, c.proven) for c in found.causes] == [(CauseKind.NONDETERMINISM, True)]
    assert "no version changed" in found.causes[0].evidence
    assert found.layer.startswith("'c2' (Conv)")


def test_an_output_of_another_shape_or_name(recorded: Path, conv_net: MakeConvNet) -> None:
    """Attributes come before numbers: the sentence says what it is and what it was."""
    model = conv_net()
    model.graph.output[1].name = "renamed"
    model.graph.node[-1].output[0] = "renamed"
    onnx.save(model, recorded / "net.onnx")
    found = outcome(recorded, keep_pending=False)
    assert found.verdict is Verdict.CHANGED
    assert found.distances[0].problem == "output 'tiny' is gone"
    onnx.save(conv_net(edit=_narrower), recorded / "net.onnx")
    found = outcome(recorded, keep_pending=False)
    assert found.distances[0].problem == "output 'logits' is float32[1,9], it was float32[1,10]"
    assert CauseKind.WEIGHTS in [c.kind for c in found.causes]


def _narrower(weights: dict[str, np.ndarray]) -> None:
    weights["w3"] = weights["w3"][:, :9]


def test_a_golden_without_its_model_is_stale(recorded: Path) -> None:
    """It fails, and says how it is removed; removing takes all of it away, and then there is nothing to check."""
    (recorded / "net.onnx").unlink()
    checked = check(folder=recorded / "golden")
    assert (checked.outcomes[0].verdict, checked.exit_status) == (Verdict.STALE, 1)
    assert "prune" in checked.outcomes[0].notes[0]
    assert prune(recorded / "golden", dry_run=True) == ("net",) == prune(recorded / "golden")
    assert store.names(recorded / "golden") == []
    with pytest.raises(UsageError, match="there is no golden in"):
        check(folder=recorded / "golden")


def test_one_bad_golden_hides_no_other(recorded: Path) -> None:
    """A cut file of arrays is status 2 in one line; its neighbour is judged."""
    for file in (recorded / "golden").glob("net.*"):
        text = file.name.replace("net.", "other.")
        shutil.copy(file, recorded / "golden" / text)
    record_file = recorded / "golden" / "other.toml"
    record_file.write_text(record_file.read_text().replace('"net', '"other'))
    held = store.read(recorded / "golden", "net").golden.arrays
    (recorded / "golden" / held).write_bytes(b"cut")
    checked = check(folder=recorded / "golden")
    assert [o.verdict for o in checked.outcomes] == [Verdict.UNUSABLE, Verdict.UNCHANGED]
    assert checked.exit_status == 2
    assert "has the SHA-256" in checked.outcomes[0].notes[0]
    with pytest.raises(UsageError, match="there is no golden 'third'"):
        check(["third"], folder=recorded / "golden")


KILLER = """
import os
from onnxeq.runners import ort

def open(model, options):
    if "bad" in model.name:
        os.abort()
    return ort.open(model, options)

def versions():
    return ort.versions()
"""


def test_a_model_that_kills_the_runtime_is_alone_in_that(recorded: Path) -> None:
    """The process that runs all models dies with one: each is run by itself then, and the other one is judged."""
    shutil.copy(recorded / "net.onnx", recorded / "bad.onnx")
    for file in (recorded / "golden").glob("net.*"):
        shutil.copy(file, recorded / "golden" / file.name.replace("net.", "bad."))
    record_file = recorded / "golden" / "bad.toml"
    record_file.write_text(record_file.read_text().replace('"net', '"bad').replace("../net.onnx", "../bad.onnx"))
    (recorded / "killer.py").write_text(KILLER)
    checked = check(folder=recorded / "golden", runner=str(recorded / "killer.py"))
    bad, good = checked.outcomes
    assert (bad.verdict, good.verdict, checked.exit_status) == (Verdict.NOT_RUN, Verdict.UNCHANGED, 3)
    assert "SIGABRT" in bad.notes[0]
    assert any("by itself" in note for note in good.notes)


def test_a_live_model_is_checked_by_who_has_it(tmp_path: Path, conv_net: MakeConvNet) -> None:
    """A golden of an object in memory: whoever hands the object over checks it; nobody else can."""
    record(conv_net(), "live", folder=tmp_path)
    assert check(folder=tmp_path, sources={"live": conv_net()}).outcomes[0].verdict is Verdict.UNCHANGED
    checked = check(folder=tmp_path)
    assert (checked.outcomes[0].verdict, checked.exit_status) == (Verdict.ELSEWHERE, 0)
    assert prune(tmp_path) == ()
    assert prune(tmp_path, unused=["live"]) == ("live",)


def test_inputs_of_a_user_are_kept_or_held_to(tmp_path: Path, conv_net: MakeConvNet) -> None:
    """Small arrays lie beside the outputs; a golden with another digest of them is unusable."""
    feed = {"x": np.random.default_rng(5).standard_normal((2, 3, 16, 16)).astype(np.float32)}
    golden = record(conv_net(), "live", folder=tmp_path, inputs=[feed])
    assert (golden.inputs.kind, golden.inputs.feeds) == ("stored", 1)
    assert check(folder=tmp_path, sources={"live": conv_net()}).outcomes[0].verdict is Verdict.UNCHANGED
    path = tmp_path / "live.toml"
    path.write_text(path.read_text().replace(golden.inputs.sha256, "0" * 64))
    found = check(folder=tmp_path, sources={"live": conv_net()}).outcomes[0]
    assert found.verdict is Verdict.UNUSABLE
    assert "other inputs than the golden was made with" in found.notes[0]


def test_executions_that_disagree_make_no_golden(recorded: Path) -> None:
    """A runtime a thousandth off is no birth: status 1; with ``anyway`` the dispute stands in the record."""
    faulty: Mapping[str, object] = {"runner": f"{FAULTY}:Faulty?kind=scale&node=conv2", "folder": recorded / "golden"}
    with pytest.raises(GoldenDisputed, match="rounding noise apart, 6x allowed") as caught:
        record("net.onnx", "disputed", **faulty)  # type: ignore[arg-type]
    assert caught.value.exit_status == 1
    assert store.names(recorded / "golden") == ["net"]
    golden = record("net.onnx", "disputed", anyway=True, **faulty)  # type: ignore[arg-type]
    assert any("rounding noise apart" in note for note in golden.notes)
    with pytest.raises(UsageError, match="overwrites nothing"):
        record("net.onnx", "net", folder=recorded / "golden")


def scaled_graph(weight: float, *, hashed: bool = False) -> onnx.ModelProto:
    """``y = x * w`` of 307,200 elements and its ``ArgMax``; or a small one beside an operator that no referee has."""
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"], name="mul")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 320, 320] if not hashed else [1, 3, 4, 4])]
    if hashed:
        nodes.append(helper.make_node("MurmurHash3", ["z"], ["h"], name="hash", domain="com.microsoft"))
        inputs.append(helper.make_tensor_value_info("z", TensorProto.INT32, [4]))
        outputs.append(helper.make_tensor_value_info("h", TensorProto.UINT32, None))
    else:
        nodes.append(helper.make_node("ArgMax", ["y"], ["k"], name="arg", axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("k", TensorProto.INT64, None))
    stored = numpy_helper.from_array(np.array([1.1, weight, 1.7], np.float32).reshape(1, 3, 1, 1), "w")
    graph = helper.make_graph(nodes, "net", inputs, outputs, [stored])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_a_large_output_is_kept_small_and_judged_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 307,200 floats 5,120 numbers are kept; labels beside them are kept whole, and their flips are told."""
    monkeypatch.chdir(tmp_path)
    onnx.save(scaled_graph(2.3), "net.onnx")
    golden = record("net.onnx", batches=(1,))
    assert [(o.name, o.sampled) for o in golden.outputs] == [("y", True), ("k", False)]
    assert store.read(Path("golden"), "net").arrays["runtime/0/y"].shape == (5120,)
    assert check().outcomes[0].verdict is Verdict.UNCHANGED
    onnx.save(scaled_graph(2.301), "net.onnx")
    (found,) = check(keep_pending=False).outcomes
    assert found.verdict is Verdict.CHANGED
    assert CauseKind.WEIGHTS in [c.kind for c in found.causes]
    assert "output 'k' (int64) differs at" in found.distances[0].problem
    assert found.layer.startswith("'y' (Mul)")


def test_a_single_execution_is_no_golden_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator without float64 semantics: status 3. Recorded anyway it has no error bar but float32's own spacing,
    and what changed is suggested by the provenance alone.
    """
    monkeypatch.chdir(tmp_path)
    onnx.save(scaled_graph(2.3, hashed=True), "net.onnx")
    with pytest.raises(CannotRun, match="only ort/cpu could be run") as caught:
        record("net.onnx")
    assert caught.value.exit_status == 3
    golden = record("net.onnx", anyway=True)
    assert "MurmurHash3" in golden.bar.missing
    assert check().outcomes[0].verdict is Verdict.UNCHANGED
    for weight, verdict in ((2.3 * (1 + 2e-6), Verdict.WITHIN), (2.3 * (1 + 2e-3), Verdict.CHANGED)):
        onnx.save(scaled_graph(weight, hashed=True), "net.onnx")
        (found,) = check().outcomes
        assert (found.verdict, [(c.kind, c.proven) for c in found.causes]) == (verdict, [(CauseKind.WEIGHTS, False)])
