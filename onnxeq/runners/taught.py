"""Where an export parts from its program: a job for when the graph rung has broken on a file of the exporter's own.

The referee runs the unfolded export and is *taught* at every value that the native program knows by name: what it
computed there is compared, then it goes on with the native value. So each comparison sees one native operator only,
whatever went wrong before it, and several faults are found in one run. The unit is measured in the same way as on the
ladder, with the same teaching: float64 rounding, then the constant floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxeq import native_values
from onnxeq.graph.inspect import load
from onnxeq.inputs import adapt
from onnxeq.ladder import LIMITS, SHARP
from onnxeq.measure import Measure, compare
from onnxeq.native_values import NativeValues, StoredValue
from onnxeq.noise import AMPLITUDE, ConstantFloor, RoundingNoise
from onnxeq.referee import Executor
from onnxeq.referee.attributes import decode_all
from onnxeq.referee.elements import lift
from onnxeq.referee.plan import node_label
from onnxeq.runners.aligning import by_value
from onnxeq.runners.native_layers import smallest
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from onnxeq.referee import Hook, NodeInfo, Value

__all__ = ["run", "untaught"]

Real: TypeAlias = "NDArray[np.float64]"

_DRAWS = 2

_SAME = 4.0
"""Spacings of float64 up to which a value needs no unit: it is the native one."""


def run(job: Job) -> dict[str, Any]:
    """Teaches the referee on ``job.inputs['model']`` with the values in the folder ``job.inputs['layers']``.

    Parameters: ``names`` (feed name -> ONNX input name), ``seed``.

    Returns:
        ``compared``: how many values were; ``faults``: one row for each that float64 rounding does not explain, in
        the order of the graph, with ``value``, ``ratio``, ``max_abs``, ``problem`` (shape, NaN), the ``call`` and
        the other fields of the native value, and ``nodes``: the ONNX nodes between it and the values before it, the
        one that makes it last, each with ``node``, ``op_type``, ``attributes`` and ``constants``.
    """
    params = job.params
    job.step("load")
    model = load(job.inputs["model"])
    values = native_values.load(job.inputs["layers"])
    executor = Executor(model, base_dir=job.inputs["model"].parent)
    _, feed = smallest(job)
    feed = adapt({params["names"].get(k, k): v for k, v in feed.items()}, {s.name: s.dtype for s in executor.inputs})
    if 2 * len(values.rows.keys() & {name for node in model.graph.node for name in node.output}) < len(values.rows):
        job.step("align")  # an exporter that keeps no names
        values = by_value(model, executor, feed, values)
    job.step("teach")
    taught = _Taught(values)
    executor.run(feed, hook=taught)
    rows = []
    if taught.suspects:
        job.step(f"measure {len(taught.suspects)} values")
        rows = list(_faults(executor, feed, values, taught.suspects, int(params["seed"])))
    return {"compared": taught.compared, "faults": [{**row, **_described(model, values, row["value"])} for row in rows]}


def _faults(
    executor: Executor, feed: Feed, values: NativeValues, suspects: dict[str, Array], seed: int
) -> Iterator[dict[str, Any]]:
    """The suspects that neither float64 rounding nor the rounding of constants explains."""
    rounding = _unit(executor, feed, values, suspects, lambda draw: RoundingNoise(seed * 1000 + draw), AMPLITUDE)
    floor = _unit(executor, feed, values, suspects, lambda draw: ConstantFloor(seed * 1000 + draw), 1.0)
    for name, computed in suspects.items():
        native = _laid_out(lift(values.array(name)), computed, values.rows[name])
        double = rounding[name] * 2.0**-29 if computed.dtype.kind == "f" else rounding[name]
        sharp = _compared(name, native, computed, double, 2.0**-52)
        if sharp.ratio <= SHARP:
            continue
        wide = np.hypot(floor[name], SHARP * double) if computed.dtype.kind == "f" else double
        found = _compared(name, native, computed, wide, 2.0**-53)
        if found.ratio > LIMITS["graph"].factor:
            yield {
                "value": name,
                "ratio": found.ratio if np.isfinite(found.ratio) else None,
                "max_abs": found.max_abs if np.isfinite(found.max_abs) else None,
                "largest": _largest(native),
                "problem": found.problem,
            }


def _compared(name: str, native: Array, computed: Array, unit: Array, step: float) -> Measure:
    return compare([{name: native}], [{name: computed}], [{name: unit}], step=step)


def _largest(value: Array) -> float | None:
    finite = np.abs(value[np.isfinite(value)]) if value.dtype.kind == "f" else np.abs(value.astype(np.float64))
    return float(finite.max()) if finite.size else None


def _unit(
    executor: Executor,
    feed: Feed,
    values: NativeValues,
    suspects: dict[str, Array],
    make: Callable[[int], Hook],
    amplitude: float,
) -> dict[str, Array]:
    """How far each suspect moves under perturbations of what lies between it and the values before it."""
    squares = {name: np.zeros(np.shape(value)) for name, value in suspects.items()}
    for draw in range(_DRAWS):
        hook = _Taught(values, make(draw), frozenset(suspects))
        executor.run(feed, hook=hook)
        for name, base in suspects.items():
            moved = hook.suspects.get(name)
            if moved is None or np.shape(moved) != np.shape(base):
                continue
            if base.dtype.kind != "f":
                squares[name] += (moved != base) / _DRAWS
                continue
            with np.errstate(invalid="ignore"):
                squares[name] += np.nan_to_num(np.square((moved - base) / amplitude), posinf=0.0) / _DRAWS
    return {name: np.sqrt(square) for name, square in squares.items()}


class _Taught:
    """Goes on with the native value wherever there is one of the name, and keeps what was computed in its place."""

    def __init__(self, values: NativeValues, noise: Hook | None = None, kept: frozenset[str] | None = None) -> None:
        self._values = values
        self._noise = noise
        self._kept = kept
        self.suspects: dict[str, Array] = {}
        self.compared = 0

    def constant(self, name: str, value: Real, dtype: str) -> Real:
        return value if self._noise is None else self._noise.constant(name, value, dtype)

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        given = outputs if self._noise is None else self._noise.node(info, inputs, outputs)
        if info.path:
            return given
        return [self._teach(n, v) for n, v in zip(info.node.output, given, strict=True)]

    def _teach(self, name: str, computed: Value) -> Value:
        if name not in self._values or not isinstance(computed, np.ndarray):
            return computed
        native = _laid_out(lift(self._values.array(name)), computed, self._values.rows[name])
        self.compared += 1
        if self._kept is None:
            if not _same(native, computed):
                self.suspects[name] = computed.copy()
        elif name in self._kept:
            self.suspects[name] = computed.copy()
        fits = native.shape == computed.shape and native.dtype.kind == computed.dtype.kind
        return native.astype(computed.dtype, copy=False) if fits else computed


def _laid_out(native: Array, computed: Array, row: StoredValue) -> Array:
    """The native value as the export may hold it: an operator with channels last has them first in ONNX.

    Where both layouts fit, the closer one it is.
    """
    last = str(row.arguments.get("data_format", "")).strip("'") in ("NHWC", "NDHWC", "NWC")
    if native.ndim < 3 or not (last or row.op in _CHANNELS_LAST):
        return native
    first = np.moveaxis(native, -1, 1)
    if native.shape != computed.shape or (
        first.shape == computed.shape and _gap(first, computed) < _gap(native, computed)
    ):
        return first if first.shape == computed.shape else native
    return native


_CHANNELS_LAST = frozenset({"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "LRN"})
"""TensorFlow operators whose layout is no argument."""


def _gap(a: Array, b: Array) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.nansum(np.abs(a.astype(np.float64) - b.astype(np.float64))))


def _same(native: Array, computed: Array) -> bool:
    if native.shape != computed.shape:
        return False
    if native.dtype.kind != "f" or computed.dtype.kind != "f":
        return bool(np.array_equal(native, computed))
    with np.errstate(invalid="ignore"):
        close = np.abs(native - computed) <= _SAME * 2.0**-53 * np.abs(native)
    return bool((close | (native == computed) | (np.isnan(native) & np.isnan(computed))).all())


def untaught(model: onnx.ModelProto, values: NativeValues, name: str) -> list[onnx.NodeProto]:
    """The nodes between a value and the native values before it, in the order of the graph."""
    producers = {output: node for node in model.graph.node for output in node.output if output}
    found: dict[int, onnx.NodeProto] = {}
    pending = [name]
    while pending:
        node = producers.get(pending.pop())
        if node is None or id(node) in found:
            continue
        found[id(node)] = node
        pending += [read for read in node.input if read and read not in values]
    return [node for node in model.graph.node if id(node) in found]


def _described(model: onnx.ModelProto, values: NativeValues, name: str) -> dict[str, Any]:
    row = values.rows[name]
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in untaught(model, values, name) if node.op_type != "Constant"]
    nodes.sort(key=lambda node: name in node.output)
    known = {n.output[0]: decode_all(n.attribute) for n in model.graph.node if n.op_type == "Constant"}
    return {
        "call": row.call,
        "op": row.op,
        "arguments": row.arguments,
        "explicit": list(row.explicit),
        "native": row.native,
        "source": row.source,
        "nodes": [_node(node, stored, known) for node in nodes],
    }


_SHOWN = 16
"""Elements up to which a constant is shown."""


def _node(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], known: dict[str, Any]) -> dict[str, Any]:
    from onnx import numpy_helper

    constants = {}
    for read in node.input:
        tensor = stored.get(read)
        if tensor is not None and not tensor.external_data and np.prod(tensor.dims) <= _SHOWN:
            constants[read] = numpy_helper.to_array(tensor).tolist()
        elif read in known:
            (value,) = list(known[read].values())[:1] or [None]
            constants[read] = value.tolist() if isinstance(value, np.ndarray) and value.size <= _SHOWN else str(value)
    attributes = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in decode_all(node.attribute).items()
        if isinstance(value, (int, float, str, list, np.ndarray))
    }
    return {"node": node_label(node), "op_type": node.op_type, "attributes": attributes, "constants": constants}
