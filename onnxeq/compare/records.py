"""A canonical graph as JSON, for the way from the job that reads a file to the host that compares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from onnxeq.compare.values import Attribute, Graph, Layer, Weight

__all__ = ["graph_from_record", "graph_to_record", "weight_from_record"]


def graph_to_record(graph: Graph) -> dict[str, Any]:
    """The graph as JSON values."""
    return dataclasses.asdict(graph)


def graph_from_record(record: Mapping[str, Any]) -> Graph:
    """The graph that :func:`graph_to_record` wrote."""
    layers = tuple(
        Layer(
            str(row["kind"]), tuple(row["inputs"]), {k: _attribute(v) for k, v in row["attributes"].items()},
            tuple(row["shape"]), str(row["name"]), tuple(row["nodes"]),
            tuple(weight_from_record(w) for w in row["weights"]),
            int(row["macs"]), tuple(row["spelling"]), str(row["value"]), tuple(row["axes"]),
        )
        for row in record["layers"]
    )  # fmt: skip
    return Graph(
        layers, tuple(record["outputs"]), int(record["nodes"]), tuple(record["literal"]), tuple(record["notes"])
    )


def weight_from_record(row: Mapping[str, Any]) -> Weight:
    """The weight that ``dataclasses.asdict`` made JSON values of."""
    part = row["part"]
    return Weight(
        str(row["role"]), str(row["name"]), int(row["elements"]), tuple(row["viewed"]), tuple(row["axes"]),
        None if part is None else (int(part[0]), int(part[1])),
    )  # fmt: skip


def _attribute(value: Any) -> Attribute:
    held: Attribute = tuple(value) if isinstance(value, list) else value
    return held
