from __future__ import annotations

import math

import numpy as np
import pytest

from onnxeq.measure import compare, participation, summarize, within

RNG = np.random.default_rng(0)
N = 10_000
BASE = RNG.standard_normal(N)
UNIT = [{"y": np.full(N, 1e-6)}]


def ratio(error: np.ndarray) -> float:
    return compare([{"y": BASE}], [{"y": BASE + error}], UNIT, step=2.0**-53).ratio


def test_an_error_of_the_units_size_has_ratio_one() -> None:
    """Normal errors with the unit's deviation measure 1 up to the slack ``1 + 3/sqrt(n)`` and sampling."""
    assert ratio(RNG.standard_normal(N) * 1e-6) == pytest.approx(1 / (1 + 3 / math.sqrt(N)), rel=0.05)


def test_ratio_is_linear_in_the_error() -> None:
    """Ten times the error has ten times the ratio."""
    error = RNG.standard_normal(N) * 1e-6
    assert ratio(10 * error) == pytest.approx(10 * ratio(error), rel=1e-6)


def test_one_wrong_element_among_many_is_seen() -> None:
    """An element off by 1000 units counts ``1000 / (2*sqrt(2*ln(2n)))``, not ``1000/sqrt(n)``."""
    alike = np.sign(BASE)
    off = alike.copy()
    off[17] += 1e-3
    found = compare([{"y": alike}], [{"y": off}], UNIT, step=2.0**-53)
    assert found.ratio == pytest.approx(1000 / (2 * math.sqrt(2 * math.log(2 * N))), rel=1e-3)


def test_large_elements_do_not_license_errors_in_small_ones() -> None:
    """Scores of order one beside boxes of order 1000, each with its own noise: scores off by 100 of theirs."""
    rng = np.random.default_rng(1)
    boxes, scores = 1000 * (1 + rng.random(500)), 1 + rng.random(500)
    unit = np.concatenate([np.full(500, 1e-4), np.full(500, 1e-8)])
    base = np.concatenate([boxes, scores])
    error = np.concatenate([np.zeros(500), np.full(500, 1e-6)])
    found = compare([{"y": base}], [{"y": base + error}], [{"y": unit}], step=0)
    assert found.ratio == pytest.approx(100 / (1 + 3 / math.sqrt(500)), rel=1e-3)


def test_a_shape_that_rounding_alone_changes_is_undecided() -> None:
    """An infinite unit says that a draw changed the shape: neither equal nor different can be concluded."""
    found = compare([{"y": np.zeros(3)}], [{"y": np.zeros(4)}], [{"y": np.full(3, np.inf)}], step=0)
    assert "changes the shape of 'y'" in found.undecided
    assert not found.problem


def test_a_unit_of_another_shape_judges_nothing() -> None:
    """The unit of an artifact with transposed outputs is no measure for the source's own rungs."""
    found = compare([{"y": np.zeros((2, 3))}], [{"y": np.ones((2, 3))}], [{"y": np.ones((3, 2))}], step=0)
    assert found.ratio == 0


def test_participation_counts_the_elements_that_carry_the_noise() -> None:
    """All alike: n. One alone: 1. Scale does not matter, however small."""
    assert participation(np.full(100, 1e-300)) == pytest.approx(100)
    assert participation(np.eye(1, 100)) == pytest.approx(1)
    assert participation(np.array([1.0, 1.0, 0.0, 0.0])) == pytest.approx(2)
    assert participation(np.zeros(5)) == 5


def test_a_unit_that_few_elements_carry_gets_the_slack_of_few() -> None:
    """The same error over a unit in 2 of 1000 elements counts less than over one in all of them."""
    unit = np.full(1000, 1e-12)
    unit[:2] = 1e-6
    error = unit * 3
    found = compare([{"y": np.zeros(1000)}], [{"y": error}], [{"y": unit}], step=0)
    assert found.ratio == pytest.approx(3 / (1 + 3 / math.sqrt(2)), rel=1e-3)


