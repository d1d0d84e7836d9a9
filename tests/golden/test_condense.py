"""What is kept of a large output tells what changed in it."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from onnxeq.golden.condense import LARGE, condensed, condensed_unit, digest, is_large, statistics
from onnxeq.measure import compare


def large(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, LARGE // 2)).astype(np.float32)


def test_a_small_output_is_kept_whole() -> None:
    """Up to 2^18 elements an output and its unit are themselves."""
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert condensed(value) is value
    unit = np.ones((2, 3))
    assert condensed_unit(unit, value) is unit
    assert not is_large(np.zeros(LARGE, np.float32))
    assert is_large(np.zeros(LARGE + 1, np.float32))


def test_condensing_is_linear() -> None:
    """c(2a - 3b) = 2 c(a) - 3 c(b), to float64 rounding of sums of 384 terms."""
    a, b = large(1).astype(np.float64), large(2).astype(np.float64)
    assert condensed(a).shape == (4096 + 1024,)
    np.testing.assert_allclose(condensed(2 * a - 3 * b), 2 * condensed(a) - 3 * condensed(b), atol=1e-11)


def test_the_unit_of_a_block_is_that_of_its_sum() -> None:
    """Elements with unit s each: a block of n has s*sqrt(n), and a sampled element s."""
    value = np.zeros((3, LARGE // 2), np.float32)
    unit = condensed_unit(np.full(value.shape, 1e-3), value)
    size = value.size // 1024
    np.testing.assert_allclose(unit[:4096], 1e-3)
    np.testing.assert_allclose(unit[4096:], 1e-3 * math.sqrt(size))


def test_noise_passes_and_one_wrong_patch_does_not() -> None:
    """Errors of the unit's own size are below the limit of 6; 300 neighbouring elements 40 units off are above it.

    The sample of 4096 out of 393,216 elements meets that patch in about three places or none; its block does always:
    40*sqrt(300) against sqrt(384) units.
    """
    rng = np.random.default_rng(3)
    value, s = large(), 1e-4
    unit = [{"y": condensed_unit(np.full(value.shape, s), value)}]
    ours = [{"y": condensed(value.astype(np.float64))}]
    noisy = value + s * rng.standard_normal(value.shape)
    assert compare(ours, [{"y": condensed(noisy)}], unit, step=2.0**-24).ratio < 2
    wrong = noisy.copy()
    wrong[1, 1000:1300] += 40 * s * rng.choice([-1, 1], 300)
    assert compare(ours, [{"y": condensed(wrong)}], unit, step=2.0**-24).ratio > 1.5
    wrong[1, 1000:1300] += 400 * s * rng.choice([-1, 1], 300)
    assert compare(ours, [{"y": condensed(wrong)}], unit, step=2.0**-24).ratio > 6


def test_whole_numbers_are_summed_exactly() -> None:
    """One label of 400,000 that changes is seen, wherever it is."""
    labels = np.random.default_rng(0).integers(0, 21, 400_000)
    for position in (0, 123_457, 399_999):
        other = labels.copy()
        other[position] += 1
        assert int(np.count_nonzero(condensed(labels) != condensed(other))) >= 1
    assert condensed(labels).dtype == np.int64


def test_a_digest_is_of_type_shape_and_bytes() -> None:
    """The same bytes in another shape or type are another output."""
    value = np.zeros((2, 2), np.float32)
    assert digest(value) == digest(np.zeros((2, 2), np.float32))
    others = [value.reshape(4), value.view(np.int32), np.zeros((2, 2), np.float64), value - 0.0 * 1]
    assert len({digest(value), *map(digest, others[:3])}) == 4
    assert digest(np.float32(-0.0).reshape(1)) != digest(np.float32(0.0).reshape(1))


def test_statistics_are_of_the_finite_elements() -> None:
    """Of (3, -4, nan, inf): least -4, most 3, mean -0.5, norm 5; the largest of the first row come first."""
    found = statistics(np.array([[3.0, -4.0, np.nan, np.inf]], np.float32))
    assert (found.min, found.max, found.mean, found.l2) == (-4.0, 3.0, -0.5, 5.0)
    found = statistics(np.array([[1, 5, 5, 2, 0, 3], [9, 9, 9, 9, 9, 9]], ml_dtypes.bfloat16))
    assert found.top == (1, 2, 5, 3, 0)
    assert found.top_values == (5.0, 5.0, 3.0, 2.0, 1.0)


@pytest.mark.parametrize("array", [np.zeros((0, 3), np.float32), np.array(["a"], object), np.full(2, np.nan)])
def test_an_output_without_numbers_has_no_statistics(array: np.ndarray) -> None:
    """Empty, text, and nothing but NaN."""
    assert math.isnan(statistics(array).mean)
    assert statistics(array).top == ()
