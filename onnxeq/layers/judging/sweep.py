"""Two executions held against each other node by node, in one pass: what each layer adds, and what it is handed.

The judged graph runs once in float64, fed with the *source's* values: after each node the source's own value takes the
place of what was computed, wherever it is known. Beside it run, node by node, the same graph fed with the *target's*
values, and a copy that rounding has moved. So three things are known of every value:

- how far the two executions are apart as they ran, in the noise that rounding has made up to there (*propagated*);
- how far each is from what the node makes of its own inputs, in the rounding noise of this node (*local*): what came in
  is on both sides;
- by how much the node alone makes a relative error grow (its *condition*).

What lies between two known values is judged as one *region*: a folded BatchNormalization on the source's side, a fused
kernel on the target's. A value is forgotten right after its last reader, so the pass needs no more memory than a run.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from onnxeq.errors import OnnxeqError
from onnxeq.layers.judging.allowed import Allowed
from onnxeq.layers.judging.decisions import JUMPS
from onnxeq.layers.judging.judged import Found, Judged, Side, measured, with_condition
from onnxeq.layers.judging.recomputed import Recomputer
from onnxeq.measure import Measure
from onnxeq.noise import RoundingNoise
from onnxeq.referee.elements import lift
from onnxeq.referee.plan import captured_by, node_label
from onnxeq.rounding import is_rounded

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from onnxeq.referee import Executor, NodeInfo, Value
    from onnxeq.types import Array, Feed

__all__ = ["EXACT", "Found", "Values", "sweep"]

Real: TypeAlias = "NDArray[np.float64]"

_DISCRETE_DRAWS = 3
"""Copies that rounding moves where results may jump: an element near a tie flips in about half of them. Elsewhere one
is enough, since a unit is taken over many elements."""


class Values(Protocol):
    """The values of an execution under the names of the judged graph, read one at a time."""

    def __contains__(self, name: object) -> bool:
        """Whether there is one."""

    def array(self, name: str, like: Value) -> Array | None:
        """The value, lying as ``like``, what the graph makes in its place; ``None`` where it cannot lie so."""


class _Exact:
    """The referee itself as a side: it has what it computes."""

    def __contains__(self, name: object) -> bool:
        return True

    def array(self, name: str, like: Value) -> Array:
        del like
        raise KeyError(name)


EXACT: Values = _Exact()


def sweep(
    executor: Executor,
    graph: onnx.GraphProto,
    feed: Feed,
    source: Values,
    target: Values,
    seed: int,
    allowed: Allowed = Allowed(),  # noqa: B008 - a frozen value
) -> list[Found]:
    """Every value that either side has, in the order in which the graph computes them.

    Args:
        executor: The referee of the judged graph.
        graph: The judged graph.
        feed: Its inputs.
        source: The values of the execution that is taken as given; :data:`EXACT` for the referee's own.
        target: Those of the one that is judged, likewise.
        seed: Of the draws.
        allowed: What the user takes for fine besides float32's rounding.

    A node that fails on these inputs is the last that is told, with what it says.

    Raises:
        onnxeq.errors.OnnxeqError: The graph fails on these inputs, and which node does could not be told.
    """
    failed: list[Found] = []
    with _Sweep(Recomputer(executor, graph, feed), graph, (source, target), seed, allowed) as hook:
        try:
            executor.run(feed, hook=hook)
        except OnnxeqError as error:
            failed = [_failed(graph, error, source)]
        return [*hook.found(), *failed]


def _failed(graph: onnx.GraphProto, error: OnnxeqError, source: Values) -> Found:
    """The node that an executor's message names."""
    named = (n for n in graph.node if re.search(rf"node '?{re.escape(node_label(n))}(?![\w./])", error.message))
    node = next(named, None)
    if node is None:
        raise error
    value = next(name for name in node.output if name)
    fault = Measure(math.inf, 0.0, math.inf, value, problem=error.message)
    known = (source is not EXACT and value in source, False)
    return Found(value, node, "", (), known, Measure(), fault, fault, Measure(), ((), ()), math.nan)


def _draws(graph: onnx.GraphProto) -> int:
    return _DISCRETE_DRAWS if any(_jumps(node) for node in graph.node) else 1


@dataclass
class _Chain:
    """A run of the graph on one side's values.

    Attributes:
        values: Value by name, as long as somebody reads it; the main run keeps its own.
        moved: Draws of a value that was computed inside of a region.
        region: Labels of the nodes inside of the region that such a value belongs to.
    """

    values: dict[str, Value] = field(default_factory=dict)
    moved: dict[str, list[Value]] = field(default_factory=dict)
    region: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def forget(self, name: str) -> None:
        for held in (self.values, self.moved, self.region):
            held.pop(name, None)


