"""Whether a discontinuity explains a difference: a job for when a float32 rung breaks on a graph that has one.

A value beside a tie goes one way in exact arithmetic and the other way in float32: both are right, and everything
behind differs by far more than rounding. So the referee is run once more with the runtime's decisions at every
discontinuous node (it *re-anchors* there). A decision counts as explained when the referee takes it, too, for inputs
within :data:`onnxeq.noise.AMPLITUDE` units of rounding noise of its own. What is left behind the anchors is then
compared as usual, in rounding noise that was measured with the same anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from onnxeq.arrays import save_feeds
from onnxeq.graph.files import write
from onnxeq.graph.inspect import load
from onnxeq.inputs import adapt
from onnxeq.noise import AMPLITUDE, UNIT_ROUNDOFF, RoundingNoise
from onnxeq.perturbation import Signs
from onnxeq.referee import Executor
from onnxeq.referee.again import compute_again
from onnxeq.referee.elements import lift
from onnxeq.referee.plan import node_label
from onnxeq.runners.runtime import feeds_of, options_of, outputs_of, runner_of
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["run"]

Real: TypeAlias = "NDArray[np.float64]"

DISCONTINUOUS = frozenset(
    "Round Floor Ceil Sign Cast CastLike QuantizeLinear DynamicQuantizeLinear ArgMax ArgMin TopK Hardmax Mod "
    "Equal Less Greater LessOrEqual GreaterOrEqual NonMaxSuppression Resize Upsample".split()
)
"""Operators whose results jump: casts count where they make integers, resampling where it takes the nearest."""

_RESAMPLING = frozenset({"Resize", "Upsample"})
"""Their jumps come from coordinates, which runtimes compute in float32; what they give are values handed on."""

_DRAWS = 2
_TRIES = 24
"""Ways in which a decision's inputs are moved: an element beside its tie goes the other way in half of them."""

_CLOSE = 2.0**-18
"""Relative difference of float results up to which a decision is the same one: the values selected are rounded."""


@dataclass
class _Decision:
    """What a discontinuous node decided in one run, and how its inputs moved under the draws."""

    info: NodeInfo
    inputs: list[Value]
    theirs: list[Array]
    squares: list[Any] = field(default_factory=list)


def run(job: Job) -> dict[str, Any]:
    """Runs the runtime with probes at the discontinuous nodes, and the referee with what they decided.

    Parameters: ``names``, ``seed``, ``runner``, and ``optimize`` (whether the optimised graph is the one to explain).
    Writes the traces ``anchored`` (the referee's), ``unit`` (its rounding noise) and ``probed`` (the runtime's
    outputs).

    Returns:
        ``flips``: one row for each node and feed in which some elements went the other way, with ``node``,
        ``op_type``, ``count``, ``size``, ``feed`` and whether it is ``explained``.
    """
    params = job.params
    job.step("load")
    model = load(job.inputs["model"])
    nodes = [n for n in model.graph.node if _jumps(n)]
    feeds = feeds_of(job)
    own = [o.name for o in model.graph.output]
    if not nodes:
        return {"flips": []}
    job.step("probe the runtime")
    probed = _probe(job, model, nodes, feeds)
    save_feeds(job.out / "probed", [{k: f[k] for k in own if k in f} for f in probed])
    executor = Executor(model, base_dir=job.inputs["model"].parent)
    dtypes = {s.name: s.dtype for s in executor.inputs}
    flips: list[dict[str, Any]] = []
    anchored: list[Feed] = []
    units: list[Feed] = []
    for index, feed in enumerate(feeds):
        job.step(f"anchor feed {index + 1} of {len(feeds)}")
        given = adapt(feed, dtypes)
        base, unit, decisions = _anchored(executor, given, probed[index], int(params["seed"]))
        anchored.append(base)
        units.append(unit)
        rows = [
            {**_row(d, index), "explained": _explained(d, int(params["seed"]) + i)} for i, d in enumerate(decisions)
        ]
        flips += [row for row in rows if row["count"]]
    save_feeds(job.out / "anchored", anchored)
    save_feeds(job.out / "unit", units)
    return {"flips": flips}


def _jumps(node: onnx.NodeProto) -> bool:
    """Whether a node is one of the discontinuous."""
    modes = [a.s for a in node.attribute if a.name == "mode"]
    nearest = node.op_type not in _RESAMPLING or modes in ([], [b"nearest"])
    return node.op_type in DISCONTINUOUS and node.domain in ("", "ai.onnx") and nearest


