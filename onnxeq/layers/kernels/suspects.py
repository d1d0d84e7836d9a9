"""The nodes whose own error is more than rounding, and what each of them does to the outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from onnxeq.errors import CannotRun, OnnxeqError
from onnxeq.layers.judging.local import SUSPECT, LocalError, local_errors
from onnxeq.layers.kernels.hidden import hiding
from onnxeq.layers.kernels.trials import Bench
from onnxeq.layers.probes import MOST_BYTES, Extent, GraphIndex, Prober, parts, survey
from onnxeq.referee.elements import lift
from onnxeq.runners.runtime import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from onnxeq.referee import Executor, NodeInfo, Value
    from onnxeq.types import Array, Feed

__all__ = ["Analysis", "Suspect", "analyse", "inject"]

Real: TypeAlias = "NDArray[np.float64]"

_MOST_INJECTED = 16


@dataclass(frozen=True)
class Suspect:
    """A node with an error of its own, and what that error alone does to the outputs of the float64 run.

    Attributes:
        error: The error.
        feed: On which feed it is largest.
        effect: How far it moves the outputs, in their rounding noise.
        moved: The same, absolutely, at ``output``.
        output: Where it moves them most.
        region: The nodes that were judged together with it, because the values between them are not known; the
            nearest first.
    """

    error: LocalError
    feed: int
    effect: float = 0.0
    moved: float = 0.0
    output: str = ""
    region: tuple[onnx.NodeProto, ...] = ()


@dataclass
class Analysis:
    """What was seen of a runtime's inner values.

    Attributes:
        suspects: Worst first.
        judged: How many nodes were looked at.
        healthy: The largest local error among the others, in rounding noise.
        totals: Operator -> how many nodes of it were looked at.
        changed: Whether the outputs had other bits when inner values were asked for.
        shows: Whether the fault still showed then.
        hidden: Values that were not asked for, because asking for them makes the fault go away.
    """

    suspects: list[Suspect] = field(default_factory=list)
    judged: int = 0
    healthy: float = 0.0
    totals: dict[str, int] = field(default_factory=dict)
    changed: bool = False
    shows: bool = True
    hidden: tuple[str, ...] = ()


def analyse(
    executor: Executor,
    model: onnx.ModelProto,
    benches: Sequence[Bench],
    seed: int,
    folder: Path,
    step: Callable[[str], None],
    *,
    subject: onnx.ModelProto | None = None,
) -> Analysis:
    """Looks at every node of a graph as a runtime runs it.

    Args:
        executor: The referee of ``model``.
        model: The graph that is meant.
        benches: The runtime with each feed, the worst first.
        seed: Of the draws.
        folder: Where the probed copies lie.
        step: Told what begins.
        subject: The graph that is run in its place, an optimised form of it; values of one name are the same.
    """
    index = GraphIndex(model)
    ran = subject or model
    made = set(GraphIndex(ran).makers)
    extents = _extents(executor, benches)
    shared = {n: e for n, e in extents.items() if n in made and _can_be_output(index.makers[n])}
    benches = benches if sum(e.nbytes for e in shared.values()) <= MOST_BYTES else benches[:2]
    prober = Prober(ran, folder)
    found = _look(executor, index, shared, benches, prober, seed, step)
    if not found.shows:
        step("values that hide the fault")
        inner = [n for node in index.nodes for n in node.output if n in shared and n not in index.outputs]
        hidden = hiding(inner, lambda names: not _shows(benches[0], prober, names, shared))
        if hidden and len(hidden) < len(inner):
            known = {n: e for n, e in shared.items() if n not in hidden}
            again = _look(executor, index, known, benches, prober, seed, step)
            if again.suspects:
                found, shared = replace(again, hidden=tuple(hidden)), known
    found.suspects = [replace(s, region=_region(index, shared, s.error.value)) for s in found.suspects]
    _weigh(found, executor, benches)
    return found


def _shows(bench: Bench, prober: Prober, wanted: Sequence[str], extents: Mapping[str, Extent]) -> bool:
    """Whether the outputs are wrong while these values are asked for."""
    values = _open(bench, prober, wanted, extents).run(bench.feed)
    return bench.judge(flatten(list(prober.outputs), [values[n] for n in prober.outputs])).broken


def _region(index: GraphIndex, shared: Mapping[str, Extent], value: str) -> tuple[onnx.NodeProto, ...]:
    """The nodes between a value and the nearest known ones before it, its own left out; the nearest first."""
    found: list[onnx.NodeProto] = []
    pending = index.reads(index.makers[value])
    while pending:
        name = pending.pop(0)
        node = index.makers.get(name)
        if node is None or name in shared or node.op_type == "Constant" or any(node is other for other in found):
            continue
        found.append(node)
        pending += index.reads(node)
    return tuple(found)


def _look(
    executor: Executor,
    index: GraphIndex,
    shared: Mapping[str, Extent],
    benches: Sequence[Bench],
    prober: Prober,
    seed: int,
    step: Callable[[str], None],
) -> Analysis:
    """The local errors at all known values, sorted."""
    total = sum(e.nbytes for e in shared.values())
    found = Analysis(shows=False)
    worst: dict[tuple[int, str], LocalError] = {}
    labels: dict[str, str] = {}
    for number, part in enumerate(parts(index, shared)):
        step(f"nodes, part {number + 1}" if total > MOST_BYTES else "nodes")
        session = _open(benches[0], prober, sorted(part.probed), shared)
        for position, bench in enumerate(benches):
            values = session.run(bench.feed)
            own = flatten(list(prober.outputs), [values[n] for n in prober.outputs])
            unprobed = bench.run() if number == 0 else None
            if unprobed is not None:
                found.changed |= not _same(own, unprobed.outputs)
                found.shows |= bench.judge(own).broken
            theirs = {name: values[name] for name in part.probed if values.get(name) is not None}
            judged = frozenset(part.judged & set(theirs))
            for error in local_errors(executor, bench.feed, theirs, judged, seed):
                worst[position, error.value] = error
                labels[error.value] = error.info.node.op_type
    _sort(found, worst, labels)
    return found


def _extents(executor: Executor, benches: Sequence[Bench]) -> dict[str, Extent]:
    """Types and sizes of the values, seen on the smallest feed and stretched to the largest."""
    feeds = sorted((b.feed for b in benches), key=_size)
    stretch = -(-_size(feeds[-1]) // max(1, _size(feeds[0])))
    return {n: replace(e, nbytes=e.nbytes * stretch) for n, e in survey(executor, feeds[0]).items()}


def _size(feed: Feed) -> int:
    return sum(int(np.asarray(v).size) for v in feed.values())


def _can_be_output(node: onnx.NodeProto) -> bool:
    """Optional values are no outputs that every runtime gives, and constants are known."""
    return node.op_type != "Constant" and "Optional" not in node.op_type


def _open(bench: Bench, prober: Prober, wanted: Sequence[str], extents: Mapping[str, Extent]) -> Any:
    """A session with probes; if the runtime refuses the types that the referee gives them, without types."""
    with contextlib.suppress(CannotRun):
        return bench.runner.open(prober.write(wanted, extents), bench.options)
    return bench.runner.open(prober.write(wanted, extents, typed=False), bench.options)


def _same(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return all(k in b and np.asarray(v).tobytes() == np.asarray(b[k]).tobytes() for k, v in a.items())


def _sort(found: Analysis, worst: Mapping[tuple[int, str], LocalError], operators: Mapping[str, str]) -> None:
    """The suspects, one value for each node and feed, and what is said of the others."""
    nodes: dict[int, tuple[int, LocalError]] = {}
    for (feed, _), error in worst.items():
        key = id(error.info.node)
        if key not in nodes or error.ratio > nodes[key][1].ratio:
            nodes[key] = (feed, error)
    found.suspects = sorted(
        (Suspect(error, feed) for feed, error in nodes.values() if error.ratio > SUSPECT), key=lambda s: -s.error.ratio
    )
    found.judged = len(nodes)
    found.healthy = max((e.ratio for _, e in nodes.values() if e.ratio <= SUSPECT), default=0.0)
    for op_type in (operators[e.value] for _, e in nodes.values()):
        found.totals[op_type] = found.totals.get(op_type, 0) + 1


def _weigh(found: Analysis, executor: Executor, benches: Sequence[Bench]) -> None:
    """What each suspect's error alone does to the outputs."""
    weighed = []
    for position, suspect in enumerate(found.suspects):
        if position < _MOST_INJECTED:
            bench = benches[suspect.feed]
            with contextlib.suppress(OnnxeqError):
                moved = inject(executor, bench.feed, [suspect.error])
                measure = replace(bench, base=bench.exact).judge(moved).measure
                suspect = replace(suspect, effect=measure.ratio, moved=measure.max_abs, output=measure.output)
        weighed.append(suspect)
    found.suspects = weighed


def inject(executor: Executor, feed: Feed, errors: Sequence[LocalError]) -> dict[str, Array]:
    """The outputs of the float64 run with these errors put in at their nodes."""
    values = executor.run(feed, hook=_Injected(errors))
    return flatten(list(values), list(values.values()))


class _Injected:
    """A hook that adds a runtime's local errors where they were made."""

    def __init__(self, errors: Sequence[LocalError]) -> None:
        self._errors = {e.value: e for e in errors}

    def constant(self, _name: str, value: Real, _dtype: str) -> Real:
        return value

    def node(self, info: NodeInfo, _inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        if info.path:
            return outputs
        given = list(outputs)
        for position, name in enumerate(info.node.output):
            error = self._errors.get(name) if name else None
            if error is None or position >= len(given):
                continue
            if error.delta is None:
                given[position] = lift(error.theirs)
            elif np.shape(given[position]) == error.delta.shape:  # else another fault has changed the shape
                given[position] = given[position] + error.delta
        return given
