"""The smallest case that still shows a fault: fewer items of a batch, then fewer nodes.

Every step is tried: a case takes the place of a larger one only when the fault shows in it. Of a runtime at fault,
nodes may go from either end: the value in which the graph is cut is then computed in float64, rounded as it is stored,
and what should come out is computed anew. Of a source at fault they stay: what it had between them is not known.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from onnxeq.arrays import dtype_name, dtype_of
from onnxeq.errors import CannotRun
from onnxeq.graph.files import write
from onnxeq.layers.probes import GraphIndex
from onnxeq.measure import Measure
from onnxeq.protocols import SessionOptions
from onnxeq.referee.elements import lift
from onnxeq.referee.plan import node_label
from onnxeq.repro.cutting import cut, declare, element_types, moving_nodes
from onnxeq.repro.exact import computed, spread, stored_values
from onnxeq.repro.values import AtFault, Case, Execute, Fault, Repro
from onnxeq.types import Array, Feed

__all__ = ["in_onnxruntime", "shrink", "whole_case"]

_MOST_NODES = 64
"""Nodes of a region up to which each is tried as the last one."""


def in_onnxruntime(options: SessionOptions) -> Execute:
    """Runs models in onnxruntime, in this process, under these settings."""

    def execute(model: onnx.ModelProto, inputs: Feed) -> Array:
        from onnxeq.runners import ort

        with tempfile.TemporaryDirectory() as folder:
            path = write(model, Path(folder) / "model.onnx")
            value = ort.open(path, options).run(inputs)[model.graph.output[0].name]
        if not isinstance(value, np.ndarray):
            raise CannotRun(f"'{model.graph.output[0].name}' is no tensor")
        return value

    return execute


def shrink(fault: Fault, execute: Execute | None = None) -> Repro:
    """Cuts a fault's layer out and leaves out of it what the fault does not need.

    Args:
        fault: The fault.
        execute: What runs the cut graph; by default onnxruntime with the fault's settings, in this process: call it
            in a job.

    Raises:
        CannotRun: The layer cannot be cut out (a value that it reads is not known, or is no tensor).
    """
    trial = _Trial(execute or in_onnxruntime(fault.options))
    found = trial(whole_case(fault))
    if found.shows:
        found = _one_item(trial, found)
        if fault.side is AtFault.TARGET and fault.right is None:
            found = _up_to_the_first(trial, found)
            found = _without_the_first(trial, found)
            found = _one_item(trial, found)
    return found


@dataclass(frozen=True)
class _Trial:
    """Runs cases, and says what was left out to come to each."""

    execute: Execute

    def __call__(self, case: Case, steps: tuple[str, ...] = ()) -> Repro:
        try:
            seen = np.asarray(self.execute(case.model, case.inputs))
        except CannotRun as error:
            return Repro(case, None, Measure(output=case.output), False, steps, error.line())
        measure = case.measure(seen)
        return Repro(case, seen, measure, measure.ratio > case.limit, steps)


def whole_case(fault: Fault) -> Case:
    """The layer with its whole region, on all that the source gave into it.

    Raises:
        CannotRun: It cannot be cut out.
    """
    output = fault.layer.value
    kinds = element_types(fault.model, fault.inputs)
    given = {name: _as_declared(name, array, kinds.get(name, "")) for name, array in fault.inputs.items()}
    source, target = _as_declared(output, fault.source, ""), _as_declared(output, fault.target, "")
    model = cut(fault.model, fault.base_dir, list(given), [output], {**given, output: target})
    inputs = {i.name: given[i.name] for i in model.graph.input if i.name in given}
    right = np.asarray(lift(source)) if fault.side is AtFault.SOURCE else _right(fault, model, inputs, source)
    unit = _unit_of(model, inputs, right) if fault.unit is None else np.asarray(fault.unit, dtype=np.float64)
    if unit.shape not in ((), right.shape):
        said = f"the noise unit of '{output}' has the shape {list(unit.shape)}, its value {list(right.shape)}"
        raise CannotRun(said)
    return Case(model, inputs, right, np.broadcast_to(unit, right.shape).copy(), fault.limit, target.dtype.name)


def _unit_of(model: onnx.ModelProto, inputs: Feed, right: Array) -> Array:
    """The rounding noise of the graph's output; zero where it cannot be had, or is of something else."""
    unit = spread(model, inputs)
    return unit if unit.shape == right.shape else np.zeros(right.shape)


def _right(fault: Fault, model: onnx.ModelProto, inputs: Feed, source: Array) -> Array:
    """What the target should give: what the nodes give in float64; what the source gave where that is not known."""
    exact = computed(model, inputs) if fault.right is None else fault.right
    return np.asarray(lift(source if exact is None else exact))


def _stored(array: Array, dtype: str) -> Array:
    """An array in the type that the graph gives it in."""
    return array if dtype_name(array) == "string" else array.astype(dtype_of(dtype))


