"""The functional difference of one pair, split into its origins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxeq import inputs as inputs_
from onnxeq.compare.folding import norms_behind
from onnxeq.compare.function.common import Common, common_part
from onnxeq.compare.function.tensors import from_file
from onnxeq.compare.function.values import Effect, Origin, Split
from onnxeq.compare.sources import Source, folded
from onnxeq.compare.values import Graph, Layer
from onnxeq.compare.verdicts import Matched
from onnxeq.compare.verdicts import matched as match_sides
from onnxeq.errors import OnnxeqError
from onnxeq.interface import pair_inputs
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.kept import store_feeds
from onnxeq.ladder import LIMITS
from onnxeq.model_files import reads_of
from onnxeq.preprocessing.pictures import Prepared
from onnxeq.sides import Request
from onnxeq.types import Array, Feed, TensorSpec

__all__ = ["split"]

_MOST_INPUTS = 16
"""Inputs of one pair: each is run six times in float64, and more for the floor."""


def split(
    jobs: Jobs,
    left: Source,
    right: Source,
    matched: Matched,
    request: Request,
    prepared: tuple[Prepared, Prepared] | None = None,
) -> Split | str:
    """How far two models are apart for the same inputs, and which part of it is weights, graph and preprocessing.

    Args:
        jobs: Where to run.
        left: One model.
        right: The other.
        matched: Which of their layers stand for each other.
        request: The user's inputs, shapes and seed.
        prepared: The same pictures by the recipe of either; ``None`` where both are given the same arrays.

    Returns:
        The split; or why there is none, in words.
    """
    notes: tuple[str, ...] = ()
    try:
        if matched.folded:
            left, right, matched, notes = _both_folded(jobs, left, right, request)
    except OnnxeqError as error:
        return error.message
    ours, theirs = left.side.graph, right.side.graph
    common = common_part(ours, theirs, matched.in_order)
    if common is None:
        return "no part of them takes the same inputs and weights of the same sizes"
    try:
        feeds, said = _feeds(left, right, common, request, prepared)
        spec = JobSpec("function", f"{left.side.name} with the weights of {right.side.name}", _params(
            ours, theirs, common, request.seed
        ), _reads(left, right) | {"feeds": store_feeds(feeds, jobs.root)})  # fmt: skip
        done = jobs.start(spec).result()
    except OnnxeqError as error:
        return error.message
    return _split(done.data, left, right, common, len(feeds), (*notes, *said))


def _both_folded(
    jobs: Jobs, left: Source, right: Source, request: Request
) -> tuple[Source, Source, Matched, tuple[str, ...]]:
    """Both as folding leaves them: a file without BatchNorms has none to exchange."""
    made = [s if not norms_behind(s.side.graph) else folded(jobs, s, request) for s in (left, right)]
    names = " and ".join(s.side.name for s, before in zip(made, (left, right), strict=True) if s is not before)
    note = f"BatchNorms of {names} were folded first, since the other comes without"
    return made[0], made[1], match_sides(made[0].side, made[1].side), (note,)


def _reads(left: Source, right: Source) -> dict[str, Any]:
    found = {}
    for side, source in (("left", left), ("right", right)):
        for name, path in reads_of(source.artifact.path).items():
            found[side if name == "model" else f"{side} {name}"] = path
    return found


def _params(left: Graph, right: Graph, common: Common, seed: int) -> dict[str, Any]:
    sides = {}
    for side, graph, own in (("left", left, 0), ("right", right, 1)):
        sides[side] = {
            "inputs": [_port(layer) for layer in graph.layers if layer.kind == "input"],
            "entries": [_port(graph.layers[pair[own]]) for pair in common.entries],
            "exits": [_port(graph.layers[pair[own]]) for pair in common.exits],
        }
    # A layer that is the same but for axes of size 1 is compared in the left one's shape.
    for ends in ("entries", "exits"):
        for mine, other in zip(sides["left"][ends], sides["right"][ends], strict=True):
            if mine["shape"] != other["shape"]:
                mine["shape"], mine["axes"] = _squeezed(mine)
                other["shape"], other["axes"] = _squeezed(other)
    tensors = [
        {"role": t.role, **{k: [dataclasses.asdict(w) for w in v] for k, v in (("left", t.left), ("right", t.right))}}
        for t in common.tensors
    ]
    return {**sides, "tensors": tensors, "fed": _fed(left, common), "seed": seed}


def _fed(left: Graph, common: Common) -> bool:
    """Whether the part begins at the models' inputs."""
    return all(left.layers[i].kind == "input" for i, _ in common.entries)


def _port(layer: Layer) -> dict[str, Any]:
    return {"value": layer.value, "axes": list(layer.axes), "shape": list(layer.shape)}


