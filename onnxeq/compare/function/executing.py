"""The combinations of two graphs and two sets of weights, executed in float64 on the same inputs.

Values are held in their layers' own order (:mod:`.tensors`), so that they can be compared across layouts. The unit is a
constant floor: what moving stored constants by half a unit in the last place does to the results, root mean square over
two draws and both models. Between two graphs that are given the very same weights those are no reason to differ, so
only what is left (an epsilon, a factor) is moved there, at random and all the same way, since one exporter rounds all
epsilons alike: that floor is sharp.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx

from onnxeq.compare.function.common import NEUTRAL, Tensors
from onnxeq.compare.function.tensors import from_file, into_file, own_order, with_own_order
from onnxeq.compare.reading.sketch import squeezed
from onnxeq.compare.values import Weight
from onnxeq.errors import CannotRun, OnnxeqError, UnsupportedOperator
from onnxeq.inputs import adapt
from onnxeq.noise import ConstantFloor
from onnxeq.referee import Executor, Hook, NodeInfo, Value
from onnxeq.referee.frames import Entry, Kind
from onnxeq.types import Array

__all__ = ["DRAWS", "LEAST", "Model", "Port", "Traces", "combined", "effect"]

LEAST = 1e-12
"""The least unit, relative: thousands of float64 roundings, taken in another order, add up to less."""

DRAWS = 2
"""Of the floor, for each model and input."""

Results: TypeAlias = "list[list[Array]]"
"""For each input the compared results."""


@dataclass(frozen=True)
class Port:
    """Where a layer's result is in a file.

    Attributes:
        value: The tensor.
        axes: Of each of its axes, which of the result's it is; -1 for a further one of size 1.
        shape: Of the result.
    """

    value: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Traces:
    """What the combinations gave; ``missing`` says why one could not be run.

    Attributes:
        results: ``A(a,x)`` and so on -> the results.
        missing: The same -> the reason.
        floors: The unit of each result where weights or inputs differ.
        sharp: The same where graphs alone differ.
        identical: Pairs of tensors with the same numbers.
        exchanged: Pairs of tensors.
        stuck: Tensors (``role``, ``tensor``) that count as graph, since a ``side`` has none there.
    """

    results: Mapping[str, Results]
    missing: Mapping[str, str]
    floors: tuple[float, ...]
    sharp: tuple[float, ...]
    identical: int
    exchanged: int
    stuck: tuple[Mapping[str, str], ...]


_MADE = re.compile(r"\.(?:folded|behind)(?:_?\d+)?$")
"""What the reader of a graph has added to a name."""


class Model:
    """One side: its graph, ready to be run in float64 with values of the other side put in.

    Args:
        model: The file.
        base_dir: Its folder.
        inputs: The model's inputs, in order.
        entries: What goes into the part that is compared.
        exits: What is compared.

    Raises:
        UnsupportedOperator: Naming an operator that has no validated float64 semantics.
    """

    def __init__(
        self, model: onnx.ModelProto, base_dir: Path, inputs: Sequence[Port], entries: Sequence[Port],
        exits: Sequence[Port],
    ) -> None:  # fmt: skip
        self._executor = Executor(model, base_dir=base_dir)
        if self._executor.missing:
            raise UnsupportedOperator(f"no validated float64 semantics for {self._executor.missing[0]}")
        self._dtypes = {spec.name: spec.dtype for spec in self._executor.inputs}
        graph = model.graph
        self._known = {t.name for t in graph.initializer} | {v.name for v in graph.input}
        self._known |= {name for node in graph.node for name in node.output}
        self._inputs = [self._port(port) for port in inputs]
        self.entries = [self._port(port) for port in entries]
        self.exits = [self._port(port) for port in exits]

    def _port(self, port: Port) -> Port:
        return Port(self.name_of(port.value), port.axes, port.shape)

    def name_of(self, name: str) -> str:
        """The file's own name of a value.

        Raises:
            CannotRun: The file holds none of that name: it is made within a function, say.
        """
        found = name if name in self._known else _MADE.sub("", name)
        if found not in self._known:
            raise CannotRun(f"the file holds no value '{name}'")
        return found

    def feed(self, given: Sequence[Array]) -> dict[str, Array]:
        """Inputs in their layers' order as the file takes them."""
        feed = {p.value: into_file(array, p.axes) for p, array in zip(self._inputs, given, strict=True)}
        return adapt(feed, self._dtypes)

    def blank(self) -> dict[str, Array]:
        """Inputs that are there and say nothing, for a part that is given all that goes into it."""
        return self.feed([np.zeros(port.shape) for port in self._inputs])

    def stored(self, names: Iterable[str], feed: Mapping[str, Array]) -> dict[str, Array]:
        """Stored tensors, and what the file computes of constants, by name."""
        wanted = list(dict.fromkeys(names))
        found = self._executor.run_entries(feed, outputs=wanted) if wanted else {}
        return {name: np.asarray(entry.value) for name, entry in found.items()}

    def at_entries(self, feed: Mapping[str, Array]) -> list[Array]:
        """The values that go into the part."""
        return self._run(feed, self.entries, {}, None)

    def run(
        self,
        feed: Mapping[str, Array],
        given: Sequence[Array] | None = None,
        weights: Mapping[str, Array] | None = None,
        hook: Hook | None = None,
    ) -> list[Array]:
        """The compared results.

        Args:
            feed: The inputs.
            given: What goes into the part; ``None`` where those are the inputs.
            weights: Tensors that take the place of its own, by name.
            hook: Watches or changes the run.
        """
        known = dict(weights or {})
        if given is not None:
            known |= {p.value: into_file(array, p.axes) for p, array in zip(self.entries, given, strict=True)}
        return self._run(feed, self.exits, known, hook)

    def _run(
        self, feed: Mapping[str, Array], ports: Sequence[Port], known: Mapping[str, Array], hook: Hook | None
    ) -> list[Array]:
        # Whatever a value was to the graph, it is a number like any other here: nothing is computed exactly of it.
        held = {name: Entry(array, "float32", Kind.DATA) for name, array in known.items()}
        found = self._executor.run_entries(feed, outputs=[p.value for p in ports], known=held, hook=hook)
        return [from_file(np.asarray(found[p.value].value), p.axes, p.shape) for p in ports]


