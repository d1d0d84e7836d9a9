"""What lies inside a trace: its tensors under the names that tf2onnx keeps, and its operators judged one by one.

tf2onnx names an ONNX value after the TensorFlow tensor that it stands for (``model/conv1/Conv2D:0``), an output after
the model's own output. Some of them hold the tensor with its channels first; whoever compares must allow for that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from onnxeq.errors import CannotRun, OnnxeqError
from onnxeq.protocols import KernelError, NativeValue
from onnxeq.types import Array
from onnxeq_converters.from_tensorflow.float64 import wide_array, wide_operator, widen
from onnxeq_converters.from_tensorflow.framework import first_line, require, tensorflow
from onnxeq_converters.from_tensorflow.program import Program
from onnxeq_converters.judging import UNIT, additions, judge

__all__ = ["errors", "values"]

_DRAWS = 2

_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")
"""What inlining puts before the names of a function's own operators."""

_NO_ARITHMETIC = frozenset(
    "Const Placeholder Identity IdentityN NoOp ReadVariableOp Reshape Transpose Squeeze ExpandDims Pack Unpack Shape "
    "ConcatV2 Slice StridedSlice Split SplitV GatherV2 ResourceGather Tile Fill Pad PadV2 MirrorPad ReverseV2 Cast "
    "RandomUniform RandomStandardNormal StatelessRandomUniformV2".split()
)


def values(
    program: Program, arrays: Sequence[Array], *, double: bool, names: Collection[str] | None
) -> Iterator[NativeValue]:
    """Every tensor that the outputs need, in order; see :meth:`onnxeq.protocols.Native.layers`.

    Args:
        program: The model's trace.
        arrays: Its inputs, in order.
        double: Whether to compute in float64.
        names: ONNX value names; ``None`` for all.

    Raises:
        onnxeq.errors.CannotRun: An operator has no float64 form, or the model raised.
    """
    wanted = None if names is None else set(names)
    found = [(n, t) for n, t in _tensors(program) if wanted is None or n in wanted]
    tensors = [tensor for _, tensor in found]
    if double:
        computed = widen(program, tensors)(arrays)
    else:
        computed = _fetch(_frozen(program), [t.name for t in tensors], arrays)
    for (name, tensor), array in zip(found, computed, strict=True):
        arguments, explicit = _arguments(tensor.op)
        yield NativeValue(name, array, str(tensor.op.type), arguments, explicit, _layer(tensor.op.name), "")


def errors(program: Program, arrays: Sequence[Array]) -> Iterator[KernelError]:
    """Each operator of the float32 run with its error; those without arithmetic or a float64 form are left out.

    Raises:
        onnxeq.errors.CannotRun: The model raised.
    """
    tf = tensorflow()
    frozen = _frozen(program)
    ops = [op for op in frozen.graph.get_operations() if op.type not in _NO_ARITHMETIC and _is_dense(op)]
    reads = list(dict.fromkeys(t.name for op in ops for t in (*op.inputs, *op.outputs)))
    held = dict(zip(reads, _fetch(frozen, reads, arrays), strict=True))
    rng = np.random.default_rng(0)
    for op in ops:
        if not any(t.dtype == tf.float32 for t in op.outputs):
            continue
        inputs = [held[t.name] for t in op.inputs]
        try:
            exact, *moved = _in_double(op, inputs, rng)
        except (OnnxeqError, tf.errors.OpError, TypeError, ValueError):
            continue
        shown = [i for i, t in enumerate(op.outputs) if t.dtype == tf.float32]
        ratio, largest = judge(
            [exact[i] for i in shown],
            [held[op.outputs[i].name] for i in shown],
            [[draw[i] for i in shown] for draw in moved],
            additions(_terms(op, inputs, exact)),
        )
        yield KernelError(str(op.type), _layer(op.name), "", ratio, largest)


def _in_double(op: Any, inputs: Sequence[Array], rng: np.random.Generator) -> list[list[Array]]:
    """The results in float64 for the inputs, then for inputs that were moved."""
    tf = tensorflow()
    wide = [wide_array(v) for v in inputs]
    with tf.Graph().as_default() as graph, tf.device("/CPU:0"):
        given = [tf.compat.v1.placeholder(v.dtype, v.shape) for v in wide]
        made = wide_operator(op, given)
        with tf.compat.v1.Session(graph=graph) as session:
            runs = [wide]
            runs += [
                [v * (1 + UNIT * rng.choice([-1.0, 1.0], v.shape)) if v.dtype == np.float64 else v for v in wide]
                for _ in range(_DRAWS)
            ]
            return [[np.asarray(v) for v in session.run(list(made), dict(zip(given, r, strict=True)))] for r in runs]


