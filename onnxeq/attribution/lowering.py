"""The lowering rung: the node whose rounding makes an output inaccurate."""

from __future__ import annotations

from dataclasses import replace

from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import Units
from onnxeq.types import Cause, Where

__all__ = ["locate"]

_MOST = 0.5
"""Share of an output's rounding variance from which on one node is to blame for it."""


def locate(jobs: Jobs, found: Evidence, cause: Cause, _units: Units) -> tuple[Cause, ...]:
    """The cause with its node, where that can be found from the artifact alone: an inferior lowering."""
    blamed = found.runs.blame(jobs, cause.where.value)
    if not blamed or blamed["share"] < _MOST:
        return (cause,)
    where = Where(blamed["node"], blamed["op_type"], blamed["value"], blamed["native"])
    readers = f", which {' and '.join(blamed['readers'])} reads" if blamed["readers"] else ""
    native = f" of {blamed['native']}" if blamed["native"] else ""
    evidence = (
        f"{cause.evidence}; inferior lowering{native} at node {blamed['node']} ({blamed['op_type']}): rounding its"
        f" result '{blamed['value']}'{readers}, makes {blamed['share']:.0%} of the error"
    )
    return (replace(cause, where=where, evidence=evidence),)
