"""Two executions held against each other, layer by layer: a job that pairs their values and says what each layer adds.

What the values of the judged graph are called on either side is told by :mod:`onnxeq.layers.matching`; what each layer
does, by :mod:`onnxeq.layers.judging.sweep`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxeq import native_values, traces
from onnxeq.errors import UnsupportedOperator
from onnxeq.graph.inspect import load
from onnxeq.graph.skim import by_reference
from onnxeq.inputs import adapt
from onnxeq.layers.judging.allowed import Allowed, at_outputs
from onnxeq.layers.judging.contrast import Part, contrasts
from onnxeq.layers.judging.doubts import Pairs, undone, without_wrong_pairs
from onnxeq.layers.judging.identical import identical
from onnxeq.layers.judging.judged import Found
from onnxeq.layers.judging.roles import as_undone, layer_of
from onnxeq.layers.judging.sweep import EXACT, Values, sweep
from onnxeq.layers.matching import Bridge, Known, Matched, Renamed, by_name, through, with_layers, with_twins
from onnxeq.layers.probes import GraphIndex
from onnxeq.layers.program import native_name
from onnxeq.native_values import NativeValues, StoredValue
from onnxeq.referee import Executor, Value
from onnxeq.referee.elements import lift
from onnxeq.runners.aligning import by_value
from onnxeq.runners.repros import write_repros
from onnxeq.runners.runtime import feeds_of
from onnxeq.types import Array, Feed, Layer, Role
from onnxeq.worker import Job

__all__ = ["of_framework", "run"]


def run(job: Job) -> dict[str, Any]:
    """Holds the values of two executions of ``job.inputs['model']`` against each other.

    Parameters: ``names`` (feed name -> input), ``feed`` (its number), ``seed``, ``content`` (whether two graphs may be
    held in memory to be compared), and for each of the sides ``source`` and ``target`` how its values are called:

    - ``itself``: it is the referee, in float64, and has no trace;
    - ``same``: as the judged graph's; ``names``: by name, where the names agree;
    - ``graph``: as those of the file ``SIDE_model``; ``native``: a framework's, as those of its unfolded export
      ``SIDE_model`` (``SIDE_exact`` holds them in float64). Then also ``SIDE_inputs`` and ``SIDE_outputs``, the judged
      graph's name -> that file's.

    The trace lies in ``job.inputs[SIDE]``. With ``repro`` set, see :func:`onnxeq.runners.repros.write_repros`; for
    ``accept`` and ``tolerance``, :class:`onnxeq.layers.judging.allowed.Allowed`.

    Returns:
        ``allowed``: see :func:`onnxeq.layers.judging.allowed.at_outputs`; ``unlike``: whether two files' constants
        differ somewhere; ``contrasts`` and ``repros``; ``layers``: how many
        rows ``out/layers.json`` has; ``paired``: how many of the source's values were found,
        ``of`` how many, ``by`` what; ``compared``: of how many nodes both sides
        have a value.

    Raises:
        onnxeq.errors.OnnxeqError: The graph cannot be run in float64 on these inputs.
    """
    params = job.params
    job.step("load")
    model = by_reference(job.inputs["model"])
    feed = feeds_of(job)[int(params["feed"])]
    job.step("pair")
    source, mine = _side(job, "source", model, feed)
    target, theirs = _side(job, "target", model, feed)
    pairs = Pairs(
        mine, theirs, named=_names_may_move(source), moved=_is_moved(target),
        certain=params["source"] in ("same", "names"),
    )  # fmt: skip
    job.step("hold against each other")
    outputs = {o.name for o in model.graph.output}
    found, allowed = identical(model.graph, source, target), dict[str, float]()
    if found is None:
        model = load(job.inputs["model"])
        found, pairs, allowed = _held_against(job, model, feed, (source, target), pairs)
    source, target, matched = _limited(source, pairs.source), _limited(target, pairs.target), pairs.source
    order = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    layers = [layer_of(f, order[f.value], matched.get(f.value), _native(f.node, matched.get(f.value))) for f in found]
    cancelled = undone(found, outputs)
    layers = [as_undone(layer) if layer.value in cancelled else layer for layer in layers]
    (job.out / "layers.json").write_text(json.dumps([dataclasses.asdict(layer) for layer in layers]))
    told = list(_told(job, model, matched, layers))
    repros = write_repros(job, model, layers, feed, source, target) if params.get("repro") else []
    unlike = params["source"] == "graph" and _unlike(job, matched)
    said = {"allowed": allowed, "contrasts": told, "repros": repros, "unlike": unlike}
    return {"layers": len(layers), **said, **_coverage(source, matched, layers)}


def _held_against(
    job: Job, model: onnx.ModelProto, feed: Feed, sides: tuple[Values, Values], pairs: Pairs
) -> tuple[list[Found], Pairs, dict[str, float]]:
    """The pass over the graph, without pairs that turn out to be wrong, and what is allowed of the outputs."""
    executor = Executor(model, base_dir=job.inputs["model"].parent)
    if executor.missing:
        raise UnsupportedOperator(f"no validated float64 semantics for {', '.join(executor.missing[:3])}")

    given = adapt(feed, {s.name: s.dtype for s in executor.inputs})
    allowed = Allowed.of(job.params)

    def swept(pairs: Pairs) -> list[Found]:
        held = _limited(sides[0], pairs.source), _limited(sides[1], pairs.target)
        return sweep(executor, model.graph, given, *held, int(job.params["seed"]), allowed)

    found, pairs = without_wrong_pairs(swept, pairs, {o.name for o in model.graph.output})
    if allowed == Allowed():
        return found, pairs, {}
    made = executor.run(given)
    held = [_outputs(_limited(side, by), made) for side, by in zip(sides, (pairs.source, pairs.target), strict=True)]
    return found, pairs, at_outputs(allowed, executor, given, held[0], held[1])


def _outputs(side: Values, made: Mapping[str, Value]) -> dict[str, Array]:
    """A side's outputs that are arrays, lying as the graph makes them."""
    held = {n: v if side is EXACT else side.array(n, v) for n, v in made.items() if side is EXACT or n in side}
    return {name: np.asarray(lift(value)) for name, value in held.items() if isinstance(value, np.ndarray)}


