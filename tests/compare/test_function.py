"""The functional difference of two models comes out as what was made different: weights, graph, preprocessing."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest

import onnxeq
from onnxeq.compare.function.values import Origin, Split
from onnxeq.compare.values import Comparison, Pair, Same
from onnxeq.types import Array

pytestmark = pytest.mark.keras

WEIGHTS, GRAPH, PREPROCESSING = Origin.WEIGHTS, Origin.GRAPH, Origin.PREPROCESSING

VARIANTS = '''
    """Digits models of torch with one attribute changed."""
    import torch
    from torch import nn
    from onnxeq_converters.digits.torch_models import trained

    def _with_epsilon(model, epsilon):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = epsilon
        return model.eval()

    def epsilon():
        return _with_epsilon(trained("cnn"), 1.1e-5)

    def epsilon_retrained():
        return _with_epsilon(trained("cnn", "retrained"), 1e-3)

    def padding():
        model = trained("cnn")
        model.conv2.padding_mode = "replicate"
        return model.eval()

    def example_inputs(name):
        return (torch.rand(1, 8, 8),)
'''


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with factories of changed models."""
    path = tmp_path_factory.mktemp("variants") / "variants.py"
    path.write_text(textwrap.dedent(VARIANTS))
    return path


@pytest.fixture(scope="module")
def found(variants: Path) -> Comparison:
    """Keras' convolutional network against torch's, as it is, trained again, and with one thing changed."""
    return onnxeq.compare(
        "digits:keras-cnn", "digits:cnn", "digits:cnn@retrained", f"{variants}:epsilon",
        f"{variants}:epsilon_retrained", f"{variants}:padding", parts=["function"],
    )  # fmt: skip


def _pair(found: Comparison, left: str, right: str) -> Pair:
    """The pair of those two, which are told by how their names end."""
    return next(
        p
        for p in found.pairs
        for one, other in ((p.left, p.right), (p.right, p.left))
        if one.endswith(left) and other.endswith(right)
    )


def _split(found: Comparison, right: str) -> Split:
    split = _pair(found, "digits:keras-cnn", right).function
    assert split is not None
    assert split.whole
    return split


def _largest(split: Split, origin: Origin) -> float:
    return max(e.relative for e in split.effects if e.origin is origin)


def test_the_same_weights_in_two_frameworks_are_no_discrepancy(found: Comparison) -> None:
    """Every tensor is the same, and in float64 the outputs are, up to the order of additions."""
    split = _split(found, "digits:cnn")
    assert split.origins == ()
    assert split.identical == split.tensors == 17
    assert split.total.relative < 1e-14
    assert _largest(split, WEIGHTS) == 0


def test_other_weights_are_weights_only(found: Comparison) -> None:
    """Exchanged, they make the whole difference in either graph; the graphs make none with either weights."""
    split = _split(found, "digits:cnn@retrained")
    assert split.origins == (WEIGHTS,)
    assert split.identical == 0
    for effect in (e for e in split.effects if e.origin is WEIGHTS):
        assert effect.relative == pytest.approx(split.total.relative, rel=1e-9)
    assert _largest(split, GRAPH) < 1e-14


@pytest.mark.parametrize(("architecture", "tensors"), [("vit", 55), ("gru", 5)])
def test_every_digits_model_is_the_same_in_both_frameworks(architecture: str, tensors: int) -> None:
    """However a framework writes it (attention in one product or three, a loop of gates): the same function, and with
    other weights a difference of the weights alone.
    """
    found = onnxeq.compare(
        f"digits:{architecture}", f"digits:keras-{architecture}", f"digits:{architecture}@retrained",
        parts=["function"],
    )  # fmt: skip
    same = _pair(found, architecture, f"keras-{architecture}")
    assert (same.same, same.function is not None and same.function.origins) == (Same.EQUIVALENT, ())
    assert same.function is not None
    assert same.function.identical == same.function.tensors == tensors
    assert same.function.whole
    other = _pair(found, f"keras-{architecture}", "@retrained").function
    assert other is not None
    assert (other.origins, other.identical, other.total.top1_changes is None) == ((WEIGHTS,), 0, False)


@pytest.mark.parametrize(("variant", "least"), [("epsilon", 1e-6), ("padding", 1e-3)])
def test_one_changed_attribute_is_graph_only(found: Comparison, variant: str, least: float) -> None:
    """An epsilon a tenth larger, and a padding of another sort, are told as graph, and all tensors as the same."""
    split = _split(found, f":{variant}")
    assert split.origins == (GRAPH,)
    assert split.identical == split.tensors == 17
    assert _largest(split, WEIGHTS) == 0
    assert _largest(split, GRAPH) == pytest.approx(split.total.relative, rel=1e-6)
    assert split.total.relative > least


def test_both_are_told_apart(found: Comparison) -> None:
    """Other weights and another epsilon: each is told with its own size."""
    split = _split(found, "epsilon_retrained")
    assert split.origins == (WEIGHTS, GRAPH)
    assert _largest(split, WEIGHTS) > 0.1 > _largest(split, GRAPH) > 1e-4


def _recipe(folder: Path, how: str) -> str:
    steps = [
        {"step": "decode", "colours": "L"},
        {"step": "resize", "height": 8, "width": 8, "interpolation": how, "antialias": how != "nearest"},
        {"step": "scale", "divisor": 255},
        {"step": "layout", "axes": "CHW"},
    ]
    path = folder / f"{how}.json"
    path.write_text(json.dumps({"steps": steps}))
    return str(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits that somebody has drawn larger."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(3):
        drawn: Array = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        image.fromarray(drawn).resize((24, 24), image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("digits:keras-cnn", "digits:cnn", {PREPROCESSING}),
        ("digits:keras-cnn", "digits:cnn@retrained", {PREPROCESSING, WEIGHTS}),
        ("digits:keras-cnn", "VARIANTS:epsilon", {PREPROCESSING, GRAPH}),
    ],
)
def test_another_resize_is_preprocessing(
    left: str, right: str, expected: set[Origin], pictures: Path, variants: Path, tmp_path: Path
) -> None:
    """Of one set of pictures each model gets what its own recipe makes, and the recipes' share is told by itself."""
    right = right.replace("VARIANTS", str(variants))
    recipes = [f"{left}={_recipe(tmp_path, 'bilinear')}", f"{right}={_recipe(tmp_path, 'nearest')}"]
    (pair,) = onnxeq.compare(left, right, parts=["function"], inputs=[pictures], recipes=recipes).pairs
    assert pair.function is not None
    assert set(pair.function.origins) == expected
    assert pair.function.inputs == 3
    same = onnxeq.compare(left, right, parts=["function"], inputs=[pictures], recipes=[_recipe(tmp_path, "bilinear")])
    assert same.pairs[0].function is not None
    assert set(same.pairs[0].function.origins) == expected - {PREPROCESSING}
