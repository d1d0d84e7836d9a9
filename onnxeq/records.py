"""Values to and from the JSON of ``job.json`` and ``result.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxeq.types import Export, ExportForm, ModelRef, TensorSpec, ValueRange

__all__ = [
    "export_from_record",
    "export_to_record",
    "plain",
    "ref_from_record",
    "ref_to_record",
    "spec_from_record",
    "spec_to_record",
]


def spec_to_record(spec: TensorSpec) -> dict[str, Any]:
    """A tensor's specification as JSON values."""
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": None if spec.shape is None else list(spec.shape),
        "range": None if spec.range is None else [spec.range.low, spec.range.high],
    }


def spec_from_record(record: Mapping[str, Any]) -> TensorSpec:
    """What :func:`spec_to_record` wrote."""
    shape, span = record["shape"], record.get("range")
    return TensorSpec(
        record["name"],
        record["dtype"],
        None if shape is None else tuple(shape),
        None if span is None else ValueRange(*span),
    )


def ref_to_record(ref: ModelRef) -> dict[str, Any]:
    """A model reference as JSON values."""
    return {
        "text": ref.text,
        "zoo": ref.zoo,
        "name": ref.name,
        "weights": ref.weights,
        "seed": ref.seed,
        "module": ref.module,
    }


def ref_from_record(record: Mapping[str, Any]) -> ModelRef:
    """What :func:`ref_to_record` wrote."""
    return ModelRef(**record)


def export_to_record(export: Export, folder: Path) -> dict[str, Any]:
    """An export as JSON values, its path relative to ``folder``."""
    return {
        "path": str(export.path.relative_to(folder)),
        "form": export.form.value,
        "dynamic_batch": export.dynamic_batch,
        "input_names": list(export.input_names),
        "output_names": list(export.output_names),
        "notes": list(export.notes),
    }


def export_from_record(record: Mapping[str, Any], folder: Path) -> Export:
    """What :func:`export_to_record` wrote, its path under ``folder``."""
    return Export(
        folder / record["path"],
        ExportForm(record["form"]),
        record["dynamic_batch"],
        tuple(record["input_names"]),
        tuple(record["output_names"]),
        tuple(record["notes"]),
    )


def plain(value: Any) -> Any:
    """A value as JSON has it: keys are text, NaN is null and infinity is ``"inf"`` (RFC 8259 has neither)."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