def _limited(side: Values, matched: Mapping[str, Matched]) -> Values:
    """A side with these pairs alone."""
    return Renamed(side.known, matched) if isinstance(side, Renamed) else side


def _is_moved(side: Values) -> bool:
    """Whether a side's values are those of an optimised graph."""
    known = side.known if isinstance(side, Renamed) else None
    return isinstance(known, traces.Trace) and bool(known.record.get("moved"))


def _names_may_move(source: Values) -> bool:
    """Whether the exporter may give a framework's name to another value: tf2onnx does where it makes two of a node."""
    known = source.known if isinstance(source, Renamed) else None
    return isinstance(known, NativeValues) and not any(r.op.startswith("aten.") for r in known.rows.values())


def _unlike(job: Job, matched: Mapping[str, Matched]) -> bool:
    """Whether some constant of the judged graph has other bits than the one in its place in the source's."""
    mine, theirs = load(job.inputs["model"]), load(job.inputs["source_model"])
    stored = [{t.name: t for t in m.graph.initializer} for m in (mine, theirs)]
    if any(n in stored[1] and t.raw_data != stored[1][n].raw_data for n, t in stored[0].items()):
        return True
    makers = GraphIndex(theirs).makers
    for node in mine.graph.node:
        pair = next((matched[n] for n in node.output if n in matched), None)
        other = None if pair is None else makers.get(pair.source)
        if other is None or other.op_type != node.op_type or len(other.input) != len(node.input):
            continue
        for here, there in zip(node.input, other.input, strict=True):
            a, b = stored[0].get(here), stored[1].get(there)
            if a is not None and b is not None and a.raw_data != b.raw_data:
                return True
    return False


_MOST_TOLD = 12


def _told(
    job: Job, model: onnx.ModelProto, matched: Mapping[str, Matched], layers: Sequence[Layer]
) -> Iterator[dict[str, Any]]:
    """What the source's own graph has differently at the layers that create error, where it is at hand."""
    rows = [row for row in layers if row.role is Role.CREATES and row.value in matched]
    if job.params["source"] != "graph" or not rows:
        return
    job.step("say what is different")
    path = job.inputs["source_model"]
    other = load(path)
    inputs: Mapping[str, str] = job.params["source_inputs"]
    known = {n: m.source for n, m in matched.items() if not m.layouts} | dict(inputs)
    for row in sorted(rows, key=lambda row: -row.local.ratio)[:_MOST_TOLD]:
        mine = Part(model, job.inputs["model"].parent, row.value, known)
        theirs = Part(other, path.parent, row.source_value, set(known.values()))
        for found in contrasts(mine, theirs):
            yield {"value": row.value, **dataclasses.asdict(found)}