def _terms(op: Any, inputs: Sequence[Array], exact: Sequence[Array]) -> float:
    """How many numbers an operator adds up for one of its results."""
    made = max((v.size for v in exact), default=1) or 1
    if "MatMul" in op.type or op.type == "Einsum":
        return float(max(v.shape[-1] for v in inputs if v.ndim))
    if "Conv" in op.type and len(inputs) > 1 and inputs[1].ndim > 2:
        return float(inputs[1].size / inputs[1].shape[-1])
    terms = max((v.size for v in inputs), default=1) / made
    if "Softmax" in op.type or "Norm" in op.type:
        terms = max(terms, *(v.shape[-1] for v in exact if v.ndim))
    return float(terms)


def _tensors(program: Program) -> Iterator[tuple[str, Any]]:
    """The tensors that the outputs need with their ONNX names, in order, the outputs last under their own."""
    concrete = program.concrete
    internal = {placeholder.name for _, placeholder in concrete.graph.captures}
    needed: set[Any] = set()
    stack = [t.op for t in program.outputs]
    while stack:
        op = stack.pop()
        if op not in needed:
            needed.add(op)
            stack.extend(t.op for t in op.inputs)
    for op in concrete.graph.get_operations():
        if op not in needed or not _is_dense(op) or op.type in ("Placeholder", "Const", "ReadVariableOp"):
            continue
        for tensor in op.outputs:
            if tensor.name not in internal:
                yield tensor.name, tensor
    for spec, tensor in zip(program.signature.outputs, program.outputs, strict=True):
        yield spec.name, _behind_identities(tensor)


def _behind_identities(tensor: Any) -> Any:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _is_dense(op: Any) -> bool:
    tf = tensorflow()
    return not any(t.dtype in (tf.resource, tf.variant, tf.string) for t in (*op.inputs, *op.outputs))


def _frozen(program: Program) -> Any:
    """The trace with its variables as constants, from which any tensor can be fetched.

    Raises:
        CannotRun: The weights are too large for one graph.
    """
    freezing = require("tensorflow.python.framework.convert_to_constants")
    try:
        return freezing.convert_variables_to_constants_v2(program.concrete, lower_control_flow=False)
    except Exception as error:  # protobuf's own errors share no base class
        raise CannotRun(f"the trace cannot be frozen: {first_line(error)}") from error


def _fetch(frozen: Any, names: Sequence[str], arrays: Sequence[Array]) -> list[Array]:
    tf = tensorflow()
    graph_def = frozen.graph.as_graph_def()
    given = [t.name for t in frozen.inputs]

    def imported() -> None:
        tf.compat.v1.import_graph_def(graph_def, name="")

    wrapped = tf.compat.v1.wrap_function(imported, [])
    graph = wrapped.graph
    known = [n for n in names if _has(graph, n)]
    pruned = wrapped.prune([graph.get_tensor_by_name(n) for n in given], [graph.get_tensor_by_name(n) for n in known])
    try:
        made = pruned(*[tf.constant(a) for a in arrays])
    except tf.errors.OpError as error:
        raise CannotRun(f"the model failed: {first_line(error)}") from error
    if len(known) != len(names):
        lost = next(n for n in names if n not in set(known))
        raise CannotRun(f"freezing the trace has lost the tensor {lost}")
    return [np.asarray(v) for v in made]


def _has(graph: Any, name: str) -> bool:
    try:
        graph.get_tensor_by_name(name)
    except (KeyError, ValueError):
        return False
    return True


def _arguments(op: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """The inputs by name and the attributes as text; explicit are the attributes that are not the defaults."""
    found: dict[str, str] = {}
    place = 0
    for argument in op.op_def.input_arg:
        count = _count(op, argument)
        names = [t.name for t in op.inputs[place : place + count]]
        place += count
        found[argument.name] = names[0] if count == 1 and not argument.number_attr else f"[{', '.join(names)}]"
    explicit = []
    for attribute in op.op_def.attr:
        if attribute.type in ("type", "list(type)", "func", "shape") or attribute.name.startswith("_"):
            continue
        try:
            value = _plain(op.get_attr(attribute.name))
        except ValueError:
            continue
        found[attribute.name] = repr(value)
        if op.node_def.attr[attribute.name] != attribute.default_value:
            explicit.append(attribute.name)
    return found, tuple(explicit)


def _count(op: Any, argument: Any) -> int:
    if argument.number_attr:
        return int(op.get_attr(argument.number_attr))
    return len(op.get_attr(argument.type_list_attr)) if argument.type_list_attr else 1


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _layer(name: str) -> str:
    """The scope of an operator: ``model/conv1`` of ``StatefulPartitionedCall/model/conv1/Conv2D``."""
    return "/".join(part for part in name.split("/")[:-1] if not _CALL.fullmatch(part))
