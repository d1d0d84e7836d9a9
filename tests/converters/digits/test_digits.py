"""The zoo ``digits:`` without a framework: names, files, the mapping of weights, the pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from onnxeq import zoo
from onnxeq.errors import FrameworkMissing, UnknownModel, UsageError, WeightsUnavailable
from onnxeq.types import Array
from onnxeq_converters import digits
from onnxeq_converters.digits import cards, data, mapping

FILES = [(architecture, kind) for architecture in digits.ARCHITECTURES for kind in digits.SEEDS]


@pytest.mark.parametrize(
    ("text", "converter", "weights"),
    [
        ("digits:cnn", "torch", ""),
        ("digits:vit@retrained", "torch", "retrained"),
        ("digits:keras-gru@pretrained", "keras", "pretrained"),
        ("digits:keras-x@seeded:3", "keras", "seeded"),
    ],
)
def test_a_name_says_its_framework(text: str, converter: str, weights: str) -> None:
    """``keras-`` is Keras, the rest torch; ``@retrained`` is a kind of weights here, and no file."""
    ref = zoo.parse(text)
    assert (ref.zoo, zoo.converter_for(ref), ref.weights) == ("digits", converter, weights)
    assert zoo.weights_files(ref) == ()


@pytest.mark.parametrize(("absent", "listed_by"), [("torch", "keras"), ("tensorflow", "torch")])
def test_one_framework_is_enough(absent: str, listed_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a framework its models name the extra that installs it, and the other one lists the zoo."""
    monkeypatch.setattr(zoo.util, "find_spec", lambda name: None if name == absent else object())
    texts = {"torch": "digits:cnn", "keras": "digits:keras-cnn"}
    extra = "torch" if absent == "torch" else "keras"
    with pytest.raises(FrameworkMissing) as caught:
        zoo.require_framework(zoo.parse(texts.pop(extra)))
    assert f"'onnxeq[{extra}]'" in caught.value.hint
    zoo.require_framework(zoo.parse(texts.popitem()[1]))
    assert zoo.converter_for(zoo.listing("digits")) == listed_by


def test_retrained_weights_are_of_this_zoo_only() -> None:
    """Another zoo refuses the word, and the hint for this one names it."""
    with pytest.raises(UsageError, match="no weights 'retrained'"):
        zoo.parse("torchvision:resnet18@retrained")
    with pytest.raises(UsageError) as caught:
        zoo.parse("digits:cnn@retraind")
    assert "retrained" in caught.value.hint


def test_unknown_names_are_told_with_near_ones() -> None:
    """A misspelt name, and a name of the other framework, are typed errors."""
    with pytest.raises(UnknownModel, match="digits has no model resnat") as caught:
        digits.architecture_of("resnat")
    assert "resnet" in caught.value.hint
    for name, prefix in (("keras-cnn", ""), ("cnn", digits.KERAS)):
        with pytest.raises(UnknownModel):
            digits.architecture_of(name, prefix)


def test_entries_tell_the_accuracy() -> None:
    """Eight models; each note has the share of the test pictures that its weights tell right."""
    entries = {entry.name: entry for entry in digits.entries()}
    assert list(entries) == [p + a for p in ("", "keras-") for a in ("cnn", "resnet", "vit", "gru")]
    for name, entry in entries.items():
        right = digits.RIGHT[name.removeprefix("keras-")]
        assert f"{100 * right['pretrained'] / 359:.1f}%" in entry.note
        assert entry.inputs == (digits.INPUT,)


def test_accuracies_are_as_asked() -> None:
    """At least 96 % for the convolutional ones, 93 % for the others, with either seed."""
    asked = {"cnn": 0.96, "resnet": 0.96, "vit": 0.93, "gru": 0.93}
    assert set(digits.RIGHT) == set(asked)
    for name, kinds in digits.RIGHT.items():
        assert set(kinds) == set(digits.SEEDS)
        assert all(right / 359 >= asked[name] for right in kinds.values())


