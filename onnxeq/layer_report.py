"""From the rows of a diff to its report: the verdict, and a cause for each layer that creates error."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxeq.layers.judging.judged import LOSSY
from onnxeq.layers.judging.roles import LOCAL, PROPAGATED
from onnxeq.reduced import REDUCED
from onnxeq.referee.plan import node_label
from onnxeq.types import Cause, CauseKind, Layer, LayerError, PairedBy, Role, Rung, Status, Verdict, Where

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Reason",
    "allowing",
    "causes_of",
    "creating",
    "named",
    "read_layers",
    "reasons_of",
    "rung_of",
    "verdict_of",
    "without_aftermath",
]


def read_layers(path: Path) -> tuple[Layer, ...]:
    """The rows that the job has written."""
    return tuple(_layer(row) for row in json.loads(path.read_text(encoding="utf-8")))


def _layer(row: Mapping[str, Any]) -> Layer:
    made = {
        "region": tuple(row["region"]),
        "shape": tuple(row["shape"]),
        "paired_by": None if row["paired_by"] is None else PairedBy(row["paired_by"]),
        "propagated": LayerError(**row["propagated"]),
        "local": LayerError(**row["local"]),
        "role": Role(row["role"]),
    }
    return Layer(**{**row, **made})


def creating(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that create error: those of which it is known what is different first, then the worst."""
    return sorted((r for r in layers if r.role is Role.CREATES), key=lambda r: (not r.reason, -r.local.ratio))


def rung_of(name: str, source: str, target: str, layers: Sequence[Layer], outputs: Sequence[str]) -> Rung:
    """How far the outputs are apart as they ran; by the worst of them."""
    rows = [row for row in layers if row.value in outputs and not math.isnan(row.propagated.ratio)]
    if not rows:
        nan = math.nan
        reason = "no output is known on both sides"
        return Rung(name, source, target, nan, nan, nan, PROPAGATED, Status.NOT_RUN, reason)
    worst = max(rows, key=lambda row: row.propagated.ratio)
    error = worst.propagated
    status = Status.FAIL if error.ratio > PROPAGATED else Status.PASS
    return Rung(
        name, source, target, error.max_abs, error.noise, error.ratio, PROPAGATED, status, worst.note, worst.value
    )


def allowing(rung: Rung, allowed: Mapping[str, float]) -> Rung:
    """The rung by what the user allows: a tolerance in the place of its limit, or a type whose noise explains it."""
    if rung.status is Status.NOT_RUN:
        return rung
    if "tolerance" in allowed:
        ratio = allowed["tolerance"]
        status = Status.PASS if ratio <= 1 else Status.FAIL
        return replace(rung, ratio=ratio, limit=1.0, noise=math.nan, status=status, reason="by --rtol and --atol")
    for kind, ratio in allowed.items():
        if rung.status is Status.FAIL and ratio <= REDUCED:
            said = f"accepted as {kind}: {ratio:.2g} of {REDUCED:g} times what {kind} does to this model"
            return replace(rung, limit=max(rung.ratio, rung.limit), status=Status.PASS, reason=said)
    return rung


def interface(graph: onnx.GraphProto, pairs: Mapping[str, str], source: Collection[str]) -> tuple[Cause, ...]:
    """A cause for each output that only one side has.

    Args:
        graph: The judged graph.
        pairs: Its outputs -> the source's; one that pairs with none has a name of its own
            (:func:`onnxeq.interface.pair_outputs`).
        source: The source's outputs.
    """
    makers = {name: node for node in graph.node for name in node.output}
    found = []
    for here, there in pairs.items():
        if there not in source:
            node = makers.get(here)
            where = Where(value=here) if node is None else Where(node_label(node), node.op_type, here)
            found.append(_of_interface(where, f"the artifact has the output '{here}', the source has none such"))
    for name in source:
        if name not in pairs.values():
            found.append(_of_interface(Where(value=name), f"the artifact lacks the source's output '{name}'"))
    return tuple(found)


def _of_interface(where: Where, words: str) -> Cause:
    return Cause(CauseKind.GRAPH, "interface", math.inf, where, words)


def verdict_of(layers: Sequence[Layer], rung: Rung, *, complete: bool) -> Verdict:
    """Divergent where a layer creates error or an output is further away than rounding brings it.

    ``complete`` is whether every output was compared: what was not is no evidence.
    """
    if rung.status is Status.FAIL or creating(layers):
        return Verdict.DIVERGENT
    return Verdict.EQUIVALENT if rung.status is Status.PASS and complete else Verdict.INCONCLUSIVE


@dataclass(frozen=True)
class Reason:
    """What is known to be different at a layer."""

    kind: CauseKind
    node: str
    op_type: str
    initializer: str
    words: str


