"""From a SavedModel folder or a frozen graph to a program.

A SavedModel is read by ``tf.saved_model.load``, which reads most of those of TensorFlow 1, too. What Keras 2 saved
together with its optimizer it reads only where Keras 2 is loaded, because the optimizer's own variables ("slots") are
made by the optimizer's class. Inference needs none of them, so they are taken out of what the loader is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs, OnnxeqError, UnusableModel, UsageError
from onnxeq.protocols import LoadRequest, Progress
from onnxeq.types import Array, Signature, TensorSpec
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout, require, tensorflow
from onnxeq_converters.from_tensorflow.program import Program, declaration_of, dims, given_inputs, settle, trace
from onnxeq_converters.from_tensorflow.safety import refuse_untrusted
from onnxeq_converters.from_tensorflow.standins import replaced
from onnxeq_converters.naming import unique

__all__ = ["Loaded", "load_model"]

_DEFAULT_SIGNATURE = "serving_default"
_TAG = "serve"

_REFERENCES = ("Variable", "VariableV2")
"""Operators of the first kind of variables."""


@dataclass(frozen=True)
class Loaded:
    """A program and what it is made from.

    Attributes:
        program: The signature that runs.
        retrace: The same for other inputs.
        trackable: The loaded object: its variables and tables live as long as it does.
        weights: Every variable by name, or every constant of a frozen graph.
        facts: What goes into the provenance.
    """

    program: Program
    retrace: Callable[[tuple[TensorSpec, ...]], Program]
    trackable: Any
    weights: Mapping[str, Array]
    facts: Mapping[str, str]


def load_model(request: LoadRequest, progress: Progress) -> Loaded:
    """Loads the folder or the file that ``request.ref`` names.

    Raises:
        onnxeq.errors.UnusableModel: It cannot be read, has no such signature, or reaches outside of itself.
        onnxeq.errors.BadInputs: The declared inputs do not fit.
    """
    path = Path(request.ref.name)
    if request.ref.weights:
        raise UsageError(f"{path.name} has its weights in it", hint="leave out what stands after @")
    progress(f"read {path.name}")
    if path.is_file():
        return _frozen_graph(path, request)
    return _saved_model(path, request)


def _saved_model(path: Path, request: LoadRequest) -> Loaded:
    loader = require("tensorflow.python.saved_model.loader_impl")
    try:
        stored = loader.parse_saved_model(str(path))
    except (OSError, ValueError) as error:
        raise UnusableModel(f"{path} is no SavedModel: {first_line(error)}") from error
    meta = _meta_graph(path, stored)
    objects = len(stored.meta_graphs) == 1 and meta.HasField("object_graph_def")
    refuse_untrusted(str(path), meta, objects=objects, trust=request.trust)
    key = _signature_key(path, meta, request.ref.module)
    facts = {"signature": key, "written_by_tensorflow": meta.meta_info_def.tensorflow_version, "weights": "as stored"}
    tags = None if len(stored.meta_graphs) == 1 else list(meta.meta_info_def.tags)
    try:
        with quiet_stdout(), _without_slots(loader):
            if not objects and any(node.op in _REFERENCES for node in meta.graph_def.node):
                function, values = _with_references(path, meta, key)
                return _loaded(path, function, request, tensorflow().Module(), values, facts)
            root = tensorflow().saved_model.load(str(path), tags=tags)
        function = root.signatures[key]
    except OnnxeqError:
        raise
    except Exception as error:  # the loader raises anything from KeyError to its own errors
        raise UnusableModel(f"TensorFlow cannot load {path}: {first_line(error)}") from error
    variables = function.graph.variables or getattr(root, "variables", ())
    return _loaded(path, function, request, root, _values(variables), facts)


def _meta_graph(path: Path, stored: Any) -> Any:
    """The graph that is served, of those that TensorFlow 1 could store beside it."""
    if len(stored.meta_graphs) == 1:
        return stored.meta_graphs[0]
    for meta in stored.meta_graphs:
        if list(meta.meta_info_def.tags) == [_TAG]:
            return meta
    tags = "; ".join(",".join(m.meta_info_def.tags) for m in stored.meta_graphs)
    raise UnusableModel(f"{path} holds several graphs, and none has the one tag '{_TAG}': {tags or 'none at all'}")


def _signature_key(path: Path, meta: Any, asked: str) -> str:
    """Which signature: the one that was asked for, the default one, or the only one."""
    keys = sorted(k for k in meta.signature_def if not k.startswith("__"))
    if not keys:
        raise UnusableModel(f"{path} has no signature", hint="save it with tf.saved_model.save(..., signatures=...)")
    if asked and asked not in keys:
        raise UsageError(f"{path} has no signature '{asked}'", hint=f"it has: {', '.join(keys)}")
    if asked or len(keys) == 1 or _DEFAULT_SIGNATURE in keys:
        return asked or (keys[0] if len(keys) == 1 else _DEFAULT_SIGNATURE)
    raise UsageError(
        f"{path} has no signature '{_DEFAULT_SIGNATURE}' but {', '.join(keys)}", hint=f"name one: {path}:{keys[0]}"
    )


@contextlib.contextmanager
def _without_slots(loader: Any) -> Iterator[None]:
    """The loader is shown no optimizer's slots for the time of the block."""
    original = loader.parse_saved_model_with_debug_info

    def parse(folder: str) -> tuple[Any, Any]:
        stored, debug = original(folder)
        for meta in stored.meta_graphs:
            for node in meta.object_graph_def.nodes:
                del node.slot_variables[:]
        return stored, debug

    with replaced(loader, "parse_saved_model_with_debug_info", parse):
        yield


