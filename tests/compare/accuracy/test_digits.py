"""The digits: the figures are those of torch itself, run beside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import onnxeq
from onnxeq.compare.accuracy.values import Accuracy
from onnxeq_converters.digits import RIGHT, TESTED

pytestmark = pytest.mark.torch

Scores = Callable[[str, str], np.ndarray]


@pytest.fixture(scope="module")
def found(_own_cache: None) -> Accuracy:
    """Two architectures, one of them with other weights than its default ones."""
    compared = onnxeq.compare("digits:cnn", "digits:vit@retrained", dataset="digits", parts=["function", "accuracy"])
    assert compared.accuracy is not None
    return compared.accuracy


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    data = pytest.importorskip("onnxeq_converters.digits.data")
    return np.asarray(data.split().test_labels)


@pytest.fixture(scope="module")
def scores() -> Scores:
    """``float32[359,10]`` by torch."""
    torch = pytest.importorskip("torch")
    from onnxeq_converters.digits.data import prepared, split
    from onnxeq_converters.digits.torch_models import trained

    images = torch.from_numpy(prepared(split().test_pixels))

    def run(architecture: str, kind: str) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(trained(architecture, kind)(images))

    return run


MODELS = (("cnn", "pretrained"), ("vit", "retrained"))


def test_as_many_are_right_as_when_the_weights_were_made(found: Accuracy) -> None:
    """355 and 347 of 359; the published figures are those and lie within the intervals."""
    assert [m.top1.right for m in found.measured] == [RIGHT[a][k] for a, k in MODELS] == [355, 347]
    assert {m.top1.items for m in found.measured} == {found.items} == {TESTED}
    published = [round(100 * RIGHT[a][k] / TESTED, 2) for a, k in MODELS]
    assert [m.published.top1 for m in found.measured] == published
    assert all(m.within and m.published.label == "top-1" for m in found.measured)
    assert {m.file for m in found.measured} == {"its unfolded export"}
    assert not found.missing
    assert not found.swaps


def test_the_five_largest_are_torchs(found: Accuracy, scores: Scores, labels: np.ndarray) -> None:
    """How often the label is among the five largest outputs that torch gives."""
    for model, (architecture, kind) in zip(found.measured, MODELS, strict=True):
        largest = np.argsort(-scores(architecture, kind), axis=1)[:, :5]
        assert model.top5 is not None
        assert model.top5.right == int((largest == labels[:, None]).any(axis=1).sum())


def test_the_pairs_table_is_torchs(found: Accuracy, scores: Scores, labels: np.ndarray) -> None:
    """Who gets what right and how often both say the same digit, counted on torch's own outputs."""
    (pair,) = found.pairs
    said = [scores(a, k).argmax(1) for a, k in MODELS]
    left, right = (s == labels for s in said)
    table = [(left & right).sum(), (left & ~right).sum(), (~left & right).sum(), (~left & ~right).sum()]
    assert [pair.both, pair.only_left, pair.only_right, pair.neither] == [int(n) for n in table]
    assert pair.agree == int((said[0] == said[1]).sum())


def test_eight_more_of_359_are_more_than_chance(found: Accuracy) -> None:
    """9 that only one gets right and 1 that only the other does: p = 2·(1+10)/2^10 = 0.021."""
    (pair,) = found.pairs
    assert (pair.only_left, pair.only_right) == (9, 1)
    assert pair.p == pair.corrected == 22 / 1024
    assert pair.discrepancy
