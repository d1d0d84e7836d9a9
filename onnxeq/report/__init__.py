"""Renderings of a :class:`onnxeq.types.Report`: JSON, a terminal screen, and files."""

from __future__ import annotations

from onnxeq.report.advice import next_steps
from onnxeq.report.document import SCHEMA, to_document, to_json

__all__ = ["SCHEMA", "next_steps", "to_document", "to_json"]
