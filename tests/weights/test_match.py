"""What the ledger says of right and of damaged artifacts."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxeq.errors import CannotRun, JobCrashed, OnnxeqError
from onnxeq.jobs import JobResult
from onnxeq.weighing import weighed
from onnxeq.weights import EntryStatus, Ledger, Relation, match, native_of
from onnxeq.weights.document import from_record, to_record

Weights = dict[str, Any]


def up(array: Any, index: tuple[int, ...], ulps: int) -> None:
    for _ in range(ulps):
        array[index] = np.nextafter(array[index], np.float32(np.inf))


def only(ledger: Ledger) -> Any:
    """The one fault of a ledger."""
    assert len(ledger.faults) == 1, [e.evidence for e in ledger.faults]
    return ledger.faults[0]


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bias", [True, False])
def test_an_honest_fold_is_accounted_for(nets: Any, seed: int, lost: bool, bias: bool) -> None:
    """Every native tensor and every constant is accounted for, names or not, conv biases or not; nothing is a fault."""
    native = nets.native(seed, channels=(8, 16, 24)[seed % 3], bias=bias)
    artifact = nets.folded(native)
    found = match(native, nets.nameless(artifact) if lost else artifact)
    assert not found.faults
    assert (found.natives_accounted, found.natives_total) == (len(native), len(native))
    assert found.initializers_accounted == found.initializers_total == 7
    assert sum(e.relation is Relation.FOLDED for e in found.entries) == 4


@pytest.mark.parametrize(
    ("name", "index", "ulps"),
    [("head.weight", (2, 3), 1), ("fc.weight", (0, 0), 1), ("fc.bias", (5,), 1), ("conv2.weight", (3, 1, 0, 2), 1),
     ("conv1.bias", (7,), 4), ("conv2.bias", (0,), 4)],
)  # fmt: skip
@pytest.mark.parametrize("lost", [False, True])
def test_one_element_off_by_a_few_ulp_is_found(
    nets: Any, native: Weights, name: str, index: tuple[int, ...], ulps: int, lost: bool
) -> None:
    """One plain weight off by one ulp, and one channel of a folded bias off by four, are near misses with the place."""
    damaged = nets.folded(native, lambda w: up(w[name], index, ulps))
    fault = only(match(native, nets.nameless(damaged) if lost else damaged))
    assert name in fault.natives
    assert fault.ulp == ulps
    assert fault.sure
    assert str(list(index)) in fault.evidence


@pytest.mark.parametrize("name", ["conv2.weight", "head.weight", "fc.weight"])
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda a: np.multiply(a[3], np.float32(1.002), out=a[3]), "channel 3 is scaled by 1.002"),
        (lambda a: a.__setitem__(2, 0), "channel 2 is zero"),
        (lambda a: np.negative(a[1], out=a[1]), "channel 1 has its sign flipped"),
        (lambda a: a.__setitem__([0, 1], a[[1, 0]]), "channels 0 and 1 exchanged"),
        (lambda a: a.__setitem__(..., a.astype(np.float16)), "rounded to float16"),
        (lambda a: a.__setitem__(..., -a), "sign flipped everywhere"),
        (lambda a: a.__setitem__(..., np.roll(a, 1, axis=0)), "channels shifted by 1"),
    ],
)
def test_a_near_miss_says_what_differs(nets: Any, native: Weights, name: str, edit: Any, said: str) -> None:
    """The evidence names the kind of damage, the native tensor, the initializer and the node that reads it."""
    fault = only(match(native, nets.folded(native, lambda w: edit(w[name]))))
    assert said in fault.evidence
    assert fault.initializer == name
    assert fault.native == name
    assert fault.node == name.split(".")[0]


def test_a_transposed_square_matrix_is_told_by_the_others(nets: Any, native: Weights) -> None:
    """A square matrix stored the other way round is a near miss, since the matrix that is not square shows the way."""
    damaged = nets.folded(native, lambda w: w.update({"fc.weight": np.ascontiguousarray(w["fc.weight"].T)}))
    fault = only(match(native, nets.nameless(damaged)))
    assert fault.native == "fc.weight"
    assert "transposed" in fault.evidence


def test_a_layout_of_its_own_is_no_fault(nets: Any, native: Weights) -> None:
    """MatMul takes what Gemm with transB takes transposed: all matrices turned alike are accounted for."""
    artifact = nets.folded(native)
    for node in artifact.graph.node:
        if node.op_type == "Gemm":
            del node.attribute[:]
    for tensor in artifact.graph.initializer:
        if tensor.name in ("fc.weight", "head.weight"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), tensor.name))
    found = match(native, nets.nameless(artifact))
    assert not found.faults
    assert sum(e.relation is Relation.TRANSPOSED for e in found.entries) == 2


def test_exchanged_tensors_are_told_by_names_or_by_places(nets: Any) -> None:
    """Two equally shaped tensors exchanged: with names each names the other; without, the unfolded export tells."""
    native = nets.native(3)
    native["head.weight"] = native["head.weight"][:0].reshape(0, 16)  # unused
    native["head.weight"] = np.random.default_rng(9).standard_normal((16, 16)).astype(np.float32)

    def exchange(w: Weights) -> None:
        w["fc.weight"], w["head.weight"] = w["head.weight"], w["fc.weight"]

    damaged = nets.folded(native, exchange)
    by_name = match(native, damaged)
    assert {e.initializer for e in by_name.faults} == {"fc.weight", "head.weight"}
    assert all("exchanged with" in e.evidence for e in by_name.faults)
    assert not any(e.sure for e in by_name.faults)  # names may have been exchanged, too
    by_place = match(native, nets.nameless(damaged), reference=nets.unfolded(native))
    assert {e.native for e in by_place.faults} == {"fc.weight", "head.weight"}
    assert all(e.sure for e in by_place.faults)


def test_the_file_order_and_the_names_do_not_matter(nets: Any) -> None:
    """Nodes and initializers in another order, without names: with the reference every constant keeps its owner."""
    native = nets.native(4)
    artifact = nets.nameless(nets.folded(native))
    tensors = list(artifact.graph.initializer)
    del artifact.graph.initializer[:]
    artifact.graph.initializer.extend(sorted(tensors, key=lambda t: -len(t.raw_data)))
    assert not match(native, artifact, reference=nets.unfolded(native)).faults


def test_a_destroyed_weight_is_known_by_its_place(nets: Any, native: Weights) -> None:
    """Random values in a convolution are its native weight's near miss where the reference tells the place, or the
    bias at the same node tells the BatchNormalization; values alone could not, so the outputs must confirm it.
    """
    rng = np.random.default_rng(5)
    damaged = nets.folded(native, lambda w: w.update({"conv2.weight": rng.standard_normal((16, 16, 3, 3), np.float32)}))
    fault = only(match(native, nets.nameless(damaged), reference=nets.unfolded(native)))
    assert fault.native == "conv2.weight"
    assert not fault.sure


def test_an_onnx_source_is_its_own_reference(nets: Any, native: Weights) -> None:
    """ONNX against ONNX: the unfolded file against the folded one, whose second bias is the first's."""
    source = nets.unfolded(native)
    damaged = nets.folded(native, lambda w: w.update({"conv2.bias": w["conv1.bias"]}))
    fault = only(match(native_of(source), nets.nameless(damaged), reference=source))
    assert fault.native == "conv2.bias"