def _values(variables: Any) -> dict[str, Array]:
    """Variables by name; a name seen twice gets ``#2``."""
    held = list(variables)
    names = unique(str(variable.name).partition(":")[0] for variable in held)
    return {name: np.asarray(variable) for name, variable in zip(names, held, strict=True)}


def _frozen_graph(path: Path, request: LoadRequest) -> Loaded:
    """A ``GraphDef`` without variables: its placeholders are the inputs, what nothing reads the outputs."""
    tf = tensorflow()
    meta = tf.compat.v1.MetaGraphDef()
    try:
        meta.graph_def.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own errors share no base class
        raise UnusableModel(f"{path} is no TensorFlow graph: {first_line(error)}") from error
    nodes = meta.graph_def.node
    refuse_untrusted(str(path), meta, objects=False, trust=request.trust)
    if unfrozen := sorted({n.op for n in nodes if n.op in (*_REFERENCES, "VarHandleOp")}):
        raise UnusableModel(f"{path} has variables ({', '.join(unfrozen)}) and no values for them", hint="freeze it")
    inputs = [n.name for n in nodes if n.op == "Placeholder"]
    read = {name.lstrip("^").partition(":")[0] for n in nodes for name in n.input}
    outputs = [n.name for n in nodes if n.name not in read and n.op not in ("Placeholder", "NoOp", "Assert", "Const")]
    if not inputs or not outputs:
        raise UnusableModel(f"{path} is no frozen graph: it has {len(inputs)} placeholders and {len(outputs)} results")
    ends = _results(path, meta.graph_def, outputs)
    function = _pruned(path, meta.graph_def, {n: f"{n}:0" for n in inputs}, ends)
    constants = {n.name: tf.make_ndarray(n.attr["value"].tensor) for n in nodes if n.op == "Const"}
    weights = {name: v for name, v in constants.items() if v.dtype.kind == "f" and v.ndim}
    return _loaded(path, function, request, tf.Module(), weights, {"weights": "as stored"})


def _results(path: Path, graph_def: Any, operators: list[str]) -> dict[str, str]:
    """Every result of some operators: named like it where it has one, else ``NAME:0``, ``NAME:1`` and so on."""
    tf = tensorflow()
    try:
        with tf.Graph().as_default() as graph:
            tf.compat.v1.import_graph_def(graph_def, name="")
            made = {name: [t.name for t in graph.get_operation_by_name(name).outputs] for name in operators}
    except Exception as error:  # TensorFlow raises anything
        raise UnusableModel(f"{path} cannot be made a function: {first_line(error)}") from error
    return {name if len(tensors) == 1 else tensor: tensor for name, tensors in made.items() for tensor in tensors}


