"""Two traces held against each other, layer by layer: a job that pairs their values and says what each layer adds.

The judged graph is the target's. What its values are called on the source's side is told by
:mod:`onnxeq.layers.matching`; what each layer does, by :mod:`onnxeq.layers.sweep`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from onnxeq import native_values, traces
from onnxeq.errors import UnsupportedOperator
from onnxeq.graph.inspect import load
from onnxeq.inputs import adapt
from onnxeq.layers.matching import Bridge, Known, Matched, Renamed, by_name, through, with_layers
from onnxeq.layers.program import native_name
from onnxeq.layers.roles import LOCAL, layer_of
from onnxeq.layers.sweep import EXACT, Values, sweep
from onnxeq.native_values import NativeValues
from onnxeq.referee import Executor
from onnxeq.runners.aligning import by_value
from onnxeq.runners.runtime import feeds_of
from onnxeq.types import Array, Feed, Layer
from onnxeq.worker import Job

if TYPE_CHECKING:
    from onnxeq.referee import Value

__all__ = ["run"]


def run(job: Job) -> dict[str, Any]:
    """Holds the trace ``job.inputs['target']`` of ``job.inputs['model']`` against ``job.inputs['source']``.

    Parameters: ``names`` (feed name -> input), ``feed`` (its number in both traces), ``seed``, and ``pairs``, how the
    source's values are called: ``same`` as the target's, ``names`` (by name where the names agree), ``graph`` (they
    are those of ``job.inputs['source_model']``) or ``native`` (a framework's, by the names of its unfolded export
    ``job.inputs['source_model']``; ``job.inputs['exact']`` has them in float64). With a source model also
    ``input_names`` and ``output_names``, target -> source, and ``content``, whether both graphs may be held in memory.
    A side without a trace is the referee itself, in float64.

    Returns:
        ``layers``: a record for each value, and ``paired``: how many of the source's layers were found, by what, of how
        many.

    Raises:
        onnxeq.errors.OnnxeqError: The graph cannot be run in float64 on these inputs.
    """
    params = job.params
    job.step("load")
    model = load(job.inputs["model"])
    executor = Executor(model, base_dir=job.inputs["model"].parent)
    if executor.missing:
        raise UnsupportedOperator(f"no validated float64 semantics for {', '.join(executor.missing[:3])}")
    feed = feeds_of(job)[int(params["feed"])]
    feed = adapt(feed, {s.name: s.dtype for s in executor.inputs})
    target = _trace(job, "target")
    job.step("pair")
    known = _known(job)
    matched = _matched(job, model, known, feed)
    source: Values = EXACT if known is None else Renamed(known, matched)
    judged: Values = EXACT if target is None else _Plain(target)
    job.step("hold against each other")
    found = sweep(executor, model.graph, feed, source, judged, int(params["seed"]))
    order = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    layers = [layer_of(f, order[f.value], matched.get(f.value), _native(f.node, matched.get(f.value))) for f in found]
    (job.out / "layers.json").write_text(json.dumps([dataclasses.asdict(layer) for layer in layers]))
    return {"creating": sum(layer.local.ratio > LOCAL for layer in layers), **_coverage(known, matched, layers)}


def _native(node: onnx.NodeProto, matched: Matched | None) -> str:
    return matched.native if matched is not None and matched.native else native_name(node)


def _trace(job: Job, name: str) -> traces.Trace | None:
    folder: Path | None = job.inputs.get(name)
    return None if folder is None else traces.load(folder)


def _known(job: Job) -> Known | None:
    """The source's values, with what is known of each."""
    folder: Path | None = job.inputs.get("source")
    if folder is None:
        return None
    return native_values.load(folder) if job.params["pairs"] == "native" else traces.load(folder)


@dataclass(frozen=True)
class _Plain:
    """A trace whose values lie as the graph's."""

    trace: traces.Trace

    def __contains__(self, name: object) -> bool:
        return name in self.trace

    def array(self, name: str, like: Value) -> Array:
        del like
        return self.trace.array(name)


def _matched(job: Job, model: onnx.ModelProto, known: Known | None, feed: Feed) -> dict[str, Matched]:
    """The judged graph's values that the source has."""
    how, folder = job.params["pairs"], job.inputs["model"].parent
    if known is None:
        return {}
    if how in ("same", "names"):
        return by_name(known, model, same=how == "same")
    path = job.inputs["source_model"]
    inputs, outputs = job.params["input_names"], job.params["output_names"]
    bridge = Bridge(load(path), path.parent, inputs, outputs, {inputs.get(n, n): v for n, v in feed.items()})
    if how == "native" and isinstance(known, NativeValues):
        named = _named(job, bridge, known)
        return with_layers(through(named, model, folder, bridge, content=bool(job.params["content"])), named)
    return through(known, model, folder, bridge, content=bool(job.params["content"]))


def _named(job: Job, bridge: Bridge, known: NativeValues) -> NativeValues:
    """The framework's values as the export calls them; by the numbers where the exporter keeps no names."""
    made = {name for node in bridge.model.graph.node for name in node.output}
    if 2 * len(known.rows.keys() & made) >= len(known.rows) or "exact" not in job.inputs:
        return known
    job.step("pair with an export that keeps no names")
    executor = Executor(bridge.model, base_dir=bridge.folder)
    renamed = by_value(bridge.model, executor, bridge.feed, native_values.load(job.inputs["exact"]))
    rows = {name: known.rows[row.name] for name, row in renamed.rows.items() if row.name in known.rows}
    return NativeValues(known.folder, rows)


def _coverage(known: Known | None, matched: Mapping[str, Matched], layers: Sequence[Layer]) -> dict[str, Any]:
    by: dict[str, int] = {}
    for row in matched.values():
        by[row.by.value] = by.get(row.by.value, 0) + 1
    compared = sum(layer.paired_by is not None and not math.isnan(layer.propagated.ratio) for layer in layers)
    return {"paired": len(matched), "by": by, "of": 0 if known is None else len(list(known)), "compared": compared}
