"""Grows a valid ONNX graph node by node, with a concrete value beside every name.

A node is run as it is added, so that shapes and ranges are known without a second set of shape rules. A
node that onnxruntime refuses, or whose result leaves :data:`LARGEST`, is dropped and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from hypothesis import strategies as st
from known_discrepancies import Use, known
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .runtime import IR_VERSION, evaluate, info

__all__ = ["LARGEST", "MOST_ELEMENTS", "REFUSED", "Builder", "Sample", "Value"]

T = TypeVar("T")

LARGEST = 1e5
"""Results above are dropped: their squares and exponentials would leave float32's range, which the referee has not."""

SMALLEST = 1e-15
"""And so are tensors whose largest element is below, but not zero."""

MOST_ELEMENTS = 4000

REFUSED: Counter[tuple[str, str]] = Counter()
"""Operator and the beginning of onnxruntime's reason, for nodes that were dropped."""


@dataclass(frozen=True)
class Value:
    """A name of the graph and what it holds for the first feed."""

    name: str
    array: NDArray[Any]
    stored: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    @property
    def rank(self) -> int:
        """Its rank."""
        return self.array.ndim


@dataclass(frozen=True)
class Sample:
    """A finished model with two feeds."""

    model: onnx.ModelProto
    feeds: tuple[dict[str, NDArray[Any]], ...]

    def __repr__(self) -> str:
        """The text form, which is what a failure shows."""
        text = onnx.printer.to_text(self.model)
        given = {k: (v.dtype.name, v.shape, v.ravel()[:8].tolist()) for k, v in self.feeds[0].items()}
        return f"{text[:6000]}\nfeed: {given}"


