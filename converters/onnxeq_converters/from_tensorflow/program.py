"""A TensorFlow program as one flat function: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxeq.errors import BadInputs, CannotRun
from onnxeq.types import Array, Dim, Feed, Signature, TensorSpec
from onnxeq_converters.from_tensorflow.framework import first_line, tensorflow

__all__ = [
    "Program",
    "arranged",
    "declaration_of",
    "dims",
    "run",
    "settle",
    "trace",
]


@dataclass(frozen=True)
class Program:
    """What is run and exported: it takes its inputs flat and returns ``{name: tensor}``.

    Attributes:
        call: The plain Python function, for tracing anew.
        function: What is called to run it.
        concrete: Its trace, a ``ConcreteFunction``.
        inputs: The trace's tensors behind the signature's inputs.
        outputs: The trace's tensors behind the signature's outputs.
        signature: Inputs and outputs with their names.
        tf_specs: The trace's ``tf.TensorSpec``, one per input.
    """

    call: Callable[..., dict[str, Any]]
    function: Callable[..., Mapping[str, Any]]
    concrete: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    signature: Signature
    tf_specs: tuple[Any, ...]


def trace(
    name: str, call: Callable[[Sequence[Any]], Sequence[tuple[str, Any]]], specs: tuple[TensorSpec, ...]
) -> Program:
    """Traces a program once, with the open axes open.

    Args:
        name: What a message calls it.
        call: Takes the flat inputs and gives the flat outputs, each with its name.
        specs: The inputs.

    Raises:
        onnxeq.errors.CannotRun: It cannot be traced with these inputs.
    """
    tf = tensorflow()
    names: list[str] = []

    def flat_function(*args: Any) -> dict[str, Any]:
        # Live models may come from a process that sees GPUs.
        with tf.device("/CPU:0" if not tf.config.get_visible_devices("GPU") else None):
            named = call(args)
        names[:] = [name for name, _ in named]
        return dict(named)

    function = tf.function(flat_function, autograph=False)
    tf_specs = tuple(
        tf.TensorSpec(_tf_shape(s), tf.as_dtype(s.dtype), name=s.name) for s in specs
    )  # fmt: skip
    try:
        concrete = function.get_concrete_function(*tf_specs)
    except Exception as error:  # a model's own code may raise anything
        shapes = ", ".join(f"{s.name} {s.text()}" for s in specs)
        raise CannotRun(f"{name} does not run on {shapes}: {first_line(error)}") from error
    structured = concrete.structured_outputs
    outputs = tuple(TensorSpec(n, structured[n].dtype.name, dims(structured[n].shape)) for n in names)
    return Program(
        flat_function,
        function,
        concrete,
        given_inputs(concrete),
        tuple(structured[n] for n in names),
        Signature(specs, outputs),
        tf_specs,
    )


def given_inputs(concrete: Any) -> tuple[Any, ...]:
    """The tensors that a caller gives, without those that the trace captures."""
    internal = {placeholder.name for _, placeholder in concrete.graph.captures}
    return tuple(t for t in concrete.inputs if t.name not in internal)


def run(program: Program, arrays: Sequence[Array]) -> dict[str, Array]:
    """The outputs in float32, as the program's users get them.

    Raises:
        onnxeq.errors.CannotRun: The program failed.
    """
    tf = tensorflow()
    try:
        result = program.function(*[tf.constant(a) for a in arrays])
    except tf.errors.OpError as error:
        raise CannotRun(f"the model failed: {first_line(error)}") from error
    return {spec.name: np.asarray(result[spec.name]) for spec in program.signature.outputs}


def arranged(feed: Feed, specs: tuple[TensorSpec, ...]) -> list[Array]:
    """The feed in the model's order: by name, or by position when no name is known.

    Raises:
        onnxeq.errors.BadInputs: It has other inputs, or one of another shape or type.
    """
    names = [s.name for s in specs]
    if set(names) <= set(feed):
        values = [feed[n] for n in names]
    elif len(feed) == len(specs) and not set(names) & set(feed):
        values = list(feed.values())
    else:
        raise BadInputs(f"the model takes {', '.join(names)}; the feed has {', '.join(feed)}")
    for spec, value in zip(specs, values, strict=True):
        shape = np.shape(value)
        fits = spec.shape is None or (
            len(shape) == len(spec.shape)
            and all(not isinstance(d, int) or d == n for d, n in zip(spec.shape, shape, strict=True))
        )
        if not fits or np.asarray(value).dtype != np.dtype(spec.dtype):
            given = TensorSpec(spec.name, str(np.asarray(value).dtype), shape)
            raise BadInputs(f"input {spec.name} takes {spec.text()}, got {given.text()}")
    return [np.asarray(v) for v in values]


def dims(shape: Any) -> tuple[Dim, ...] | None:
    """A ``TensorShape``'s sizes, with a name for each that is open; ``None`` for an unknown rank."""
    if shape is None or getattr(shape, "rank", 0) is None:  # a TensorShape may not know its rank
        return None
    return tuple(("N" if axis == 0 else f"d{axis}") if d is None else int(d) for axis, d in enumerate(shape))


def declaration_of(spec: TensorSpec, index: int, declared: tuple[TensorSpec, ...], count: int) -> TensorSpec:
    """The declaration of an input: by name, else by position.

    Raises:
        onnxeq.errors.BadInputs: None has the name, and there are not as many declarations as inputs.
    """
    for candidate in declared:
        if candidate.name == spec.name:
            return candidate
    if len(declared) != count:
        raise BadInputs(f"the model takes {count} inputs, {len(declared)} are declared, none named {spec.name}")
    return declared[index]


def settle(spec: TensorSpec, declared: TensorSpec) -> TensorSpec:
    """The model's input with its open axes (but the batch) filled from the declaration.

    Raises:
        onnxeq.errors.BadInputs: The two disagree.
    """
    if spec.shape is None or declared.shape is None:
        return replace(spec, shape=spec.shape or declared.shape)
    fits = len(spec.shape) == len(declared.shape) and all(
        not (isinstance(a, int) and isinstance(b, int)) or a == b
        for a, b in zip(spec.shape, declared.shape, strict=True)
    )
    if not fits:
        raise BadInputs(f"input {spec.name} is {spec.text()}, declared as {declared.text()}")
    rest = (b if isinstance(b, int) else a for a, b in zip(spec.shape[1:], declared.shape[1:], strict=True))
    return replace(spec, shape=(spec.shape[0], *rest)) if spec.shape else spec


def _tf_shape(spec: TensorSpec) -> list[int | None] | None:
    return None if spec.shape is None else [d if isinstance(d, int) else None for d in spec.shape]
