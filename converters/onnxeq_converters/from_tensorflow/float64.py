"""The same program in float64: every operator of the trace, again, with its float types widened.

The traced graph is rebuilt operator by operator inside a second ``tf.function``. Variables come in
as float64 values in place of their resource handles, so nothing has to be frozen into a protobuf
(whose limit is 2 GB). ``float32`` becomes ``float64`` and ``complex64`` ``complex128`` in every type
attribute and constant, in control-flow bodies too; scalar attributes are float32 in the graph
already, which is the rounding that ONNX applies. What is computed in half precision is widened like the rest;
only a cast to it rounds, as in the referee. An operator that has no float64 kernel, or whose
schema fixes float32, goes through ``decompositions`` or is refused by name: nothing is computed in
float32 on the way.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxeq.errors import CannotRun
from onnxeq.types import Array
from onnxeq_converters.from_tensorflow.decompositions import DECOMPOSITIONS
from onnxeq_converters.from_tensorflow.framework import first_line, require, tensorflow
from onnxeq_converters.from_tensorflow.program import Program

__all__ = ["WideProgram", "wide_array", "wide_operator", "widen"]

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_CONTROL_FLOW: Mapping[str, tuple[str, ...]] = {
    "While": ("cond", "body"),
    "StatelessWhile": ("cond", "body"),
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
}
"""Operators that run other functions, and the attributes that name them."""

_REFUSED: Mapping[str, str] = {
    "AssignVariableOp": "changes a variable while it runs",
    "AssignAddVariableOp": "changes a variable while it runs",
    "AssignSubVariableOp": "changes a variable while it runs",
    "Bitcast": "looks at the bits of a float32",
    "Case": "chooses among functions",
}

Environment = dict[str, Any]
"""Tensor name in the traced graph -> tensor of the widened one."""


@dataclass(frozen=True)
class _Library:
    """The functions that a trace calls, by name, as graphs of their own (made when first needed)."""

    graph_def: Any
    graphs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WideProgram:
    """Takes the inputs in the program's order and returns its outputs, floats in float64."""

    function: Any

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Runs once.

        Raises:
            onnxeq.errors.CannotRun: TensorFlow failed on the widened program.
        """
        tf = tensorflow()
        wide = [tf.constant(wide_array(a)) for a in arrays]
        try:
            return [np.asarray(t) for t in self.function(*wide)]
        except tf.errors.OpError as error:
            raise CannotRun(f"native/f64 failed: {first_line(error)}") from error


def widen(program: Program, tensors: Sequence[Any] | None = None) -> WideProgram:
    """Rebuilds a program in float64.

    Args:
        program: The program.
        tensors: What to compute: tensors of the trace; its outputs if ``None``.

    Raises:
        onnxeq.errors.CannotRun: Naming the operator and node that has no float64 form.
    """
    tf = tensorflow()
    concrete = program.concrete
    graph = concrete.graph
    captured = _captured_values(concrete)
    inputs = [t.name for t in program.inputs]
    outputs = program.outputs if tensors is None else tensors
    library = _Library(graph.as_graph_def(add_shapes=True))

    def wide_function(*args: Any) -> list[Any]:
        environment = captured | dict(zip(inputs, args, strict=True))
        _rebuild(graph, environment, outputs, library)
        return [environment[t.name] for t in outputs]

    specs = [tf.TensorSpec(s.shape, _wide_type(s.dtype)) for s in program.tf_specs]
    function = tf.function(wide_function, autograph=False, input_signature=specs)
    function.get_concrete_function()
    return WideProgram(function)


def wide_operator(op: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """Adds the float64 form of one operator to the current graph; ``inputs`` are its own, widened.

    Raises:
        onnxeq.errors.CannotRun: It has none, or it runs other functions.
    """
    if op.type in _CALLS or op.type in _CONTROL_FLOW:
        raise _refusal(op, "it runs other functions")
    return _rebuild_operator(op, list(inputs), _Library(None))


def wide_array(array: Array) -> Array:
    """A value of a type that is widened, in float64; any other as it is."""
    return array.astype(np.float64) if array.dtype.name in ("float32", "float16", "bfloat16") else array


def _wide_type(dtype: Any) -> Any:
    tf = tensorflow()
    return dict.fromkeys((tf.float32, *_halves()), tf.float64).get(
        dtype, tf.complex128 if dtype == tf.complex64 else dtype
    )


def _halves() -> tuple[Any, ...]:
    tf = tensorflow()
    return (tf.float16, tf.bfloat16)


def _captured_values(concrete: Any) -> Environment:
    """Float64 values for captured variables; other captures (tables, constants) widened or as they are."""
    tf = tensorflow()
    by_handle = {id(v.handle): v for v in concrete.graph.variables}
    values: Environment = {}
    for external, placeholder in concrete.graph.captures:
        variable = by_handle.get(id(external))
        value = external if variable is None else tf.convert_to_tensor(variable)
        is_handle = value.dtype == tf.resource
        values[placeholder.name] = value if is_handle else tf.cast(value, _wide_type(value.dtype))
    return values


def _rebuild(graph: Any, environment: Environment, outputs: Sequence[Any], library: _Library) -> None:
    """Adds the widened form of every operator that ``outputs`` depend on to the current graph."""
    for op in graph.get_operations():
        if op.type in _REFUSED and op.type.startswith("Assign"):
            raise _refusal(op, _REFUSED[op.type])
    needed = _ancestors(outputs)
    for op in graph.get_operations():
        if op not in needed or (op.outputs and op.outputs[0].name in environment):
            continue
        inputs = [environment[t.name] for t in op.inputs]
        try:
            results = _rebuild_operator(op, inputs, library)
        except (TypeError, ValueError) as error:
            raise _refusal(op, first_line(error)) from error
        environment.update((t.name, r) for t, r in zip(op.outputs, results, strict=True))


def _ancestors(outputs: Sequence[Any]) -> set[Any]:
    """Operators that ``outputs`` take their values from; control edges carry no value."""
    seen: set[Any] = set()
    stack = [t.op for t in outputs]
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend(t.op for t in op.inputs)
    return seen


def _rebuild_operator(op: Any, inputs: list[Any], library: _Library) -> Sequence[Any]:
    tf = tensorflow()
    if op.type in _REFUSED:
        raise _refusal(op, _REFUSED[op.type])
    if op.type == "ReadVariableOp" and inputs[0].dtype != tf.resource:
        return inputs
    if op.type == "ResourceGather" and inputs[0].dtype != tf.resource:
        return [tf.gather(inputs[0], inputs[1], batch_dims=op.get_attr("batch_dims"))]
    if op.type == "VariableShape" and inputs[0].dtype != tf.resource:
        return [tf.shape(inputs[0], out_type=op.get_attr("out_type"))]
    if op.type in _CALLS:
        body = _function_graph(op.get_attr("f").name, library)
        environment = dict(zip((t.name for t in body.inputs), inputs, strict=True))
        _rebuild(body, environment, body.outputs, library)
        return [environment[t.name] for t in body.outputs]
    if op.type == "Cast" and op.outputs[0].dtype in _halves() and op.inputs[0].dtype != op.outputs[0].dtype:
        return [tf.cast(tf.cast(inputs[0], op.outputs[0].dtype), tf.float64)]
    touches_float = any(t.dtype != _wide_type(t.dtype) for t in (*op.inputs, *op.outputs))
    if op.type in DECOMPOSITIONS and touches_float:
        return DECOMPOSITIONS[op.type](op, inputs)
    return _same_operator(op, inputs, library)


def _same_operator(op: Any, inputs: list[Any], library: _Library) -> Sequence[Any]:
    """The operator itself with widened attributes."""
    tf = tensorflow()
    definition = op.op_def
    fixed = [a.name for a in (*definition.input_arg, *definition.output_arg) if a.type == tf.float32.as_datatype_enum]
    if fixed:
        raise _refusal(op, f"its {', '.join(fixed)} is float32 by definition")
    attributes = {
        a.name: _wide_attribute(op.node_def.attr[a.name]) for a in definition.attr if a.name in op.node_def.attr
    }
    for name in _CONTROL_FLOW.get(op.type, ()):
        attributes[name].func.name = _wide_function(attributes[name].func.name, op, inputs, library)
    if op.type in _CONTROL_FLOW:
        _retype_resources(op, inputs, attributes)
    if not _has_kernel(op.type, attributes):
        raise _refusal(op, "TensorFlow has no float64 CPU kernel for it")
    graph = tf.compat.v1.get_default_graph()
    with tf.device("/CPU:0"):
        made = graph._create_op_internal(op.type, inputs, name=op.name, attrs=attributes, op_def=definition)
    return list(made.outputs)


def _wide_attribute(attribute: Any) -> Any:
    """A copy of an ``AttrValue`` with float32 and complex64 widened, constants included."""
    tf = tensorflow()
    narrow = (tf.float32, tf.complex64, *_halves())
    wide = {t.as_datatype_enum: _wide_type(t).as_datatype_enum for t in narrow}
    copy = type(attribute)()
    copy.CopyFrom(attribute)
    kind = copy.WhichOneof("value")
    if kind == "type":
        copy.type = wide.get(copy.type, copy.type)
    elif kind == "list":
        copy.list.type[:] = [wide.get(t, t) for t in copy.list.type]
    elif kind == "tensor" and copy.tensor.dtype in wide:
        value = tf.make_ndarray(copy.tensor)
        copy.tensor.CopyFrom(tf.make_tensor_proto(value.astype(_wide_type(tf.as_dtype(value.dtype)).as_numpy_dtype)))
    return copy


def _wide_function(name: str, op: Any, inputs: list[Any], library: _Library) -> str:
    """The name, in the current graph, of a control-flow body in float64."""
    tf = tensorflow()
    body = _function_graph(name, library)
    given = inputs if op.type.endswith("While") else inputs[1:]

    def wide_body(*args: Any) -> list[Any]:
        environment = dict(zip((t.name for t in body.inputs), args, strict=True))
        _rebuild(body, environment, body.outputs, library)
        return [tf.identity(environment[t.name]) for t in body.outputs]

    specs = [
        tf.TensorSpec(value.shape if was.dtype == tf.resource else was.shape, value.dtype)
        for was, value in zip(body.inputs, given, strict=True)
    ]
    concrete = tf.function(wide_body, autograph=False).get_concrete_function(*specs)
    if concrete.captured_inputs:
        raise _refusal(op, f"its {name} captures tensors from outside")
    graph = tf.compat.v1.get_default_graph()
    concrete.add_to_graph(graph)
    return str(concrete.name.decode() if isinstance(concrete.name, bytes) else concrete.name)


def _retype_resources(op: Any, inputs: list[Any], attributes: dict[str, Any]) -> None:
    """Control flow passes variables by handle; here they are values, so the type lists change too."""
    given = inputs if op.type.endswith("While") else inputs[1:]
    key = "T" if op.type.endswith("While") else "Tin"
    attributes[key].list.type[:] = [value.dtype.as_datatype_enum for value in given]


def _function_graph(name: str, library: _Library) -> Any:
    """A library function as a graph with ``inputs`` and ``outputs``."""
    if name not in library.graphs:
        tf = tensorflow()
        convert = require("tensorflow.python.framework.function_def_to_graph").function_def_to_graph
        definitions = {f.signature.name: f for f in library.graph_def.library.function}
        with tf.Graph().as_default():
            only = type(library.graph_def)()
            only.library.CopyFrom(library.graph_def.library)
            only.versions.CopyFrom(library.graph_def.versions)
            tf.graph_util.import_graph_def(only, name="")
            library.graphs[name] = convert(definitions[name])
    return library.graphs[name]


@functools.cache
def _cpu_kernels(op_type: str) -> tuple[dict[str, frozenset[int]], ...] | None:
    """For each CPU kernel, the types that each attribute may have; ``None`` when nothing is registered."""
    kernels = require("tensorflow.python.framework.kernels").get_registered_kernels_for_op(op_type).kernel
    if not kernels:
        return None
    return tuple(
        {c.name: frozenset(c.allowed_values.list.type) for c in kernel.constraint}
        for kernel in kernels
        if kernel.device_type in ("CPU", "DEFAULT")
    )


def _has_kernel(op_type: str, attributes: Mapping[str, Any]) -> bool:
    kernels = _cpu_kernels(op_type)
    if kernels is None:
        return True
    return any(
        all(name not in attributes or not allowed or attributes[name].type in allowed for name, allowed in k.items())
        for k in kernels
    )


def _refusal(op: Any, why: str) -> CannotRun:
    return CannotRun(f"native/f64: no float64 form of {op.type} at {op.name}: {why}")
