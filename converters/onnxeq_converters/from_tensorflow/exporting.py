"""ONNX files by tf2onnx: the one that users get, and the same with every fold switched off.

``DEPLOYED`` is tf2onnx as it comes (who calls says which of its entries). ``UNFOLDED`` is the same call with the
four places shut that compute new constants in float32:

1. TensorFlow's grappler, which folds constants before tf2onnx sees the graph;
2. tf2onnx's ``compute_const_folding_using_tf``, which runs constant nodes in TensorFlow, and
3. its ``rewrite_constant_fold``, both for floating-point values only (shapes are still folded: they
   are integers, and several converters need them);
4. tf2onnx's optimizers, but those that only remove or move nodes. Among the ones left out are
   BatchNorm into Conv (``remove_back_to_back``), Mul into Conv (``optimize_transpose``) and
   ``fold_constants``.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.errors import ExportFailed
from onnxeq.types import Export, ExportForm, Signature, TensorSpec
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout, require
from onnxeq_converters.from_tensorflow.naming import name_whole_tensors
from onnxeq_converters.from_tensorflow.program import Program
from onnxeq_converters.from_tensorflow.standins import replaced, stand_ins

__all__ = ["Convert", "Retrace", "export", "fast_or_careful", "names", "refuse_unconverted", "save", "without_folding"]

_VALUE_PRESERVING = ("loop_optimizer", "remove_identity")
"""tf2onnx optimizers that leave every constant as it is and that the result needs: loops become
ONNX ``Loop`` nodes with valid bodies, and identities do not pile up."""

_RAISE_IN_OPTIMIZERS = "TF2ONNX_CATCH_ERRORS"

_FLOATING = (1, 10, 11, 14, 15, 16)
"""``onnx.TensorProto``: FLOAT, FLOAT16, DOUBLE, COMPLEX64, COMPLEX128, BFLOAT16."""

_PROTOBUF_LIMIT = 2**31 - 1

_GRAPH_ALLOWANCE = 1 << 26
"""Bytes left for what is not weights in a file at the protobuf limit."""


Convert = Callable[[Program, int | None, Mapping[str, Any] | None], Any]
"""Has tf2onnx make an ``onnx.ModelProto`` of a program: program, opset, handlers of operators that it does not know."""

Retrace = Callable[[tuple[TensorSpec, ...]], Program]
"""The same program traced for other inputs."""


def export(
    program: Program, convert: Convert, retrace: Retrace, folder: Path, forms: tuple[ExportForm, ...], opset: int | None
) -> tuple[Export, ...]:
    """Writes ``<form>.onnx`` into ``folder`` for each form.

    Without ``opset`` it is tf2onnx's own preferred one (15 in tf2onnx 1.17), the one that its users get.

    Raises:
        onnxeq.errors.ExportFailed: tf2onnx raised, for an open batch and for a batch of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_export_one(program, convert, retrace, folder / f"{f.value}.onnx", f, opset) for f in forms)


def _export_one(
    program: Program, convert: Convert, retrace: Retrace, path: Path, form: ExportForm, opset: int | None
) -> Export:
    notes: list[str] = []
    dynamic = all(s.shape and isinstance(s.shape[0], str) for s in program.signature.inputs)
    try:
        proto = _convert(program, convert, form, opset)
    except ExportFailed as error:
        if not dynamic:
            raise
        dynamic = False
        notes.append(f"batch baked in: with an open batch {error.message}")
        proto = _convert(retrace(tuple(_batch_of_one(spec) for spec in program.signature.inputs)), convert, form, opset)
    notes += [f"{op} lowered by onnxeq: tf2onnx has no ONNX form of it" for op in _missing_lowerings(program)]
    inputs, outputs = _interface(proto, program.signature)
    save(proto, path)
    del proto
    gc.collect()  # TensorFlow's graphs are cycles: the next form shall not find the last one in memory
    return Export(path, form, dynamic, inputs, outputs, tuple(notes))


