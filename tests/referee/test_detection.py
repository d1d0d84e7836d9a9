"""Suppression in groups against suppression of all boxes at once, as the specification words it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxeq.referee.ops.detection import _overlap, _suppress


def at_once(boxes: Any, scores: Any, limit: int, iou: float, threshold: float | None) -> list[int]:
    """The best score first; every later box that overlaps it by more than ``iou`` goes."""
    order = [i for i in np.argsort(-scores, kind="stable") if threshold is None or scores[i] > threshold]
    kept: list[int] = []
    while order and len(kept) < limit:
        best = order.pop(0)
        kept.append(int(best))
        order = [i for i in order if _overlap(boxes[best], boxes[i][None])[0] <= iou]
    return kept


@pytest.mark.parametrize("seed", range(150))
def test_groups_change_nothing(seed: int) -> None:
    """Far and near boxes, on a grid or not, empty ones, NaN, infinities, ties, each limit and threshold."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 25))
    corner = rng.random((count, 2)) * rng.choice([1, 5, 20])
    size = rng.random((count, 2)) * rng.choice([0, 0.5, 2])
    if seed % 3 == 0:
        corner, size = np.round(corner * 4) / 4, np.round(size * 4) / 4
    boxes = np.concatenate([corner, corner + size], 1)
    if count and seed % 5 == 0:
        boxes[rng.integers(count), rng.integers(4)] = rng.choice([np.nan, np.inf])
    scores = np.round(rng.random(count) * 8) / 8
    for limit in (0, 1, 3, 100):
        for iou in (0.0, 0.5, 1.0):
            threshold = None if seed % 2 else 0.4
            with np.errstate(all="ignore"):
                expected = at_once(boxes, scores, limit, iou, threshold)
                assert _suppress(boxes, scores, limit, iou, threshold) == expected
