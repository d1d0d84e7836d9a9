"""The error that each node makes by itself: a runtime's own inputs of the node, the referee's arithmetic.

The referee runs with the runtime's value put in wherever it is known (*teacher forcing*), so that what a node is given
is what the runtime gave it, and what the node then gives differs from the runtime's by the error of this node alone:
an error that came in with the inputs is on both sides. It is measured in the rounding noise of the node alone, by the
formula of the ladder (:func:`onnxeq.measure.compare`).

Where only some values are known (an optimised graph has lost the others), the nodes between known values are judged
together: their rounding noise is then found by draws, as for a whole graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxeq.accumulation import total
from onnxeq.errors import OnnxeqError
from onnxeq.layers.judging.decisions import explained
from onnxeq.measure import Measure, compare
from onnxeq.noise import AMPLITUDE, UNIT_ROUNDOFF, RoundingNoise
from onnxeq.reduced import KINDS, Reduced
from onnxeq.referee.again import compute_again
from onnxeq.referee.elements import FLOATS, lift
from onnxeq.referee.frames import Entry, Kind
from onnxeq.rounding import is_rounded, size_of
from onnxeq.rounding_draws import is_real

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.referee import Executor, NodeInfo, Value
    from onnxeq.types import Feed

__all__ = ["SUSPECT", "LocalError", "local_errors", "reduced_unit", "unit_of"]

Real: TypeAlias = "NDArray[np.float64]"

SUSPECT = 4.0
"""Local error, in the node's own rounding noise, from which on a node is looked at further."""

_DRAWS = 2
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


@dataclass(frozen=True)
class LocalError:
    """What one value of a runtime is away from what its node should have made of the runtime's own inputs.

    Attributes:
        value: The value.
        measure: Its error in rounding noise.
        scale: Root mean square of what it should be.
        delta: The error itself, to put it into another run; ``None`` for a value that is not numbers of one shape.
        theirs: The runtime's value; kept for suspects.
        fits: Reduced precision -> the error in units of what that does to this node, for suspects.
        info: The node as the referee met it.
        rounded: Whether the node computes anything that rounds.
    """

    value: str
    measure: Measure
    scale: float
    delta: Real | None
    theirs: Value
    fits: Mapping[str, float]
    info: NodeInfo
    rounded: bool

    @property
    def ratio(self) -> float:
        """Its error in rounding noise; infinite where no rounding could explain it."""
        return self.measure.ratio


def local_errors(
    executor: Executor, feed: Feed, theirs: Mapping[str, Value], judged: frozenset[str], seed: int
) -> list[LocalError]:
    """The local error of each judged value.

    Args:
        executor: The referee of the graph.
        feed: The inputs.
        theirs: The runtime's values: the judged ones, and those from which they are computed.
        judged: Names in ``theirs`` (the others are taken as they are).
        seed: Of the draws.
    """
    known = {n: _entry(v) for n, v in theirs.items() if n not in judged}
    hook = _Forced(theirs, judged)
    executor.run_entries(feed, outputs=sorted(judged), known=known, hook=hook)
    if hook.open:
        squares: dict[str, list[Any]] = {name: [] for name in hook.open}
        for draw in range(_DRAWS):
            noisy = _Noisy(theirs, hook.open, seed * 1000 + draw)
            executor.run_entries(feed, outputs=sorted(judged), known=known, hook=noisy)
            for name, moved in noisy.moved.items():
                squares[name].append(moved)
        hook.settle(squares)
    return hook.found


def _entry(value: Value) -> Entry:
    held = np.asarray(value) if not isinstance(value, list) else None
    dtype = "" if held is None else held.dtype.name
    return Entry(lift(value), dtype, Kind.DATA)


@dataclass(frozen=True)
class _Open:
    """A judged value whose noise needs draws: what stands between it and what is known is more than one operator."""

    info: NodeInfo
    inputs: tuple[Value, ...]
    exact: Value


