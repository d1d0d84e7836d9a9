"""The measure of one value: cheap where nothing is wrong, and the ladder's own wherever something may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnxeq.layers.judging import gauge as module
from onnxeq.layers.judging.gauge import gauge, spread
from onnxeq.measure import Measure, compare
from onnxeq.noise import AMPLITUDE

Real = NDArray[np.float64]
STEP = 2.0**-24


def full(reference: Any, candidate: Any, unit: Any) -> Measure:
    """The ladder's measure of the same arrays."""
    return compare([{"": reference}], [{"": candidate}], [{"": np.broadcast_to(unit, reference.shape)}], step=STEP)


def values(size: int, seed: int = 0, scale: float = 1.0) -> Real:
    """Numbers between 0.5 and 1.5, times a scale, of either sign: of about one magnitude."""
    rng = np.random.default_rng(seed)
    return np.asarray(scale * rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size))


def in_full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often the quick way was not enough."""
    calls: list[int] = []
    kept = module._in_full

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return kept(*arguments)

    monkeypatch.setattr(module, "_in_full", counted)
    return calls


@pytest.mark.parametrize("size", [1, 2, 63, 8192, 8193, 30_000])
@pytest.mark.parametrize("times", [0.3, 1.0])
def test_rounding_is_measured_as_the_ladder_does(monkeypatch: pytest.MonkeyPatch, size: int, times: float) -> None:
    """Errors of the size of their units: the quick way is taken and is within a few percent, at every block's edge."""
    x, unit = values(size), np.full(size, 1e-6)
    y = x + times * unit * np.random.default_rng(1).standard_normal(size)
    expected = full(x, y, unit)
    calls = in_full(monkeypatch)
    found = gauge(x, y, unit, STEP)
    assert not calls
    assert found.measure.ratio == pytest.approx(expected.ratio, rel=0.05)
    assert found.measure.max_abs == pytest.approx(expected.max_abs)
    assert found.measure.noise == pytest.approx(expected.noise, rel=0.01)
    assert found.error == pytest.approx(math.sqrt(np.mean(np.square(y - x))))
    assert found.scale == pytest.approx(math.sqrt(np.mean(np.square(x))))


def test_what_is_wrong_is_the_ladders_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One element of ten thousand is a hundred units off: the ladder's measure itself."""
    x, unit = values(10_000), np.full(10_000, 1e-6)
    y = x.copy()
    y[7000] += 1e-4
    calls = in_full(monkeypatch)
    assert gauge(x, y, unit, STEP).measure == full(x, y, unit)
    assert calls


def test_small_elements_that_are_wrong_beside_large_ones_are_seen() -> None:
    """A hundred elements of 1e-4 are 1 % off beside ten thousand of 100, whose own rounding is larger than that; the
    ratio is that of the small ones alone: 1e-6 over their units, 1e-11.
    """
    small = np.full(100, 1e-4)
    x = np.concatenate([values(10_000, scale=100.0), small])
    unit = 1e-7 * np.abs(x)
    y = x.copy()
    y[-100:] *= 1.01
    overall = 1e-6 * math.sqrt(100 / 10_100) / (1e-7 * math.sqrt(np.mean(np.square(x))))
    assert overall < 0.05
    found = gauge(x, y, unit, STEP).measure
    assert found == full(x, y, unit)
    expected = 1e-6 / math.hypot(1e-11, 1e-4 * STEP / 4) / (1 + 3 / math.sqrt(100))
    assert found.ratio == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 400), st.integers(0, 10_000), st.floats(-30, 30), st.floats(-1, 3), st.booleans(),
    st.sampled_from([0, 1, 2]),
)  # fmt: skip
def test_no_error_beyond_the_limit_is_hidden(
    size: int, seed: int, octave: float, sparse: float, mixed: bool, units: int
) -> None:
    """Whatever the sizes and magnitudes: where the ladder's measure is over the limit of 6, so is this one, and by the
    same number; where it is not, neither is this one.
    """
    rng = np.random.default_rng(seed)
    x = values(size, seed, 2.0**octave) * (2.0 ** rng.integers(-40, 40, size) if mixed else 1.0)
    unit = np.abs(x) * [0.0, 1e-7, 10.0 ** rng.uniform(-9, -5, size)][units]
    e = np.abs(x) * 1e-7 * 10.0**sparse * rng.standard_normal(size) * (rng.random(size) < rng.random())
    expected, found = full(x, x + e, unit), gauge(x, x + e, unit, STEP).measure
    if max(expected.ratio, found.ratio) > module._QUIET:
        assert found == expected
    assert found.max_abs == pytest.approx(expected.max_abs)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (2, 0, 3), (1, 2, 3, 4)])
