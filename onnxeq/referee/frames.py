"""What a run carries: values with their kind and declared type, frames of graphs, and the hook's view."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxeq.errors import CannotRun
from onnxeq.referee.elements import FLOATS, dtype_name, element_name, lift, restore
from onnxeq.referee.plan import Plan, Step
from onnxeq.referee.registry import Value

__all__ = [
    "Entry",
    "Frame",
    "Hook",
    "Kind",
    "NodeInfo",
    "Run",
    "cast_target",
    "constant_array",
    "constant_entry",
    "input_value",
    "is_discrete",
    "is_identity_cast",
    "kind_of",
    "owned_inputs",
    "settle",
    "shown_attribute",
    "shown_constant",
    "twins_of",
]


@dataclass(frozen=True)
class NodeInfo:
    """What a hook learns about a node that has run.

    Attributes:
        node: The node.
        opset: Version of its domain.
        exact: Whether its outputs are whole numbers that follow from shapes and constants alone, as every
            runtime computes them: there is nothing to perturb.
        dtypes: Declared element type of each output (``float16`` for a value held in float64 that a
            runtime stores in float16); empty for an absent one.
        path: Labels of the nodes whose sub-graphs or functions enclose it, outermost first.
        composite: Whether the hook has already seen the nodes inside it (sub-graphs, model functions), so
            that this node itself computed nothing.
        input_dtypes: Declared element type of each input.
        constant: Whether it follows from shapes and constants alone.
    """

    node: onnx.NodeProto
    opset: int
    exact: bool
    dtypes: tuple[str, ...]
    path: tuple[str, ...]
    composite: bool = False
    input_dtypes: tuple[str, ...] = ()
    constant: bool = False


class Hook(Protocol):
    """Watches or changes a run: taps, teacher forcing, noise."""

    def constant(self, name: str, value: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
        """Called once per run for each float constant that is used, stored as ``dtype``.

        ``name`` is the initializer's or the Constant's output; for a float attribute
        ``{node name or first output}.{attribute}``, with a 0-d value (1-d for a list).
        """

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """Called after each node; returns the outputs to go on with.

        Must not change arrays in place, but for a large output of its own memory that is none of the inputs.
        """


class Kind(enum.IntEnum):
    """What a value depends on; a node's outputs are of its inputs' largest kind."""

    CONSTANT = 0
    SHAPE = 1
    DATA = 2


@dataclass(frozen=True)
class Entry:
    """A value during a run.

    ``exact`` is the value that a runtime has, in the declared type, where it follows from shapes and
    unperturbed constants alone and is small; else ``None``.
    """

    value: Value
    dtype: str
    kind: Kind
    exact: Value = None


@dataclass(frozen=True)
class Run:
    """One call of the executor: its hook, and what is read once although it is met often.

    ``within_operator`` marks the inside of an operator that runs through its schema's function body:
    casts between float types there only choose a working precision, so they do not round.
    """

    hook: Hook | None
    within_operator: bool = False
    constants: dict[tuple[tuple[str, ...], int, str], Entry] = field(default_factory=dict)
    attributes: dict[tuple[tuple[str, ...], int], Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """A graph or function body that is being run; ``parent`` is the scope around a sub-graph."""

    plan: Plan
    run: Run
    values: dict[str, Entry]
    parent: Frame | None = None
    bindings: Mapping[str, Any] = field(default_factory=dict)
    path: tuple[str, ...] = ()

    @property
    def repeats(self) -> bool:
        """Whether it may run several times in one run, so that its constants are kept."""
        return self.parent is not None or bool(self.path)


_STEERING_ATTRIBUTES = frozenset({("Upsample", "scales")})
"""Float attributes that decide a shape: not shown to the hook, like inputs fixed to ``tensor(float)``."""

_SMALL = 1 << 16
"""Values of up to so many elements are also computed exactly: what steers shapes and indices is small."""

_WHOLE = frozenset({"Ceil", "Floor", "Round", "Sign"})
"""Operators that turn floats into whole numbers: the lifted result could be off by one."""

_RANDOM = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip


def constant_entry(stored: Value) -> Entry:
    """A stored constant, lifted; read-only, since it may be used again."""
    dtype = dtype_name(stored.dtype)
    if dtype not in FLOATS:
        return Entry(stored, dtype, Kind.CONSTANT, stored)
    lifted = stored.astype(np.float64)
    lifted.flags.writeable = False
    return Entry(lifted, dtype, Kind.CONSTANT, stored)


def shown_constant(run: Run, name: str, entry: Entry) -> Entry:
    """A float constant as the hook wants it; any other unchanged."""
    if run.hook is None or entry.dtype not in FLOATS:
        return entry
    value = np.asarray(run.hook.constant(name, entry.value, entry.dtype), dtype=np.float64)
    if value.shape != entry.value.shape:
        raise CannotRun(f"the hook gave shape {list(value.shape)} for constant {name!r} {list(entry.value.shape)}")
    return dataclasses.replace(entry, value=value)


def constant_array(attributes: Mapping[str, Any]) -> NDArray[Any]:
    """The value of a Constant node in its stored type."""
    for name, dtype in (
        ("value", None),
        ("sparse_value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_string", object),
        ("value_strings", object),
    ):
        if name in attributes:
            return np.asarray(attributes[name], dtype=dtype)
    raise CannotRun("a Constant node carries no value")


def shown_attribute(hook: Hook, step: Step, name: str, value: Any) -> Any:
    """A float attribute as the hook wants it; everything else, and what decides a shape, unchanged."""
    if (step.node.op_type, name) in _STEERING_ATTRIBUTES:
        return value
    label = f"{step.node.name or next((n for n in step.node.output if n), '')}.{name}"
    if isinstance(value, float):
        return float(hook.constant(label, np.asarray(value), "float32"))
    if isinstance(value, list) and value and isinstance(value[0], float):
        return [float(v) for v in hook.constant(label, np.asarray(value), "float32")]
    return value  # a tensor too: ConstantOfShape's value carries a type, and is nearly always 0 or 1


def kind_of(step: Step, inputs: Sequence[Entry | None]) -> Kind:
    """What a node's outputs depend on, sub-graphs' outer values apart."""
    if step.node.op_type in ("Shape", "Size") and step.node.domain in ("", "ai.onnx"):
        return Kind.SHAPE
    if step.node.op_type in _RANDOM:
        return Kind.DATA
    return max((entry.kind for entry in inputs if entry is not None), default=Kind.CONSTANT)


def twins_of(inputs: Sequence[Entry | None]) -> list[Value] | None:
    """The exact inputs of a small node; ``None`` when it is not to be computed exactly."""
    for entry in inputs:
        if entry is None:
            continue
        if not isinstance(entry.exact, np.ndarray) or entry.exact.size > _SMALL:
            return None
        if entry.dtype in FLOATS and entry.dtype not in ("float32", "float64"):
            return None  # no arithmetic in narrower types: runtimes differ in how they round there
    return [None if entry is None else entry.exact for entry in inputs]


def is_discrete(step: Step, entry: Entry) -> bool:
    """Whether a node's output cannot carry rounding noise: it is no float, or a float made whole."""
    return entry.dtype not in FLOATS or step.node.op_type in _WHOLE


