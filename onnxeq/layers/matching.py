"""Which value of the judged graph is which of the source's: by structure and names first, by content where those fail.

A framework's values are called as in its own unfolded export, the *bridge*: that their exporter names them makes the
first step sure, and the second is between two graphs. An exporter that keeps no names is bridged by the numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx

from onnxeq import fingerprint
from onnxeq.errors import OnnxeqError
from onnxeq.layers.likeness import Layout, arrange
from onnxeq.layers.pairing.pairs import pair_graphs
from onnxeq.layers.program import Program, take_apart
from onnxeq.layers.walking.alignment import State
from onnxeq.layers.walking.expansion import expanded
from onnxeq.layers.walking.walk import align
from onnxeq.native_values import NativeValues, StoredValue
from onnxeq.traces import Trace
from onnxeq.types import Array, Feed, PairedBy

if TYPE_CHECKING:
    from onnxeq.referee import Value
    from onnxeq.referee.frames import Entry

__all__ = ["Bridge", "Known", "Matched", "Renamed", "by_name", "reconciled", "through", "with_layers", "with_twins"]

Known: TypeAlias = Trace | NativeValues
"""The source's values on disk."""

ENOUGH = 0.97
"""Share of the source's values from which on the graphs alone have told enough; else both are run and compared."""

_DOUBTFUL = 0.8
"""Confidence in a value that belongs into a place by what follows from it, and is not what it should be."""


@dataclass(frozen=True)
class Matched:
    """A value of the source for one of the judged graph.

    Attributes:
        source: Its name on the source's side.
        by: How that was told.
        confidence: From 0 to 1.
        layouts: How it lies in the judged graph: applied one after the other.
        native: The source's layer.
        also: Other values of the source that are the same bit for bit: an exporter computes them once.
    """

    source: str
    by: PairedBy
    confidence: float
    layouts: tuple[Layout, ...] = ()
    native: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bridge:
    """A graph whose values bear the source's names.

    Attributes:
        model: The graph.
        folder: Of its external data.
        inputs: Judged graph's input -> the bridge's.
        outputs: Judged graph's output -> the bridge's.
        feed: The bridge's inputs in the run that is looked at, to compare contents with.
    """

    model: onnx.ModelProto
    folder: Path
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    feed: Feed


def by_name(known: Known, model: onnx.ModelProto, *, same: bool) -> dict[str, Matched]:
    """The source's values are called as the graph's.

    Args:
        known: The source's values; those of test data may be called ``#0`` and so on, after an output's position.
        model: The judged graph.
        same: Whether it is the very graph that made them, so that a name cannot mean something else.
    """
    by, sure = (PairedBy.STRUCTURE, 1.0) if same else (PairedBy.NAME, 0.9)
    names = [name for node in model.graph.node for name in node.output if name]
    found = {name: Matched(name, by, sure) for name in names if name in known}
    for index, output in enumerate(model.graph.output):
        if f"#{index}" in known and output.name in names and output.name not in found:
            found[output.name] = Matched(f"#{index}", by, sure)
    return found


def through(known: Known, model: onnx.ModelProto, folder: Path, bridge: Bridge, *, content: bool) -> dict[str, Matched]:
    """The source's values are called as a bridge's.

    Args:
        known: The source's values.
        model: The judged graph.
        folder: Of its external data.
        bridge: The graph that made them, or its framework's export.
        content: Whether both graphs may be run to compare what they compute, which holds all their values in memory.
    """
    pairs = pair_graphs(bridge.model, model, bridge.inputs, bridge.outputs, source_dir=bridge.folder, target_dir=folder)
    found = {n: Matched(p.source, p.by, p.confidence) for n, p in pairs.items() if p.source in known}
    if content and len({m.source for m in found.values()}) < ENOUGH * _comparable(known, bridge.model):
        walked = {n: m for n, m in _by_content(known, model, folder, bridge) if m.source in known}
        found = reconciled(found, walked)
    given = {here: there for here, there in bridge.outputs.items() if there in known}
    return found | {
        n: Matched(s, PairedBy.NAME, 1.0) for n, s in given.items() if n not in found or found[n].source != s
    }