def _side(job: Job, side: str, model: onnx.ModelProto, feed: Feed) -> tuple[Values, dict[str, Matched]]:
    """A side's values under the judged graph's names, and how each was told."""
    how = job.params[side]
    if how == "itself":
        return EXACT, {}
    read = native_values.load if how == "native" else traces.load
    known: Known = read(job.inputs[side])
    matched = _matched(job, side, model, known, feed)
    return Renamed(known, matched), matched


def _matched(job: Job, side: str, model: onnx.ModelProto, known: Known, feed: Feed) -> dict[str, Matched]:
    how, folder = job.params[side], job.inputs["model"].parent
    if how in ("same", "names"):
        return by_name(known, model, same=how == "same")
    path = job.inputs[f"{side}_model"]
    inputs, outputs = job.params[f"{side}_inputs"], job.params[f"{side}_outputs"]
    bridge = Bridge(by_reference(path), path.parent, inputs, outputs, {inputs.get(n, n): v for n, v in feed.items()})
    content = bool(job.params["content"])
    if isinstance(known, NativeValues):
        exact = native_values.load(job.inputs[f"{side}_exact"]) if f"{side}_exact" in job.inputs else None
        return of_framework(known, model, folder, bridge, exact, content=content)
    return through(known, model, folder, bridge, content=content)


def of_framework(
    known: NativeValues, model: onnx.ModelProto, folder: Path, bridge: Bridge, exact: NativeValues | None = None, *,
    content: bool,
) -> dict[str, Matched]:  # fmt: skip
    """Which values of a graph are which of a framework's program, with the layers that these belong to.

    Args:
        known: The program's values.
        model: The judged graph.
        folder: Of its external data.
        bridge: The framework's own unfolded export.
        exact: The program's values in float64, to be told by the numbers where the exporter keeps no names.
        content: Whether both graphs may be run to compare what they compute.

    Returns:
        Graph's value -> the program's, under the program's own name.
    """
    named = _named(known, bridge, exact)
    found = with_layers(through(named, model, folder, bridge, content=content), named)
    own = {name: dataclasses.replace(row, source=named.rows[row.source].name) for name, row in found.items()}
    return with_twins(own, known)


def _named(known: NativeValues, bridge: Bridge, exact: NativeValues | None) -> NativeValues:
    """The framework's values as the export calls them; by the numbers where the exporter keeps no names."""
    made = {name for node in bridge.model.graph.node for name in node.output}
    if 2 * len(known.rows.keys() & made) >= len(known.rows) or exact is None:
        return NativeValues(known.folder, dict(_as_meant(known, bridge.model)))
    renamed = by_value(bridge.model, Executor(bridge.model, base_dir=bridge.folder), bridge.feed, exact)
    rows = {name: known.rows[row.name] for name, row in renamed.rows.items() if row.name in known.rows}
    return NativeValues(known.folder, rows)


def _as_meant(known: NativeValues, model: onnx.ModelProto) -> Iterator[tuple[str, StoredValue]]:
    """The values by the names of what they are: tf2onnx writes Rsqrt as two nodes and names the first after it."""
    roots = {node.output[0] for node in model.graph.node if node.op_type == "Sqrt"}
    inverse = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Reciprocal"}
    for name, row in known.rows.items():
        if row.op != "Rsqrt" or name not in roots:
            yield name, row
        elif name in inverse:
            yield inverse[name], row


def _native(node: onnx.NodeProto, matched: Matched | None) -> str:
    return matched.native if matched is not None and matched.native else native_name(node)


def _coverage(source: Values, matched: Mapping[str, Matched], layers: Sequence[Layer]) -> dict[str, Any]:
    by: dict[str, int] = {}
    for row in matched.values():
        by[row.by.value] = by.get(row.by.value, 0) + 1
    known = len(list(source.known)) if isinstance(source, Renamed) else 0
    compared = len({layer.index for layer in layers if not math.isnan(layer.propagated.ratio)})
    paired = {name for row in matched.values() for name in (row.source, *row.also)}
    return {"paired": len(paired), "by": by, "of": known, "compared": compared}
