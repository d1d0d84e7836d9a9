"""Benign variants of the whole file: other tools, other names, other order, other places for constants."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, version_converter

from .edit import constant, fresh, insert_after, node, opset
from .faults import Subject, tensors
from .rewrites import benign

__all__ = ["EXTERNAL"]

EXTERNAL = "external-data"
"""The variant whose weights are written into a file of their own when it is stored."""


@benign("as-exported")
def _same(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """What the exporter wrote: also the other exporter's file of the same model."""
    return model


@benign("onnxsim")
def _onnxsim(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    import onnxsim

    found, _ = onnxsim.simplify(model)
    return found  # type: ignore[no-any-return]


@benign("opset-newer")
def _newer(model: onnx.ModelProto, _subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    wanted = int(rng.choice([k for k in (18, 19, 20, 21, 22, 23) if k > opset(model)]))
    return version_converter.convert_version(model, wanted)


@benign("opset-older")
def _older(model: onnx.ModelProto, _subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    wanted = [k for k in (11, 13, 14, 16, 18) if k < opset(model)]
    return version_converter.convert_version(model, int(rng.choice(wanted))) if wanted else None


@benign("renamed")
def _renamed(model: onnx.ModelProto, _subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    """Every node, value and initializer by a number, inputs and outputs kept; no descriptions."""
    kept = {v.name for v in (*model.graph.input, *model.graph.output)} - {t.name for t in model.graph.initializer} | {
        ""
    }
    names = {t.name for t in model.graph.initializer} | {o for n in model.graph.node for o in n.output}
    if any(a.type in (5, 10) for n in model.graph.node for a in n.attribute):
        return None  # names inside of sub-graphs would have to follow
    order = sorted(names - kept)
    new = {old: f"v{k}" for old, k in zip(order, rng.permutation(len(order)), strict=True)}
    for k, found in enumerate(model.graph.node):
        found.name, found.doc_string = f"n{k}", ""
        del found.metadata_props[:]
        for names_ in (found.input, found.output):
            for i, name in enumerate(names_):
                names_[i] = new.get(name, name)
    for tensor in (*model.graph.initializer, *model.graph.input):
        tensor.name = new.get(tensor.name, tensor.name)
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    return model


@benign("stripped")
def _stripped(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """No names of nodes, no shapes, no descriptions."""
    for found in model.graph.node:
        found.name, found.doc_string = "", ""
        del found.metadata_props[:]
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    model.producer_name = ""
    return model


@benign("reordered")
def _reordered(model: onnx.ModelProto, _subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    """Another order of the nodes that respects who reads what, and of the initializers."""
    if any(a.type in (5, 10) for n in model.graph.node for a in n.attribute):
        return None
    there = {v.name for v in model.graph.input} | {t.name for t in model.graph.initializer} | {""}
    waiting, ordered = list(model.graph.node), []
    while waiting:
        ready = [n for n in waiting if set(n.input) <= there]
        chosen = ready[int(rng.integers(len(ready)))]
        waiting.remove(chosen)
        ordered.append(chosen)
        there |= set(chosen.output)
    stored = list(model.graph.initializer)
    shuffled = [stored[k] for k in rng.permutation(len(stored))]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(ordered)
    model.graph.initializer.extend(shuffled)
    return model


@benign(EXTERNAL)
def _external(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    return model if any(len(t.raw_data) > 1000 for t in model.graph.initializer) else None


def _optimised(model: onnx.ModelProto, level: onnxruntime.GraphOptimizationLevel) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


@benign("runtime-optimised-basic")
def _basic(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    return _optimised(model, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)


@benign("runtime-optimised-extended")
def _extended(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    return _optimised(model, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


@benign("constants-as-nodes")
def _as_nodes(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Initializers as Constant nodes."""
    stored = list(model.graph.initializer)
    made = []
    for tensor in stored:
        bare = numpy_helper.from_array(numpy_helper.to_array(tensor))
        made.append(
            helper.make_node("Constant", [], [tensor.name], name=fresh(model, f"const_{tensor.name}"), value=bare)
        )
    nodes = list(model.graph.node)
    held = {t.name for t in stored}
    inputs = [v for v in model.graph.input if v.name not in held]
    del model.graph.node[:], model.graph.initializer[:], model.graph.input[:]
    model.graph.node.extend([*made, *nodes])
    model.graph.input.extend(inputs)
    return model


@benign("constants-as-initializers")
def _as_initializers(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Constant nodes as initializers."""
    found = [n for n in model.graph.node if n.op_type == "Constant"]
    for made in found:
        value = constant(model, made.output[0])
        assert value is not None
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), made.output[0]))
        model.graph.node.remove(made)
    return model if found else None


@benign("identities")
def _identities(model: onnx.ModelProto, subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    """Identity and inference-mode Dropout nodes here and there."""
    values = [n.output[0] for n in model.graph.node if n.output and subject.is_float(n.output[0])]
    for value in values:
        if rng.random() < 0.4:
            insert_after(model, value, "Identity" if rng.random() < 0.5 else "Dropout")
    return model


@benign("weights-duplicated")
def _duplicated(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """A copy of every shared initializer for each reader, equal copies of the others' contents beside them, unread."""
    for tensor in tensors(subject)[::2]:
        name = fresh(model, f"{tensor.name}_unused")
        model.graph.initializer.append(numpy_helper.from_array(tensor.value, name))
    for name in [t.name for t in model.graph.initializer]:
        users = [n for n in model.graph.node if name in n.input]
        value = constant(model, name)
        for user in users[1:]:
            copy = fresh(model, f"{name}_copy")
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), copy))
            user.input[list(user.input).index(name)] = copy
    return model


@benign("dead-nodes")
def _dead(model: onnx.ModelProto, subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Nodes that no output needs."""
    values = [n.output[0] for n in model.graph.node if n.output and subject.is_float(n.output[0])]
    for value in values[::3]:
        model.graph.node.append(
            helper.make_node("Neg", [value], [fresh(model, f"{value}_dead")], name=f"{value}_dead_node")
        )
    return model


@benign("outlined")
def _outlined(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """Activations as calls of functions that the file defines itself."""
    kinds = {"Relu", "Sigmoid", "Tanh", "HardSwish", "Softmax", "Gelu"}
    found = [n for n in model.graph.node if n.op_type in kinds]
    if not found or opset(model) < 13:
        return None
    version = [helper.make_opsetid("", opset(model))]
    for index, call in enumerate(found):
        name = f"{call.op_type}_{index}"
        body = helper.make_node(call.op_type, ["x"], ["y"])
        body.attribute.extend(call.attribute)
        model.functions.append(helper.make_function("local.parts", name, ["x"], ["y"], [body], version))
        call.op_type, call.domain = name, "local.parts"
        del call.attribute[:]
    model.opset_import.append(helper.make_opsetid("local.parts", 1))
    model.ir_version = max(model.ir_version, 8)
    return model


@benign("initializers-as-inputs")
def _inputs(model: onnx.ModelProto, _subject: Subject, _rng: np.random.Generator) -> onnx.ModelProto | None:
    """As files before IR version 4: every initializer is an input with a default."""
    there = {v.name for v in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in there:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


@benign("squeezed")
def _squeezed(model: onnx.ModelProto, subject: Subject, rng: np.random.Generator) -> onnx.ModelProto | None:
    """A new axis put in and taken out again, a flattening undone."""
    values = [n.output[0] for n in model.graph.node if n.output and subject.is_float(n.output[0])]
    values = [v for v in values if len(subject.shape(v) or ()) > 1 and (subject.shape(v) or (0,))[0] == 2]
    done = False
    for value in values:
        shape = subject.shape(value) or ()
        if rng.random() < 0.3:
            flat, full = fresh(model, f"{value}_flat_shape"), fresh(model, f"{value}_full_shape")
            size = int(np.prod(shape[1:]))
            model.graph.initializer.append(numpy_helper.from_array(np.asarray([-1, size], np.int64), flat))
            model.graph.initializer.append(numpy_helper.from_array(np.asarray([-1, *shape[1:]], np.int64), full))
            first = insert_after(model, value, "Reshape", flat)
            insert_after(model, first.output[0], "Reshape", full)
            done = True
    assert all(node(model, n.output[0]) is not None for n in model.graph.node if n.output)
    return model if done else None
