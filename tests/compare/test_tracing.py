"""Moves told by digits are the moves: the numbers of drawn chains of them are the witness."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from onnxeq.compare.reading.parting import rows_of
from onnxeq.compare.reading.sketch import Draft, squeezed
from onnxeq.compare.reading.tracing import Digit, Trace, mixed, trace
from onnxeq.compare.values import Weight


def _drawn(rng: np.random.Generator) -> tuple[Draft, np.ndarray]:
    """A chain of moves over a source of drawn shape, and what it does to the places of the source's elements."""
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4, 6], rng.integers(2, 5)))
    draft = Draft("source", [], {}, shape)
    places = np.arange(math.prod(shape)).reshape(shape)
    for _ in range(int(rng.integers(1, 7))):
        draft, places = _moved(rng, draft, places)
    return draft, places


def _moved(rng: np.random.Generator, draft: Draft, places: np.ndarray) -> tuple[Draft, np.ndarray]:
    what = rng.choice(["transpose", "reshape", "slice"])
    longer = [a for a, n in enumerate(places.shape) if n != 1]
    if what == "transpose" and longer:
        order = [int(a) for a in rng.permutation(longer)]
        turned = places.reshape(squeezed(places.shape)).transpose([longer.index(a) for a in order])
        return Draft("transpose", [draft], {"axes": tuple(order)}, turned.shape), turned
    if what == "slice" and longer:
        axis = int(rng.choice(longer))
        begin = int(rng.integers(0, places.shape[axis]))
        end = int(rng.integers(begin + 1, places.shape[axis] + 1))
        step = int(rng.integers(1, 3))
        cut = places[(slice(None),) * axis + (slice(begin, end, step),)]
        held = {"axis": axis, "begin": begin, "end": end, "step": step}
        return Draft("slice", [draft], dict(held), cut.shape), cut
    shaped = places.reshape(_factors(rng, places.size))
    return Draft("reshape", [draft], {}, shaped.shape), shaped


def _factors(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    found = [1]
    while size > 1:
        options = [n for n in range(2, size + 1) if size % n == 0]
        found.append(int(rng.choice(options)))
        size //= found[-1]
    return tuple(int(n) for n in rng.permutation(found))


def _places(at: Trace, whole: np.ndarray) -> np.ndarray:
    """The elements of the source that a trace tells, in the tensor's shape."""
    axes = [np.full((1,) * len(at.axes), offset) for offset in at.offsets]
    for position, row in enumerate(at.axes):
        size = math.prod(d.size for d in row)
        index = np.arange(size)
        for digit in reversed(row):
            lying = ((index % digit.size) * digit.stride).reshape(
                [-1 if i == position else 1 for i in range(len(at.axes))]
            )
            axes[digit.axis] = axes[digit.axis] + lying
            index = index // digit.size
    return whole[tuple(np.broadcast_arrays(*axes))] if axes else whole


def test_digits_tell_where_each_element_comes_from() -> None:
    """For 400 drawn chains of moves: the element that the digits name is the element that the moves bring there."""
    rng = np.random.default_rng(11)
    through = 0
    for _ in range(400):
        draft, places = _drawn(rng)
        at = trace(draft)
        source = draft
        chain = []
        while source is not at.source:
            chain.append(source)
            source = source.inputs[0]
        assert [id(m) for m in at.moves] == [id(m) for m in chain]
        whole = _replayed(at, places.shape)
        np.testing.assert_array_equal(
            _places(at, np.arange(math.prod(at.source.shape)).reshape(at.source.shape)), whole
        )
        through += at.source.kind == "source"
    assert through > 200


def _replayed(at: Trace, shape: Sequence[int]) -> np.ndarray:
    """What the moves of a trace do to the places of its source, done by numpy."""
    places = np.arange(math.prod(at.source.shape)).reshape(at.source.shape)
    for move in reversed(at.moves):
        if move.kind == "transpose":
            longer = [a for a, n in enumerate(places.shape) if n != 1]
            order = move.attributes["axes"]
            assert isinstance(order, tuple)
            places = places.reshape(squeezed(places.shape)).transpose([longer.index(a) for a in order])
        elif move.kind == "slice":
            axis, begin, end, step = (move.attributes[n] for n in ("axis", "begin", "end", "step"))
            places = places[(slice(None),) * int(str(axis)) + (slice(begin, end, step),)]
        places = places.reshape(move.shape)
    return places.reshape(tuple(shape))


@pytest.mark.parametrize(
    ("row", "size", "offset"),
    [
        ((Digit(2, 4, 12), Digit(2, 3, 1)), 48, 0),  # heads, of each the first of four parts
        ((Digit(2, 4, 12), Digit(2, 3, 1)), 48, 6),
        ((Digit(2, 3, 1), Digit(2, 4, 3)), 12, 0),  # a head's numbers before the heads
        ((Digit(2, 4, 3), Digit(2, 3, 1)), 24, 12),  # the second half
    ],
)
def test_rows_of_a_weight_are_the_outputs_that_are_meant(row: tuple[Digit, ...], size: int, offset: int) -> None:
    """The rows that a weight tells of are, in their order, those outputs of the whole that the digits name."""
    inner = 5
    stored = np.arange(size * inner).reshape(inner, size)  # as a MatMul has it
    weight = rows_of(Weight("weight", "w", size * inner, axes=(1, 0)), size, row, offset)
    bias = rows_of(Weight("bias", "b", size), size, row, offset)
    assert weight is not None
    assert bias is not None
    outputs = np.full((1,) * len(row), offset)
    for position, digit in enumerate(row):
        outputs = outputs + (np.arange(digit.size) * digit.stride).reshape(
            [-1 if i == position else 1 for i in range(len(row))]
        )
    for found, whole, wanted in (
        (weight, stored, stored.T[outputs.reshape(-1)]),
        (bias, np.arange(size), outputs),
    ):
        held = whole.reshape(found.viewed) if found.viewed else whole
        held = held.transpose(np.argsort(found.axes)) if found.axes else held
        held = held if found.part is None else held[slice(*found.part)]
        np.testing.assert_array_equal(held.reshape(-1), wanted.reshape(-1))
        assert found.elements == wanted.size


def test_what_no_part_can_tell_is_refused() -> None:
    """Two digits are left out, or the first output lies between two parts: there is no one part."""
    assert mixed((Digit(0, 2, 12), Digit(0, 3, 2)), 24, 0) is None
    assert mixed((Digit(0, 4, 3), Digit(0, 3, 1)), 24, 5) is None
    assert mixed((Digit(0, 4, 5),), 18, 0) is None
