"""Runs an ONNX model in float64, node by node, independently of every runtime.

Rules:

1. Every value of a float type is held in float64 (*lifted*). The type that a runtime would store is
   tracked beside it and told to the hook. Only casts that change the type round.
2. What depends on shapes (``Shape``, ``Size``) and constants alone is computed twice where it is small:
   lifted, and *exactly*, in its declared type and with unperturbed constants, as every runtime does. The
   exact value is what integers, ``Floor`` and its like, and inputs that the schema fixes to
   ``tensor(float)`` are made from, because ``Floor(shape * scale)`` must not differ by one; everything
   else goes on with the lifted one, because a position encoding made from a shape is data.
3. A value is freed right after its last use; an implementation may overwrite an input only when nothing
   else refers to its memory, and never while a hook watches.
4. An operator without an implementation is run through the function body in its schema, if it has one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import onnxeq.referee.ops  # noqa: F401  (registers the implementations)
from onnxeq.errors import BadInputs, CannotRun, UnsupportedOperator
from onnxeq.referee.attributes import decode
from onnxeq.referee.calling import invoke, unsupported, watched
from onnxeq.referee.constants import sparse_array, tensor_array
from onnxeq.referee.elements import FLOATS, dtype_name, element_name, lift
from onnxeq.referee.frames import (
    Entry,
    Frame,
    Hook,
    Kind,
    NodeInfo,
    Run,
    cast_target,
    constant_array,
    constant_entry,
    input_value,
    is_discrete,
    is_identity_cast,
    kind_of,
    owned_inputs,
    settle,
    shown_attribute,
    shown_constant,
    twins_of,
)
from onnxeq.referee.plan import (
    FunctionKey,
    Library,
    Plan,
    Step,
    function_key,
    missing,
    opset_map,
    plan_function,
    plan_graph,
)
from onnxeq.referee.registry import Call, Value
from onnxeq.referee.schemas import body_of, declared_outputs, default_attributes
from onnxeq.types import Array, Feed, TensorSpec

__all__ = ["Executor", "Hook", "NodeInfo"]


class Executor:
    """An ONNX model, ready to be run in float64.

    Args:
        model: The model; it is not changed and must not be changed while this object lives.
        base_dir: The folder of its file, where external data lies.

    Attributes:
        missing: Operators without an implementation, ``com.microsoft::Foo (version 1) at node n``.
        inputs: What :meth:`run` takes; inputs that have an initializer are left out.
        outputs: What it gives.

    Raises:
        onnxeq.errors.UnusableModel: The graph has a cycle, or a name is defined twice or never.
    """

    def __init__(self, model: onnx.ModelProto, *, base_dir: Path | None = None) -> None:
        functions: dict[FunctionKey, onnx.FunctionProto] = {function_key(f): f for f in model.functions}
        self._library = Library(functions, base_dir)
        self._opsets = opset_map(model.opset_import)
        self._graph = model.graph
        self._plans: dict[tuple[tuple[str, ...], frozenset[str]], Plan] = {}
        self._bodies: dict[tuple[FunctionKey, tuple[tuple[str, int], ...], tuple[bool, ...]], Plan] = {}
        self._lifted: dict[str, Entry] = {}
        self._lifted_bytes = 0
        stored = {tensor.name for tensor in model.graph.initializer}
        stored |= {sparse.values.name for sparse in model.graph.sparse_initializer}
        self._declared = {value.name: _spec(value) for value in model.graph.input}
        self.inputs: tuple[TensorSpec, ...] = tuple(spec for name, spec in self._declared.items() if name not in stored)
        self.outputs: tuple[TensorSpec, ...] = tuple(_spec(value) for value in model.graph.output)
        self.missing: tuple[str, ...] = missing(self._plan(None), self._library)

    def run(self, feed: Feed, *, outputs: Sequence[str] | None = None, hook: Hook | None = None) -> dict[str, Value]:
        """Computes ``outputs`` (default: the model's), which may name any value of the main graph.

        Nodes that do not contribute to them are not run.

        Raises:
            onnxeq.errors.BadInputs: The feed does not fit the model's inputs.
            onnxeq.errors.UnsupportedOperator: An operator has no implementation.
            onnxeq.errors.CannotRun: An implementation failed; names the node and its input shapes.
            onnxeq.errors.UnusableModel: ``outputs`` names a value that does not exist.
        """
        entries = self.run_entries(feed, outputs=outputs, hook=hook)
        return {name: lift(entry.value) for name, entry in entries.items()}

    def run_entries(
        self,
        feed: Feed,
        *,
        outputs: Sequence[str] | None = None,
        hook: Hook | None = None,
        known: Mapping[str, Entry] | None = None,
    ) -> dict[str, Entry]:
        """As :meth:`run`, with everything that a run knows of a value beside it.

        Args:
            feed: The inputs.
            outputs: What to compute.
            hook: Watches or changes the run.
            known: Values that are not computed but taken: entries of another run, by their name here.
        """
        given = dict(known or {})
        plan = self._plan(outputs, frozenset(given))
        self._check_feed(feed)
        values = {name: Entry(lift(v), self._declared[name].dtype, Kind.DATA) for name, v in feed.items()}
        with np.errstate(all="ignore"):  # overflow to inf and 0/0 are legal results
            entries = self._run_frame(Frame(plan, Run(hook), values | given))
        return dict(zip(plan.outputs, entries, strict=True))

    def _plan(self, outputs: Sequence[str] | None, known: frozenset[str] = frozenset()) -> Plan:
        names = tuple(spec.name for spec in self.outputs) if outputs is None else tuple(outputs)
        if (names, known) not in self._plans:
            self._plans[names, known] = plan_graph(self._graph, self._opsets, self._library, keep=names, known=known)
        return self._plans[names, known]

    def _check_feed(self, feed: Feed) -> None:
        hint = f"Its inputs: {', '.join(f'{spec.name} {spec.text()}' for spec in self.inputs)}."
        for name in feed:
            if name not in self._declared:
                raise BadInputs(f"the model has no input {name!r}", hint=hint)
        for spec in self.inputs:
            if spec.name not in feed:
                raise BadInputs(f"input {spec.name!r} is not given", hint=hint)
        for name, value in feed.items():
            _check_input(self._declared[name], value)

    def _run_frame(self, frame: Frame) -> list[Entry]:
        for step in frame.plan.steps:
            for name, entry in zip(step.node.output, self._run_step(frame, step), strict=False):
                if name:
                    frame.values[name] = entry
            for name in step.release:
                frame.values.pop(name, None)
        return [self._entry(frame, name) if name else _ABSENT for name in frame.plan.outputs]

    def _entry(self, frame: Frame, name: str) -> Entry:
        scope: Frame | None = frame
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            if name in scope.plan.initializers:
                load = functools.partial(self._raw, scope.plan.initializers[name])
                scope.values[name] = self._constant(scope, id(scope.plan), name, load)
                return scope.values[name]
            scope = scope.parent
        raise CannotRun(f"value {name!r} was read, but no input was given for it")

    def _constant(self, frame: Frame, owner: int, name: str, load: Callable[[], Array]) -> Entry:
        """A constant of ``frame``; those of a loop body or function are kept, since they are met again."""
        if not frame.repeats:
            return self._shown_constant(frame, name, load)
        key = (frame.path, owner, name)
        if key not in frame.run.constants:
            frame.run.constants[key] = self._shown_constant(frame, name, load)
        return frame.run.constants[key]

    def _shown_constant(self, frame: Frame, name: str, load: Callable[[], Array]) -> Entry:
        """A constant, lifted and shown to the hook; the main graph's lifted arrays are kept between runs."""
        if frame.repeats:
            return shown_constant(frame.run, name, constant_entry(load()))
        if name not in self._lifted:
            entry = constant_entry(load())
            size = entry.value.nbytes if entry.dtype in FLOATS else 0
            if self._lifted_bytes + size > _KEEP_BYTES:
                return shown_constant(frame.run, name, entry)
            self._lifted_bytes += size
            self._lifted[name] = entry
        return shown_constant(frame.run, name, self._lifted[name])

    def _raw(self, stored: onnx.TensorProto | onnx.SparseTensorProto) -> NDArray[Any]:
        if isinstance(stored, onnx.SparseTensorProto):
            return sparse_array(stored, self._library.base_dir)
        return tensor_array(stored, self._library.base_dir)

    def _run_step(self, frame: Frame, step: Step) -> list[Entry]:
        own: dict[str, Any] = dict(step.attributes)
        own |= {inner: frame.bindings[outer] for inner, outer in step.references if outer in frame.bindings}
        if step.node.op_type == "Constant" and step.node.domain in ("", "ai.onnx"):
            name = step.node.output[0]
            return [self._constant(frame, id(step), name, lambda: constant_array(own))]
        attributes = self._shown(frame, step, own)
        found = [self._entry(frame, name) if name else None for name in step.node.input]
        if step.operator is None:
            return self._run_body(frame, step, attributes, found)
        return self._run_operator(frame, step, attributes, found)

    def _shown(self, frame: Frame, step: Step, own: dict[str, Any]) -> Mapping[str, Any]:
        """The attributes, each float shown to the hook once per run."""
        hook = frame.run.hook
        if hook is None:
            return own
        key = (frame.path, id(step))
        if key not in frame.run.attributes:
            referenced = {inner for inner, _ in step.references}  # the function's call has shown these
            frame.run.attributes[key] = {
                name: value if name in referenced else shown_attribute(hook, step, name, value)
                for name, value in own.items()
            }
        return frame.run.attributes[key]

    def _run_operator(
        self, frame: Frame, step: Step, attributes: Mapping[str, Any], found: list[Entry | None]
    ) -> list[Entry]:
        kind = kind_of(step, found)
        dtypes = tuple("" if entry is None else entry.dtype for entry in found)
        twins = twins_of(found) if kind is not Kind.DATA and not step.plans else None
        values = [input_value(entry, fixed) for entry, fixed in zip(found, step.fixed, strict=True)]
        inner: list[Kind] = []
        call = Call(
            step.node,
            step.opset,
            attributes,
            len(step.node.output),
            self._graph_runner(frame, step, inner),
            input_dtypes=dtypes,
        )
        if frame.run.hook is None and kind is Kind.DATA and not step.plans:
            found.clear()  # from here on ``values`` alone holds what dies with this node
            for name in step.release:
                frame.values.pop(name, None)
            call = dataclasses.replace(call, owned=owned_inputs(values))
        if is_identity_cast(frame.run, step, attributes, dtypes):
            results: list[Value] = [values[0]]
            declared: tuple[str, ...] = (cast_target(step, attributes, dtypes),)
        else:
            results = invoke(frame, step, call, values)
            declared = declared_outputs(step.node, step.opset, attributes, dtypes, results)
        if step.plans:
            kind = max(kind, *inner) if step.node.op_type == "If" and inner else Kind.DATA
        exacts: list[Value] = [None] * len(results)
        if twins is not None and any(name in FLOATS for name in dtypes + declared):
            exacts = invoke(frame, step, dataclasses.replace(call, exact=True), twins)
        settled = [settle(step, kind, v, d, e) for v, d, e in zip(results, declared, exacts, strict=True)]
        exact = kind is not Kind.DATA and all(e.exact is not None and is_discrete(step, e) for e in settled)
        results = [entry.value for entry in settled]
        constant = kind is not Kind.DATA
        results = watched(frame, step, values, dtypes, results, declared, exact, bool(step.plans), constant)
        return [dataclasses.replace(e, value=v) for e, v in zip(settled, results, strict=True)]

    def _graph_runner(
        self, frame: Frame, step: Step, kinds: list[Kind]
    ) -> Callable[[onnx.GraphProto, Mapping[str, Value]], list[Value]]:
        def run_graph(graph: onnx.GraphProto, inputs: Mapping[str, Value]) -> list[Value]:
            plan = step.plans[id(graph)]
            values = {}
            for name, value in inputs.items():
                declared = plan.input_types.get(name, 0)
                dtype = element_name(declared) if declared else _held_dtype(value)
                values[name] = Entry(lift(value), dtype, Kind.DATA)
            inner = Frame(plan, frame.run, values, frame, frame.bindings, (*frame.path, step.label))
            entries = self._run_frame(inner)
            kinds[:] = [entry.kind for entry in entries]
            return [entry.value for entry in entries]

        return run_graph

    def _run_body(
        self, frame: Frame, step: Step, attributes: Mapping[str, Any], found: list[Entry | None]
    ) -> list[Entry]:
        """Runs a model-local function, or an operator through the function body in its schema."""
        dtypes = tuple("" if entry is None else entry.dtype for entry in found)
        values = [None if entry is None else entry.value for entry in found]
        if step.function is not None:
            defaults = {a.name: decode(a) for a in step.function.attribute_proto}
            plan = self._function_plan(step, step.function, frame.plan.opsets)
            run = frame.run
        else:
            body = body_of(step.node, step.opset, values, dtypes)
            if body is None:
                raise UnsupportedOperator(unsupported(frame, step))
            known = default_attributes(step.node.domain, step.node.op_type, step.opset)
            defaults = {name: decode(value) for name, value in known.items()}
            plan = plan_function(body, frame.plan.opsets, self._library, step.node.output)
            run = Run(None, within_operator=True)  # one operator to a runtime: its inside is not for the hook
        inputs = dict.fromkeys(plan.inputs, _ABSENT)
        inputs |= {name: entry for name, entry in zip(plan.inputs, found, strict=False) if entry is not None}
        path = (*frame.path, step.label)
        entries = self._run_frame(Frame(plan, run, inputs, None, {**defaults, **attributes}, path))
        declared = tuple(entry.dtype for entry in entries)
        exact = all(e.kind is not Kind.DATA and is_discrete(step, e) for e in entries)
        results = [entry.value for entry in entries]
        results = watched(frame, step, values, dtypes, results, declared, exact, step.function is not None)
        return [dataclasses.replace(entry, value=value) for value, entry in zip(results, entries, strict=True)]

    def _function_plan(self, step: Step, function: onnx.FunctionProto, opsets: Mapping[str, int]) -> Plan:
        wanted = tuple(bool(name) for name in step.node.output)
        key = (function_key(function), tuple(sorted(opsets.items())), wanted)
        if key not in self._bodies:
            self._bodies[key] = plan_function(function, opsets, self._library, step.node.output)
        return self._bodies[key]


_KEEP_BYTES = 32 << 20
"""Lifted constants kept between runs. Widening a ResNet-50's weights anew takes a twelfth of a run, and holding them
took twice the model's size: several runs go on side by side."""

_ABSENT = Entry(None, "", Kind.CONSTANT)


def _held_dtype(value: Value) -> str:
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return ""
    name = dtype_name(np.asarray(value).dtype)
    return "float32" if name == "float64" else name


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type
    while kind.HasField("sequence_type") or kind.HasField("optional_type"):
        kind = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
    tensor = kind.tensor_type
    dtype = element_name(tensor.elem_type) if tensor.elem_type else "float32"
    if not tensor.HasField("shape") or not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, dtype, None)
    dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in tensor.shape.dim]
    return TensorSpec(value.name, dtype, tuple(dims))


def _check_input(spec: TensorSpec, value: Value) -> None:
    if value is None or isinstance(value, list):
        return  # an optional or a sequence: its operators check it
    array = np.asarray(value)
    given = TensorSpec(spec.name, dtype_name(array.dtype), array.shape)
    both_float = given.dtype in FLOATS and spec.dtype in FLOATS
    same_kind = both_float or given.dtype == spec.dtype
    fits = spec.shape is None or (
        len(spec.shape) == array.ndim
        and all(isinstance(d, str) or d == n for d, n in zip(spec.shape, array.shape, strict=True))
    )
    if not (same_kind and fits):
        raise BadInputs(f"input {spec.name!r} is {given.text()}, the model takes {spec.text()}")
