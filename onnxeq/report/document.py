"""The report as one JSON document, ``onnxeq.report/1``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from onnxeq.records import plain
from onnxeq.types import Report, Rung

__all__ = ["SCHEMA", "to_document", "to_json"]

SCHEMA = "onnxeq.report/1"


def to_document(report: Report) -> dict[str, Any]:
    """The report as JSON values. Numbers that JSON cannot hold become ``null`` (NaN: not measured) or the
    strings ``"inf"`` and ``"-inf"`` (no rounding could explain it).
    """
    document: dict[str, Any] = {"schema": SCHEMA, "verdict": report.verdict.value}
    document |= {
        "source": dict(report.source),
        "target": dict(report.target),
        "environment": dict(report.environment),
    }
    document["causes"] = [dataclasses.asdict(cause) for cause in report.causes]
    document["rungs"] = [_rung(rung) for rung in report.rungs]
    document["outputs"] = [dataclasses.asdict(output) for output in report.outputs]
    document["coverage"] = dataclasses.asdict(report.coverage)
    document["notes"] = list(report.notes)
    document["timings"] = [dict(row) for row in report.timings]
    document["layers"] = [dataclasses.asdict(layer) for layer in report.layers]
    document["ledger"] = dict(report.ledger)
    document["preprocessing"] = dict(report.preprocessing)
    made: dict[str, Any] = plain(document)
    return made


def to_json(report: Report) -> str:
    """The document as text, without NaN or Infinity tokens (RFC 8259 has none)."""
    return json.dumps(to_document(report), indent=1, allow_nan=False, ensure_ascii=False)


def _rung(rung: Rung) -> dict[str, Any]:
    record = dataclasses.asdict(rung)
    return {"name": record.pop("name"), "from": record.pop("source"), "to": record.pop("target"), **record}
