"""A Keras model as one flat TensorFlow function: named tensors in, named tensors out.

Keras models take and give tensors, lists and dictionaries of them. Everything behind this module
sees flat lists in Keras' own order (``tf.nest``: dictionaries by sorted key).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxeq.errors import BadInputs, CannotRun
from onnxeq.types import Dim, Signature, TensorSpec, ValueRange
from onnxeq_converters.from_keras.framework import first_line, framework

__all__ = ["Program", "flat_call", "input_specs", "trace"]

FlatCall = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Program:
    """What is run and exported: the model taking its inputs flat and returning ``{name: tensor}``.

    Attributes:
        call: The plain Python function, for tracing anew.
        function: The same as a ``tf.function``; its trace for the signature is made.
        concrete: That trace.
        signature: Inputs and outputs with their names.
        tf_specs: The trace's ``tf.TensorSpec``, one per input.
    """

    call: Callable[..., dict[str, Any]]
    function: Any
    concrete: Any
    signature: Signature
    tf_specs: tuple[Any, ...]


def input_specs(
    model: Any, declared: tuple[TensorSpec, ...] | None, limits: ValueRange | None
) -> tuple[TensorSpec, ...]:
    """What a model takes: as it says itself, else as declared.

    A size that the model leaves open and the declaration fixes is taken from the declaration.

    Raises:
        onnxeq.errors.BadInputs: Neither says, or the two disagree.
    """
    own = _own_inputs(model)
    if not own:
        if not declared:
            raise BadInputs(
                f"{type(model).__name__} does not say what it takes",
                hint="give --shape NAME=1x224x224x3, or --inputs",
            )
        if any(s.shape is None for s in declared):
            raise BadInputs("an input without a shape", hint="give --shape NAME=1x224x224x3")
        return tuple(replace(s, shape=_open_batch(s.shape)) for s in declared)
    tokens = _token_range(model)
    specs = []
    for i, tensor in enumerate(own):
        dtype = str(getattr(tensor.dtype, "name", tensor.dtype))
        spec = TensorSpec(tensor.name.partition(":")[0], dtype, _dims(tensor.shape))
        if declared:
            spec = replace(spec, shape=_settle(spec, _matching(spec, i, declared, len(own))))
        is_image = spec.shape is not None and len(spec.shape) == 4
        specs.append(replace(spec, range=tokens if dtype.startswith("int") else limits if is_image else None))
    return tuple(specs)


def flat_call(model: Any, specs: tuple[TensorSpec, ...]) -> FlatCall:
    """The model in inference mode as a function of its flat inputs."""
    keywords: dict[str, Any] = {}
    parameters = inspect.signature(model.call).parameters
    if "training" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        keywords["training"] = False
    structure = _input_structure(model)
    tf = framework().tf
    positional = [
        p for p in parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in ("training", "mask")
    ]  # fmt: skip
    is_dict = isinstance(getattr(model, "_build_shapes_dict", None), dict) and len(positional) == 1

    def call(flat: Sequence[Any]) -> Any:
        if structure is not None:
            return model(tf.nest.pack_sequence_as(structure, list(flat)), **keywords)
        if len(flat) == 1:
            return model(flat[0], **keywords)
        if len(positional) >= len(flat):
            return model(*flat, **keywords)
        if is_dict and _build_keys(model) == {s.name for s in specs}:
            return model({s.name: x for s, x in zip(specs, flat, strict=True)}, **keywords)
        return model(list(flat), **keywords)

    return call


def trace(model: Any, specs: tuple[TensorSpec, ...]) -> Program:
    """Traces the model once, with the open axes open.

    Raises:
        onnxeq.errors.CannotRun: The model cannot be traced with these inputs.
    """
    tf = framework().tf
    call = flat_call(model, specs)
    names: list[str] = []

    def flat_function(*args: Any) -> dict[str, Any]:
        # Live models may come from a process that sees GPUs.
        with tf.device("/CPU:0" if not tf.config.get_visible_devices("GPU") else None):
            named = _flat_outputs(model, call(args))
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
        raise CannotRun(f"{type(model).__name__} does not run on {shapes}: {first_line(error)}") from error
    structured = concrete.structured_outputs
    outputs = tuple(TensorSpec(n, structured[n].dtype.name, _dims(structured[n].shape)) for n in names)
    return Program(flat_function, function, concrete, Signature(specs, outputs), tf_specs)


def _flat_outputs(model: Any, result: Any) -> list[tuple[str, Any]]:
    """The flat outputs with unique names: a dictionary's keys, else the model's output names."""
    nest = framework().tf.nest
    flat = nest.flatten(result)
    if isinstance(result, dict) and len(result) == len(flat):
        names = [str(key) for key in sorted(result)]
    else:
        names = [str(n) for n in (getattr(model, "output_names", None) or ())]
        if len(names) != len(flat):
            names = ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]
    taken: dict[str, int] = {}
    unique = []
    for name in names:
        count = taken[name] = taken.get(name, -1) + 1
        unique.append(name if count == 0 else f"{name}_{count}")
    return list(zip(unique, flat, strict=True))


def _own_inputs(model: Any) -> list[Any]:
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):  # an unbuilt Sequential raises
        return []
    return list(inputs) if inputs else []


def _input_structure(model: Any) -> Any | None:
    """How a functional model nests its inputs; ``None`` for a subclassed one."""
    for holder in (model, getattr(model, "_functional", None)):
        for name in ("_inputs_struct", "_nested_inputs"):
            structure = getattr(holder, name, None)
            if structure is not None:
                return structure
    return None


def _build_keys(model: Any) -> set[str]:
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    inner = next(iter(shapes.values()), None) if len(shapes) == 1 else None
    return set(inner) if isinstance(inner, dict) else set(shapes)


def _token_range(model: Any) -> ValueRange | None:
    """Integers that every ``Embedding`` of the model can look up."""
    layers = getattr(model, "_flatten_layers", lambda: ())()
    sizes = [layer.input_dim for layer in layers if type(layer).__name__ == "Embedding"]
    return ValueRange(0, min(sizes)) if sizes else None


def _dims(shape: Any) -> tuple[Dim, ...] | None:
    if shape is None or getattr(shape, "rank", 0) is None:  # a TensorShape may not know its rank
        return None
    return tuple(("N" if axis == 0 else f"d{axis}") if d is None else int(d) for axis, d in enumerate(shape))


def _tf_shape(spec: TensorSpec) -> list[int | None] | None:
    return None if spec.shape is None else [d if isinstance(d, int) else None for d in spec.shape]


def _open_batch(shape: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    return shape if not shape else ("N", *shape[1:])


def _matching(spec: TensorSpec, index: int, declared: tuple[TensorSpec, ...], count: int) -> TensorSpec:
    for candidate in declared:
        if candidate.name == spec.name:
            return candidate
    if len(declared) != count:
        raise BadInputs(f"the model takes {count} inputs, {len(declared)} are declared, none named {spec.name}")
    return declared[index]


def _settle(spec: TensorSpec, declared: TensorSpec) -> tuple[Dim, ...] | None:
    """The model's shape with its open axes (but the batch) filled from the declaration."""
    if spec.shape is None or declared.shape is None:
        return spec.shape or declared.shape
    fits = len(spec.shape) == len(declared.shape) and all(
        not (isinstance(a, int) and isinstance(b, int)) or a == b
        for a, b in zip(spec.shape, declared.shape, strict=True)
    )
    if not fits:
        raise BadInputs(f"input {spec.name} is {spec.text()}, declared as {declared.text()}")
    rest = (b if isinstance(b, int) else a for a, b in zip(spec.shape[1:], declared.shape[1:], strict=True))
    return (spec.shape[0], *rest) if spec.shape else spec.shape
