from __future__ import annotations

import numpy as np
import pytest

from onnxeq.batches import batched_outputs, choose_rows, take

FREE = {"x": "N", "mask": "N", "table": 5}


def feed(n: int, m: int | None = None) -> dict[str, np.ndarray]:
    return {"x": np.arange(n * 2.0).reshape(n, 2), "mask": np.arange(m or n), "table": np.arange(5)}


@pytest.mark.parametrize(
    ("feeds", "leading", "chosen"),
    [
        ([feed(1), feed(3)], FREE, (1, (2, 0))),
        ([feed(4), feed(2)], FREE, (0, (3, 0))),
        ([feed(1), feed(1)], FREE, None),  # nothing to leave out
        ([feed(3, 2)], FREE, None),  # two sizes: nobody knows which is the batch
        ([feed(3)], {"x": 3, "mask": 3, "table": 5}, None),  # a size that is fixed
    ],
)
def test_only_what_is_plainly_a_batch_is_cut(feeds: list, leading: dict, chosen: tuple | None) -> None:
    """The largest batch's last and first item, where every free first axis has one size."""
    assert choose_rows(feeds, leading) == chosen


def test_what_has_no_free_first_axis_stays_whole() -> None:
    """Items are taken in their new order; a table goes along as it is."""
    taken = take(feed(3), FREE, (2, 0))
    assert taken["x"].tolist() == [[4, 5], [0, 1]]
    assert taken["mask"].tolist() == [2, 0]
    assert taken["table"].tolist() == [0, 1, 2, 3, 4]


def test_an_output_takes_part_if_its_size_follows_in_every_run() -> None:
    """A total, a count of three classes, and as many rows as the data has are no batches."""
    trace = [
        {"y": np.zeros((n, 4)), "total": np.zeros(()), "classes": np.zeros(3), "found": np.zeros((n + 1, 4))}
        for n in (1, 3)
    ]
    other = {"y": np.zeros((2, 4)), "total": np.zeros(()), "classes": np.zeros(3), "found": np.zeros((2, 4))}
    assert batched_outputs(trace, (1, 3), 1, other, 2) == ["y"]