def reasons_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Reason]:
    """Value -> the first thing that two graphs have differently there, with what else there is in its words."""
    found: dict[str, Reason] = {}
    for row in rows:
        made = Reason(CauseKind(row["kind"]), row["node"], row["op_type"], row["initializer"], row["words"])
        before = found.get(row["value"])
        found[row["value"]] = made if before is None else replace(before, words=f"{before.words}; {made.words}")
    return found


def named(layers: Sequence[Layer], reasons: Mapping[str, Reason]) -> tuple[Layer, ...]:
    """The rows, each that creates error with its reason, under the node at fault where several were judged together.

    That is the one that is known to be different, else the one that computes most: what a fused kernel only selects or
    moves has no error of its own.
    """
    return tuple(_named(row, reasons.get(row.value)) for row in layers)


def _named(row: Layer, reason: Reason | None) -> Layer:
    if row.role is not Role.CREATES or reason is None:
        return row
    row = replace(row, reason=reason.words if row.local.ratio > LOCAL else "")
    if reason.node in ("", row.node):
        return row
    others = tuple(node for node in (row.node, *row.region) if node != reason.node)
    return replace(row, node=reason.node, op_type=reason.op_type, region=others)


def without_aftermath(layers: Sequence[Layer], values: Collection[str]) -> tuple[Layer, ...]:
    """The rows, those that are off only because of others no longer creating error themselves."""
    note = "follows from the layers that create error"
    return tuple(replace(r, role=Role.PASSES, note=note) if r.value in values else r for r in layers)


def causes_of(layers: Sequence[Layer], rung: Rung, reasons: Mapping[str, Reason]) -> tuple[Cause, ...]:
    """A cause for each layer that creates error, worst first; or for the output, where no layer is at fault alone.

    Args:
        layers: The rows.
        rung: The two executions and how far their outputs are apart.
        reasons: Value -> what the two graphs have differently there.
    """
    made = []
    for row in creating(layers):
        reason = reasons.get(row.value, Reason(_kind(row, rung), "", "", "", ""))
        where = Where(reason.node or row.node, reason.op_type or row.op_type, row.value, row.native, reason.initializer)
        made.append(Cause(reason.kind, rung.name, row.local.ratio, where, _sentence(row, rung, reason.words)))
    if not made and rung.status is Status.FAIL and rung.reason:
        made.append(Cause(CauseKind.RUNTIME, rung.name, rung.ratio, Where(), f"{rung.target}: {rung.reason}"))
    elif not made and rung.status is Status.FAIL:
        worst = max(layers, key=lambda row: _number(row.propagated.ratio))
        said = (
            f"output '{rung.output}' is {rung.max_abs:.3g} apart, {rung.ratio:.3g} times the noise ({PROPAGATED:g}"
            f" allowed), though no layer alone exceeds its own rounding; the error is largest at {worst.node}"
        )
        where = Where(worst.node, worst.op_type, worst.value, worst.native)
        made.append(Cause(CauseKind.RUNTIME, rung.name, rung.ratio, where, said))
    return tuple(made)


def _kind(row: Layer, rung: Rung) -> CauseKind:
    """What a layer's error is by the side that makes it: a runtime's kernel, or the graph that was judged."""
    if _RANDOM in row.note:
        return CauseKind.NONDETERMINISM
    if row.note == LOSSY:
        return CauseKind.GRAPH
    if row.target_ratio > LOCAL and row.target_ratio >= row.source_ratio:
        return CauseKind.GRAPH if "referee/" in rung.target else CauseKind.RUNTIME  # a runner may have any name
    return CauseKind.GRAPH


_RANDOM = "is random"
"""What the referee says of a node that draws numbers."""


def _sentence(row: Layer, rung: Rung, words: str) -> str:
    joined = f" together with {', '.join(row.region[:3])}" if row.region else ""
    of = f" of {row.native}" if row.native else ""
    by_target = row.target_ratio > LOCAL and row.target_ratio >= row.source_ratio
    side = f"{rung.target} is" if by_target else f"what {rung.source} has there is"
    from_ = f"from what the graph makes of {'its own' if by_target else 'the same'} inputs"
    if row.note and math.isinf(row.local.ratio):
        return f"{words + '; ' if words else ''}node {row.node} ({row.op_type}){of}{joined}: {row.note}"
    if row.note == LOSSY:
        return f"node {row.node} ({row.op_type}){of}{joined}: {LOSSY}, {row.local.ratio:.3g} times as much"
    said = (
        f"node {row.node} ({row.op_type}){of}{joined}: {side} {row.local.max_abs:.3g} {from_}, {row.local.ratio:.3g}"
        f" times the layer's own rounding ({LOCAL:g} allowed)"
    )
    return f"{words}; {said}" if words else said


def _number(value: float) -> float:
    return -1.0 if math.isnan(value) else value
