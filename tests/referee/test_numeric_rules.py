"""Rules of arithmetic, reductions and generated tensors that the witnesses do not cover or get wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxeq.errors import OnnxeqError, UnsupportedOperator

Run = Callable[..., list[Any]]


def _one(value: float) -> Any:
    return np.array(value, np.float32)


@pytest.mark.parametrize(("a", "b", "quotient"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (-6, 3, -2)])
def test_integer_division_truncates(run_node: Run, a: int, b: int, quotient: int) -> None:
    """Integer Div rounds toward zero, as C does."""
    (got,) = run_node("Div", 14, (np.array([a], np.int32), np.array([b], np.int32)))
    assert got[0] == quotient


@pytest.mark.parametrize(("a", "b", "fmod", "rest"), [(-7, 3, 0, 2), (-7, 3, 1, -1), (7, -3, 0, -2), (7, -3, 1, 1)])
def test_mod_sign(run_node: Run, a: int, b: int, fmod: int, rest: int) -> None:
    """fmod=0 takes the divisor's sign, fmod=1 the dividend's."""
    (got,) = run_node("Mod", 13, (np.array([a]), np.array([b])), {"fmod": fmod})
    assert got[0] == rest


@pytest.mark.parametrize(
    ("x", "by", "direction", "expected"),
    [
        (-8, 1, "RIGHT", -4),
        (-8, 99, "RIGHT", -1),
        (8, 99, "RIGHT", 0),
        (1, -1, "LEFT", 0),
        (3, 2, "LEFT", 12),
    ],
)
def test_signed_shifts(run_node: Run, x: int, by: int, direction: str, expected: int) -> None:
    """Right shifts extend the sign; a shift of the width or more leaves only that (opset 28)."""
    inputs = (np.array([x], np.int32), np.array([by], np.int32))
    (got,) = run_node("BitShift", 28, inputs, {"direction": direction})
    assert got[0] == expected


def test_older_broadcast_axis(run_node: Run) -> None:
    """Before opset 7, ``axis=0`` lines the second operand up with the first dimension."""
    inputs = (np.zeros((2, 3), np.float32), np.array([1, 2], np.float32))
    (got,) = run_node("Add", 6, inputs, {"broadcast": 1, "axis": 0})
    np.testing.assert_array_equal(got, [[1, 1, 1], [2, 2, 2]])


def test_round_goes_to_even(run_node: Run) -> None:
    """Halves round to the even neighbour."""
    (got,) = run_node("Round", 11, (np.array([0.5, 1.5, 2.5, -0.5, -2.5], np.float32),))
    np.testing.assert_array_equal(got, [0, 2, 2, 0, -2])


@pytest.mark.parametrize("value", [-np.inf, 1e4, -1e4])
def test_log_sum_exp_of_equal_elements(run_node: Run, value: float) -> None:
    """log(2 exp(v)) = v + log 2, at any size of v; all -inf gives -inf, not NaN."""
    (got,) = run_node("ReduceLogSumExp", 13, (np.full((1, 2), value, np.float32),), {"axes": [1]})
    assert got[0, 0] == (value if np.isinf(value) else pytest.approx(value + np.log(2), abs=1e-11))


@pytest.mark.parametrize(
    ("op", "expected"), [("Sum", 0), ("Prod", 1), ("Max", -np.inf), ("Min", np.inf), ("LogSumExp", -np.inf)]
)
def test_empty_reduction(run_node: Run, op: str, expected: float) -> None:
    """A reduction over no elements gives the operation's neutral element."""
    inputs = (np.zeros((2, 0), np.float32), np.array([1], np.int64))
    (got,) = run_node(f"Reduce{op}", 20, inputs)
    np.testing.assert_array_equal(got, np.full((2, 1), expected))


def test_range_is_computed_in_float64(run_node: Run) -> None:
    """Element i is start + i * delta exactly as float64 has it, delta being a float32 number."""
    (got,) = run_node("Range", 11, (_one(0), _one(1), _one(0.1)))
    np.testing.assert_array_equal(got, np.arange(10) * float(np.float32(0.1)))


def test_unary_functions_are_float64(run_node: Run) -> None:
    """A float32 input is widened and the function computed in float64: exp(0.1f) to its last bit."""
    (got,) = run_node("Exp", 13, (np.array([0.1], np.float32),))
    assert got.dtype == np.float64
    assert got[0] == np.exp(float(np.float32(0.1)))


def test_identity_matrix_and_constants_are_float64(run_node: Run) -> None:
    """EyeLike and ConstantOfShape make tensors that are computed with: they are held in float64."""
    (eye,) = run_node("EyeLike", 9, (np.zeros((2, 3), np.float32),))
    (filled,) = run_node("Add", 13, (np.zeros(2, np.float32), np.ones(2, np.float32)))
    assert eye.dtype == filled.dtype == np.float64


def test_random_operators_are_refused(run_node: Run) -> None:
    """The referee never picks numbers of its own."""
    with pytest.raises(UnsupportedOperator, match="random"):
        run_node("RandomUniformLike", 13, (np.zeros(3, np.float32),))


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Gather", (np.zeros(3, np.float32), np.array([3]))),
        ("GatherElements", (np.zeros(3, np.float32), np.array([-4]))),
        ("ScatterElements", (np.zeros(3, np.float32), np.array([5]), np.ones(1, np.float32))),
        ("ScatterND", (np.zeros(3, np.float32), np.array([[7]]), np.ones(1, np.float32))),
    ],
)
def test_bad_index_is_said(run_node: Run, op: str, inputs: tuple[Any, ...]) -> None:
    """An index outside the axis is an error that names it; it is never clipped or wrapped."""
    with pytest.raises(OnnxeqError, match=r"index -?\d is outside \[-3, 3\)"):
        run_node(op, 16, inputs)


def test_scatter_combines_duplicates(run_node: Run) -> None:
    """With reduction=add every update counts, also those for the same place."""
    inputs = (np.zeros(2, np.float32), np.array([1, 1, 1]), np.array([1, 2, 4], np.float32))
    (got,) = run_node("ScatterElements", 16, inputs, {"reduction": "add"})
    np.testing.assert_array_equal(got, [0, 7])


@pytest.mark.parametrize(("largest", "indices"), [(1, [2, 1, 3]), (0, [0, 4, 1])])
def test_top_k_ties_and_nan(run_node: Run, largest: int, indices: list[int]) -> None:
    """Ties go to the lower index; NaN counts as the largest."""
    x = np.array([0, 3, np.nan, 3, 1], np.float32)
    _, got = run_node("TopK", 11, (x, np.array([3])), {"largest": largest}, 2)
    assert got.tolist() == indices


def test_unequal_split_before_opset_18_is_an_error(run_node: Run) -> None:
    """Before opset 18 a split without sizes must be even."""
    with pytest.raises(OnnxeqError, match="do not make 2 equal parts"):
        run_node("Split", 13, (np.zeros(3, np.float32),), {}, 2)


@pytest.mark.parametrize(("shape", "allow", "expected"), [([0, -1], 0, (2, 3)), ([0, 3], 1, (0, 3))])
def test_reshape_zero(run_node: Run, shape: list[int], allow: int, expected: tuple[int, ...]) -> None:
    """0 copies the input's dimension, or is a size of 0 with allowzero."""
    x = np.zeros((0, 3) if allow else (2, 3), np.float32)
    (got,) = run_node("Reshape", 14, (x, np.array(shape)), {"allowzero": allow})
    assert got.shape == expected
