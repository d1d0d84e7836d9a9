from __future__ import annotations

import numpy as np
import pytest

from onnxeq.accumulation import ONE, Size, accumulate, total

U = 2.0**-24


def real_error(rows: np.ndarray, lanes: int) -> np.ndarray:
    """The error, in u, of rows that are added up in float32, term by term, in so many accumulators."""
    given = rows.astype(np.float32)
    sums = np.zeros((len(rows), lanes), np.float32)
    for k in range(0, rows.shape[1], lanes):
        sums += given[:, k : k + lanes]
    return (sums.astype(np.float64).sum(1) - given.astype(np.float64).sum(1)) / U


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("low", [-1.0, 0.0], ids=["random signs", "one sign"])
def test_random_terms_err_at_random(low: float, lanes: int) -> None:
    """Of 4,096 terms that differ by more than an ulp of their sum: the real error's size within a factor of 2, and
    nothing that all sums share.
    """
    rows = np.random.default_rng(0).uniform(low, 1, (256, 4096))
    error = accumulate(rows, lanes)
    measured = np.sqrt(np.mean(np.square(real_error(rows, lanes))))
    assert 0.5 < np.sqrt(np.mean(np.square(error.random))) / measured < 2
    assert np.count_nonzero(error.alike) <= 8  # of 256 the larger of two: one in 180 is beyond three deviations


@pytest.mark.parametrize("lanes", [1, 4])
def test_equal_terms_err_alike(lanes: int) -> None:
    """Of 65,536 equal terms: at least the error that a sum in so many accumulators, or in twice as many, really has."""
    rows = np.broadcast_to(np.linspace(0.1, 0.19, 8)[:, None], (8, 65_536))
    error = accumulate(rows, lanes)
    real = [np.abs(real_error(rows, count)) for count in (lanes, 2 * lanes)]
    assert np.allclose(np.hypot(error.alike, error.random), np.maximum(*real), atol=3.2 * error.random.max())
    assert np.median(np.abs(error.alike)) > 10 * np.median(error.random)


def test_equal_terms_are_known_for_such_in_rows_of_any_length() -> None:
    """1,000 equal terms, which 64 pieces do not divide, have an error that is no random one: the real sum's."""
    error = accumulate(np.full((1, 1000), 0.1), 1)
    assert abs(error.alike[0]) == pytest.approx(abs(real_error(np.full((1, 1000), 0.1), 1)[0]), rel=0.5)
    assert error.alike.all()


def test_what_float32_holds_exactly_is_not_lost() -> None:
    """Ones add up to 65,536 without any error, so that nothing is shared."""
    assert not accumulate(np.ones((3, 65_536)), 1).alike.any()


def test_a_short_row_has_one_accumulator() -> None:
    """``sqrt(sum_k s_k^2 / 3)`` of 64 ones is ``sqrt(64*65*129/6/3)``, however many accumulators a long row has."""
    rows = np.ones((1, 64))
    assert accumulate(rows, 4).random[0] == pytest.approx((64 * 65 * 129 / 18) ** 0.5)
    assert accumulate(rows, 4).random[0] == accumulate(rows, 1).random[0]


def test_values_that_float32_does_not_hold_have_no_rounding() -> None:
    """Infinity, NaN and what overflows give a finite size."""
    rows = np.array([[np.inf] * 200, [np.nan] * 200, [1e300] * 200])
    error = accumulate(rows, 4)
    assert np.isfinite(error.random).all()
    assert np.isfinite(error.alike).all()


def test_a_whole_perturbation_adds_its_parts_by_squares() -> None:
    """``sqrt((r*y)^2 + a^2 + p^2)``, the pattern in any shape that holds as many elements."""
    y = np.array([[2.0, 4.0], [0.0, 1.0]])
    pattern = np.array([3.0, 0.0, 4.0, 1.0]).reshape(1, 4)
    found = total(Size(0.5, 1.0, ((pattern, (1, 1)),)), y)
    assert found == pytest.approx(np.sqrt(np.array([[1 + 1 + 9, 4 + 1], [1 + 16, 0.25 + 1 + 1]])))
    assert total(Size(ONE, 0.0), y) == pytest.approx(ONE * y)