@dataclass
class Builder:
    """The growing graph. ``draw`` is hypothesis's; content comes from seeds that it drew."""

    draw: Callable[..., Any]
    opset: int
    values: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    stored: dict[str, NDArray[Any]] = field(default_factory=dict)
    count: int = 0

    def integer(self, low: int, high: int) -> int:
        """A drawn integer, both ends included."""
        return int(self.draw(st.integers(low, high)))

    def flag(self) -> bool:
        """A drawn truth value."""
        return bool(self.draw(st.booleans()))

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``; shrinks to the first."""
        return options[self.integer(0, len(options) - 1)] if len(options) > 1 else options[0]

    def some(self, options: Sequence[T], least: int = 1) -> list[T]:
        """A drawn subset in a drawn order."""
        order = list(self.rng().permutation(len(options)))
        return [options[i] for i in order[: self.integer(min(least, len(order)), len(order))]]

    def rng(self) -> np.random.Generator:
        """A generator with a drawn seed."""
        return np.random.default_rng(self.integer(0, 2**16))

    def shape(self, least: int = 1, most: int = 5, size: int = 6) -> tuple[int, ...]:
        """A drawn shape of rank ``least`` to ``most``, small enough."""
        rank = self.integer(least, most)
        shape: list[int] = []
        for _ in range(rank):
            shape.append(self.integer(1, min(size, max(1, MOST_ELEMENTS // 4 // max(1, int(np.prod(shape)))))))
        return tuple(shape)

    def floats(self, shape: Sequence[int]) -> NDArray[Any]:
        """Normal deviates of a drawn scale, perhaps with zeros, repeats or whole numbers among them."""
        style = self.choice(("normal", "zeros", "whole", "positive", "shifted", "constant"))
        scale = self.choice((1.0, 1.0, 1.0, 0.1, 10.0, 1e-4, 1e3))
        rng = self.rng()
        x = rng.standard_normal(tuple(shape)) * scale
        if style == "zeros":
            x = np.where(rng.random(x.shape) < 0.3, 0.0, x)
        elif style == "whole":
            x = np.rint(rng.standard_normal(x.shape) * 3)
        elif style == "positive":
            x = np.abs(x)
        elif style == "shifted":
            x = x + scale * rng.integers(-5, 6)
        elif style == "constant":
            x = np.full(x.shape, float(rng.standard_normal()) * scale)
        return np.asarray(x, np.float32)

    def healthy(self, shape: Sequence[int], scale: float = 1.0) -> NDArray[Any]:
        """Weights: normal deviates of a given scale."""
        return np.asarray(self.rng().standard_normal(tuple(shape)) * scale, np.float32)

    def name(self, prefix: str) -> str:
        """A new name."""
        self.count += 1
        return f"{prefix}{self.count}"

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """An initializer."""
        value = Value(self.name("c"), np.asarray(array, dtype), stored=True)
        self.stored[value.name] = value.array
        return value

    def integers(self, *items: int) -> Value:
        """An initializer of ``int64[n]``."""
        return self.constant(np.array(items, np.int64))

    def feed(self, array: NDArray[Any]) -> Value:
        """A new graph input."""
        value = Value(self.name("x"), array)
        self.inputs[value.name] = array
        self.values.append(value)
        return value

    def supply(self, array: NDArray[Any]) -> Value:
        """``array`` as an initializer or as a graph input."""
        return self.feed(array) if self.integer(0, 3) == 3 else self.constant(array)

    def fresh(self, shape: Sequence[int]) -> Value:
        """Float data of the given shape: a new input."""
        return self.feed(self.floats(shape))

    def pick(
        self, least: int = 0, most: int = 6, kinds: str = "f", fits: Callable[[Value], bool] | None = None
    ) -> Value:
        """A value of the graph with a fitting rank and type, or a new float input."""
        found = [
            v
            for v in reversed(self.values)
            if least <= v.rank <= most and v.array.dtype.kind in kinds and v.array.size and (fits is None or fits(v))
        ]
        if found and (len(found) > 1 or self.integer(0, 3)):
            return found[min(self.integer(0, 5), len(found) - 1)]
        if found:
            return found[0]
        return self.fresh(self.shape(max(1, least), max(1, min(5, most))))

    def spatial(self, least: int = 3, most: int = 5) -> Value:
        """A float value ``[N, C, D1, ...]``."""
        return self.pick(least, most)

    def node(
        self, op: str, inputs: Sequence[Value | None], outputs: int = 1, domain: str = "",
        captured: Sequence[Value] = (), **attributes: Any,
    ) -> list[Value] | None:  # fmt: skip
        """Adds a node and gives its outputs; ``None`` when it was dropped.

        Attributes that are ``None`` are left out; ``captured`` are the outer values that its sub-graphs read.
        """
        attributes = {k: v for k, v in attributes.items() if v is not None}
        makers = {n: made.op_type for made in self.nodes for n in made.output}
        held = [None if v is None else v.array for v in inputs]
        if known(Use(op, self.opset, attributes, held, [makers.get(v.name, "") if v else "" for v in inputs])):
            REFUSED[op, "a known discrepancy"] += 1
            return None
        names = [v.name if v is not None else "" for v in inputs]
        while names and not names[-1]:
            names.pop()
        results = [self.name("v") for _ in range(outputs)]
        node = helper.make_node(op, names, results, name=f"{op}_{results[0]}", domain=domain, **attributes)
        read = {v.name: v for v in (*inputs, *captured) if v is not None}
        try:
            arrays = evaluate(
                node,
                self.opset,
                {n: v.array for n, v in read.items() if not v.stored},
                {n: v.array for n, v in read.items() if v.stored},
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            REFUSED[op, _reason(error)] += 1
            return None
        if not all(_in_range(a) for a in arrays):
            REFUSED[op, "out of range"] += 1
            return None
        self.nodes.append(node)
        made = [Value(n, np.asarray(a)) for n, a in zip(results, arrays, strict=True)]
        self.values.extend(made)
        return made

    def finish(self) -> Sample:
        """The model: what nothing reads is an output, and some of the rest."""
        read = {n for node in self.nodes for n in _reads(node)}
        made = {n for node in self.nodes for n in node.output}
        known = {v.name: v for v in self.values}
        extra = set(self.some(sorted(made & read), 0)) if made & read and self.flag() else set()
        outputs = [known[n] for node in self.nodes for n in node.output if n not in read or n in extra]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [info(n, v) for n, v in self.inputs.items() if n in read],
            [_declared(v) for v in outputs],
            [numpy_helper.from_array(v, n) for n, v in self.stored.items() if n in read],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION)
        first = {n: v for n, v in self.inputs.items() if n in read}
        rng = self.rng()
        second = {n: _nearby(v, rng) for n, v in first.items()}
        return Sample(model, (first, second))


def _reason(error: Exception) -> str:
    """Onnxruntime's message without what differs from node to node."""
    text = " ".join(str(error).split())
    return re.sub(r"Name:'\w+' |node with name '\w+'|\d+", "", text.partition("Status Message: ")[2] or text)[:120]


def _declared(value: Value) -> onnx.ValueInfoProto:
    """An output's type and rank; its sizes are what is to be compared."""
    dims = [f"{value.name}_{axis}" for axis in range(value.rank)]
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(value.array.dtype), dims)


def _in_range(array: Any) -> bool:
    if not isinstance(array, np.ndarray) or array.size > MOST_ELEMENTS or array.size == 0:
        return False
    if array.dtype.kind != "f":
        return True
    largest = float(np.abs(array).max())
    return bool(np.isfinite(array).all()) and (largest == 0 or SMALLEST <= largest <= LARGEST)


def _nearby(array: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Another feed of the same kind: floats shrink by up to 2 %, so that domains hold; integers stay."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1 - 0.02 * rng.random(array.shape)), array.dtype)


def _reads(node: onnx.NodeProto) -> set[str]:
    found = {n for n in node.input if n}
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found |= {n for inner in attribute.g.node for n in _reads(inner)} | {o.name for o in attribute.g.output}
    return found
