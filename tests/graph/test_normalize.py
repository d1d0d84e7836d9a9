"""The frame, the table and the result."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxeq.errors import CannotRun, UnusableModel, UsageError
from onnxeq.graph.frame import Options, Outcome, Pass, PassViolation, apply
from onnxeq.graph.normalize import normalize, write
from onnxeq.graph.table import passes


def relu(build):
    return build("g (float[N,2] x) => (float[N,2] y) { h = Identity(x) y = Relu(h) }")


def test_steps_account_for_the_nodes(build):
    """Each step begins where the one before ended; the last one says what is in the result."""
    model = relu(build)
    result = normalize(model)
    assert result.steps[0].nodes_before == 2
    assert result.steps[-1].nodes_after == len(result.model.graph.node) == 1
    for before, after in zip(result.steps, result.steps[1:], strict=False):
        assert before.nodes_after == after.nodes_before
    assert all(step.seconds >= 0 for step in result.steps)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.model = model


def test_the_given_model_is_not_changed(build):
    """Normalize works on its own copy."""
    model = relu(build)
    before = model.SerializeToString(deterministic=True)
    normalize(model)
    assert model.SerializeToString(deterministic=True) == before


def test_passes_by_name(build, ops):
    """Only the named passes run; an unknown name lists the known ones."""
    assert ops(normalize(relu(build), passes=["remove-dead"])) == ["Identity", "Relu"]
    assert ops(normalize(relu(build), passes=["remove-no-ops"])) == ["Relu"]
    with pytest.raises(UsageError, match="no pass 'nope'") as caught:
        normalize(relu(build), passes=["nope"])
    assert "remove-dead" in caught.value.hint


def test_every_pass_says_what_it_does():
    """Names are unique, each has one sentence."""
    names = [item.name for item in passes()]
    assert len(set(names)) == len(names)
    assert all(item.does.endswith(".") for item in passes())


def test_provenance(build):
    """metadata_props name the passes that changed something, beside what was there."""
    model = relu(build)
    onnx.helper.set_model_props(model, {"author": "me"})
    props = {p.key: p.value for p in normalize(model).model.metadata_props}
    assert props == {"author": "me", "onnxeq.normalize": "remove-no-ops"}


def _rename(model, _options):
    model.graph.outputs[0].name = "other"
    return Outcome(1)


def _lie(model, _options):
    model.graph[1].op_type = "Neg"
    return Outcome(0)


def _replace(model, _options):
    model.graph[1].op_type = "Neg"
    return Outcome(1)


def _disorder(model, _options):
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    return Outcome(1)


@pytest.mark.parametrize(
    ("run", "adds", "removes", "said"),
    [
        (_rename, (), (), "inputs or outputs"),
        (_lie, ("Neg",), ("Relu",), "reported no change"),
        (_replace, (), ("Relu",), "added Neg"),
        (_replace, ("Neg",), (), "removed Relu"),
        (_disorder, (), (), "read before it is defined: h"),
    ],
)
def test_the_frame_catches(build, run, adds, removes, said):
    """A pass that does what it does not declare is stopped, and the message says what it did."""
    item = Pass("bad", "Is bad.", run, adds=frozenset(adds), removes=frozenset(removes))
    with pytest.raises(PassViolation, match=said):
        apply(item, ir.serde.deserialize_model(relu(build)), Options())


def test_invalid_model(build):
    """The checker's verdict in one line."""
    model = relu(build)
    model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(UnusableModel, match="checker rejects") as caught:
        normalize(model)
    assert "\n" not in caught.value.line()


def test_short_tensor(build):
    """Six bytes for a float32[2]: the checker does not look, we do."""
    model = build("g (float[N,2] x) => (float[N,2] y) { y = Add(x, a) }", a=np.float32([1, 2]))
    model.graph.initializer[0].raw_data = b"\0" * 6
    with pytest.raises(UnusableModel, match="'a': holds 6 bytes, 8 needed"):
        normalize(model)


def test_sparse_initializer_is_refused(build):
    """onnx_ir would drop it silently."""
    model = build("g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }")
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.float32([1]), "s"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.int64([0]), "s_index"))
    sparse.dims.append(2)
    with pytest.raises(CannotRun, match="sparse initializer 's'"):
        normalize(model)


@pytest.mark.parametrize("limit", [2**31, 1000])
def test_write(build, tmp_path, limit):
    """Inline or with external data, the file reads back as the model; nothing else is left behind."""
    weight = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    model = build("g (float[N,30] x) => (float[N,40] y) { y = MatMul(x, w) }", w=weight)
    path = write(model, tmp_path / "m.onnx", provenance={"onnxeq.version": "1"}, inline_bytes=limit)
    back = onnx.load(path)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(back.graph.initializer[0]), weight)
    assert [(p.key, p.value) for p in back.metadata_props] == [("onnxeq.version", "1")]
    assert len(list(tmp_path.iterdir())) == (1 if limit > 4800 else 2)
    assert not model.metadata_props
    assert normalize(path).model.graph.initializer[0].raw_data == weight.tobytes()


def test_withdrawn_operators(build, capfd):
    """A model with the withdrawn ImageScaler is normalised, and nothing is printed."""
    model = build("g (float[1,3,4,4] x) => (float[1,3,4,4] y) { h = Identity(x) y = Relu(h) }", opset=7, ir=4)
    scaler = onnx.helper.make_node("ImageScaler", ["x"], ["s"], bias=[0.0, 0.0, 0.0], scale=2.0)
    model.graph.node.insert(0, scaler)
    model.graph.node[1].input[0] = "s"
    result = normalize(model)
    assert [(node.domain, node.op_type) for node in result.model.graph.node] == [
        ("", "ImageScaler"),
        ("", "Relu"),
    ]
    assert capfd.readouterr().out == ""


def test_an_old_file_whose_initializers_are_no_inputs(build):
    """IR version 3 wants each initializer to be an input; runtimes load such files all the same."""
    model = build("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    model.ir_version = 3
    assert [n.op_type for n in normalize(model).model.graph.node] == ["Add"]
