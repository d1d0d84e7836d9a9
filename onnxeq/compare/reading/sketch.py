"""A canonical graph while it is being made: layers that can still be changed, and how a tensor shows one.

A *view* says how a tensor of the ONNX graph lies: which axis of its layer's result each of its own axes is. A Transpose
makes another view of the same layer and no layer, so that channels first and channels last come out alike; so does a
Reshape that only adds or takes axes of size 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxeq.compare.values import Attribute, Graph, Layer, Weight

__all__ = ["Draft", "Sketch", "View", "plain", "squeezed"]


@dataclass(eq=False)
class Draft:
    """A layer in the making; see :class:`onnxeq.compare.values.Layer`. Its inputs are drafts."""

    kind: str
    inputs: list[Draft]
    attributes: dict[str, Attribute]
    shape: tuple[int, ...]
    name: str = ""
    nodes: list[str] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    spelling: list[str] = field(default_factory=list)
    value: str = ""
    axes: tuple[int, ...] = ()
    number: float | None = None
    """What is multiplied with or added, before it is rounded."""
    operands: tuple[tuple[int, ...], ...] = ()
    """The shapes in which a product or sum reads its inputs, axes of size 1 included."""
    macs: int | None = None
    """Its multiplications with an addition each, where they are not told by its terms."""

    @property
    def elements(self) -> int:
        """Numbers in its result; 0 where a size is unknown."""
        return math.prod(self.shape) if all(n >= 0 for n in self.shape) else 0

    def absorb(self, other: Draft) -> None:
        """Takes over what another draft stands for, which is about to go."""
        self.nodes += other.nodes
        self.weights += other.weights
        self.spelling += [text for text in other.spelling if text not in self.spelling]

    def say(self, text: str) -> None:
        """Remarks once that something is written otherwise than usual."""
        if text not in self.spelling:
            self.spelling.append(text)


@dataclass(frozen=True)
class View:
    """A tensor: a layer's result, with the axis of it that each own axis is; ``None`` is a further axis of size 1."""

    draft: Draft
    axes: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(1 if axis is None else self.draft.shape[axis] for axis in self.axes)

    @property
    def ordered(self) -> bool:
        """Whether the axes lie as in the layer's result, axes of size 1 aside."""
        kept = [a for a in self.axes if a is not None and self.draft.shape[a] != 1]
        return kept == sorted(kept)


def plain(draft: Draft) -> View:
    """The view in which nothing is moved."""
    return View(draft, tuple(range(len(draft.shape))))


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its axes of size 1."""
    return tuple(n for n in shape if n != 1)


@dataclass
class Sketch:
    """All drafts of a model, and the tensors that are its outputs."""

    inputs: list[Draft] = field(default_factory=list)
    outputs: list[Draft] = field(default_factory=list)

    def drafts(self) -> list[Draft]:
        """What the outputs depend on, inputs first, each after what it reads."""
        order: list[Draft] = []
        seen: set[int] = set()
        pending: list[tuple[Draft, bool]] = [(d, False) for d in reversed([*self.inputs, *self.outputs])]
        while pending:
            draft, ready = pending.pop()
            if ready:
                order.append(draft)
            elif id(draft) not in seen:
                seen.add(id(draft))
                pending.append((draft, True))
                pending += [(d, False) for d in reversed(draft.inputs) if id(d) not in seen]
        return order

    def readers(self) -> dict[int, list[Draft]]:
        """Who reads a draft, by the draft's ``id``; an output has one more reader than that."""
        found: dict[int, list[Draft]] = {}
        for draft in self.drafts():
            for read in draft.inputs:
                found.setdefault(id(read), []).append(draft)
        return found

    def sole_reader(self, draft: Draft, readers: dict[int, list[Draft]]) -> Draft | None:
        """The one draft that reads it, once."""
        found = readers.get(id(draft), [])
        return found[0] if len(found) == 1 and not any(o is draft for o in self.outputs) else None

    def replace(self, old: Draft, new: Draft, readers: dict[int, list[Draft]]) -> None:
        """Lets all that reads ``old`` read ``new``, whose result is then ``old``'s; keeps ``readers`` true for it."""
        new.value, new.axes = old.value, old.axes
        for reader in readers.get(id(old), []):
            if reader is not new:
                reader.inputs = [new if d is old else d for d in reader.inputs]
                readers.setdefault(id(new), []).append(reader)
        readers[id(new)] = [r for r in readers.get(id(new), []) if r is not old]
        readers.pop(id(old), None)
        self.outputs = [new if d is old else d for d in self.outputs]

    def finished(self, nodes: int, literal: tuple[str, ...], notes: Sequence[str]) -> Graph:
        """The graph, with drafts that nothing depends on left out."""
        drafts = self.drafts()
        place = {id(draft): index for index, draft in enumerate(drafts)}
        layers = tuple(
            Layer(
                d.kind, tuple(place[id(i)] for i in d.inputs), dict(sorted(d.attributes.items())), d.shape, d.name,
                tuple(d.nodes), tuple(d.weights), _macs(d), tuple(d.spelling), d.value, d.axes,
            )
            for d in drafts
        )  # fmt: skip
        return Graph(layers, tuple(place[id(o)] for o in self.outputs), nodes, literal, tuple(notes))


def _macs(draft: Draft) -> int:
    """Multiplications with an addition each: as many per element of the result as terms are summed.

    A transposed convolution has them per element of its input.
    """
    if draft.macs is not None:
        return draft.macs
    terms = draft.attributes.get("terms", 0)
    over = draft.inputs[0] if draft.kind == "conv_transpose" else draft
    return int(terms) * over.elements if isinstance(terms, int) else 0