def test_every_shape_can_be_measured(shape: tuple[int, ...]) -> None:
    """A scalar is one element; of none there is nothing to say."""
    x = np.ones(shape)
    assert gauge(x, x, None, STEP).measure.ratio == 0.0
    found = gauge(x, np.asarray(x + 1.0), None, STEP).measure
    if not x.size:
        assert found == Measure()
    else:
        assert found.ratio == full(x, np.asarray(x + 1.0), np.zeros(())).ratio > 1e6


@pytest.mark.parametrize(("a", "b", "said"), [(np.nan, 1.0, "NaN"), (1.0, np.nan, "NaN"), (np.inf, 1.0, "infinite")])
def test_what_is_a_number_on_one_side_only_is_infinitely_wrong(a: float, b: float, said: str) -> None:
    """NaN or infinity against a number, in the last block of many, with a unit or without."""
    x = values(20_000)
    y = x.copy()
    x[-1], y[-1] = a, b
    for unit in (None, np.full(x.shape, 1e-6), np.zeros(x.shape)):
        found = gauge(x, y, unit, STEP).measure
        assert math.isinf(found.ratio)
        assert said in found.problem


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_on_both_sides_is_no_error(special: float) -> None:
    """A mask's -inf, or a NaN that came in, is equal; the numbers beside it are measured."""
    x = values(1000)
    x[::2] = special
    assert gauge(x, x.copy(), None, STEP).measure.ratio == 0.0
    y = x.copy()
    y[1] += 1.0
    assert gauge(x, y, None, STEP).measure.ratio > 1e4
    assert gauge(x, x.copy(), None, STEP, exact=(x.copy(), x.copy())).measure.ratio == 0.0
    assert gauge(x, y, None, STEP, exact=(x.copy(), x.copy())).measure.ratio > 1e4


def test_without_any_unit_zero_is_exact() -> None:
    """Zeros have no rounding: equal they are right, and what is not zero there is infinitely wrong."""
    x = np.zeros(9000)
    assert gauge(x, x.copy(), None, 0.0).measure == Measure()
    y = x.copy()
    y[8999] = 1e-30
    assert math.isinf(gauge(x, y, None, 0.0).measure.ratio)


def test_a_zero_beside_numbers_does_not_hide_them() -> None:
    """Nothing over nothing is no number; the error beside it is found all the same."""
    x = values(100)
    x[0] = 0.0
    y = x.copy()
    y[1] += 1e-3
    assert gauge(x, y, None, STEP).measure == full(x, y, np.zeros(()))


def test_an_error_where_the_unit_is_zero_is_not_licensed_by_zeros() -> None:
    """A zero of the reference that became 1e-3, where every other element is equal and small."""
    x = np.zeros(100)
    x[1:] = 1e-6
    y = x.copy()
    y[0] = 1e-3
    assert gauge(x, y, None, STEP).measure.ratio > 1e3


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.bool_])
def test_integers_and_booleans_are_equal_or_wrong(dtype: Any) -> None:
    """One element of ten that differs is infinitely wrong, and the message says which."""
    x = (np.arange(10) % 2).astype(dtype)
    y = x.copy()
    assert gauge(x, y, np.zeros(x.shape), STEP).measure.ratio == 0.0
    y[3] = 0
    found = gauge(x, y, np.zeros(x.shape), STEP).measure
    assert math.isinf(found.ratio)
    assert "1 of 10 elements, first at [3]" in found.problem


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_a_discrete_value_that_follows_from_its_inputs_is_no_error(dtype: Any) -> None:
    """The sides differ at one element, and each is what its node makes of its own inputs; with another one that is
    not, the error is that one.
    """
    x = (np.arange(10) % 2).astype(dtype)
    y = x.copy()
    y[3] = 0
    assert gauge(x, y, np.zeros(x.shape), STEP, exact=(x.copy(), y.copy())).measure.ratio == 0.0
    y_wrong = y.copy()
    y_wrong[5] = 0
    found = gauge(x, y_wrong, np.zeros(x.shape), STEP, exact=(x.copy(), y.copy())).measure
    assert math.isinf(found.ratio)
    assert "1 of 10 elements, first at [5]" in found.problem