def _with_references(path: Path, meta: Any, key: str) -> tuple[Any, dict[str, Array]]:
    """The function of a signature, and the variables, of a graph with the first kind of variables ("reference").

    They live in a session only, so they are made constants there.
    """
    tf = tensorflow()
    v1, signature = tf.compat.v1, meta.signature_def[key]
    inputs, outputs = ({n: info.name for n, info in end.items()} for end in (signature.inputs, signature.outputs))
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        v1.saved_model.load(session, list(meta.meta_info_def.tags), str(path))
        variables = v1.global_variables()
        values = dict(zip((v.op.name for v in variables), session.run(variables), strict=True))
        ends = [name.partition(":")[0] for name in outputs.values()]
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ends)
    return _pruned(path, frozen, inputs, outputs), values


def _pruned(path: Path, graph_def: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Any:
    """A graph of constants as a function of named tensors."""
    tf = tensorflow()
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph_def, name=""), [])
        feeds = {name: wrapped.graph.get_tensor_by_name(inputs[name]) for name in sorted(inputs)}
        fetches = {name: wrapped.graph.get_tensor_by_name(outputs[name]) for name in sorted(outputs)}
        taken = {name: tf.TensorSpec(t.shape, t.dtype, name=name) for name, t in feeds.items()}
        function = wrapped.prune(list(feeds.values()), fetches, input_signature=((), taken))
    except Exception as error:  # TensorFlow raises anything
        raise UnusableModel(f"TensorFlow cannot load {path}: {first_line(error)}") from error
    function._arg_keywords, function._num_positional_args = list(feeds), 0
    return function


def _loaded(
    path: Path, function: Any, request: LoadRequest, root: Any, weights: Mapping[str, Array], facts: Mapping[str, str]
) -> Loaded:
    """The program of a signature, with the sizes that the declaration fixes."""
    tf = tensorflow()
    given = list(tf.nest.flatten(function.structured_input_signature, expand_composites=False))
    if odd := [s for s in given if not isinstance(s, tf.TensorSpec)]:
        raise UnusableModel(f"{path} takes a {type(odd[0]).__name__}, which ONNX has not")
    own = tuple(TensorSpec(s.name, s.dtype.name, dims(s.shape)) for s in given)
    if text := [s.name for s in own if s.dtype == "string"]:
        raise UnusableModel(f"{path} takes text or stored records ({', '.join(text)}), which onnxeq cannot make up")
    names = sorted(function.structured_outputs)
    keywords = [s.name for s in own]

    def call(flat: Any) -> list[tuple[str, Any]]:
        made = function(**dict(zip(keywords, flat, strict=True)))
        return [(name, made[name]) for name in names]

    def retrace(specs: tuple[TensorSpec, ...]) -> Program:
        return trace(path.name, call, specs)

    specs = own
    if request.inputs:
        declared = request.inputs
        specs = tuple(settle(s, declaration_of(s, i, declared, len(own))) for i, s in enumerate(own))
    if unknown := [s.name for s in specs if s.shape is None]:
        raise BadInputs(f"{path} leaves the shape of {unknown[0]} open", hint=f"give --shape {unknown[0]}=1x224x224x3")
    program = _as_stored(function, own, names, call)
    fixed = specs != own or len(set(map(id, program.outputs))) != len(names)
    return Loaded(retrace(specs) if fixed else program, retrace, root, weights, facts)


def _as_stored(function: Any, own: tuple[TensorSpec, ...], names: list[str], call: Callable[[Any], Any]) -> Program:
    """The signature's function itself, which its users call."""
    tf = tensorflow()
    structured = function.structured_outputs
    flat = dict(zip(names, function.outputs, strict=False))
    outputs = tuple(structured[n] if isinstance(structured[n], tf.Tensor) else flat[n] for n in names)
    specs = tuple(TensorSpec(n, t.dtype.name, dims(t.shape)) for n, t in zip(names, outputs, strict=True))

    def run(*args: Any) -> dict[str, Any]:
        return dict(call(args))

    inputs = given_inputs(function)
    tf_specs = tuple(tf.TensorSpec(t.shape, t.dtype, name=s.name) for t, s in zip(inputs, own, strict=True))
    return Program(run, run, function, inputs, outputs, Signature(own, specs), tf_specs)