def _batch_of_one(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(1, *(spec.shape or (1,))[1:]))


def _convert(program: Program, convert: Convert, form: ExportForm, opset: int | None) -> Any:
    """The ONNX model that tf2onnx makes of the program.

    Raises:
        onnxeq.errors.ExportFailed: With tf2onnx's reason in one line.
    """
    added = _missing_lowerings(program)
    large = sum(_n_bytes(v) for v in program.concrete.variables) > _PROTOBUF_LIMIT
    if large:
        raise ExportFailed("the weights exceed the 2 GB that tf2onnx can put into one file")
    scope = without_folding if form is ExportForm.UNFOLDED else contextlib.nullcontext
    try:
        with quiet_stdout(), scope():
            proto = fast_or_careful(lambda: convert(program, opset, dict(added) or None))
    except ExportFailed:
        raise
    except Exception as error:  # tf2onnx and TensorFlow raise anything
        raise ExportFailed(f"tf2onnx failed: {type(error).__name__}: {first_line(error)}") from error
    refuse_unconverted(proto)
    if form is ExportForm.UNFOLDED:
        name_whole_tensors(proto.graph)
    return proto


def refuse_unconverted(proto: Any) -> None:
    """tf2onnx leaves what it cannot convert in the graph, under TensorFlow's name.

    Raises:
        onnxeq.errors.ExportFailed: Naming those operators.
    """
    known = {schema.name for schema in require("onnx").defs.get_all_schemas()}
    unknown = [n for n in proto.graph.node if n.op_type not in known]
    if unknown:
        kinds = ", ".join(sorted({n.op_type for n in unknown}))
        raise ExportFailed(f"tf2onnx has no ONNX form of {kinds} (first at {unknown[0].name})")


def _missing_lowerings(program: Program) -> dict[str, tuple[Callable[..., None], list[Any]]]:
    """Handlers for what the program contains and tf2onnx does not know."""
    graph = program.concrete.graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    present = {node.op for body in bodies for node in body}
    require("tf2onnx.convert")  # only then the handlers are registered
    registered = require("tf2onnx.handler").tf_op.get_opsets()[_ONNX_DOMAIN]
    known = {name for version in registered for name in version}
    return {name: (lower, []) for name, lower in _LOWERINGS.items() if name in present - known}


def _lower_erfc(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """``erfc(x) = 1 - erf(x)``: exact in the limit, but it cancels where ``erfc`` is small."""
    del args
    x, output = node.input[0], node.output[0]
    kind, shape = ctx.get_dtype(x), ctx.get_shape(output)
    one = ctx.make_const(f"{name}_one", np.ones((), require("tf2onnx.utils").map_onnx_to_numpy_type(kind)))
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [x], name=f"{name}_erf", dtypes=[kind], shapes=[shape])
    ctx.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=[output], dtypes=[kind], shapes=[shape])


_LOWERINGS: Mapping[str, Callable[..., None]] = {"Erfc": _lower_erfc}
"""TensorFlow operators of common Keras layers (``gelu``) that tf2onnx 1.17 writes out unconverted.
Only used where tf2onnx has none of its own, and said in the notes."""

_ONNX_DOMAIN = ""


def fast_or_careful(convert: Callable[[], Any]) -> Any:
    """tf2onnx's result, without the copies that it makes of the weights and of the graph.

    Large weights are kept aside. The copies of the graph before each optimizer serve to go on when
    one raises; the variable makes tf2onnx raise instead. Whatever raises, it runs again as it does by
    default.
    """
    before = os.environ.get(_RAISE_IN_OPTIMIZERS)
    os.environ[_RAISE_IN_OPTIMIZERS] = "FALSE"
    try:
        with stand_ins() as kept:
            proto = convert()
            kept.restore(proto)
            return proto
    except Exception:  # whatever it was, the default run has the last word
        del os.environ[_RAISE_IN_OPTIMIZERS]
        return convert()
    finally:
        os.environ.pop(_RAISE_IN_OPTIMIZERS, None)
        if before is not None:
            os.environ[_RAISE_IN_OPTIMIZERS] = before