def settle(step: Step, kind: Kind, value: Value, dtype: str, exact: Value) -> Entry:
    """An output as it goes on: what is discrete and made from shapes and constants takes the exact value."""
    value = lift(value)
    if kind is Kind.DATA:
        return Entry(value, dtype, kind)
    if dtype not in FLOATS:
        value = exact = value if exact is None else exact
    elif exact is not None:
        exact = restore(exact, dtype)
        value = lift(exact) if step.node.op_type in _WHOLE else value
    return Entry(value, dtype, kind, exact)


def input_value(entry: Entry | None, fixed: bool) -> Value:
    """An input as the node gets it: lifted, and unperturbed where the schema fixes the type."""
    if entry is None:
        return None
    return lift(entry.exact) if fixed and entry.exact is not None else entry.value


def cast_target(step: Step, attributes: Mapping[str, Any], dtypes: Sequence[str]) -> str:
    """The element type that a Cast or CastLike node makes."""
    return dtypes[1] if step.node.op_type == "CastLike" else element_name(int(attributes.get("to", 0)))


_WORKING = frozenset({"float16", "bfloat16", "float32", "float64"})


def is_identity_cast(run: Run, step: Step, attributes: Mapping[str, Any], dtypes: Sequence[str]) -> bool:
    """Whether a node casts a value to the type that it has already, or between working precisions."""
    if step.node.domain not in ("", "ai.onnx") or step.node.op_type not in ("Cast", "CastLike"):
        return False
    target = cast_target(step, attributes, dtypes)
    return target == dtypes[0] or (run.within_operator and {target, dtypes[0]} <= _WORKING)


def _references(values: list[Value], index: int) -> tuple[int, int]:
    """How many references an array has, and the array whose memory it shows (0 if its own)."""
    base = values[index].base
    return sys.getrefcount(values[index]), 0 if base is None else sys.getrefcount(base)


_ALONE = _references([np.empty(1)], 0)[0]
_ALONE_BASE = _references([np.empty(2)[:1]], 0)[1]
"""What :func:`_references` gives for an array that nobody else holds: measured, since it depends on the
interpreter."""


def owned_inputs(values: list[Value]) -> frozenset[int]:
    """The inputs whose memory nothing else refers to: not another value, a view, a feed, or a constant.

    Args:
        values: The only place that still holds the inputs, if they are dead after the node.
    """
    found = []
    for i in range(len(values)):
        if not isinstance(values[i], np.ndarray) or values[i].dtype != np.float64:
            continue
        if not values[i].flags.writeable or 0 in values[i].strides:
            continue
        if values[i].base is not None and not isinstance(values[i].base, np.ndarray):
            continue
        own, base = _references(values, i)
        if own <= _ALONE and base <= _ALONE_BASE:
            found.append(i)
    return frozenset(found)
