"""A golden from what was executed: the record and its arrays."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxeq.arrays import dtype_name
from onnxeq.golden.condense import condensed, condensed_unit, digest, is_large, statistics
from onnxeq.golden.identity import Marks
from onnxeq.golden.layers import to_arrays
from onnxeq.golden.measured import Measured
from onnxeq.golden.today import Today
from onnxeq.golden.values import Agreement, Bar, Born, Golden, Identity, Origin, OutputRecord, Role
from onnxeq.ladder import BARE_UNITS, LIMITS
from onnxeq.measure import Measure, compare
from onnxeq.types import Array, Feed

__all__ = [
    "BAR",
    "agreements",
    "build",
    "condensed_trace",
    "distance",
    "imported_outputs",
    "marks_of",
    "today_text",
    "unit_trace",
]

BAR = Bar(LIMITS["versions"].factor, LIMITS["weights"].factor)
"""Both limits are the ladder's own, beside whose evidence they stand there."""


def today_text() -> str:
    """The day, in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def condensed_trace(trace: Sequence[Feed]) -> list[Feed]:
    """A trace as goldens compare it."""
    return [{name: condensed(value) for name, value in feed.items()} for feed in trace]


def unit_trace(units: Sequence[Feed], trace: Sequence[Feed]) -> list[Feed]:
    """Units for :func:`condensed_trace`."""
    return [
        {name: condensed_unit(unit, values[name]) for name, unit in feed.items() if name in values}
        for feed, values in zip(units, trace, strict=True)
    ]


def distance(ours: Sequence[Feed], theirs: Sequence[Feed], unit: Sequence[Feed]) -> Measure:
    """How far two float32 traces are apart, in rounding noise; without units, in spacings of float32."""
    if not unit:
        return compare(ours, theirs, None, step=BARE_UNITS * 2.0**-24)
    return compare(ours, theirs, unit, step=2.0**-24)


def agreements(traces: Mapping[str, Sequence[Feed]], unit: Sequence[Feed]) -> tuple[Agreement, ...]:
    """How far each two executions are apart, condensed traces by name."""
    names = list(traces)
    found = []
    for i, second in enumerate(names):
        for first in names[:i]:
            apart = distance(traces[first], traces[second], unit)
            found.append(Agreement(first, second, _short(apart.ratio, 3), _short(apart.max_abs, 3)))
    return tuple(found)


def build(
    today: Today,
    measured: Measured,
    identity: Identity,
    marks: Marks,
    *,
    model: str,
    notes: Sequence[str] = (),
) -> tuple[Golden, dict[str, Array]]:
    """The golden of what a model gives today; where its arrays lie is filled in when they are written.

    Args:
        today: Its executions, their traces whole.
        measured: The referee's account.
        identity: What the model is.
        marks: Its weights and nodes.
        model: The reference as the record has it.
        notes: What a reader must know.
    """
    arrays: dict[str, Array] = dict(today.kept) | _marks_array(marks)
    arrays |= {k: v for k, v in today.subject.arrays.items() if k.startswith("input/")}
    ran = list(today.executions.values())
    first = ran[0].trace
    for each in ran:
        arrays |= _named(each.role.value, condensed_trace(each.trace))
    if measured.trace:
        arrays |= _named(Role.REFEREE.value, condensed_trace(measured.trace))
        arrays |= _named("unit", _single(unit_trace(measured.rounding, measured.trace)))
        arrays |= _named("floor", _single(unit_trace(measured.floor, measured.trace)))
    if measured.layers is not None:
        arrays |= to_arrays(measured.layers)
    keys = [(i, name) for i, feed in enumerate(first) for name in feed]
    born = [Born(e.role, e.name, tuple(_sha(e.trace, key) for key in keys)) for e in ran]
    if measured.trace:
        born.append(Born(Role.REFEREE, "referee/f64", tuple(_sha(measured.trace, key) for key in keys)))
    golden = Golden(
        name=today.subject.name,
        model=model,
        origin=Origin.RECORDED,
        on=today_text(),
        arrays="",
        arrays_sha256="",
        how=today.subject.how,
        inputs=today.inputs,
        identity=identity,
        provenance=today.provenance,
        executions=tuple(born),
        outputs=tuple(_output(i, n, first[i][n], measured) for i, n in keys),
        agreement=_agreement(today, measured),
        bar=replace(BAR, missing=measured.missing),
        layers=0 if measured.layers is None else len(measured.layers.names),
        notes=(*today.notes, *notes),
    )
    return golden, arrays


def _agreement(today: Today, measured: Measured) -> tuple[Agreement, ...]:
    traces: dict[str, Sequence[Feed]] = {e.name: condensed_trace(e.trace) for e in today.executions.values()}
    unit: Sequence[Feed] = ()
    if measured.trace:
        traces = {"referee/f64": condensed_trace(measured.trace)} | traces
        unit = unit_trace(measured.rounding, measured.trace)
    return agreements(traces, unit)


def _sha(trace: Sequence[Feed], key: tuple[int, str]) -> str:
    index, name = key
    return digest(trace[index][name]) if name in trace[index] else ""


def _named(kind: str, trace: Sequence[Feed]) -> dict[str, Array]:
    return {f"{kind}/{i}/{name}": value for i, feed in enumerate(trace) for name, value in feed.items()}


def _single(trace: Sequence[Feed]) -> list[Feed]:
    """Units in float32: three digits of them are known."""
    with np.errstate(over="ignore"):
        return [{name: value.astype(np.float32) for name, value in feed.items()} for feed in trace]


def imported_outputs(outputs: Sequence[OutputRecord], trace: Sequence[Feed]) -> tuple[OutputRecord, ...]:
    """The records of outputs with the figures of other arrays in their place."""
    found = []
    for output in outputs:
        own = _output(output.feed, output.name, trace[output.feed][output.name], Measured())
        found.append(replace(own, noise=output.noise, floor=output.floor))
    return tuple(found)


def _output(index: int, name: str, value: Array, measured: Measured) -> OutputRecord:
    figures = statistics(value)
    return OutputRecord(
        feed=index,
        name=name,
        dtype=dtype_name(value),
        shape=tuple(int(d) for d in value.shape),
        sampled=is_large(value),
        min=_short(figures.min),
        max=_short(figures.max),
        mean=_short(figures.mean),
        l2=_short(figures.l2),
        top=figures.top,
        top_values=tuple(_short(v) for v in figures.top_values),
        noise=_short(_rms(measured.rounding, index, name), 3),
        floor=_short(_rms(measured.floor, index, name), 3),
    )


def _short(value: float, digits: int = 6) -> float:
    """A figure for a person: the arrays hold all digits."""
    return float(f"{value:.{digits}g}")


def _rms(units: Sequence[Feed], index: int, name: str) -> float:
    if index >= len(units) or name not in units[index] or units[index][name].size == 0:
        return math.nan
    return float(np.sqrt(np.mean(np.square(units[index][name].astype(np.float64)))))


def _marks_array(marks: Marks) -> dict[str, Array]:
    text = json.dumps({"weights": dict(marks.weights), "nodes": list(marks.nodes)}, separators=(",", ":"))
    return {"marks": np.frombuffer(text.encode(), np.uint8)}


def marks_of(arrays: Mapping[str, Array]) -> Marks:
    """The marks that a golden keeps."""
    if "marks" not in arrays:
        return Marks({}, ())
    held: dict[str, Any] = json.loads(arrays["marks"].tobytes().decode())
    weights = {str(name): (str(row[0]), str(row[1])) for name, row in held["weights"].items()}
    return Marks(weights, [(str(a), str(b), str(c), str(d)) for a, b, c, d in held["nodes"]])
