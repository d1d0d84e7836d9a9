from __future__ import annotations

import numpy as np

from onnxeq.sizes import other_sizes
from onnxeq.types import TensorSpec


def pair(name: str, dtype: str, *shape: int | str) -> tuple[TensorSpec, TensorSpec]:
    spec = TensorSpec(name, dtype, shape)
    return spec, spec


def test_equal_sizes_stay_equal_and_values_stay_within_their_range() -> None:
    """A mask keeps fitting its tokens at 24 and at 8, and no token leaves the table that the feeds stayed in."""
    inputs = [pair("ids", "int64", "N", "T"), pair("mask", "float32", "N", 1, "T", "T")]
    given = {"ids": np.arange(16)[None] % 7 + 2, "mask": np.zeros((1, 1, 16, 16), np.float32)}
    made = other_sizes([given], inputs, seed=0)
    assert [f["ids"].shape for f in made] == [(1, 24), (1, 8)]
    assert [f["mask"].shape for f in made] == [(1, 1, 24, 24), (1, 1, 8, 8)]
    assert all(f["ids"].min() >= 2 and f["ids"].max() <= 8 for f in made)


def test_an_image_becomes_another_that_can_be_halved_five_times() -> None:
    """One smaller and not square size, divisible by 32; the batch is not touched."""
    given = {"image": np.zeros((1, 3, 224, 224), np.float32)}
    (made,) = other_sizes([given], [pair("image", "float32", "N", 3, "H", "W")], seed=0)
    assert made["image"].shape == (1, 3, 160, 192)


def test_an_axis_named_like_the_batch_is_not_varied() -> None:
    """``N`` on another axis is the batch again, and fixed sizes are fixed."""
    given = {"x": np.zeros((3, 2), np.float32), "pairs": np.zeros((3, 3), np.float32)}
    assert other_sizes([given], [pair("x", "float32", "N", 2), pair("pairs", "float32", "N", "N")], seed=0) == []
