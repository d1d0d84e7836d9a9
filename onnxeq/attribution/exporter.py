"""The graph rung on an export of our own: which native operator the exporter translated wrongly, and how.

The referee runs the unfolded export and is taught the native value wherever the exporter kept a native name
(:mod:`onnxeq.runners.taught`). A value that float64 rounding does not explain there was translated wrongly; what
stands in the native call and nowhere in the ONNX nodes says how.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnxeq.errors import OnnxeqError
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs, JobSpec
from onnxeq.ladder import Units
from onnxeq.model_files import reads_of
from onnxeq.sides import NativeSide
from onnxeq.types import Cause, Export, ExportForm, Where

__all__ = ["differences", "evidence_of", "faults_of", "locate", "locate_export_fault"]

_MOST = 8
"""Causes that one broken rung is split into; more are counted."""


def locate(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The places of a fault of the exporter itself; an artifact that somebody brought is not looked into here."""
    return (cause,) if found.joint else locate_export_fault(jobs, found, cause, units)


def locate_export_fault(jobs: Jobs, found: Evidence, cause: Cause, _units: Units) -> tuple[Cause, ...]:
    """The cause in its places: one for each native operator that was translated wrongly, worst first.

    The cause itself, with what stood in the way, where that could not be found out.
    """
    if found.native is None:
        return (cause,)
    try:
        rows = faults_of(jobs, found.native)
    except OnnxeqError as error:
        return (replace(cause, evidence=f"{cause.evidence}; the place could not be found: {error.line()}"),)
    if not rows:
        return (cause,)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        said = "; ".join(differences(row))
        groups.setdefault(f"{row['op']} {[row['arguments'].get(n) for n in row['explicit']]} {said}", []).append(row)
    made = sorted((_cause(cause, group) for group in groups.values()), key=lambda c: -c.ratio)
    more = f"; {len(made) - _MOST} more operators are translated wrongly" if len(made) > _MOST else ""
    return (replace(made[0], evidence=made[0].evidence + more), *made[1:_MOST])


def faults_of(jobs: Jobs, native: NativeSide) -> Sequence[Mapping[str, Any]]:
    """Values of the unfolded export that are not the native ones, see :func:`onnxeq.runners.taught.run`.

    Raises:
        onnxeq.errors.OnnxeqError: It could not be run.
    """
    made = [e for e in native.exports if e.form is ExportForm.UNFOLDED]
    export: Export = made[0] if made else native.exported((ExportForm.UNFOLDED,))[0]
    layers = native.layers()
    names = dict(zip((s.name for s in native.inputs), export.input_names, strict=False))
    spec = JobSpec(
        "taught",
        "taught referee",
        {"names": names, "seed": 0},
        {**reads_of(export.path), "feeds": native.feeds, "layers": layers.folder},
        threads=jobs.threads_each,
    )
    rows: Sequence[Mapping[str, Any]] = jobs.start(spec).result().data["faults"]
    return rows


def _cause(cause: Cause, group: Sequence[Mapping[str, Any]]) -> Cause:
    worst = max(group, key=lambda row: math.inf if row["ratio"] is None else float(row["ratio"]))
    ratio = math.inf if worst["ratio"] is None else float(worst["ratio"])
    making = worst["nodes"][-1] if worst["nodes"] else {"node": "", "op_type": ""}
    where = Where(making["node"], making["op_type"], worst["value"], worst["native"] or worst["op"])
    return replace(cause, ratio=ratio, where=where, evidence=evidence_of(worst, group))


def evidence_of(row: Mapping[str, Any], group: Sequence[Mapping[str, Any]]) -> str:
    """A fault in words; ``group`` are all that are alike."""
    at = "".join((f" of {row['native']}" if row["native"] else "", f" ({row['source']})" if row["source"] else ""))
    shown = _shown(row["nodes"])
    if row["problem"]:
        size = row["problem"].replace("output", "value", 1)
    else:
        size = f"value '{row['value']}' is off by {row['max_abs']:.3g} (of {row['largest']:.3g})"
    told = differences(row)
    why = f": {'; '.join(told)}" if told else ""
    others = [r["native"] or r["value"] for r in group if r is not row]
    more = f"; likewise at {', '.join(others[:3])}" + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return (
        f"{row['call']}{at} is exported as {shown}, which computes something else{why}; {size} in float64, fed with the"
        f" native values{more if others else ''}"
    )


def _shown(nodes: Sequence[Mapping[str, Any]]) -> str:
    """The nodes with their attributes; of a long chain the operators only."""
    if len(nodes) > 4:
        kinds = list(dict.fromkeys(node["op_type"] for node in nodes))
        return f"{len(nodes)} nodes ({', '.join(kinds)})"
    texts = []
    for node in nodes:
        inside = ", ".join(f"{name}={value}" for name, value in node["attributes"].items())
        texts.append(f"{node['op_type']}({inside})")
    return " and ".join(texts) or "nothing"


_NO_MEANING = frozenset("dtype device layout pin_memory memory_format generator implicit non_blocking".split())
"""Arguments that say where and how a tensor lies."""

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "eps": ("epsilon",),
    "keepdim": ("keepdims",),
    "negative_slope": ("alpha",),
    "dim": ("axis", "axes"),
    "kernel_size": ("kernel_shape", "ksize"),
    "stride": ("strides",),
    "dilation": ("dilations",),
    "groups": ("group",),
    "approximate": ("approximate",),
}
"""What ONNX calls the arguments of a framework's operators."""


def differences(row: Mapping[str, Any]) -> list[str]:
    """What the native call says and the ONNX nodes do not, or say otherwise; empty where all has a counterpart.

    Args:
        row: A fault of :func:`onnxeq.runners.taught.run`.
    """
    said = []
    for name in row["explicit"]:
        if name in _NO_MEANING:
            continue
        try:
            value = ast.literal_eval(row["arguments"][name])
        except (ValueError, SyntaxError):
            continue  # a size that is computed when the graph runs
        said += _difference(name, value, row["nodes"])
    return said


def _difference(name: str, value: Any, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    names = (name, *_OTHER_NAMES.get(name, ()))
    for node in nodes:
        for attribute in names:
            if attribute not in node["attributes"]:
                continue
            theirs = node["attributes"][attribute]
            if _equal(value, theirs):
                return []
            return [f"{name} is {value!r} natively and {attribute} {theirs!r} in {node['op_type']}"]
    if isinstance(value, bool) or value is None:
        return []  # a switch may well decide which nodes there are
    if isinstance(value, str):
        words = {str(v).lower() for node in nodes for v in (*node["attributes"].values(), node["op_type"])}
        kinds = ", ".join(dict.fromkeys(node["op_type"] for node in nodes))
        return [] if value.lower() in words else [f"{name}={value!r} has no counterpart in {kinds}"]
    present = [number for node in nodes for number in _numbers([node["attributes"], node["constants"]])]
    missing = [n for n in _numbers(value) if n and not any(math.isclose(abs(n), abs(p), rel_tol=1e-6) for p in present)]
    if not missing:
        return []
    kinds = ", ".join(dict.fromkeys(node["op_type"] for node in nodes))
    return [f"{name}={value!r} has no counterpart in {kinds}"]


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str) or isinstance(theirs, str):
        return str(ours).lower() == str(theirs).lower()
    a, b = sorted(set(_numbers(ours))), sorted(set(_numbers(theirs)))
    return len(a) == len(b) and all(math.isclose(x, y, rel_tol=1e-6) for x, y in zip(a, b, strict=True))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (bool, int, float)):
        yield float(value)