def _n_bytes(variable: Any) -> int:
    return int(np.prod(variable.shape)) * int(variable.dtype.size)


@contextlib.contextmanager
def without_folding() -> Iterator[None]:
    """Shuts the four places where new float constants are computed, for the time of one export."""
    loader, optimizer, tfonnx = (require(f"tf2onnx.{n}") for n in ("tf_loader", "optimizer", "tfonnx"))
    doors: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (loader, "tf_optimize", lambda _: _as_it_is),
        (optimizer, "_get_optimizers", _value_preserving),
        (tfonnx, "compute_const_folding_using_tf", _integer_values),
        (tfonnx, "rewrite_constant_fold", _integer_nodes),
    ]
    with contextlib.ExitStack() as stack:
        for module, name, replacement in doors:
            if not hasattr(module, name):
                raise ExportFailed(
                    f"tf2onnx has no {module.__name__}.{name} any more, so its folding cannot be switched off"
                )
            stack.enter_context(replaced(module, name, replacement(getattr(module, name))))
        yield


def _as_it_is(input_names: list[str], output_names: list[str], graph_def: Any) -> Any:
    """``tf_optimize`` without grappler. tf2onnx drops what the outputs do not need by itself."""
    del input_names, output_names
    return graph_def


def _value_preserving(original: Callable[[], Any]) -> Callable[[], Any]:
    known = original()
    return lambda: OrderedDict((name, known[name]) for name in known if name in _VALUE_PRESERVING)


def _integer_values(original: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    """TensorFlow's values of constant nodes, without the floating-point ones."""

    def compute(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        values, dtypes = original(*args, **kwargs)
        exact = {name for name, value in values.items() if np.asarray(value).dtype.kind in "iub"}
        return {n: values[n] for n in exact}, {n: dtypes[n] for n in exact}

    return compute


def _integer_nodes(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """tf2onnx's constant folding, shown only the nodes whose results are not floating point."""

    def is_float(graph: Any, node: Any) -> bool:
        return bool(node.output) and graph.get_dtype(node.output[0]) in _FLOATING

    def fold(graph: Any, nodes: Any) -> Any:
        hidden = [n for n in nodes if is_float(graph, n)]
        shown = [n for n in nodes if not is_float(graph, n)]
        return hidden + list(original(graph, shown))

    return fold


def _interface(proto: Any, signature: Signature) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ONNX names of the native inputs and outputs, in the native order."""
    return (
        names("input", [v.name for v in proto.graph.input], [s.name for s in signature.inputs]),
        names("output", [v.name for v in proto.graph.output], [s.name for s in signature.outputs]),
    )


def names(kind: str, found: list[str], wanted: list[str]) -> tuple[str, ...]:
    """The names of an export's inputs or outputs in the model's order.

    Raises:
        onnxeq.errors.ExportFailed: They are not those of the model.
    """
    if set(wanted) <= set(found):
        return tuple(wanted)
    if len(found) == len(wanted) and len(found) == 1:
        return tuple(found)
    raise ExportFailed(f"the export's {kind}s are {', '.join(found)}; the model's are {', '.join(wanted)}")


def save(proto: Any, path: Path) -> None:
    """Writes an ``onnx.ModelProto``, with its weights beside it where they are too large for one file."""
    onnx = require("onnx")
    # ByteSize would encode the whole model to measure it.
    if sum(len(t.raw_data) for t in proto.graph.initializer) > _PROTOBUF_LIMIT - _GRAPH_ALLOWANCE:
        onnx.save(proto, str(path), save_as_external_data=True, location=f"{path.name}.data")
    else:
        onnx.save(proto, str(path))