def test_a_flip_that_draws_show_as_well_is_rounding() -> None:
    """An element that one of three draws flips may be flipped; one that none flips may not."""
    x = np.zeros(10, np.int64)
    flipped, other = x.copy(), x.copy()
    flipped[2], other[5] = 1, 1
    found = gauge(x, flipped, None, STEP, draws=[x, flipped, x]).measure
    assert found.ratio == 0.0
    assert "flip under rounding alone" in found.note
    assert math.isinf(gauge(x, other, None, STEP, draws=[x, flipped, x]).measure.ratio)


def test_exact_takes_each_sides_inputs_away() -> None:
    """The error is ``(y - f(v)) - (x - f(u))``: what the inputs make differ does not count, however much it is."""
    rng = np.random.default_rng(0)
    unit = np.full(5000, 1e-6)
    fu, fv = values(5000, 1), values(5000, 2)
    mine, theirs = (unit * rng.standard_normal(5000) for _ in range(2))
    x, y = fu + mine, fv + theirs
    found = gauge(x, y, unit, STEP, exact=(fu, fv))
    expected = full(x, x + (theirs - mine), unit)
    assert found.measure.ratio == pytest.approx(expected.ratio, rel=1e-3)
    assert found.error == pytest.approx(math.sqrt(np.mean(np.square(theirs - mine))), rel=1e-6)
    y[4] += 1e-3
    assert gauge(x, y, unit, STEP, exact=(fu, fv)).measure.ratio > 50


def test_draws_make_the_unit() -> None:
    """Draws that stand ``AMPLITUDE`` times a unit away give that unit, by either way."""
    x = values(5000)
    rng = np.random.default_rng(3)
    moved = [x + AMPLITUDE * 1e-6 * rng.choice([-1.0, 1.0], 5000) for _ in range(3)]
    units = spread(x, moved)
    assert isinstance(units, np.ndarray)
    assert units == pytest.approx(1e-6, rel=1e-6)
    for size in (1e-6, 1e-3):
        y = x + size * rng.standard_normal(5000)
        found = gauge(x, y, None, STEP, draws=moved).measure
        assert found.ratio == pytest.approx(full(x, y, units).ratio, rel=0.05)


def test_a_draw_of_another_shape_leaves_it_undecided() -> None:
    """Rounding alone changes how many elements there are: nothing can be said."""
    x = values(5)
    found = gauge(x, x + 1.0, None, STEP, draws=[values(4)]).measure
    assert (found.ratio, bool(found.undecided)) == (0.0, True)


def test_other_shapes_are_wrong_and_do_not_break_it() -> None:
    """Shapes are told apart before numbers, also against what the inputs should have given."""
    x = values(6)
    found = gauge(x, x[:4], np.zeros(6), STEP).measure
    assert math.isinf(found.ratio)
    assert "[6] against [4]" in found.problem
    for exact in ((x, x), (x, x[:5]), (x[:5], x)):
        assert math.isinf(gauge(x, x[:4], np.zeros(6), STEP, exact=exact).measure.ratio)
    found = gauge(x, x, np.zeros(6), STEP, exact=(x, x[:5])).measure
    assert math.isinf(found.ratio)
    assert "from its inputs [5]" in found.problem
    turned = np.ones((1, 6, 6, 8))  # channels last, where the node has them first: its unit lies as the node's
    first, unit = np.ones((1, 8, 6, 6)), np.zeros((1, 8, 6, 6))
    assert math.isinf(gauge(turned, first, unit, STEP, exact=(first, first)).measure.ratio)
    assert math.isinf(gauge(turned, turned, unit, STEP, exact=(first, first)).measure.ratio)


def test_what_is_no_array_is_not_judged() -> None:
    """Sequences and absent values have no measure here."""
    assert gauge([values(3)], [values(3)], None, STEP).measure == Measure()
    assert gauge(None, values(3), None, STEP).measure == Measure()
    assert spread(None, []) is None