def _squeezed(port: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """A port without the axes of size 1 of its result."""
    kept = [a for a, n in enumerate(port["shape"]) if n != 1]
    return [port["shape"][a] for a in kept], [kept.index(a) if a in kept else -1 for a in port["axes"]]


def _feeds(
    left: Source, right: Source, common: Common, request: Request, prepared: tuple[Prepared, Prepared] | None
) -> tuple[list[Feed], tuple[str, ...]]:
    """The inputs in their layers' order, ``x0``, ``x1``, ..., and ``y0`` where the other recipe makes another one."""
    layers = [layer for layer in left.side.graph.layers if layer.kind == "input"]
    if prepared is not None and len(layers) == 1:
        return _of_pictures(left, right, common, prepared)
    if request.feeds:
        return _given(left, layers, request.feeds), ()
    specs = [_concrete(spec, layer) for spec, layer in zip(_specs(left), layers, strict=True)]
    made = inputs_.generate(specs, seed=request.seed, dynamic_batch=False)
    return [_in_order(layers, [feed[s.name] for s in specs]) for feed in made], ()


def _in_order(layers: Sequence[Layer], arrays: Sequence[Array], letter: str = "x") -> dict[str, Array]:
    return {
        f"{letter}{k}": np.ascontiguousarray(from_file(array, layer.axes, layer.shape))
        for k, (layer, array) in enumerate(zip(layers, arrays, strict=True))
    }


def _specs(source: Source) -> list[TensorSpec]:
    """The model's inputs in the order of its file, with the ranges that its framework tells."""
    own = source.artifact.info.inputs
    if source.native is None:
        return list(own)
    names = pair_inputs(source.native.inputs, own)
    theirs = {names[s.name]: s for s in source.native.inputs if s.name in names}
    return [replace(s, range=theirs[s.name].range if s.name in theirs else s.range) for s in own]


def _concrete(spec: TensorSpec, layer: Layer) -> TensorSpec:
    return replace(spec, shape=tuple(1 if a < 0 else layer.shape[a] for a in layer.axes))


def _given(left: Source, layers: Sequence[Layer], feeds: Sequence[Feed]) -> list[Feed]:
    """The user's arrays, a batch taken apart into its items."""
    own = [s.name for s in left.artifact.info.inputs]
    natives = own if left.native is None else [s.name for s in left.native.inputs]
    found: list[Feed] = []
    for feed in feeds:
        arrays = [np.asarray(feed.get(name, feed.get(native))) for name, native in zip(own, natives, strict=True)]
        items = [_items(array, layer) for array, layer in zip(arrays, layers, strict=True)]
        found += [_in_order(layers, list(rows)) for rows in zip(*items, strict=False)]
    return found[:_MOST_INPUTS]


def _items(array: Array, layer: Layer) -> list[Array]:
    batch = layer.axes.index(0) if 0 in layer.axes else None
    if batch is None or layer.shape[0] != 1 or array.shape[batch] == 1:
        return [array]
    return [np.take(array, [k], axis=batch) for k in range(array.shape[batch])]


def _of_pictures(
    left: Source, right: Source, common: Common, prepared: tuple[Prepared, Prepared]
) -> tuple[list[Feed], tuple[str, ...]]:
    ours, theirs = (next(la for la in s.side.graph.layers if la.kind == "input") for s in (left, right))
    whole = _fed(left.side.graph, common)
    feeds: list[Feed] = []
    for x, y in zip(prepared[0].arrays, prepared[1].arrays, strict=True):
        feed = _in_order([ours], [x])
        if whole:
            feed |= {"y0": from_file(y, theirs.axes, (1, *_picture(y, theirs))).copy()}
        feeds.append(feed)
    said = () if whole else ("only a part of them is compared, so that preprocessing is not told from the rest",)
    return feeds[:_MOST_INPUTS], said


def _picture(array: Array, layer: Layer) -> tuple[int, ...]:
    """The sizes of a prepared picture in its layer's order: another recipe may make another size."""
    sizes = {a: n for a, n in zip(layer.axes, array.shape, strict=True) if a > 0}
    return tuple(sizes[a] for a in sorted(sizes))


def _split(
    data: Mapping[str, Any], left: Source, right: Source, common: Common, inputs: int, notes: tuple[str, ...]
) -> Split:
    names = (left.side.name, right.side.name)
    effects = tuple(
        _effect(Origin(origin), names[side], record)
        for origin, records in data["effects"].items()
        for side, record in enumerate(records)
    )
    graph = left.side.graph.layers
    total = _effect(Origin.GRAPH, names[0], data["total"])
    found = Split(
        whole=common.whole,
        begins=graph[common.layers[0][0]].name if common.layers else "",
        ends=graph[common.exits[0][0]].name,
        layers=common.counts,
        share=common.share,
        inputs=inputs,
        total=total,
        effects=effects,
        identical=int(data["identical"]),
        tensors=int(data["tensors"]),
        notes=(*notes, *_stuck(data["stuck"], names)),
    )
    worst = found.origins[0] if found.origins else Origin.GRAPH
    return replace(found, total=replace(total, origin=worst, counts=bool(found.origins)))


def _stuck(said: Sequence[Mapping[str, str]], names: tuple[str, str]) -> tuple[str, ...]:
    """What could not be exchanged, in a sentence for each role and side."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in said:
        found.setdefault((row["side"], row["role"]), []).append(row["tensor"])
    sentences = []
    for (side, role), tensors in found.items():
        mine, other = names if side == "left" else names[::-1]
        what = f"{len(tensors)} tensors" if len(tensors) > 1 else f"'{tensors[0]}'"
        sentences.append(f"{what} of {other} ({role}) cannot be exchanged with {mine}, which has none: that is graph")
    return tuple(sentences)


def _effect(origin: Origin, base: str, record: Mapping[str, Any]) -> Effect:
    if said := record.get("missing"):
        return Effect(origin, base, math.nan, math.nan, math.nan, counts=False, missing=str(said))
    ratio = float(record["ratio"])
    limit = LIMITS[origin.value].factor
    top = record["top1_changes"]
    return Effect(
        origin, base, float(record["relative"]), float(record["max_abs"]), ratio, counts=ratio > limit,
        top1_changes=None if top is None else int(top),
    )  # fmt: skip