def reconciled(found: Mapping[str, Matched], walked: Mapping[str, Matched]) -> dict[str, Matched]:
    """Pairs of two graphs as the graphs tell them, and as their numbers do.

    1. What is computed alike stays.
    2. Where the numbers agree, they go before names and surroundings; the same find keeps its reason.
    3. A value of the source that the numbers find elsewhere is not where names or surroundings saw it.
    4. What only belongs into a place by what follows from it fills what is still open.
    """
    agreeing = {name: row for name, row in walked.items() if row.by is not PairedBy.CONTEXT}
    elsewhere = {row.source for row in agreeing.values()}
    kept: dict[str, Matched] = {}
    for name, row in found.items():
        told = agreeing.get(name)
        if row.by is PairedBy.STRUCTURE:
            kept[name] = row
        elif told is not None:
            kept[name] = replace(row, layouts=told.layouts, confidence=max(row.confidence, told.confidence)) if (
                told.source == row.source
            ) else told  # fmt: skip
        elif row.source not in elsewhere:
            kept[name] = row
    taken = {row.source for row in kept.values()}
    for name, row in walked.items():
        if name not in kept and (name in agreeing or name in found or row.source not in taken):
            kept[name] = row
    return kept


def _comparable(known: Known, model: onnx.ModelProto) -> int:
    """How many of the source's values there are to find: those that the bridge's nodes compute from its inputs.

    Optimisers leave out what hands its operand on, and compute beforehand what follows from constants.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    found = 0
    for node in model.graph.node:
        if all(name in constant for name in node.input if name) and not any(a.HasField("g") for a in node.attribute):
            constant.update(node.output)
        elif node.op_type not in ("Identity", "Dropout"):
            found += sum(name in known for name in node.output)
    return found


def _by_content(known: Known, model: onnx.ModelProto, folder: Path, bridge: Bridge) -> Iterator[tuple[str, Matched]]:
    """Pairs that a walk of both graphs side by side finds, see :mod:`onnxeq.layers.walking.walk`."""
    try:
        artifact, reference = take_apart(model, folder), take_apart(bridge.model, bridge.folder)
        theirs = reference.run(bridge.feed)
        finer = expanded(reference, artifact, theirs)
        if finer is not reference:
            theirs = finer.run(bridge.feed)
        back = {there: here for here, there in bridge.inputs.items()}
        inputs = artifact.entries_of(
            {back.get(n, n): v for n, v in bridge.feed.items() if back.get(n, n) in artifact.inputs}
        )
        aligned = align(artifact, finer, theirs, inputs, bridge.inputs, bridge.outputs)
        if aligned.by_name and aligned.share < ENOUGH:  # a value may bear its name and lie in another order
            nameless = align(artifact, finer, theirs, inputs, bridge.inputs, bridge.outputs, names=False)
            aligned = max(aligned, nameless, key=lambda a: a.share)
    except OnnxeqError:
        return
    for name, counterpart in aligned.counterparts.items():
        if name in artifact.makers:
            by = PairedBy.NAME if aligned.by_name and counterpart.name == name else PairedBy.VALUE
            wrong = aligned.states.get(name) is State.WRONG
            source, turned = _before_turns(finer, theirs, counterpart.name, known)
            layouts = (*turned, counterpart.layout) if counterpart.layout is not None else turned
            sure = _DOUBTFUL if wrong else 0.95
            yield name, Matched(source, PairedBy.CONTEXT if wrong else by, sure, layouts)


def _before_turns(
    program: Program, values: Mapping[str, Entry], name: str, known: Known
) -> tuple[str, tuple[Layout, ...]]:
    """The value that the source knows where an exporter has only put it in another order, and that order."""
    start = name
    turned: tuple[Layout, ...] = ()
    while name not in known:
        node = program.nodes[program.makers[name]] if name in program.makers else None
        if node is None or node.op_type not in ("Transpose", "Identity"):
            return start, ()
        if node.op_type == "Transpose":
            before = np.shape(values[node.input[0]].value)
            axes = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), tuple(range(len(before)))[::-1])
            turned = (Layout(before, axes, tuple(before[a] for a in axes)), *turned)
        name = node.input[0]
    return name, turned


def with_layers(found: Mapping[str, Matched], values: NativeValues) -> dict[str, Matched]:
    """The same with the layer that each value belongs to."""
    return {n: replace(m, native=values.rows[m.source].native or values.rows[m.source].op) for n, m in found.items()}


def with_twins(found: Mapping[str, Matched], values: NativeValues) -> dict[str, Matched]:
    """The same with the values that have no pair because an exporter saw that they are what another one is."""
    taken = {row.source for row in found.values()}
    files = {name: values.folder / row.file for name, row in values.rows.items()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    open_ = {sizes[name] for name in files if name not in taken}
    twins: dict[str, list[str]] = {}
    for name, path in files.items():
        if sizes[name] in open_:
            twins.setdefault(fingerprint.of_path(path), []).append(name)
    alike = {name: tuple(n for n in group if n not in taken) for group in twins.values() for name in group}
    return {n: replace(row, also=alike.get(row.source, ())) for n, row in found.items()}


@dataclass(frozen=True)
class Renamed:
    """The source's values under the names of the judged graph, each as it lies there."""

    known: Known
    matched: Mapping[str, Matched]

    def __contains__(self, name: object) -> bool:
        return name in self.matched

    def array(self, name: str, like: Value) -> Array | None:
        """The value; of two ways to lie that fit the one in which it is more like."""
        found = self.matched[name]
        held = self.known.array(found.source)
        ways = [held]
        native = isinstance(self.known, NativeValues)
        if native and held.ndim >= 3 and (self._keeps_last or np.shape(held) != np.shape(like)):
            ways.append(np.moveaxis(held, -1, 1))
        laid = [functools.reduce(arrange, found.layouts, way) for way in ways if _fits(way, found.layouts)]
        fitting = [way for way in laid if np.shape(way) == np.shape(like)]
        if fitting:
            return min(fitting, key=lambda way: _gap(way, like)) if len(fitting) > 1 else fitting[0]
        best = (laid or ways)[0]
        if best.size == np.size(like) and isinstance(self.known, Trace) and self.known.record.get("moved"):
            return None  # an optimiser moves Transposes and Reshapes about: this is the value before or behind one
        plain = [n for n in best.shape if n != 1] == [n for n in np.shape(like) if n != 1]
        return best.reshape(np.shape(like)) if plain else best  # the same numbers with other axes of size one

    @functools.cached_property
    def _keeps_last(self) -> bool:
        """Whether the framework keeps channels last; then any of its values may have them first in ONNX.

        An exporter turns what goes into a Conv, and an optimiser moves that through what stands between two of them.
        """
        return isinstance(self.known, NativeValues) and any(map(_is_last, self.known.rows.values()))


def _fits(value: Array, layouts: Sequence[Layout]) -> bool:
    """Whether a layout was made for a value of this shape."""
    return not layouts or value.size == math.prod(layouts[0].before)


_LAST = ("NHWC", "NDHWC", "NWC")
_ALWAYS_LAST = frozenset({"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "LRN"})
"""TensorFlow operators whose layout is no argument."""


def _is_last(row: StoredValue) -> bool:
    """Whether an operator of a framework has its channels last."""
    return row.op in _ALWAYS_LAST or str(row.arguments.get("data_format", "")).strip("'") in _LAST


def _gap(a: Array, b: Value) -> float:
    with np.errstate(all="ignore"):
        return float(np.nansum(np.abs(a.astype(np.float64) - np.asarray(b, dtype=np.float64))))
