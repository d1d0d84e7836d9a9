"""ONNX files from torch's exporters. The dynamo one captures once; the graph is saved as it is and then optimised."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onnxeq.errors import ExportFailed
from onnxeq.protocols import Progress
from onnxeq.types import Export, ExportForm

from . import torchscript
from .inputs import Calling, examples
from .layers import Captured
from .outputs import flatten, register
from .reasons import reason_of

__all__ = ["EXPORTERS", "Exported", "Held", "capture", "export"]

EXPORTERS = ("dynamo", "torchscript")
"""The exporters of torch; the first is the one that ``torch.onnx.export`` uses by itself."""

_BATCH = "batch"
_LOUD = ("torch.onnx", "torch.export", "torch._export", "torch.fx", "torch._guards", "onnxscript", "onnx_ir")
_EXAMPLE_BATCH = 2
"""Of a capture with a dynamic batch: 1 would be taken for a constant and broadcast."""


@dataclass(frozen=True)
class _Captured:
    program: Any
    dynamic: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """A capture of which the unfolded form was written and the deployed one not yet.

    Attributes:
        captured: The exporter's program.
        renamed: Its outputs' own names -> those that they have in the file.
    """

    captured: _Captured
    renamed: dict[str, str]


@dataclass(frozen=True)
class Exported:
    """What an exporter wrote.

    Attributes:
        exports: In the order of the forms that were asked for.
        opset: Of the files.
        captured: The graph behind them, if the exporter keeps one.
        held: What the deployed form can still be made of: it is made by optimising the captured program itself.
    """

    exports: tuple[Export, ...]
    opset: int
    captured: Captured | None
    held: Held | None = None


def export(
    model: torch.nn.Module,
    calling: Calling,
    outputs: Any,
    folder: Path,
    forms: tuple[ExportForm, ...],
    opset: int | None,
    progress: Progress,
    exporter: str = EXPORTERS[0],
    *,
    dynamic: bool = True,
    held: Held | None = None,
) -> Exported:
    """Captures ``model`` once and writes one file per form.

    ``torch.onnx.export(optimize=True)`` is the same capture followed by ``ONNXProgram.optimize()``,
    so the unfolded form is saved first and the deployed form after optimising the same program.

    Args:
        model: In inference mode.
        calling: Its inputs.
        outputs: What it returned for an example: names the outputs.
        folder: Where ``unfolded.onnx`` and ``deployed.onnx`` go.
        forms: What to write.
        opset: The exporter's own choice when ``None``.
        progress: Told each step.
        exporter: One of :data:`EXPORTERS`.
        dynamic: Whether to try for a dynamic batch.
        held: The capture of an earlier call with the same opset, to go on from.

    Raises:
        ExportFailed: With the exporter's reason in one line.
    """
    names = tuple(flatten(outputs))
    register(outputs)
    folder.mkdir(parents=True, exist_ok=True)
    with _quiet():
        if exporter == "torchscript":
            written = tuple(
                torchscript.write(model, calling, names, folder, f, opset, progress, dynamic=dynamic) for f in forms
            )
            return Exported(tuple(e for e, _ in written), written[0][1] if written else 0, None)
        if held is None:
            held = Held(*_named_capture(model, calling, names, opset, progress, dynamic=dynamic))
        captured = held.captured
        files: dict[ExportForm, Export] = {}
        for form in (ExportForm.UNFOLDED, ExportForm.DEPLOYED):
            if form in forms:
                files[form] = _write(captured, form, folder, progress)
    used = int(captured.program.model.opset_imports[""])
    behind = Captured(captured.program.exported_program, held.renamed)
    left = None if ExportForm.DEPLOYED in forms else held
    return Exported(tuple(files[form] for form in forms), used, behind, left)


def capture(model: torch.nn.Module, calling: Calling, outputs: Any, opset: int | None, progress: Progress) -> Captured:
    """The graph that the dynamo exporter translates, with the names that its values have in the file.

    Raises:
        ExportFailed: With the exporter's reason in one line.
    """
    register(outputs)
    with _quiet():
        captured, renamed = _named_capture(model, calling, tuple(flatten(outputs)), opset, progress)
    return Captured(captured.program.exported_program, renamed)


def _named_capture(
    model: torch.nn.Module,
    calling: Calling,
    names: tuple[str, ...],
    opset: int | None,
    progress: Progress,
    *,
    dynamic: bool = True,
) -> tuple[_Captured, dict[str, str]]:
    captured = _capture(model, calling, opset, progress, dynamic=dynamic)
    graph = captured.program.model.graph
    if len(graph.outputs) != len(names) or len(graph.inputs) != len(calling.specs):
        raise ExportFailed(
            f"the exporter wrote {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
            f"the model has {len(calling.specs)} and {len(names)}"
        )
    return captured, _name_outputs(captured.program.model, names)


def _write(captured: _Captured, form: ExportForm, folder: Path, progress: Progress) -> Export:
    program = captured.program
    try:
        if form is ExportForm.DEPLOYED:
            progress("export: optimise")
            program.optimize()
        progress(f"export: save {form.value}")
        path = folder / f"{form.value}.onnx"
        program.save(path)
    except Exception as error:  # whatever an exporter raises is its failure
        raise ExportFailed(f"the exporter failed to write the {form.value} form: {reason_of(error)}") from error
    graph = program.model.graph
    return Export(
        path=path,
        form=form,
        dynamic_batch=captured.dynamic,
        input_names=tuple(str(value.name) for value in graph.inputs),
        output_names=tuple(str(value.name) for value in graph.outputs),
        notes=captured.notes,
    )


def _capture(
    model: torch.nn.Module, calling: Calling, opset: int | None, progress: Progress, *, dynamic: bool
) -> _Captured:
    """With dynamic axes as far as the model allows them; a note says what was fixed, and why."""
    shared = calling.shares_batch() if dynamic else ()
    free = calling.free_axes() if dynamic else ()
    why = "the inputs have no batch axis in common" if dynamic else "it was asked for"
    notes: tuple[str, ...] = ()
    for axes in (free, ()) if any(free) else ((),):
        if not (any(shared) or any(axes)):
            continue
        progress("export: capture with dynamic axes" if any(axes) else "export: capture with a dynamic batch")
        try:
            program = _run_exporter(model, calling, opset, _EXAMPLE_BATCH, shared, axes)
        except Exception as error:  # tried again below without the dynamic axes
            why = reason_of(error)
        else:
            fixed = _fixed(program, shared, axes)
            if not fixed:
                return _Captured(program, any(shared), notes)
            why = f"the exporter fixed {', '.join(fixed)}"
        if any(axes):
            names = sorted({name for each in axes for name in each.values()})
            notes = (f"{' and '.join(names)} baked in at export: {why}",)
    progress("export: capture with a fixed batch")
    try:
        program = _run_exporter(model, calling, opset, None, (), ())
    except Exception as error:  # whatever an exporter raises is its failure
        raise ExportFailed(f"torch.onnx.export failed: {reason_of(error)}") from error
    return _Captured(program, False, (*notes, f"batch baked in at export: {why}"))


def _run_exporter(
    model: torch.nn.Module,
    calling: Calling,
    opset: int | None,
    batch: int | None,
    shared: tuple[bool, ...],
    free: tuple[dict[int, str], ...],
) -> Any:
    tensors = examples(calling, batch)
    args, kwargs = calling.bind(tensors)
    shapes = None
    if any(shared) or any(free):
        dims = _dynamic_dims(len(calling.specs), shared, free)
        positional, keyword = calling.bind(dims)
        shapes = _by_parameter(model, positional, keyword)
    options = {} if opset is None else {"opset_version": opset}
    # On a failed capture torch prints every graph so far to stderr; the exception says it in a line.
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        return torch.onnx.export(
            model,
            args,
            kwargs=kwargs,
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=shapes,
            **options,
        )


def _dynamic_dims(count: int, shared: tuple[bool, ...], free: tuple[dict[int, str], ...]) -> list[dict[int, Any]]:
    """What may vary, for each input. A batch on its own is held to its constraints; other axes may be related.

    The exporter takes a name for an axis; one that is no identifier (a sum) has none in the file.
    """
    batch: Any = _BATCH if any(free) else torch.export.Dim(_BATCH)
    dims: list[dict[int, Any]] = [{} for _ in range(count)]
    for place, is_shared in enumerate(shared):
        if is_shared:
            dims[place][0] = batch
    for place, axes in enumerate(free):
        dims[place] |= {a: name if name.isidentifier() else torch.export.Dim.DYNAMIC for a, name in axes.items()}
    return dims


def _by_parameter(model: torch.nn.Module, positional: tuple[Any, ...], keyword: dict[str, Any]) -> Any:
    """Dynamic shapes in the form torch.export wants: a tuple, or a dict by parameter name."""
    parameters = inspect.signature(model.forward).parameters.values()
    if keyword:
        return {**{p.name: dims for p, dims in zip(parameters, positional, strict=False)}, **keyword}
    if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return positional
    named = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    return (*positional[:named], tuple(positional[named:]))


def _fixed(program: Any, shared: tuple[bool, ...], free: tuple[dict[int, str], ...]) -> list[str]:
    """What was meant to vary and is a number in the graph."""
    values = list(program.model.graph.inputs)
    found = [
        f"the first axis of {value.name}"
        for value, is_shared in zip(values, shared, strict=False)
        if is_shared and isinstance(value.shape[0], int)
    ]
    for value, axes in zip(values, free, strict=False):
        found += [f"axis {a} ({name}) of {value.name}" for a, name in axes.items() if isinstance(value.shape[a], int)]
    return found


def _name_outputs(model: Any, names: tuple[str, ...]) -> dict[str, str]:
    """Gives the graph's outputs their native names where no other value has the name already; says what was renamed.

    The exporter calls an output after the operator that it came from (``linear_53``). An output that
    is an input, or that stands twice in the list, keeps its name: renaming it would rename the other.
    """
    graph = model.graph
    taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
    taken |= {value.name for node in graph.all_nodes() for value in node.outputs}
    values = list(graph.outputs)
    renamed: dict[str, str] = {}
    for value, name in zip(values, names, strict=True):
        alone = sum(other is value for other in values) == 1
        if alone and name not in taken and value.producer() is not None:
            renamed[str(value.name)] = name
            value.name = name
            taken.add(name)
    return renamed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what exporters print and warn: whole graphs, thousands of lines, when a capture fails."""
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