def test_identical_is_zero_even_without_noise() -> None:
    """Equal bits have ratio 0 although the unit is 0; any difference without noise is infinite."""
    zero = [{"y": np.zeros(3)}]
    a = [{"y": np.zeros(3)}]
    assert compare(a, a, zero, step=0.0).ratio == 0
    assert compare(a, [{"y": np.array([0, 0, 1e-30])}], zero, step=0.0).ratio == math.inf


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (np.zeros((2, 1)), np.zeros((1, 2)), "shape [2, 1] against [1, 2]"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "NaN in the first only"),
        (np.array([1.0, 2.0]), np.array([1.0, np.nan]), "NaN in the second only"),
        (np.array([np.inf, 2.0]), np.array([-np.inf, 2.0]), "infinite on one side"),
        (np.array([1, 2]), np.array([1, 3]), "differs at 1 of 2 elements, first at [1]: 2 against 3"),
    ],
)
def test_what_is_no_number_is_a_problem_not_a_distance(a: np.ndarray, b: np.ndarray, says: str) -> None:
    """Shapes are never broadcast, NaN and opposite infinities never equal, integers never rounded."""
    found = compare(
        [{"y": a}],
        [{"y": b}],
        [{"y": np.ones(a.shape)}] if a.dtype.kind == "f" else [{"y": np.zeros(a.shape)}],
        step=0,
    )
    assert says in found.problem
    assert found.ratio == math.inf


def test_equal_infinities_are_equal() -> None:
    """A mask of -inf on both sides is no difference."""
    a = np.array([-np.inf, 1.0])
    assert compare([{"y": a}], [{"y": a.copy()}], [{"y": np.ones(2)}], step=0).ratio == 0


def test_a_flip_that_rounding_alone_causes_is_said_and_is_no_divergence() -> None:
    """An argmax that the draws changed as well is unstable at this input."""
    found = compare([{"i": np.array([3, 1])}], [{"i": np.array([4, 1])}], [{"i": np.array([1.0, 0.0])}], step=0)
    assert found.ratio == 0
    assert "unstable" in found.note


def test_an_output_of_a_millionth_is_judged_by_its_own_noise() -> None:
    """A sign flip in an output of 1e-6 is far above noise of 1e-13, whatever other outputs are like."""
    tiny = np.array([1e-6, -2e-6])
    found = compare([{"t": tiny}], [{"t": -tiny}], [{"t": np.full(2, 1e-13)}], step=2.0**-24)
    assert found.ratio > 1e5


def test_within_uses_numpys_formula() -> None:
    """The ratio is ``|a-b| / (atol + rtol*|b|)`` with b the reference."""
    found = within([{"y": np.array([100.0])}], [{"y": np.array([101.0])}], rtol=1e-2, atol=1.0)
    assert found.ratio == pytest.approx(1 / (1 + 1e-2 * 100))


def test_summary_figures() -> None:
    """SQNR is ``10*log10(signal/error)``, cosine of equal vectors is 1, top-1 counts rows."""
    a = np.array([[1.0, 2.0], [3.0, 1.0]], np.float32)
    b = np.array([[1.0, 2.1], [3.0, 3.1]], np.float32)
    (row,) = summarize([{"y": a}], [{"y": b}])
    assert row.max_abs == pytest.approx(2.1)
    assert row.sqnr_db == pytest.approx(10 * math.log10(15 / (0.01 + 4.41)), rel=1e-4)
    assert row.top1_agreement == 0.5
    (same,) = summarize([{"y": a}], [{"y": a}])
    assert (same.max_abs, same.cosine, same.sqnr_db) == (0, pytest.approx(1), math.inf)
    (overflow,) = summarize([{"y": a}], [{"y": a * np.float32(np.inf)}])
    assert overflow.sqnr_db == -math.inf
