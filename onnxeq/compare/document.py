"""A comparison as one JSON document, ``onnxeq.comparison/1``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from onnxeq.compare.accuracy.values import Accuracy
from onnxeq.compare.discrepancies import Discrepancy, discrepancies
from onnxeq.compare.latency.values import SHARE, Latency
from onnxeq.compare.values import Comparison, Pair, Side
from onnxeq.records import plain

__all__ = ["SCHEMA", "to_document", "to_json"]

SCHEMA = "onnxeq.comparison/1"


def to_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    document = {
        "schema": SCHEMA,
        "models": [_side(side) for side in comparison.sides],
        "pairs": [_pair(pair) for pair in comparison.pairs],
        "discrepancies": [_discrepancy(row) for row in discrepancies(comparison)],
        "failures": [dataclasses.asdict(failure) for failure in comparison.failures],
        "environment": dict(comparison.environment),
        "latency": None if comparison.latency is None else _latency(comparison.latency),
        "reached": [dataclasses.asdict(row) for row in comparison.reached],
    }
    if comparison.accuracy is not None:
        document["accuracy"] = _accuracy(comparison.accuracy)
    made: dict[str, Any] = plain(document)
    return made


def to_json(comparison: Comparison) -> str:
    """The document as text, without NaN or Infinity tokens."""
    return json.dumps(to_document(comparison), indent=1, allow_nan=False, ensure_ascii=False)


def _side(side: Side) -> dict[str, Any]:
    layers = [
        {
            "kind": layer.kind, "name": layer.name, "inputs": layer.inputs, "attributes": dict(layer.attributes),
            "shape": layer.shape, "nodes": layer.nodes, "parameters": layer.parameters, "macs": layer.macs,
        }
        for layer in side.graph.layers
    ]  # fmt: skip
    return {
        "ref": side.ref,
        "name": side.name,
        "architecture": dataclasses.asdict(side.architecture),
        "about": dict(side.about),
        "notes": side.notes,
        "layers": layers,
    }


def _function(pair: Pair) -> dict[str, Any]:
    if pair.function is None:
        return {"missing": pair.not_split}
    return {**dataclasses.asdict(pair.function), "origins": pair.function.origins}


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "left": pair.left,
        "right": pair.right,
        "architecture": {
            "verdict": pair.same.value,
            "differences": [dataclasses.asdict(d) for d in pair.differences],
            "normalised": pair.normalised,
            "notes": pair.notes,
            "aligned": pair.aligned,
            "layers": pair.layers,
        },
        "function": _function(pair),
    }


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    """The figures, with what follows from them spelled out: the share, the agreement, what is called a discrepancy."""
    record = dataclasses.asdict(accuracy)
    for row, model in zip(record["measured"], accuracy.measured, strict=True):
        for name, share in (("top1", model.top1), ("top5", model.top5)):
            if share is not None:
                row[name]["value"] = share.value
    for row, pair in zip(record["pairs"], accuracy.pairs, strict=True):
        row |= {"agreement": pair.agree / pair.items, "discrepancy": pair.discrepancy}
    for row, swap in zip(record["swaps"], accuracy.swaps, strict=True):
        row["matters"] = swap.matters
    return record


def _discrepancy(row: Discrepancy) -> dict[str, Any]:
    """A row of the verdict table."""
    function, ratio = row.pair.function, row.latency
    return {
        "left": row.pair.left,
        "right": row.pair.right,
        "architecture": row.pair.same.value,
        "outputs": None if function is None else {"relative": function.total.relative, "origins": function.origins},
        "accuracy": None if row.accuracy is None else {
            "points": row.points, "p": row.accuracy.corrected, "discrepancy": row.accuracy.discrepancy,
        },
        "latency": None if ratio is None else dataclasses.asdict(ratio),
        "causes": row.causes,
    }  # fmt: skip


def _latency(latency: Latency) -> dict[str, Any]:
    return {**dataclasses.asdict(latency), "share": SHARE, "stopped": {str(b): s.value for b, s in latency.stopped}}