class _Sweep:
    """The hook that does it; see the module.

    What a node makes of either side's inputs is computed side by side, and what was computed is measured while the
    nodes after it run: numpy leaves Python's lock alone for as long as it computes.
    """

    def __init__(
        self, again: Recomputer, graph: onnx.GraphProto, given: tuple[Values, Values], seed: int, allowed: Allowed
    ) -> None:
        self._again = again
        self._given = given
        self._allowed = allowed
        self._chains = (_Chain(), _Chain())
        self._noise = [RoundingNoise(seed * 1000 + draw) for draw in range(_draws(graph))]
        self._drift: dict[str, list[Value]] = {}  # moved by rounding from the start on, anchored at the source's values
        self._readers = _reader_counts(graph)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="onnxeq-sweep")
        self._asked: list[Future[Judged]] = []
        self._sides: list[Side | None] = [None, None]

    def __enter__(self) -> _Sweep:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def found(self) -> list[Found]:
        """Everything that was seen, in order, with the condition of each layer."""
        relative: dict[str, float] = {}
        return [with_condition(future.result(), relative) for future in self._asked]

    def constant(self, _name: str, value: Real, _dtype: str) -> Real:
        return value

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        if info.path:
            return outputs
        names, inputs = self._again.names(info), self._again.operands(info, inputs)
        theirs = [self._chains[1].values.get(n, v) for n, v in zip(names, inputs, strict=True)]
        asked = self._pool.submit(self._made, info, theirs, inputs, outputs)
        drifted = [self._drifted(info, draw, inputs, outputs) for draw in range(len(self._noise))]
        made = asked.result()
        given = list(outputs)
        for position, name in enumerate(info.node.output):
            if name and position < len(outputs):
                other = None if made is None or position >= len(made) else made[position]
                given[position] = self._settled(info, position, (inputs, theirs), (outputs[position], other))
                drift = [_shifted(given[position], outputs[position], d[position]) for d in drifted]
                if _decided_alike(given[position], self._chains[1].values.get(name)):
                    drift = [given[position]] * len(drift)  # a tie that neither side has taken otherwise is none
                self._drift[name] = drift
                self._again.keep(name, given[position], info.dtypes[position])
                self._judge(info, position, drift)
        reads = {n for n in (*info.node.input, *captured_by(info.node)) if n}
        self._readers.subtract(reads)
        self._forget(n for n in (*reads, *info.node.output) if self._readers[n] <= 0)
        return given

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            for chain in self._chains:
                chain.forget(name)
            self._again.forget(name)
            self._drift.pop(name, None)

    def _made(
        self, info: NodeInfo, given: Sequence[Value], inputs: Sequence[Value], outputs: list[Value]
    ) -> list[Value] | None:
        """What a node makes of other inputs than the main run's; ``None`` where the referee cannot tell."""
        same = all(one is other for one, other in zip(given, inputs, strict=True))
        return outputs if same else self._again.outputs(info, given)

    def _drifted(self, info: NodeInfo, draw: int, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """The node's results for inputs that rounding has moved from the start on, and its own rounding."""
        names = self._again.names(info)
        given = [self._drift[n][draw] if n in self._drift else v for n, v in zip(names, inputs, strict=True)]
        inner = self._again.outputs(info, given, self._noise[draw]) if info.composite else None
        moved = inner or self._made(info, given, inputs, outputs)
        return self._rounded(draw, info, given, outputs if moved is None else moved, outputs)

    def _rounded(
        self, draw: int, info: NodeInfo, inputs: Sequence[Value], outputs: Sequence[Value], shared: Sequence[Value]
    ) -> list[Value]:
        """Results moved by the node's own rounding; those that are somebody else's are copied first."""
        if not is_rounded(info):
            return list(outputs)
        copies = [v.copy() if isinstance(v, np.ndarray) and any(v is o for o in shared) else v for v in outputs]
        return self._noise[draw].node(info, inputs, copies)

    def _settled(
        self, info: NodeInfo, position: int, inputs: tuple[Sequence[Value], Sequence[Value]],
        exact: tuple[Value, Value],
    ) -> Value:  # fmt: skip
        """Looks a value up on both sides; gives what the source goes on with."""
        name = info.node.output[position]
        held = [_held(side, name, own) for side, own in zip(self._given, exact, strict=True)]
        for index in (0, 1):
            self._sides[index] = self._side(index, info, inputs[index], position, exact[index], held[index])
        return held[0] if _alike(held[0], exact[0]) else exact[0]

    def _side(
        self, index: int, info: NodeInfo, inputs: Sequence[Value], position: int, exact: Value, held: Value
    ) -> Side:
        """What is known of a value on one side; remembers for its readers what they go on with."""
        chain, name = self._chains[index], info.node.output[position]
        if index == 1:
            chain.values[name] = exact if held is None else held
        if exact is None:
            return Side(exact, held, inputs)
        names = self._again.names(info)
        inside = [n for n in names if n in chain.moved]
        region = tuple(dict.fromkeys(r for n in inside for r in chain.region[n]))
        if held is not None and not inside and not _needs_draws(info):
            return Side(exact, held, inputs)
        variants = []
        for draw in range(len(self._noise)):
            given = [chain.moved[n][draw] if n in inside else v for n, v in zip(names, inputs, strict=True)]
            hook = self._noise[draw] if info.composite else None
            moved = self._again.outputs(info, given, hook) if inside or info.composite else None
            results: list[Value] = [None] * len(info.dtypes)
            results[position] = exact if moved is None else moved[position]
            variants.append(self._rounded(draw, info, given, results, [exact])[position])
        if held is None:
            chain.moved[name], chain.region[name] = variants, (*region, node_label(info.node))
            return Side(exact, None, inputs, region)
        return Side(exact, held, inputs, region, tuple(variants))

    def _judge(self, info: NodeInfo, position: int, drift: Sequence[Value]) -> None:
        """Has a value measured, while the run goes on."""
        ours, theirs = self._sides
        if ours is None or theirs is None or (ours.held is None and theirs.held is None):
            return
        waiting = [future for future in self._asked[-_AHEAD:] if not future.done()]
        if len(waiting) == _AHEAD:  # what waits to be measured is held in memory
            waiting[0].result()
        self._asked.append(self._pool.submit(measured, info, position, (ours, theirs), drift, self._allowed))


_THREADS = 2
_AHEAD = 4
"""Values that may wait to be measured."""


def _jumps(node: onnx.NodeProto) -> bool:
    return node.op_type in JUMPS - {"MaxPool", "Cast", "CastLike"}


def _reader_counts(graph: onnx.GraphProto) -> Counter[str]:
    """How many of the nodes that run read each value; one more for the outputs, which stay."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    pending = [output.name for output in graph.output]
    counts = Counter(pending)
    seen: set[int] = set()
    while pending:
        maker = makers.get(pending.pop())
        if maker is not None and maker not in seen:
            seen.add(maker)
            node = graph.node[maker]
            reads = {n for n in (*node.input, *captured_by(node)) if n}
            counts.update(reads)
            pending += reads
    return counts


def _held(side: Values, name: str, exact: Value) -> Value:
    if side is EXACT:
        return exact
    held = side.array(name, exact) if name in side else None
    return None if held is None else lift(held)


def _alike(held: Value, exact: Value) -> bool:
    """Whether a value can stand where another one was computed."""
    arrays = isinstance(held, np.ndarray) and isinstance(exact, np.ndarray)
    return arrays and bool(held.shape == exact.shape and held.dtype == exact.dtype)


def _needs_draws(info: NodeInfo) -> bool:
    return info.composite or info.node.op_type in ("LSTM", "GRU", "RNN")


def _decided_alike(ours: Value, theirs: Value) -> bool:
    """Whether both sides have one and the same discrete value."""
    discrete = isinstance(ours, np.ndarray) and ours.dtype.kind in "iub"
    return discrete and isinstance(theirs, np.ndarray) and np.array_equal(ours, theirs)


def _shifted(settled: Value, exact: Value, moved: Value) -> Value:
    """What rounding has moved, put onto the value that the run goes on with."""
    real = isinstance(settled, np.ndarray) and settled.dtype == np.float64 and isinstance(exact, np.ndarray)
    if settled is exact or not real or not _alike(moved, settled):
        return moved
    with np.errstate(all="ignore"):
        fresh = isinstance(moved, np.ndarray) and moved.base is None and moved.flags.writeable and moved is not exact
        shifted = np.subtract(moved, exact, out=moved if fresh else None)
        shifted += settled
        if not np.isfinite(shifted.sum()):  # a mask's infinity less itself is no number, and would spoil the noise
            np.copyto(shifted, settled, where=~np.isfinite(shifted))
    return shifted