def test_a_dead_branch_with_weights_is_a_fault(nets: Any, native: Weights) -> None:
    """Nodes that read native weights and reach no output are named, and only if the source's own reach one."""
    artifact = nets.folded(native)
    rng = np.random.default_rng(1)
    native["aux.weight"] = rng.standard_normal((3, 16)).astype(np.float32)
    artifact.graph.initializer.append(numpy_helper.from_array(native["aux.weight"], "aux.weight"))
    artifact.graph.node.append(helper.make_node("Gemm", ["f", "aux.weight"], ["unread"], name="aux", transB=1))
    fault = only(match(native, artifact))
    assert (fault.status, fault.node) == (EntryStatus.UNREAD, "aux")
    assert "reaches no output" in fault.evidence
    assert not match(native_of(artifact), artifact, reference=artifact).faults


def test_an_initializer_that_nobody_reads_is_no_fault(nets: Any, native: Weights) -> None:
    """What is merely stored, with no node that reads it, changes nothing."""
    artifact = nets.folded(native)
    artifact.graph.initializer.append(numpy_helper.from_array(native["bn1.weight"], "left over"))
    assert not match(native, artifact).faults


def test_counters_are_not_missed(nets: Any, native: Weights) -> None:
    """``num_batches_tracked`` is held by no graph, and accounted for."""
    native["bn1.num_batches_tracked"] = np.array(3, np.int64)
    found = match(native, nets.folded(native))
    assert found.natives_accounted == found.natives_total == len(native)


