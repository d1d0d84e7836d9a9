"""What came of a case, as lines of JSON between the slices and the table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operator_trials.judge import Finding

__all__ = ["Result", "from_json", "to_json"]


@dataclass(frozen=True)
class Result:
    """One group of feeds of one case through one exporter.

    Attributes:
        label: The case's.
        side: ``dynamo``, ``torchscript``, ``tf2onnx`` or ``graph`` (built by hand).
        repro: A line to paste.
        findings: What broke.
        missing: What could not be run, and why.
        native_error: The framework itself refused: the case is no case.
        export_error: The exporter refused.
        harness_error: This program failed.
        ratios: Errors in rounding noise, see :data:`operator_trials.judge.RATIOS`.
    """

    label: str
    side: str
    repro: str
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    native_error: str = ""
    export_error: str = ""
    harness_error: str = ""
    ratios: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def with_(self, **changes: Any) -> Result:
        """The same with some fields set."""
        return dataclasses.replace(self, **changes)


def to_json(result: Result) -> str:
    """One line."""
    return json.dumps(dataclasses.asdict(result))


def from_json(line: str) -> Result:
    """What :func:`to_json` wrote."""
    record = json.loads(line)
    record["findings"] = tuple(Finding(**f) for f in record["findings"])
    record["missing"] = tuple(record["missing"])
    return Result(**record)