def combined(
    left: Model,
    right: Model,
    tensors: Sequence[Tensors],
    inputs: Sequence[Sequence[Array]],
    others: Sequence[Sequence[Array]] | None,
    *,
    fed: bool,
    seed: int,
    step: Callable[[str], None],
) -> Traces:
    """Runs all combinations.

    Args:
        left: ``A(a)``.
        right: ``B(b)``.
        tensors: What is exchanged.
        inputs: ``x``, each in the order of the left graph's input layers.
        others: ``y``, the same as the right model's recipe prepares them; ``None`` where it is the same.
        fed: Whether the part begins at the inputs.
        seed: Of the floor's draws.
        step: Told what is being done.
    """
    made: dict[str, Results] = {}
    missing: dict[str, str] = {}

    def attempt(name: str, run: Callable[[Sequence[Array]], list[Array]], sets: Sequence[Sequence[Array]]) -> None:
        step(name)
        try:
            made[name] = [run(given) for given in sets]
        except (OnnxeqError, ValueError) as error:
            missing[name] = error.line() if isinstance(error, OnnxeqError) else str(error)

    swap = _exchanged(left, right, tensors, (left.blank(), right.blank()))
    entries = None if fed else [left.at_entries(left.feed(given)) for given in inputs]

    def on(model: Model, weights: Mapping[str, Array] | None, hook: Hook | None = None) -> Callable[..., list[Array]]:
        places = iter(entries or ())
        if fed:
            return lambda given: model.run(model.feed(given), None, weights, hook)
        return lambda _: model.run(model.blank(), next(places), weights, hook)

    attempt("A(a,x)", on(left, None), inputs)
    attempt("B(b,x)", on(right, None), inputs)
    attempt("A(b,x)", on(left, swap.into_left), inputs)
    attempt("B(a,x)", on(right, swap.into_right), inputs)
    if others is not None:
        attempt("A(a,y)", on(left, None), others)
        attempt("B(b,y)", on(right, None), others)

    def floors(bases: Sequence[tuple[str, Model, Mapping[str, Array] | None]]) -> tuple[float, ...]:
        moved: list[tuple[Results, Results]] = []
        for base, model, weights in bases:
            hooks: list[Hook] = [ConstantFloor(seed + draw, stored=True) for draw in range(DRAWS)]
            hooks += [] if weights is None else [_AllAlike()]
            for hook in hooks if base in made else ():
                attempt("floor", on(model, weights, hook), inputs)
                if "floor" in made:
                    moved.append((made[base], made.pop("floor")))
        return tuple(_floor(moved, index) for index in range(len(left.exits)))

    own = floors([("A(a,x)", left, None), ("B(b,x)", right, None)])
    sharp = floors([("A(b,x)", left, swap.into_left), ("B(a,x)", right, swap.into_right)])
    return Traces(made, missing, own, sharp, swap.identical, swap.count, swap.stuck)


