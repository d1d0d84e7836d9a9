"""Samples with the classes of the whole."""

from __future__ import annotations

import numpy as np

from onnxeq.compare.accuracy.sampling import chosen

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10)


def test_each_class_has_its_share() -> None:
    """Of 60, 30 and 10 items ten are 6, 3 and 1; of twelve, 7.2, 3.6 and 1.2 become 7, 4 and 1."""
    assert np.bincount(LABELS[chosen(LABELS, 10, 0)]).tolist() == [6, 3, 1]
    assert np.bincount(LABELS[chosen(LABELS, 12, 0)]).tolist() == [7, 4, 1]


def test_the_seed_decides_and_the_order_stays() -> None:
    """One seed, one sample, in the items' order and without an item twice; another seed draws another."""
    first = chosen(LABELS, 20, 1)
    assert first.tolist() == sorted(set(first.tolist()))
    assert first.tolist() == chosen(LABELS, 20, 1).tolist()
    assert first.tolist() != chosen(LABELS, 20, 2).tolist()


def test_without_a_limit_all_are_taken() -> None:
    """Also where the limit is beyond them."""
    assert chosen(LABELS, None, 0).tolist() == list(range(100))
    assert chosen(LABELS, 1000, 0).tolist() == list(range(100))