def _probe(job: Job, model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], feeds: Sequence[Feed]) -> list[Feed]:
    """The outputs of the runtime, and the results of the nodes."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    known = {o.name for o in model.graph.output}
    wanted = [name for node in nodes for name in node.output if name and name not in known]
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    path = write(probed, job.out / "probed.onnx")
    session = runner_of(job).open(path, options_of(job.params))
    return [outputs_of(session, feed) for feed in feeds]


def _anchored(
    executor: Executor, feed: Feed, theirs: Feed, seed: int
) -> tuple[dict[str, Array], dict[str, Array], list[_Decision]]:
    """The referee's outputs with the runtime's decisions, their rounding unit, and the decisions that differed."""
    first = _Anchor(theirs, None)
    base = {k: np.asarray(v) for k, v in executor.run(feed, hook=first).items()}
    squares = {k: np.zeros(v.shape) for k, v in base.items()}
    for draw in range(_DRAWS):
        hook = _Anchor(theirs, RoundingNoise(seed * 1000 + draw))
        moved = executor.run(feed, hook=hook)
        for name, value in base.items():
            if value.dtype == np.float64 and np.shape(moved[name]) == value.shape:
                with np.errstate(invalid="ignore"):
                    squares[name] += np.nan_to_num(np.square((moved[name] - value) / AMPLITUDE)) / _DRAWS
        for decision in first.flipped:
            other = hook.inputs[decision.info.node.output[0]]
            decision.squares.append([_square(a, b) for a, b in zip(decision.inputs, other, strict=True)])
    return base, {k: np.sqrt(v) for k, v in squares.items()}, first.flipped


def _square(a: Value, b: Value) -> Any:
    if not isinstance(a, np.ndarray) or a.dtype != np.float64 or np.shape(b) != a.shape:
        return 0.0
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.square((b - a) / AMPLITUDE))


class _Anchor:
    """A hook that goes on with the runtime's result at each discontinuous node, and perturbs the others."""

    def __init__(self, theirs: Feed, noise: RoundingNoise | None) -> None:
        self._theirs = theirs
        self._noise = noise
        self.flipped: list[_Decision] = []
        self.inputs: dict[str, list[Value]] = {}

    def constant(self, _name: str, value: Real, _dtype: str) -> Real:
        return value

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        node = info.node
        if info.path or info.exact or not _jumps(node) or node.output[0] not in self._theirs:
            return outputs if self._noise is None else self._noise.node(info, inputs, outputs)
        theirs = [self._theirs.get(name) for name in node.output]
        fits = all(t is None or np.shape(t) == np.shape(o) for t, o in zip(theirs, outputs, strict=False))
        if not fits:  # a number of boxes that rounding changes: nothing to go on with
            return outputs
        self.inputs[node.output[0]] = list(inputs)
        if self._noise is None and any(_other(o, t).any() for o, t in zip(outputs, theirs, strict=False)):
            kept = [v.copy() if isinstance(v, np.ndarray) else v for v in inputs]
            self.flipped.append(_Decision(info, kept, [np.asarray(t) for t in theirs if t is not None]))
        return [o if t is None else lift(t) for o, t in zip(outputs, theirs, strict=False)]


def _other(ours: Value, theirs: Value) -> NDArray[np.bool_]:
    """The elements that were decided differently."""
    if theirs is None:
        return np.zeros(1, dtype=bool)
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return np.asarray(a != b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray(~np.isclose(a, b, rtol=_CLOSE, atol=0.0, equal_nan=True))


def _reach(decision: _Decision) -> list[Any]:
    """How far each input may be moved: the limit's number of units of its own noise."""
    reach = []
    for position in range(len(decision.inputs)):
        mean = sum(draw[position] for draw in decision.squares) / max(1, len(decision.squares))
        # As in measure.compare: a small unit may be luck of the draw, the typical one holds as well.
        reach.append(AMPLITUDE * np.sqrt((mean + np.mean(mean)) / 2 + np.zeros(1)))
    return reach


def _open(decision: _Decision, given: Sequence[Value], reach: Sequence[Any]) -> list[NDArray[np.bool_]]:
    """The elements of ``given`` that the runtime decided differently."""
    found = [_other(o, t) for o, t in zip(given, decision.theirs, strict=False)]
    if decision.info.node.op_type in _RESAMPLING:  # what was handed on may have been rounded before
        near = [
            np.abs(np.asarray(o, np.float64) - t) <= np.max(reach[0])
            for o, t in zip(given, decision.theirs, strict=False)
        ]
        found = [f & ~n for f, n in zip(found, near, strict=True)]
    return found


def _row(decision: _Decision, feed: int) -> dict[str, Any]:
    flipped = _open(decision, compute_again(decision.info, decision.inputs) or [], _reach(decision))
    worst = max(flipped, key=lambda f: int(f.sum()), default=np.zeros(0, dtype=bool))
    node = decision.info.node
    return {
        "node": node_label(node),
        "op_type": node.op_type,
        "count": int(worst.sum()),
        "size": worst.size,
        "feed": feed,
    }


def _explained(decision: _Decision, seed: int) -> bool:
    """Whether every element that differs is what the node gives for inputs within the limit's reach."""
    reach = _reach(decision)
    signs = Signs(seed)
    open_ = _open(decision, compute_again(decision.info, decision.inputs) or [], reach)
    for attempt in range(_TRIES):
        moved = [
            v + signs(v.shape) * r if isinstance(v, np.ndarray) and v.dtype == np.float64 and v.size else v
            for v, r in zip(decision.inputs, reach, strict=True)
        ]
        nudge = AMPLITUDE * UNIT_ROUNDOFF["float32"] * (1 if attempt % 2 else -1)
        given = compute_again(decision.info, moved, nudge=nudge) or []
        open_ = [still & now for still, now in zip(open_, _open(decision, given, reach), strict=False)]
        if not any(still.any() for still in open_):
            return True
    return False