class _Forced:
    """A hook that compares each judged value, and goes on with the runtime's."""

    def __init__(self, theirs: Mapping[str, Value], judged: frozenset[str]) -> None:
        self._theirs = theirs
        self._judged = judged
        self._computed: set[str] = set()
        self.found: list[LocalError] = []
        self.open: dict[str, _Open] = {}

    def constant(self, _name: str, value: Real, _dtype: str) -> Real:
        return value

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        if info.path:
            return outputs
        direct = not info.composite and not self._computed.intersection(info.node.input)
        given = list(outputs)
        for position, name in enumerate(info.node.output):
            if name not in self._judged or position >= len(outputs):
                if name and not (info.exact or name in self._theirs):
                    self._computed.add(name)
                continue
            if direct and info.node.op_type not in _RECURRENT:
                unit = unit_of(info, inputs, outputs[position], position)
                self.found.append(_judge(name, position, info, inputs, outputs[position], self._theirs[name], unit))
            else:
                kept = () if info.composite else tuple(inputs)
                self.open[name] = _Open(info, kept, outputs[position])
            given[position] = lift(self._theirs[name])
        return given

    def settle(self, squares: Mapping[str, Sequence[Any]]) -> None:
        """Judges what was left open, with the movements that the draws gave."""
        for name, left in self.open.items():
            position = list(left.info.node.output).index(name)
            moved = [m for m in squares[name] if np.shape(m) == np.shape(left.exact)]
            unit = np.sqrt(sum(moved) / len(moved)) if moved else np.zeros(np.shape(left.exact))
            self.found.append(
                _judge(name, position, left.info, left.inputs, left.exact, self._theirs[name], unit, region=True)
            )


class _Noisy:
    """A hook that perturbs what lies between known values, and notes how far the judged ones move."""

    def __init__(self, theirs: Mapping[str, Value], open_: Mapping[str, _Open], seed: int) -> None:
        self._theirs = theirs
        self._open = open_
        self._noise = RoundingNoise(seed)
        self.moved: dict[str, Any] = {}

    def constant(self, _name: str, value: Real, _dtype: str) -> Real:
        return value

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        moved = self._noise.node(info, inputs, outputs)
        if info.path:
            return moved
        given = list(moved)
        for position, name in enumerate(info.node.output):
            if name in self._open and position < len(moved):
                self.moved[name] = _movement(self._open[name].exact, moved[position])
            if name in self._theirs and position < len(moved):
                given[position] = lift(self._theirs[name])
        return given


def _movement(exact: Value, moved: Value) -> Any:
    if not isinstance(exact, np.ndarray) or np.shape(moved) != exact.shape:
        return np.zeros(())
    if exact.dtype != np.float64:
        return (exact != moved).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.nan_to_num(np.square((moved - exact) / AMPLITUDE), posinf=0.0)


def unit_of(info: NodeInfo, inputs: Sequence[Value], exact: Value, position: int) -> Value:
    """The rounding noise of one operator's result; zero where nothing rounds."""
    if not isinstance(exact, np.ndarray):
        return None
    if exact.dtype != np.float64 or not is_rounded(info) or not exact.size:
        return np.zeros(exact.shape)
    u = UNIT_ROUNDOFF.get(info.dtypes[position], 2.0**-24)
    size = _size(info, inputs, exact)
    if not np.isfinite(size).all():  # what came in broken must not spoil the unit of everything else
        size = np.nan_to_num(_size(info, [_numbers(v) for v in inputs], exact), nan=0.0, posinf=0.0)
    return np.broadcast_to(size * u, exact.shape)


def _size(info: NodeInfo, inputs: Sequence[Value], exact: Real) -> Real:
    """The same in units of the type's roundoff."""
    try:
        with np.errstate(all="ignore"):
            return total(size_of(info.node.op_type, info, inputs, exact), exact)
    except (ValueError, IndexError, TypeError, AttributeError):  # a rule that does not fit this output of the node
        return np.abs(exact)


def _numbers(value: Value) -> Value:
    """An operand with zeros where it is no number."""
    if not is_real(value) or np.isfinite(value).all():
        return value
    return np.where(np.isfinite(value), value, 0.0)


