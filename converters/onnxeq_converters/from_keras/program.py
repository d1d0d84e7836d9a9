"""A Keras model as one flat TensorFlow function: named tensors in, named tensors out.

Keras models take and give tensors, lists and dictionaries of them. Everything behind this module
sees flat lists in Keras' own order (``tf.nest``: dictionaries by sorted key).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from onnxeq.errors import BadInputs
from onnxeq.types import Dim, TensorSpec, ValueRange
from onnxeq_converters.from_keras.framework import framework
from onnxeq_converters.from_tensorflow import program
from onnxeq_converters.from_tensorflow.program import Program, declaration_of, dims, settle

__all__ = ["flat_call", "input_specs", "trace"]

FlatCall = Callable[[Sequence[Any]], Any]


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
        spec = TensorSpec(tensor.name.partition(":")[0], dtype, dims(tensor.shape))
        if declared:
            spec = settle(spec, declaration_of(spec, i, declared, len(own)))
        # Pictures of one channel may have no axis for it; video has one more.
        is_image = spec.shape is not None and len(spec.shape) in (3, 4, 5)
        known = tokens if dtype.startswith("int") else limits if is_image else None
        said = declaration_of(spec, i, declared, len(own)).range if declared else None
        specs.append(replace(spec, range=known or said))
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
    call = flat_call(model, specs)
    return program.trace(type(model).__name__, lambda args: _flat_outputs(model, call(args)), specs)


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


def _open_batch(shape: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    return shape if not shape else ("N", *shape[1:])
