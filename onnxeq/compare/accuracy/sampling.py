"""A sample of labelled items that has the classes in the proportions of the whole."""

from __future__ import annotations

import numpy as np

from onnxeq.types import Array

__all__ = ["chosen"]


def chosen(labels: Array, most: int | None, seed: int) -> Array:
    """The places of at most ``most`` of ``int64[N]`` labels, in their order; all of them without a limit.

    Each class has its share of the sample, rounded down; what is left goes to the classes with the largest remainders,
    of equal ones to those with the lower numbers. Which items of a class are taken, the seed decides.
    """
    if most is None or most >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * (most / len(labels))
    taken = np.floor(exact).astype(int)
    for place in np.argsort(-(exact - taken), kind="stable")[: most - int(taken.sum())]:
        taken[place] += 1
    rng = np.random.default_rng(seed)
    picked = [
        rng.choice(np.flatnonzero(labels == number), size=count, replace=False)
        for number, count in zip(classes, taken, strict=True)
    ]
    return np.sort(np.concatenate(picked))
