from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from onnxeq.arrays import feeds_digest, load_feeds, save_feeds


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(1.5),
        np.array([True, False]),
        np.arange(3, dtype=np.int64),
        np.zeros((0, 4), np.float32),
        np.array([1.5, -2.0], dtype=ml_dtypes.bfloat16),
        np.array([0.5, 448.0], dtype=ml_dtypes.float8_e4m3fn),
        np.array([np.nan, np.inf, -0.0], np.float16),
    ],
    ids=lambda v: f"{v.dtype}{v.shape}",
)
def test_round_trip_keeps_every_bit(tmp_path: Path, value: np.ndarray) -> None:
    """What is saved comes back with its name, order, type, shape and bytes."""
    save_feeds(tmp_path / "feeds", [{"b": value, "a": value}, {"b": value}])
    first, second = load_feeds(tmp_path / "feeds")
    assert list(first) == ["b", "a"]
    assert list(second) == ["b"]
    assert first["a"].dtype == value.dtype
    assert first["a"].shape == value.shape
    assert first["a"].tobytes() == value.tobytes()


def test_strings_round_trip(tmp_path: Path) -> None:
    """Text tensors come back as text, without a pickle."""
    save_feeds(tmp_path / "feeds", [{"s": np.array(["a", "täst"], dtype=object)}])
    assert load_feeds(tmp_path / "feeds")[0]["s"].tolist() == ["a", "täst"]


def test_digest_sees_name_type_shape_and_value() -> None:
    """Two feeds have one digest only if they agree in name, type, shape and every bit."""
    a = np.zeros((2, 3), np.float32)
    variants = [
        {"x": a},
        {"y": a},
        {"x": a.astype(np.int32)},
        {"x": a.reshape(3, 2)},
        {"x": a + 1},
        {"x": -a},
    ]
    assert len({feeds_digest([v]) for v in variants}) == len(variants)
    assert feeds_digest([{"x": a}]) == feeds_digest([{"x": a.copy()}])
