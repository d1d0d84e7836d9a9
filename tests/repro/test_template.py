"""The script measures as the package does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper

from onnxeq.repro import Case, template
from onnxeq.types import Array
from tests.repro.conftest import model_of

MODEL = model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": ["N"]}, ["y"], {})


def case(right: Array, unit: Array, dtype: str) -> Case:
    return Case(MODEL, {}, right, unit, 8.0, dtype)


def broken(change: Callable[[Array], None]) -> Callable[[Array], Array]:
    def edit(given: Array) -> Array:
        given = given.copy()
        change(given)
        return given

    return edit


def nan(given: Array) -> None:
    given.flat[3] = np.nan


def infinite(given: Array) -> None:
    given.flat[3] = np.inf


@pytest.mark.parametrize("shape", [(), (1,), (7,), (40, 16)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units_are_those_of_the_package(shape: tuple[int, ...], dtype: str) -> None:
    """Errors of several sizes, units with zeros among them, values over forty octaves: the same ratio."""
    rng = np.random.default_rng(3)
    right = np.asarray(rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20, shape))
    unit = np.asarray(np.abs(right) * 1e-7 * rng.integers(0, 3, shape))
    for size in (0.0, 1e-8, 1e-3):
        given = (right * (1 + size * rng.standard_normal(shape))).astype(dtype)
        held = case(right, unit, dtype)
        wanted = held.measure(given)
        assert template.error_in_units(right, given, held.whole_unit()) == pytest.approx(wanted.ratio, rel=1e-12)
        assert template.largest(right, given) == wanted.max_abs


@pytest.mark.parametrize("change", [nan, infinite])
def test_what_is_no_number_on_one_side_is_infinitely_far(change: Callable[[Array], None]) -> None:
    """NaN or an infinity on one side only counts as infinitely many units, on both sides as none."""
    right = np.linspace(1, 2, 10)
    given = broken(change)(right.astype(np.float32))
    unit = np.full(10, 1.0)
    assert template.error_in_units(right, given, unit) == math.inf
    assert template.error_in_units(broken(change)(right), given, unit) < 1e-6
    assert case(right, unit, "float32").measure(given).ratio == math.inf


def test_another_shape_is_infinitely_far() -> None:
    """A result of another shape is no result."""
    assert template.error_in_units(np.zeros(3), np.zeros(4, np.float32), np.ones(3)) == math.inf


@pytest.mark.parametrize(("unit", "units"), [(0.0, math.inf), (0.5, 0.0)])
def test_discrete_results_must_be_equal_unless_rounding_flips_them(unit: float, units: float) -> None:
    """One flipped element of ten: an error where no draw flips it, none where draws do."""
    right = np.zeros(10, bool)
    given = right.copy()
    given[4] = True
    held = case(right, np.full(10, unit), "bool")
    assert template.error_in_units(right, given, held.whole_unit()) == units == held.measure(given).ratio
