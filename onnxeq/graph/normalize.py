"""Brings a graph into one form without changing what it computes.

Names, order, types and shapes of inputs and outputs stay, dynamic sizes stay dynamic, and what the
caller can override stays overridable. Constants are computed in float64 and rounded once; that rounding
is the only difference that normalisation may make.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxeq.errors import CannotRun, UnusableModel, UsageError
from onnxeq.graph.files import check, load, with_data, write
from onnxeq.graph.frame import Options, Step, apply, graphs
from onnxeq.graph.table import ONCE, REPEATED, passes
from onnxeq.graph.tensors import light

__all__ = ["ROUNDS", "NormalizeResult", "normalize", "write"]

ROUNDS = 12
"""Most rounds of the repeated passes. Folding advances by one discontinuous operator a round; the
deepest chain seen in an export had three."""

PROVENANCE = "onnxeq.normalize"
"""Key in ``metadata_props``: the passes that ran."""


@dataclass(frozen=True)
class NormalizeResult:
    """A normalised model and how it came about.

    Attributes:
        model: The new model; the given one is not changed.
        steps: Every run of a pass, in order.
    """

    model: onnx.ModelProto
    steps: tuple[Step, ...]


def _chosen(names: Sequence[str] | None, opset: int | None) -> frozenset[str]:
    known = [item.name for item in passes()]
    if names is None:
        return frozenset(item.name for item in passes() if item.by_default)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"there is no pass {unknown[0]!r}", hint=f"Passes: {', '.join(known)}.")
    asked = {"convert-opset"} if opset is not None else set()
    return frozenset(names) | asked


def _read(model: onnx.ModelProto | str | os.PathLike[str], base_dir: Path | None) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return with_data(model, base_dir)
    return load(Path(model))


def normalize(
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    base_dir: str | os.PathLike[str] | None = None,
    opset: int | None = None,
    passes: Sequence[str] | None = None,
) -> NormalizeResult:
    """Runs the passes of :mod:`onnxeq.graph.table` until nothing changes.

    Args:
        model: A file or a model; a model with external data needs ``base_dir``.
        base_dir: The folder that external data of a model in memory lies in.
        opset: Version of the standard domain to convert to; ``None`` keeps it.
        passes: Names of the passes to run, in the table's order; ``None`` runs the default ones.

    Raises:
        onnxeq.errors.UnusableModel: The file cannot be read, or the ONNX checker rejects the model.
        onnxeq.errors.UsageError: ``passes`` names an unknown one.
        onnxeq.errors.CannotRun: The opset conversion is impossible, or functions cannot be inlined.
        onnxeq.graph.frame.PassViolation: A pass broke its own declaration.
    """
    chosen = _chosen(passes, opset)
    source = _read(model, Path(base_dir) if base_dir is not None else None)
    source = _checked(source)
    if source.graph.sparse_initializer:
        raise CannotRun(
            f"sparse initializer {source.graph.sparse_initializer[0].values.name!r}: cannot be normalised",
            hint="Store it dense.",
        )
    work, steps = ir.serde.deserialize_model(source), []
    options = Options(opset=opset)
    for item in ONCE:
        if item.name in chosen:
            work, step = apply(item, work, options)
            steps.append(step)
    repeated = [item for item in REPEATED if item.name in chosen]
    for _ in range(ROUNDS if repeated else 0):
        modified = False
        for item in repeated:
            work, step = apply(item, work, options)
            steps.append(step)
            # Shapes alone call for no further round: they are derived from the rest.
            modified |= step.modified and item.name != "infer-shapes"
        if not modified:
            break
    return NormalizeResult(_finished(work, source, steps), tuple(steps))


def _finished(work: ir.Model, source: onnx.ModelProto, steps: Sequence[Step]) -> onnx.ModelProto:
    """The result as a valid model: the IR version its contents need, and its provenance."""
    bare = {value.name for value in work.graph.inputs}
    if work.ir_version < 4 and any(name not in bare for name in work.graph.initializers):
        work.ir_version = 4  # before, every initializer had to be an input
    ran = sorted({step.name for step in steps if step.modified and step.name != "infer-shapes"})
    earlier = [name for name in work.metadata_props.get(PROVENANCE, "").split(", ") if name]
    if ran or earlier:
        work.metadata_props[PROVENANCE] = ", ".join(dict.fromkeys([*earlier, *ran]))
    result: onnx.ModelProto = ir.serde.serialize_model(work)
    result.training_info.extend(source.training_info)
    _check(result, sizes=False)
    return result


_UNSORTED = "topologically sorted"
_NO_INPUT = "in initializer but not in graph input"
_NO_SHAPE = "Field 'shape' of 'type' is required"


def _checked(source: onnx.ModelProto) -> onnx.ModelProto:
    """The model, its nodes in order: some writers append at the end, and runtimes sort for themselves."""
    try:
        _check(source)
    except UnusableModel as error:
        if _UNSORTED not in str(error.__cause__):
            raise
        work = ir.serde.deserialize_model(source)
        for graph in graphs(work):
            graph.sort()
        source = ir.serde.serialize_model(work)
        _check(source)  # what is still out of order reads a value that nothing defines
    return source


def _check(model: onnx.ModelProto, *, sizes: bool = True) -> None:
    """The ONNX checker, but for two things that runtimes load all the same.

    1. An output without a declared shape.
    2. An initializer that is no input, in a file of an IR version that wants each to be one.
    """
    try:
        check(model, sizes=sizes)
    except UnusableModel as error:
        if _NO_INPUT in str(error.__cause__) and model.ir_version < 4:
            newer = light(model)
            newer.ir_version = 4
            _check(newer, sizes=False)
        elif _NO_SHAPE not in str(error.__cause__):
            raise