def _judge(
    name: str, position: int, info: NodeInfo, inputs: Sequence[Value], exact: Value, theirs: Value, unit: Value,
    *, region: bool = False,
) -> LocalError:  # fmt: skip
    rounded = is_rounded(info) or info.composite or region
    if isinstance(exact, list) or isinstance(theirs, list):
        return LocalError(name, _sequences(name, exact, theirs), 0.0, None, theirs, {}, info, rounded)
    ours, given = np.asarray(exact), np.asarray(lift(theirs))
    dtype = info.dtypes[position] if position < len(info.dtypes) else "float32"
    step = UNIT_ROUNDOFF.get(dtype, 2.0**-24)
    found = compare([{name: ours}], [{name: given}], [{name: unit}], step=step)
    if found.ratio > SUSPECT and not region and inputs and explained(info, inputs, position, given):
        found = Measure(found.max_abs, found.noise, 0.0, name, note="beside a tie")
    numbers = ours.shape == given.shape and ours.dtype == np.float64 == given.dtype
    fits: dict[str, float] = {}
    delta = None
    if found.ratio > SUSPECT and numbers:
        with np.errstate(invalid="ignore"):
            delta = np.where(np.isfinite(ours), given - ours, 0.0)  # what was no number before is not this node's
        if not region and not found.problem and _scattered(ours, delta):
            fits = _fits(info, inputs, position, ours, given, dtype)
    finite = ours[np.isfinite(ours)] if ours.dtype == np.float64 else np.zeros(0)
    scale = float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
    return LocalError(name, found, scale, delta, theirs if found.ratio > SUSPECT else None, fits, info, rounded)


def _sequences(name: str, exact: Value, theirs: Value) -> Measure:
    """Sequences, item by item, in their own rounding."""
    if not isinstance(exact, list) or not isinstance(theirs, (list, tuple)) or len(exact) != len(theirs):
        return Measure(np.inf, 0.0, np.inf, name, f"'{name}' is a sequence of another length")
    ours = {f"{name}.{i}": np.asarray(v) for i, v in enumerate(exact)}
    given = {f"{name}.{i}": np.asarray(lift(v)) for i, v in enumerate(theirs)}
    return compare([ours], [given], [{k: np.abs(v) * 2.0**-24 for k, v in ours.items()}], step=2.0**-24)


_SCATTER = 0.01
"""Share of an error's energy that is left of a rounding's after the best ``a + b*y``. A factor or a shift leaves none;
a conversion that cuts bits off is biased, but leaves a third and more."""


def _scattered(exact: Real, delta: Real) -> bool:
    """Whether an error goes up and down as rounding does; one that is a factor or a shift is no precision."""
    usable = np.isfinite(delta) & np.isfinite(exact)
    y, e = exact[usable], delta[usable]
    energy = float(np.sum(np.square(e)))
    if y.size < 3 or energy == 0:
        return False
    y, e = y - y.mean(), e - e.mean()
    power = float(np.sum(np.square(y)))
    slope = float(np.sum(y * e)) / power if power > 0 else 0.0
    return float(np.sum(np.square(e - slope * y))) > _SCATTER * energy


def _fits(
    info: NodeInfo, inputs: Sequence[Value], position: int, exact: Real, theirs: Real, dtype: str
) -> dict[str, float]:
    """The error in units of what computing this node in a reduced precision does, for each that does anything."""
    if dtype not in FLOATS or not is_rounded(info):
        return {}
    units = {kind: reduced_unit(kind, info, inputs, position, exact, dtype) for kind in KINDS}
    return {
        kind: compare([{"": exact}], [{"": theirs}], [{"": unit}], step=2.0**-24).ratio
        for kind, unit in units.items()
        if unit is not None
    }


def reduced_unit(
    kind: str, info: NodeInfo, inputs: Sequence[Value], position: int, exact: Real, dtype: str
) -> Real | None:
    """What computing one node in a reduced precision does to its result; ``None`` where that is nothing."""
    hook = Reduced(kind)
    operands = [hook.constant("", v, dtype) if is_real(v) else v for v in inputs]  # as float16 stores them
    try:
        base = compute_again(info, operands) or []
        rounded = hook.node(info, operands, base)[position]
    except (OnnxeqError, ValueError, IndexError, TypeError):
        return None
    if np.shape(rounded) != exact.shape:
        return None
    unit: Real = np.nan_to_num(np.abs(rounded - exact))
    return unit if unit.any() else None
