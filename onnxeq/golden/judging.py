"""How far today's executions are from a golden's, and what of the provenance is another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxeq.arrays import dtype_name
from onnxeq.golden.building import condensed_trace, distance, unit_trace
from onnxeq.golden.findings import Change, Distance
from onnxeq.golden.measured import Measured
from onnxeq.golden.today import Ran, Today
from onnxeq.golden.values import Born, Golden, Identity, Role
from onnxeq.ladder import SHARP
from onnxeq.measure import compare
from onnxeq.types import Array, Feed

__all__ = ["changes", "distances", "golden_trace", "referee_distance"]


def golden_trace(golden: Golden, arrays: Mapping[str, Array], kind: str) -> list[Feed]:
    """What a golden keeps of an execution or of a unit, condensed; outputs that it does not keep are absent."""
    trace: list[dict[str, Array]] = [{} for _ in range(golden.inputs.feeds)]
    for output in golden.outputs:
        key = f"{kind}/{output.feed}/{output.name}"
        if key in arrays:
            trace[output.feed][output.name] = arrays[key]
    return list(trace)


def distances(golden: Golden, arrays: Mapping[str, Array], today: Today) -> tuple[Distance, ...]:
    """Today's executions against the golden's; an imported golden is held against the one that users see."""
    found = []
    for born in golden.executions:
        if born.role is Role.REFEREE:
            continue
        ran = _counterpart(born, today)
        if ran is not None:
            found.append(_distance(golden, arrays, born, ran))
    return tuple(found)


def _counterpart(born: Born, today: Today) -> Ran | None:
    if born.role is Role.IMPORTED:
        return next(iter(today.executions.values()), None)
    return today.executions.get(born.role)


def _distance(golden: Golden, arrays: Mapping[str, Array], born: Born, ran: Ran) -> Distance:
    limit = golden.bar.limit
    expected = tuple((o.feed, o.name) for o in golden.outputs)
    if ran.keys == expected and ran.sha256 == born.sha256:
        return Distance(born.role, ran.name, True, 0.0, limit, 0.0, "")
    problem = _attributes(golden, ran.trace) if ran.trace else _names(golden, ran)
    if problem:
        return Distance(born.role, ran.name, False, np.inf, limit, np.inf, problem[0], problem[1])
    ours = golden_trace(golden, arrays, born.role.value)
    unit = [] if golden.bar.missing else golden_trace(golden, arrays, "unit")
    apart = distance(ours, condensed_trace(ran.trace), unit)
    said = apart.problem or apart.undecided
    return Distance(born.role, ran.name, False, apart.ratio, limit, apart.max_abs, apart.output, said)


def _attributes(golden: Golden, trace: Sequence[Feed]) -> tuple[str, str] | None:
    """The first output that is missing, new, or of another type or shape; with what to say of it."""
    if len(trace) < golden.inputs.feeds:
        return "", f"only {len(trace)} of {golden.inputs.feeds} inputs could be run"
    for output in golden.outputs:
        value = trace[output.feed].get(output.name)
        if value is None:
            return output.name, f"output '{output.name}' is gone"
        now, before = _text(dtype_name(value), value.shape), _text(output.dtype, output.shape)
        if now != before:
            return output.name, f"output '{output.name}' is {now}, it was {before}"
    known = {o.name for o in golden.outputs}
    new = next((name for name in trace[0] if name not in known), None)
    return None if new is None else (new, f"output '{new}' is new")


def _names(golden: Golden, ran: Ran) -> tuple[str, str] | None:
    """The same of outputs that have the golden's bits, so that their arrays were not asked for."""
    before, now = {o.name for o in golden.outputs}, {name for _, name in ran.keys}
    if gone := sorted(before - now):
        return gone[0], f"output '{gone[0]}' is gone"
    new = sorted(now - before)
    return (new[0], f"output '{new[0]}' is new") if new else ("", "the outputs come in another order")


def _text(dtype: str, shape: Sequence[int]) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def referee_distance(golden: Golden, arrays: Mapping[str, Array], measured: Measured) -> Distance | None:
    """Today's float64 outputs against the golden's, in the constant floor; ``None`` where one side has none.

    Agreement to float64 rounding is tried first: the same model gives that whatever its constants are.
    """
    ours = golden_trace(golden, arrays, Role.REFEREE.value)
    if not measured.trace or not any(ours):
        return None
    theirs, limit = condensed_trace(measured.trace), golden.bar.floor
    if problem := _attributes_of_referee(ours, theirs):
        return Distance(Role.REFEREE, "referee/f64", False, np.inf, limit, np.inf, "", problem)
    rounding = golden_trace(golden, arrays, "unit")
    double = [{k: v.astype(np.float64) * 2.0**-29 for k, v in feed.items()} for feed in rounding]
    sharp = compare(ours, theirs, double, step=2.0**-52)
    if sharp.ratio <= SHARP and not sharp.undecided and not sharp.problem:
        return Distance(Role.REFEREE, "referee/f64", True, 0.0, limit, sharp.max_abs, sharp.output)
    floor = golden_trace(golden, arrays, "floor")
    unit = [
        {k: np.hypot(v.astype(np.float64), SHARP * d[k]) for k, v in f.items() if k in d}
        for f, d in zip(floor, double, strict=True)
    ]
    apart = compare(ours, theirs, unit, step=2.0**-53)
    return Distance(Role.REFEREE, "referee/f64", False, apart.ratio, limit, apart.max_abs, apart.output, apart.problem)


def _attributes_of_referee(ours: Sequence[Feed], theirs: Sequence[Feed]) -> str:
    if len(ours) != len(theirs):
        return f"only {len(theirs)} of {len(ours)} inputs could be run"
    for before, now in zip(ours, theirs, strict=True):
        for name in before:
            if name not in now:
                return f"output '{name}' is gone"
            if before[name].shape != now[name].shape:
                return f"output '{name}' has another shape"
    return ""


def agrees(measured: Measured, ran: Ran) -> Distance:
    """One of today's float32 executions against today's referee, in today's rounding noise."""
    theirs = condensed_trace(ran.trace)
    ours, unit = condensed_trace(measured.trace), unit_trace(measured.rounding, measured.trace)
    from onnxeq.golden.building import BAR

    apart = distance(ours, theirs, unit)
    said = apart.problem or apart.undecided
    return Distance(ran.role, ran.name, False, apart.ratio, BAR.limit, apart.max_abs, apart.output, said)


_QUIET = frozenset({"cores"})


def changes(golden: Golden, today: Today, identity: Identity | None) -> tuple[Change, ...]:
    """Provenance lines that are other ones now; ``identity`` is today's, ``None`` when the ONNX file is the same."""
    before, now = dict(golden.provenance), dict(today.provenance)
    if identity is not None:
        for key in ("onnx", "graph", "weights"):
            before[f"{key}_sha256"] = getattr(golden.identity, key)[:12]
            now[f"{key}_sha256"] = getattr(identity, key)[:12]
    before["native_weights_sha256"] = golden.identity.native[:12]
    now["native_weights_sha256"] = today.native_sha256[:12]
    keys = [k for k in dict.fromkeys([*before, *now]) if k not in _QUIET]
    differing = (Change(k, before.get(k, ""), now.get(k, "")) for k in keys)
    return tuple(c for c in differing if c.before != c.now)