class _AllAlike:
    """Moves every constant up by a unit in the last place of float32."""

    def constant(self, _name: str, value: Array, _dtype: str) -> Array:
        """The constant times ``1 + 2^-23``."""
        return value * (1 + 2.0**-23)

    def node(self, _info: NodeInfo, _inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """Leaves results alone."""
        return outputs


@dataclass(frozen=True)
class _Exchanged:
    into_left: Mapping[str, Array]
    into_right: Mapping[str, Array]
    identical: int
    count: int
    stuck: tuple[Mapping[str, str], ...]


def _exchanged(
    left: Model, right: Model, tensors: Sequence[Tensors], feeds: tuple[dict[str, Array], dict[str, Array]]
) -> _Exchanged:
    """Each side's stored tensors with the other side's numbers in them."""
    models = (left, right)
    stuck: list[Mapping[str, str]] = []
    usable: list[tuple[Tensors, tuple[list[str], list[str]]]] = []
    for pair in tensors:
        try:
            usable.append((pair, (_names(left, pair.left), _names(right, pair.right))))
        except CannotRun:
            stuck.append({"side": "left", "role": pair.role, "tensor": _named(pair.right or pair.left)})
    held = [
        model.stored((name for _, names in usable for name in names[side]), feed)
        for side, (model, feed) in enumerate(zip(models, feeds, strict=True))
    ]
    into: list[dict[str, Array]] = [dict(h) for h in held]
    identical = exchanged = 0
    for pair, names in usable:
        weights = (pair.left, pair.right)
        own = [_numbers(weights[k], [held[k][n] for n in names[k]]) for k in (0, 1)]
        given = [numbers for numbers in own if numbers is not None]
        if len(given) == 2:
            exchanged += 1
            identical += bool(np.array_equal(given[0], given[1]))
            for side in (0, 1):
                _put(into[side], weights[side], names[side], given[1 - side])
        elif not given or not np.all(given[0] == NEUTRAL.get(pair.role)):
            lacks = 0 if own[0] is None else 1
            stuck.append({"side": ("left", "right")[lacks], "role": pair.role, "tensor": _named(weights[1 - lacks])})
    return _Exchanged(into[0], into[1], identical, exchanged, tuple(stuck))


def _names(model: Model, weights: Sequence[Weight]) -> list[str]:
    """The file's own names; a number that the file does not store (a bias of one element) has none."""
    if any(not w.name for w in weights):
        raise CannotRun("a number that stands in the graph itself")
    return [model.name_of(w.name) for w in weights]


def _numbers(weights: Sequence[Weight], stored: Sequence[Array]) -> Array | None:
    """All numbers of a role, one after another; ``None`` where there are none."""
    # What is stored in whole numbers belongs to a scale, and takes no other numbers.
    if not weights or any(array.dtype.kind != "f" for array in stored):
        return None
    return np.concatenate([own_order(w, array) for w, array in zip(weights, stored, strict=True)])


def _put(into: dict[str, Array], weights: Sequence[Weight], names: Sequence[str], numbers: Array) -> None:
    """Puts the numbers of a role into its stored tensors."""
    begin = 0
    for weight, name in zip(weights, names, strict=True):
        size = own_order(weight, into[name]).size
        into[name] = with_own_order(weight, into[name], numbers[begin : begin + size])
        begin += size


def _named(weights: Sequence[Weight]) -> str:
    return ", ".join(w.name for w in weights)


def _floor(moved: Sequence[tuple[Results, Results]], index: int) -> float:
    squares, count = 0.0, 0
    for base, other in moved:
        for ours, theirs in zip(base, other, strict=True):
            if ours[index].dtype.kind == "f" and ours[index].shape == theirs[index].shape:
                delta = theirs[index] - ours[index]
                delta = delta[np.isfinite(delta)]
                squares, count = squares + float(np.sum(np.square(delta))), count + delta.size
    return math.sqrt(squares / count) if count else 0.0


def effect(base: Results, other: Results, floors: Sequence[float]) -> dict[str, float | int | None]:
    """How far two traces are apart: ``relative``, ``max_abs``, ``ratio`` and ``top1_changes``; the worst result counts.

    A result that is no number on both sides alike is the same there; on one side only, it is infinitely far away.
    """
    worst: dict[str, float | int | None] = {"relative": 0.0, "max_abs": 0.0, "ratio": 0.0, "top1_changes": None}
    for index, floor in enumerate(floors):
        ours = [np.asarray(results[index], dtype=np.float64) for results in base]
        theirs = [np.asarray(results[index], dtype=np.float64) for results in other]
        found = _apart(ours, theirs, floor)
        if _number(found["relative"]) >= _number(worst["relative"]):
            worst = found
    return worst


def _number(value: float | int | None) -> float:
    return 0.0 if value is None else float(value)


def _apart(ours: Sequence[Array], theirs: Sequence[Array], floor: float) -> dict[str, float | int | None]:
    with np.errstate(invalid="ignore"):
        deltas = [np.where(_same(a, b), 0.0, b - a) for a, b in zip(ours, theirs, strict=True)]
    deltas = [np.where(np.isnan(d), math.inf, d) for d in deltas]
    largest = max((float(np.max(np.abs(d), initial=0.0)) for d in deltas), default=0.0)
    moved, size = _rms(deltas), max(_rms(ours), _rms(theirs))
    unit = max(floor, LEAST * size)
    return {
        "relative": moved / size if size else (math.inf if moved else 0.0),
        "max_abs": largest,
        "ratio": moved / unit if unit else (math.inf if moved else 0.0),
        "top1_changes": _changes(ours, theirs),
    }


def _same(a: Array, b: Array) -> Array:
    same: Array = (a == b) | (np.isnan(a) & np.isnan(b))
    return same


def _rms(arrays: Sequence[Array]) -> float:
    count = sum(a.size for a in arrays)
    if any(np.isinf(a).any() for a in arrays):
        return math.inf
    return math.sqrt(sum(float(np.nansum(np.square(a))) for a in arrays) / count) if count else 0.0


def _changes(ours: Sequence[Array], theirs: Sequence[Array]) -> int | None:
    if any(len(squeezed(a.shape)) != 1 for a in (*ours, *theirs)):
        return None
    return sum(int(a.argmax() != b.argmax()) for a, b in zip(ours, theirs, strict=True))