def _as_declared(name: str, held: object, kind: str) -> Array:
    if not isinstance(held, np.ndarray | np.generic):
        raise CannotRun(f"'{name}' is no tensor: a repro holds tensors only")
    array = np.asarray(held)
    value = array.astype(dtype_of(kind)) if kind and kind != "str" and array.dtype.name != kind else array
    if value.dtype.kind == "V":
        raise CannotRun(f"'{name}' is {value.dtype.name}, which numpy's files do not hold")
    return value


def _one_item(trial: _Trial, found: Repro) -> Repro:
    """One item of the batch, if the fault shows in the first, or in the one that is worst in the whole batch."""
    case = found.case
    count = case.right.shape[0] if case.right.ndim else 1
    batched = [name for name, array in case.inputs.items() if array.ndim and array.shape[0] == count]
    if count < 2 or not batched or found.seen is None:
        return found
    for item in dict.fromkeys((0, _worst_item(found))):
        smaller = _item(case, batched, item)
        if smaller is None:
            return found
        tried = trial(smaller, (*found.steps, f"all but item {item} of a batch of {count}"))
        if tried.shows:
            return tried
    return found


def _worst_item(found: Repro) -> int:
    case, seen = found.case, found.seen
    if seen is None or seen.shape != case.right.shape or case.right.dtype.kind != "f":
        return 0
    with np.errstate(all="ignore"):
        error = np.nan_to_num(np.abs(seen - case.right), nan=np.inf)
        units = error / np.maximum(case.whole_unit(), np.finfo(np.float64).tiny)
    return int(np.argmax(units.reshape(len(units), -1).max(axis=1, initial=0.0)))


_ALIKE = 1e-9
"""Relative difference up to which an item alone gives what it gives in its batch, in float64."""


def _item(case: Case, batched: Sequence[str], item: int) -> Case | None:
    """The case with one item; ``None`` when what comes out for it is not the item's part of the whole."""
    rows = slice(item, item + 1)
    inputs = {name: array[rows] if name in batched else array for name, array in case.inputs.items()}
    right = case.right[rows]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    declare(model, {**inputs, case.output: _stored(right, case.dtype)})
    whole, alone = computed(case.model, case.inputs), computed(model, inputs)
    if whole is None or alone is None or whole.shape != case.right.shape or alone.shape != right.shape:
        return None
    part = whole[rows]
    if part.dtype.kind == "f":
        scale = float(np.max(np.abs(part), initial=0.0, where=np.isfinite(part)))
        if not np.allclose(alone, part, rtol=_ALIKE, atol=_ALIKE * scale, equal_nan=True):
            return None
    elif not np.array_equal(alone, part):
        return None
    return replace(case, model=model, inputs=inputs, right=right, unit=case.unit[rows])


def _up_to_the_first(trial: _Trial, found: Repro) -> Repro:
    """The earliest inner value in which the fault shows, in the place of the output."""
    case = found.case
    nodes = moving_nodes(case.model)
    values = _inner_values(case, nodes[:-1])
    for node in nodes[:-1] if len(nodes) <= _MOST_NODES else ():
        for name in (n for n in node.output if n in values):
            smaller = _between(case, {}, name, values)
            if smaller is not None:
                tried = trial(smaller, (*found.steps, f"what comes after '{name}'"))
                if tried.shows:
                    return tried
    return found


def _without_the_first(trial: _Trial, found: Repro) -> Repro:
    """Puts in computed values for nodes: for all but the last at once, or else for one after the other."""
    nodes = moving_nodes(found.case.model)[:-1]
    values = _inner_values(found.case, nodes)
    for dropped in (nodes, *([node] for node in nodes if len(nodes) > 1)):
        case = found.case
        here = GraphIndex(case.model).makers
        made = [name for node in dropped for name in node.output if name in here]
        if not made or not all(name in values for name in made):
            continue
        smaller = _between(case, {name: values[name] for name in made}, case.output, values)
        if smaller is None:
            continue
        labels = ", ".join(node_label(node) for node in dropped)
        tried = trial(smaller, (*found.steps, f"what comes before and in {labels}"))
        if tried.shows:
            found = tried
            if dropped is nodes:
                break
    return found


def _inner_values(case: Case, nodes: Sequence[onnx.NodeProto]) -> dict[str, Array]:
    names = [name for node in nodes for name in node.output if name and name != case.output]
    return stored_values(case.model, case.inputs, names) if names else {}


def _between(case: Case, given: Mapping[str, Array], output: str, values: Mapping[str, Array]) -> Case | None:
    """The part of a case that makes ``output``, with some inner values given; ``None`` when it cannot be computed."""
    arrays = {**case.inputs, **given}
    dtype = values[output].dtype.name if output != case.output else case.dtype
    try:
        model = cut(case.model, None, list(arrays), [output], arrays)
    except CannotRun:
        return None
    inputs = {i.name: arrays[i.name] for i in model.graph.input if i.name in arrays}
    right = computed(model, inputs) if inputs else None
    if right is None:
        return None
    declare(model, {output: _stored(right, dtype)})
    return Case(model, inputs, right, _unit_of(model, inputs, right), case.limit, dtype)
