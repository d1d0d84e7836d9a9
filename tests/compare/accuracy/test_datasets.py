"""The items that a data set's name stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from onnxeq.compare.accuracy.asked import Asked
from onnxeq.compare.accuracy.datasets import open_items
from onnxeq.errors import BadInputs
from onnxeq.jobs import Jobs

from .conftest import BLUE, GREEN, RED, draw


@pytest.fixture(scope="module")
def jobs(_own_cache: None) -> Iterator[Jobs]:
    with Jobs() as running:
        yield running


def _asked(kind: str, path: Path, most: int | None = None) -> Asked:
    return Asked(f"{kind}:{path.name}", kind, path, None, most, {}, 0, trust=False)


def test_a_folder_for_each_class(jobs: Jobs, tmp_path: Path) -> None:
    """Pictures at any depth and with any case of suffix; other files and hidden folders are left out, as loose ones."""
    draw(tmp_path / "0", [RED, RED])
    draw(tmp_path / "2/deep", [BLUE])
    (tmp_path / "2/deep/0.png").rename(tmp_path / "2/deep/last.PNG")
    draw(tmp_path / "1", [GREEN])
    (tmp_path / "1/notes.txt").touch()
    (tmp_path / "loose.png").touch()
    draw(tmp_path / ".hidden", [RED])
    (tmp_path / "7").mkdir()
    found = open_items(jobs, _asked("imagefolder", tmp_path))
    assert [str(p.relative_to(tmp_path)) for p in found.pictures] == [
        "0/0.png",
        "0/1.png",
        "1/0.png",
        "2/deep/last.PNG",
    ]
    assert (found.labels.tolist(), found.total, found.classes) == ([0, 0, 1, 2], 4, None)
    assert found.notes == ("classes are the folders' names, which are numbers", "1 of 4 folders hold no picture: 7")


def test_a_sample_says_so(jobs: Jobs, tmp_path: Path) -> None:
    """Two of four pictures, one of each class."""
    draw(tmp_path / "0", [RED, RED])
    draw(tmp_path / "1", [GREEN, GREEN])
    found = open_items(jobs, _asked("imagefolder", tmp_path, 2))
    assert (found.labels.tolist(), len(found.pictures), found.total) == ([0, 1], 2, 4)
    assert found.notes[-1] == "2 of 4 items, drawn class by class with the seed 0"


def test_folders_without_classes_or_pictures(jobs: Jobs, tmp_path: Path) -> None:
    """No folder, loose pictures only, and folders of other files."""
    with pytest.raises(BadInputs, match=r"has no folders of classes$"):
        open_items(jobs, _asked("imagefolder", tmp_path))
    (tmp_path / "loose.png").touch()
    with pytest.raises(BadInputs, match="has no folders of classes and pictures beside none"):
        open_items(jobs, _asked("imagefolder", tmp_path))
    (tmp_path / "0").mkdir()
    (tmp_path / "0/notes.txt").touch()
    with pytest.raises(BadInputs, match="no picture lies in the folders of"):
        open_items(jobs, _asked("imagefolder", tmp_path))


def test_arrays_of_a_file(jobs: Jobs, tmp_path: Path) -> None:
    """Float items are written 128 to a file, labels beside them; a sample keeps the order."""
    items = np.arange(300 * 4, dtype=np.float32).reshape(300, 4)
    np.savez(tmp_path / "a.npz", inputs=items, labels=np.arange(300.0)[:, None] % 3)
    found = open_items(jobs, _asked("npz", tmp_path / "a.npz"))
    assert (found.total, found.classes, found.pictures) == (300, None, ())
    assert found.labels.tolist() == [i % 3 for i in range(300)]
    chunks = [np.load(path) for path in found.chunks]
    assert [len(chunk) for chunk in chunks] == [128, 128, 44]
    assert np.array_equal(np.concatenate(chunks), items)
    some = open_items(jobs, _asked("npz", tmp_path / "a.npz", 6))
    (chunk,) = (np.load(path) for path in some.chunks)
    assert np.array_equal(chunk[:, 0] / 4 % 3, some.labels)
    assert np.bincount(some.labels).tolist() == [2, 2, 2]


def test_eight_bit_arrays_are_pictures(jobs: Jobs, tmp_path: Path) -> None:
    """Each is written as a file that holds the same pixels, so that recipes prepare it."""
    from PIL import Image

    items = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "p.npz", x=items, y=[0, 1, 0])
    found = open_items(jobs, _asked("npz", tmp_path / "p.npz"))
    assert [p.suffix for p in found.pictures] == [".png"] * 3
    assert np.array_equal(np.stack([np.asarray(Image.open(p)) for p in found.pictures]), items)
    assert "which each model's recipe prepares" in found.notes[0]


GOOD, LABELS = np.zeros((4, 3), np.float32), np.arange(4)


def _nan() -> np.ndarray:
    items = GOOD.copy()
    items[2, 1] = np.nan
    return items


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (lambda: {"y": LABELS}, "holds y, and none of x, images, inputs"),
        (lambda: {"x": GOOD}, "holds x, and none of y, labels"),
        (lambda: {"x": GOOD, "y": LABELS[:3]}, "is int64[3], and 4 items need int64[4]"),
        (lambda: {"x": GOOD, "y": np.eye(4)}, "give the number of each item's class: y.argmax(1)"),
        (lambda: {"x": GOOD, "y": LABELS + 0.5}, "is float64[4], and labels are whole numbers"),
        (lambda: {"x": GOOD, "y": np.array(["a"] * 4)}, "and labels are whole numbers"),
        (lambda: {"x": GOOD, "y": LABELS - 2}, "the label of item 0 of "),
        (lambda: {"x": _nan(), "y": LABELS}, "item 2 of 'x' in "),
        (lambda: {"x": GOOD[0], "y": LABELS}, "is float32[3], and items are along the first axis"),
        (lambda: {"x": GOOD[:0], "y": LABELS[:0]}, "is float32[0,3]"),
        (lambda: {"x": GOOD.astype(bool), "y": LABELS}, "which no model is fed. give floats or integers"),
        (lambda: {"x": np.array([None] * 4), "y": LABELS}, "holds pickled objects"),
    ],
)
def test_arrays_that_are_no_labelled_items(
    tmp_path: Path, arrays: Callable[[], dict[str, np.ndarray]], said: str
) -> None:
    """Each defect is one line that says which array of which file, and what is needed."""
    from onnxeq.runners import datasets

    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    with pytest.raises(BadInputs) as caught:
        datasets._from_file(path)
    assert said in caught.value.line()
    assert str(path) in caught.value.line()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """Neither a file of other bytes nor a single array is a data set."""
    from onnxeq.runners import datasets

    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(BadInputs, match="cannot be read as arrays"):
        datasets._from_file(path)
    np.save(tmp_path / "b.npy", GOOD)
    with pytest.raises(BadInputs, match="holds one array and no labels"):
        datasets._from_file(tmp_path / "b.npy")