@pytest.mark.parametrize(("architecture", "kind"), FILES)
def test_files_are_small_and_read_as_safetensors_reads_them(architecture: str, kind: str) -> None:
    """Under 300 kB, no metadata, and our reader gives bit by bit what the library gives."""
    library = pytest.importorskip("safetensors.numpy")
    path = digits.shipped_file(architecture, kind)
    assert path.stat().st_size < 300_000
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert "__metadata__" not in json.loads(path.read_bytes()[8 : 8 + length])
    ours, theirs = digits.shipped(architecture, kind), library.load_file(path)
    assert sorted(ours) == sorted(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype
        np.testing.assert_array_equal(value, theirs[name])


def test_the_two_kinds_differ_in_numbers_only() -> None:
    """Pretrained and retrained have the same names and shapes, and no trained tensor in common."""
    for architecture in digits.ARCHITECTURES:
        one, two = (digits.shipped(architecture, kind) for kind in digits.SEEDS)
        assert {n: v.shape for n, v in one.items()} == {n: v.shape for n, v in two.items()}
        assert all(np.any(one[n] != two[n]) for n in one if not n.endswith("num_batches_tracked"))


def test_missing_weights_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is gone is a typed error with the way out."""
    monkeypatch.setattr(digits, "shipped_file", lambda *_: tmp_path / "none.safetensors")
    with pytest.raises(WeightsUnavailable, match="none"):
        digits.shipped("cnn", "pretrained")


def test_the_split_is_fixed() -> None:
    """1797 pictures, every fifth for testing: 359; each digit in both parts; greys 0 to 16."""
    pytest.importorskip("sklearn")
    one = data.split()
    assert one.test_pixels.shape == (digits.TESTED, 8, 8) == (359, 8, 8)
    assert one.train_pixels.shape == (1438, 8, 8)
    assert set(one.test_labels) == set(one.train_labels) == set(range(10))
    from sklearn.datasets import load_digits

    whole = load_digits()
    np.testing.assert_array_equal(one.test_pixels, whole.images[4::5])
    np.testing.assert_array_equal(one.test_labels, whole.target[4::5])


def test_the_recipe_rounds_nothing() -> None:
    """Greys 0 to 16 become 0 to 1 in float32, and times 16 they are the greys again."""
    greys = np.arange(17.0)
    made = data.prepared(greys)
    assert made.dtype == np.float32
    assert (made.min(), made.max()) == (0, 1)
    np.testing.assert_array_equal(made.astype(np.float64) * 16, greys)


def _mapped(state: Mapping[str, Array], kind: str, *shapes: tuple[int, ...]) -> list[Array]:
    return mapping.for_keras(state, {"x": kind}, {"x": shapes}, "file")["x"]


def test_axes_are_reordered() -> None:
    """``kernel[h,w,i,o] = weight[o,i,h,w]`` and ``kernel[i,o] = weight[o,i]``."""
    weight = np.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)
    (kernel,) = _mapped({"x.weight": weight}, "Conv2D", (5, 7, 3, 2))
    assert kernel[4, 6, 1, 0] == weight[0, 1, 4, 6]
    weight, bias = np.arange(6.0).reshape(2, 3), np.arange(2.0)
    kernel, offset = _mapped({"x.weight": weight, "x.bias": bias}, "Dense", (3, 2), (2,))
    assert kernel[2, 0] == weight[0, 2]
    np.testing.assert_array_equal(offset, bias)


def test_gates_are_reordered() -> None:
    """Torch's reset, update, new become Keras' update, reset, new; the two biases become two rows."""
    given = {
        "x.weight_ih_l0": np.array([[1.0], [2.0], [3.0]]),
        "x.weight_hh_l0": np.array([[4.0], [5.0], [6.0]]),
        "x.bias_ih_l0": np.array([7.0, 8.0, 9.0]),
        "x.bias_hh_l0": np.array([10.0, 11.0, 12.0]),
    }
    kernel, recurrent, bias = _mapped(given, "GRU", (1, 3), (1, 3), (2, 3))
    assert kernel.tolist() == [[2, 1, 3]]
    assert recurrent.tolist() == [[5, 4, 6]]
    assert bias.tolist() == [[8, 7, 9], [11, 10, 12]]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"x.weight": np.zeros((2, 3))}, "it has no x.bias"),
        ({"x.weight": np.zeros((2, 4)), "x.bias": np.zeros(2)}, r"\[4, 2\], the model has \[3, 2\]"),
        ({"x.weight": np.zeros((2, 3)), "x.bias": np.zeros(2), "y": np.zeros(1)}, "the model has no y"),
    ],
)
def test_weights_that_do_not_fit_are_said(state: dict[str, Array], says: str) -> None:
    """A missing name, another shape, and a name left over are each an error that says which."""
    with pytest.raises(UsageError, match=says):
        _mapped(state, "Dense", (3, 2), (2,))


def test_a_card_tells_what_was_measured() -> None:
    """Accuracy from the count of right test pictures, parameters without the normalisations' statistics."""
    told = cards.card("keras-cnn", digits.KERAS)
    assert told.entry.name == "keras-cnn"
    assert told.facts["accuracy"].value == {"@pretrained top-1": 98.89, "@retrained top-1": 98.05}
    stored = digits.shipped("cnn", "pretrained")
    learned = sum(v.size for n, v in stored.items() if not n.endswith(("running_mean", "running_var", "tracked")))
    assert told.facts["parameters"].value == learned
    assert "8x8" in cards.no_recipe("cnn").message
