"""A case gets smaller as long as the fault shows in it, and no further."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq.errors import CannotRun
from onnxeq.referee import Executor
from onnxeq.repro import AtFault, Fault, Repro, shrink
from onnxeq.types import Array, Feed
from tests.repro.conftest import chain, computed_in, feed, layer, model_of, wrong_at


def nodes_of(repro: Repro) -> list[str]:
    return [node.name for node in repro.case.model.graph.node]


@pytest.mark.parametrize(
    ("op_type", "node", "read"),
    [("MatMul", "product", "x"), ("Exp", "exponential", "s"), ("Sub", "shift", "e")],
)
def test_a_region_shrinks_to_the_node_at_fault(target_fault: Fault, op_type: str, node: str, read: str) -> None:
    """Whichever node of the region the runtime computes wrongly is the only one left, fed with one item."""
    found = shrink(target_fault, wrong_at(op_type))
    assert found.shows
    assert nodes_of(found) == [node]
    assert list(found.case.inputs) == [read]
    assert found.case.inputs[read].shape[0] == 1
    (declared,) = found.case.model.graph.input
    assert [d.dim_value for d in declared.type.tensor_type.shape.dim] == list(found.case.inputs[read].shape)


def test_what_should_come_out_is_computed_anew(target_fault: Fault) -> None:
    """The expected value of a cut is its float64 result on its own rounded inputs, and the error what was put in."""
    found = shrink(target_fault, wrong_at("Exp"))
    (given,) = found.case.inputs.values()
    assert given.dtype == np.float32
    np.testing.assert_allclose(found.case.right, np.exp(given.astype(np.float64)), rtol=1e-15)
    assert found.measure.max_abs == pytest.approx(0.001 * found.case.right.max(), rel=1e-3)


def test_a_fault_of_two_nodes_together_keeps_both(target_fault: Fault) -> None:
    """A runtime that is wrong only where it sees Exp behind Mul, as a fused kernel is: neither alone shows it."""

    def fused(model: onnx.ModelProto, inputs: Feed) -> Array:
        types = [node.op_type for node in model.graph.node]
        return (wrong_at("Exp") if "Mul" in types and "Exp" in types else computed_in)(model, inputs)

    found = shrink(target_fault, fused)
    assert nodes_of(found) == ["scale", "exponential"]
    assert list(found.case.inputs) == ["p"]


def test_an_item_other_than_the_first(target_fault: Fault) -> None:
    """Where only the third item is wrong, the first shows nothing, and the third alone shows it if it still does."""
    rows = feed()["x"]

    def third(model: onnx.ModelProto, inputs: Feed) -> Array:
        result = computed_in(model, inputs)
        row = np.flatnonzero((inputs["x"] == rows[2]).all(axis=1)) if "x" in inputs else []
        for i in row:
            result[i] *= np.float32(1.01)
        return result

    found = shrink(target_fault, third)
    assert found.shows
    np.testing.assert_array_equal(found.case.inputs["x"], rows[2:3])
    assert found.steps[0] == "all but item 2 of a batch of 4"


def test_a_batch_is_only_cut_where_items_are_independent(target_fault: Fault) -> None:
    """``y = softmax(x)`` over the batch: an item alone gives something else than in its batch, so all four stay."""
    model = model_of([helper.make_node("Softmax", ["x"], ["y"], name="s", axis=0)], {"x": ["N", 6]}, ["y"], {})
    powers = np.exp(feed()["x"])
    y = powers / powers.sum(axis=0)
    row = layer("y", "s", "Softmax")
    fault = replace(target_fault, model=model, layer=row, source=y, target=y, side=AtFault.SOURCE)
    found = shrink(fault, wrong_at("Softmax"))
    assert found.shows
    assert found.case.right.shape == (4, 6)


def test_a_source_at_fault_keeps_its_region(source_fault: Fault) -> None:
    """The values between are not the source's, so no node goes; the items do, and what is expected is what it gave."""
    found = shrink(source_fault, computed_in)
    assert found.shows
    assert nodes_of(found) == ["product", "scale", "exponential", "shift"]
    np.testing.assert_array_equal(found.case.right, source_fault.source[:1])


def test_a_runtime_without_fault_shows_nothing(target_fault: Fault) -> None:
    """The whole region comes back, with an error of less than the limit, and nothing was left out."""
    found = shrink(target_fault, computed_in)
    assert not found.shows
    assert found.measure.ratio < 1
    assert len(nodes_of(found)) == 4
    assert found.steps == ()


def test_a_refused_graph_is_said(target_fault: Fault) -> None:
    """A runtime that refuses the cut graph shows no fault, and its words are kept."""

    def refuses(_model: onnx.ModelProto, _inputs: Feed) -> Array:
        raise CannotRun("no kernel")

    found = shrink(target_fault, refuses)
    assert (found.shows, found.seen, found.refused) == (False, None, "no kernel")


def test_units_of_the_caller_are_taken(target_fault: Fault) -> None:
    """A unit that is given for each element is the whole case's unit; one of another shape is refused."""
    unit = np.full((4, 5), 1.0)
    found = shrink(replace(target_fault, unit=unit), wrong_at("Sub"))
    assert not found.shows
    assert found.case.unit.tolist() == unit.tolist()
    with pytest.raises(CannotRun, match=r"the noise unit of 'y' has the shape \[3\], its value \[4, 5\]"):
        shrink(replace(target_fault, unit=np.ones(3)), computed_in)


def test_float16_inputs_are_given_as_the_graph_declares_them(target_fault: Fault) -> None:
    """The source has float32 where the judged graph has float16: the cut is fed with float16."""
    model = chain()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    fault = replace(target_fault, model=model, target=target_fault.target.astype(np.float16))
    found = shrink(fault, computed_in)
    assert found.case.inputs["x"].dtype == np.float16
    assert found.case.dtype == "float16"
    exact = Executor(found.case.model).run(found.case.inputs)["y"]
    np.testing.assert_array_equal(found.case.right, exact)


def test_a_type_that_files_do_not_hold_is_refused(target_fault: Fault) -> None:
    """bfloat16 has no numpy file: it is said before anything runs."""
    import ml_dtypes

    inputs = {"x": target_fault.inputs["x"].astype(ml_dtypes.bfloat16)}
    model = chain()
    model.graph.value_info.append(helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [4, 6]))
    with pytest.raises(CannotRun, match="'x' is bfloat16, which numpy's files do not hold"):
        shrink(replace(target_fault, model=model, inputs=inputs), computed_in)


def test_a_sequence_is_refused(target_fault: Fault) -> None:
    """A value that is a list of tensors is said by its name."""
    with pytest.raises(CannotRun, match="'y' is no tensor: a repro holds tensors only"):
        shrink(replace(target_fault, source=[target_fault.source]), computed_in)


def test_what_the_referee_cannot_compute_is_taken_from_the_source(target_fault: Fault) -> None:
    """An operator without float64 semantics: a sound source's own result is what the target should give."""
    model = chain()
    model.graph.node[3].CopyFrom(helper.make_node("Magic", ["s"], ["e"], name="magic", domain="vendor"))
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    found = shrink(replace(target_fault, model=model), lambda _model, _inputs: target_fault.target)
    assert found.shows
    np.testing.assert_array_equal(found.case.right, target_fault.source)
    assert nodes_of(found) == ["product", "scale", "magic", "shift"]
