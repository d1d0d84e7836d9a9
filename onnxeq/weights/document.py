"""The ledger as JSON values, and back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from onnxeq.weights.types import Basis, Entry, EntryStatus, Ledger, Relation

__all__ = ["SCHEMA", "from_record", "summary", "to_record"]

SCHEMA = "onnxeq.ledger/1"


def to_record(ledger: Ledger) -> dict[str, Any]:
    """Everything but the arrays."""
    return {
        "schema": SCHEMA,
        "natives_accounted": ledger.natives_accounted,
        "natives_total": ledger.natives_total,
        "initializers_accounted": ledger.initializers_accounted,
        "initializers_total": ledger.initializers_total,
        "entries": [_entry(e) for e in ledger.entries],
    }


def summary(ledger: Ledger) -> dict[str, Any]:
    """The counts, how often each relation occurs, and the entries that are not plainly right."""
    record = to_record(ledger)
    record["relations"] = dict(Counter(e.relation.value for e in ledger.entries))
    record["entries"] = [_entry(e) for e in ledger.entries if e.status is not EntryStatus.OK]
    return record


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "initializer": entry.initializer,
        "natives": list(entry.natives),
        "relation": entry.relation.value,
        "transform": entry.transform,
        "status": entry.status.value,
        "ulp": entry.ulp if math.isfinite(entry.ulp) else "inf",
        "evidence": entry.evidence,
        "node": entry.node,
        "op_type": entry.op_type,
        "basis": entry.basis.value,
        "native": entry.native,
        "sure": entry.sure,
    }


def from_record(record: Mapping[str, Any]) -> Ledger:
    """What :func:`to_record` made; the arrays of near misses are not in it."""
    entries = tuple(
        Entry(
            e["initializer"], tuple(e["natives"]), Relation(e["relation"]), e["transform"], EntryStatus(e["status"]),
            float(e["ulp"]), e["evidence"], e["node"], e["op_type"], Basis(e["basis"]), e["native"], e["sure"],
        )
        for e in record["entries"]
    )  # fmt: skip
    return Ledger(
        entries, record["natives_accounted"], record["natives_total"], record["initializers_accounted"],
        record["initializers_total"],
    )  # fmt: skip