def test_a_weight_that_nothing_holds_is_an_orphan(nets: Any, native: Weights) -> None:
    """A native tensor without a constant is said, and is no fault: the graph may need none of it."""
    native["extra.weight"] = np.random.default_rng(0).standard_normal((7, 9)).astype(np.float32)
    found = match(native, nets.folded(native))
    (orphan,) = [e for e in found.entries if e.status is EntryStatus.ORPHAN]
    assert orphan.natives == ("extra.weight",)
    assert found.natives_accounted == found.natives_total - 1
    assert not found.faults


def test_half_precision_is_rounded_once_or_a_near_miss(nets: Any, native: Weights) -> None:
    """A float16 artifact holds the rounded values exactly; one float16 ulp off is a near miss."""
    artifact = nets.model_of(
        [helper.make_node("Cast", ["w"], ["v"], to=1), helper.make_node("Gemm", ["x", "v"], ["y"], transB=1)],
        {"w": native["fc.weight"].astype(np.float16)}, ["N", 16], "y",
    )  # fmt: skip
    own = {"fc.weight": native["fc.weight"]}
    (entry,) = match(own, artifact).entries
    assert (entry.relation, entry.status) == (Relation.CAST, EntryStatus.OK)
    held = numpy_helper.to_array(artifact.graph.initializer[0]).copy()
    held[1, 2] = np.nextafter(held[1, 2], np.float16(np.inf))
    artifact.graph.initializer[0].CopyFrom(numpy_helper.from_array(held, "w"))
    assert only(match(own, artifact)).ulp == 1


def test_packed_projections_are_put_together(nets: Any) -> None:
    """Query, key and value in one matrix: concatenated, and one damaged row is named."""
    rng = np.random.default_rng(0)
    native = {f"{k}.weight": rng.standard_normal((8, 8)).astype(np.float32) for k in "qkv"}
    packed = np.concatenate([native[f"{k}.weight"] for k in "qkv"]).T.copy()
    artifact = nets.model_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="qkv")], {"w": packed}, ["N", 8], "y")
    (entry,) = match(native, artifact).entries
    assert (entry.relation, entry.natives) == (Relation.CONCATENATED, ("q.weight", "k.weight", "v.weight"))
    packed[:, 10] *= np.float32(1.5)
    artifact.graph.initializer[0].CopyFrom(numpy_helper.from_array(packed, "w"))
    assert "channel 10 is scaled by 1.5" in only(match(native, artifact)).evidence


def test_a_split_projection_is_accounted_for(nets: Any) -> None:
    """A packed native weight that the exporter stores in three parts."""
    native = {"in_proj_weight": np.random.default_rng(0).standard_normal((24, 8)).astype(np.float32)}
    parts = {f"w{i}": native["in_proj_weight"][8 * i : 8 * i + 8].T.copy() for i in range(3)}
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(3)]
    nodes.append(helper.make_node("Concat", ["y0", "y1", "y2"], ["y"], axis=1))
    found = match(native, nets.model_of(nodes, parts, ["N", 8], "y"))
    assert [e.relation for e in found.entries] == [Relation.SPLIT] * 3
    assert found.natives_accounted == 1


def test_an_attention_factor_in_a_weight_is_no_fault(nets: Any) -> None:
    """``W / sqrt(d)`` for a head of 4 is what exporters fold; ``1.002 * W`` is not."""
    native = {"q.weight": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)}
    for factor, faults in ((0.5, 0), (1.002, 1)):
        stored = {"w": native["q.weight"].T * np.float32(factor)}
        artifact = nets.model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], stored, ["N", 8], "y")
        assert len(match(native, artifact).faults) == faults


def test_external_data_is_read(nets: Any, native: Weights, tmp_path: Any) -> None:
    """The constants of a model whose data lies beside it are compared as well."""
    onnx.save(nets.folded(native), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert not match(native, model, tmp_path).faults


def _trembling(value: np.ndarray, ulp: int) -> np.ndarray:
    return (value + ulp * np.spacing(np.abs(value))).astype(np.float32)


def test_a_bias_that_trembles_is_sure_and_one_that_was_merged_is_not(nets: Any) -> None:
    """All elements off by eight ulp are a fault without a look at the outputs; one factor or addend may be a merger."""
    native = nets.native(0)
    bias = native["fc.bias"]
    changes = {"ulp": _trembling(bias, 8), "factor": bias * np.float32(0.99999), "addend": bias + np.float32(1e-3)}
    sure = {}
    for name, value in changes.items():
        new = {"fc.bias": "merged"}
        model = nets.folded(native, lambda w, value=value: w.__setitem__("fc.bias", value), rename=new)
        sure[name] = [e.sure for e in match(native, model).faults if e.initializer == "merged"]
    assert sure == {"ulp": [True], "factor": [False], "addend": [False]}


@pytest.mark.parametrize("seed", range(4))
def test_factors_and_shifts_by_an_estimated_root_are_honest(nets: Any, seed: int) -> None:
    """A reciprocal root within 5.4 half ulp is a kernel's; the shift must still fit the very factors beside it.

    One element of the shift off by eight ulp of its terms is a fault.
    """
    rng = np.random.default_rng(seed)
    norm = {
        "bn.gamma": rng.uniform(0.5, 1.5, 256), "bn.beta": rng.standard_normal(256),
        "bn.moving_mean": rng.standard_normal(256), "bn.moving_variance": np.exp(rng.standard_normal(256)),
    }  # fmt: skip
    native = {k: v.astype(np.float32) for k, v in norm.items()}
    gamma, beta, mean, var = native.values()
    root = 1 / np.sqrt(var.astype(np.float64) + 1e-5)
    root = (root * (1 + rng.uniform(-4.4, 4.4, 256) * 2.0**-24)).astype(np.float32)  # and the rounding: 5.4
    factor = root * gamma
    shift = beta - mean * factor

    def faults(value: np.ndarray) -> list[str]:
        stored = {"f": factor.reshape(1, -1, 1, 1), "s": value.reshape(1, -1, 1, 1)}
        nodes = [helper.make_node("Mul", ["x", "f"], ["t"], name="mul"),
                 helper.make_node("Add", ["t", "s"], ["y"], name="add")]  # fmt: skip
        return [e.initializer for e in match(native, nets.model_of(nodes, stored, ["N", 256, 4, 4], "y")).faults]

    assert faults(shift) == []
    damaged = shift.copy()
    damaged[9] += 8 * np.spacing(np.abs(mean[9] * factor[9]) + np.abs(beta[9]))
    assert faults(damaged) == ["s"]


@pytest.mark.parametrize("name", ["conv1.bias", "conv1.weight", "fc.bias"])
def test_a_ledger_with_a_near_miss_can_be_written(nets: Any, name: str) -> None:
    """Every field is plain data, whatever was found: one that is not would end the job, and the fault be lost."""
    native = nets.native(0)
    model = nets.folded(native, lambda w: up(w[name], (0,) * w[name].ndim, 4))
    ledger = match(native, model)
    assert only(from_record(json.loads(json.dumps(to_record(ledger))))).initializer == name


@pytest.mark.parametrize(("error", "broke"), [(JobCrashed("bad"), True), (CannotRun("no weights"), False)])
def test_a_ledger_that_broke_is_missed(error: OnnxeqError, broke: bool) -> None:
    """A job that broke leaves its rung open; weights that cannot be had leave the verdict to the outputs."""
    done: Future[JobResult] = Future()
    done.set_exception(error)
    assert weighed(done).broke is broke


def test_permuted_rows_of_the_last_open_matrix_are_told_in_its_own_layout(nets: Any) -> None:
    """A square matrix that is stored transposed: of both layouts the one counts in which the damage has a form."""
    native = nets.native(2)
    order = np.random.default_rng(8).permutation(16)
    stored = {"m": np.ascontiguousarray(native["fc.weight"].T[order])}
    model = nets.model_of([helper.make_node("MatMul", ["x", "m"], ["y"], name="fc")], stored, ["N", 16], "y")
    found = only(match({"fc.weight": native["fc.weight"]}, model))
    assert found.sure
    assert "permuted" in found.evidence


def test_a_named_bias_with_an_addend_and_a_folded_one_that_trembles_are_sure(nets: Any) -> None:
    """Outputs need not show them (a normalisation may follow): names and the elements' own differences tell enough."""
    native = nets.native(5)

    def edit(w: Weights) -> None:
        w["fc.bias"] += np.float32(1e-3)
        w["conv1.bias"] = _trembling(w["conv1.bias"], 100)

    found = {e.initializer: e for e in match(native, nets.folded(native, edit)).faults}
    assert set(found) == {"fc.bias", "conv1.bias"}
    assert all(e.sure for e in found.values())
    assert "is shifted by 0.00" in found["fc.bias"].evidence


def test_a_weight_of_which_only_the_size_is_asked_for_is_no_lost_branch(nets: Any) -> None:
    """Exporters leave such nodes behind; one that computes with the weight and reaches no output is told."""
    native = nets.native(6)
    for kind, faults in (("Shape", []), ("Relu", ["spare"])):
        stored = {"fc.weight": native["fc.weight"], "spare": native["head.weight"]}
        nodes = [
            helper.make_node("Gemm", ["x", "fc.weight"], ["y"], name="fc", transB=1),
            helper.make_node(kind, ["spare"], ["unused"], name="left"),
        ]
        model = nets.model_of(nodes, stored, ["N", 16], "y")
        source = {k: native[k] for k in ("fc.weight", "head.weight")}
        assert [e.initializer for e in match(source, model).faults] == faults


@pytest.mark.parametrize("quantized", [False, True])
def test_a_weight_behind_a_transpose_is_looked_at_as_its_operator_sees_it(quantized: bool) -> None:
    """Kernels ``[O,H,W,I]`` that a Transpose turns are right turned and unturned; stored in a third order they are not.

    ``I = H = W = 3``, so that the shape alone does not tell the order.
    """
    rng = np.random.default_rng(7)
    kernel = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    held: Any = np.round(kernel * 20).astype(np.int8) if quantized else kernel

    def model(stored: Any, perm: list[int]) -> onnx.ModelProto:
        nodes, name, constants = [], "k", {"k": stored}
        if quantized:
            constants |= {"scale": np.float32(0.05), "zero": np.int8(0)}
            nodes.append(helper.make_node("DequantizeLinear", ["k", "scale", "zero"], ["d"], name="dequantize"))
            name = "d"
        if perm:
            nodes.append(helper.make_node("Transpose", [name], ["t"], name="turn", perm=perm))
            name = "t"
        nodes.append(helper.make_node("Conv", ["x", name], ["y"], name="conv"))
        value, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            nodes, "net", [value("x", kind, [1, 3, 5, 5])], [value("y", kind, [1, 4, 3, 3])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    native = {"conv/kernel": held}
    reference = model(held, [0, 3, 1, 2])
    turned = np.ascontiguousarray(held.transpose(0, 3, 1, 2))
    for right in (reference, model(turned, [])):
        assert not match(native, right, reference=reference).faults
    wrong = only(match(native, model(held, []), reference=reference))
    assert "is transposed: it belongs there with axes (0, 3, 1, 2)" in wrong.evidence
