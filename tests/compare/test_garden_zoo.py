"""What compare says of the Model Garden's ResNet-50, against what its own layers say of themselves."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onnxeq
from onnxeq.compare.values import Comparison, Graph, Pair, Topic

from ..model_garden import python_of_garden

pytestmark = pytest.mark.slow

TELLER = """
import json, sys
import tensorflow as tf, tf_keras
from official.core import exp_factory
from official.vision.configs import image_classification
from official.vision.modeling import factory
config = exp_factory.get_exp_config("resnet_imagenet").task.model  # ResNet-50
specs = tf_keras.layers.InputSpec(shape=[None, 224, 224, 3])
model = factory.build_classification_model(specs, config)
held = {"convolutions": [], "epsilons": []}
for layer in model._flatten_layers():
    said = layer.get_config()
    if type(layer).__name__ == "Conv2D":
        told = [said[k] for k in ("kernel_size", "strides", "filters", "use_bias", "padding")]
        held["convolutions"].append(told)
    elif type(layer).__name__ in ("BatchNormalization", "SyncBatchNormalization"):
        held["epsilons"].append(said["epsilon"])
print("told: " + json.dumps(held))
"""


@pytest.fixture(scope="module")
def python(_own_cache: None) -> Iterator[Path]:
    """The Python that has tf-models-official; skips with a reason where there is none."""
    yield from python_of_garden()


@pytest.fixture(scope="module")
def told(python: Path) -> dict[str, Any]:
    """Every convolution and the epsilon of every normalisation, as the zoo's own model has them."""
    done = subprocess.run([str(python), "-I", "-c", TELLER], check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("told: "))
    found: dict[str, Any] = json.loads(line.removeprefix("told: "))
    return found


@pytest.fixture(scope="module")
def found(python: Path) -> Comparison:
    """It against torchvision's and the ONNX Model Zoo's."""
    del python
    return onnxeq.compare(
        "tfmg:resnet50@seeded", "torchvision:resnet50@seeded", "onnx-zoo:light_resnet50@seeded", parts=["architecture"]
    )


def _pair(found: Comparison, other: str) -> tuple[Pair, Graph, Graph]:
    graphs = {side.name: side.graph for side in found.sides}
    pair = next(p for p in found.pairs if {p.left, p.right} == {"tfmg:resnet50", other})
    return pair, graphs["tfmg:resnet50"], graphs[other]


def _strides(graph: Graph) -> list[tuple[Any, Any]]:
    return [(la.attributes["kernel"], la.attributes["strides"]) for la in graph.layers if la.kind == "conv"]


def test_the_layers_are_what_the_garden_says(told: dict[str, Any], found: Comparison) -> None:
    """As many convolutions of each kernel, stride, width and bias as the zoo's model has, and its epsilons."""
    graph = next(side.graph for side in found.sides if side.name == "tfmg:resnet50")
    ours = Counter(
        (tuple(la.attributes["kernel"]), tuple(la.attributes["strides"]), la.attributes["out"], la.attributes["bias"])  # type: ignore[arg-type]
        for la in graph.layers
        if la.kind == "conv"
    )
    theirs = Counter((tuple(k), tuple(s), out, bias) for k, s, out, bias, _ in told["convolutions"])
    assert ours == theirs
    assert sum(ours.values()) == 53
    epsilons = Counter(float(f"{e:.6g}") for e in told["epsilons"])
    assert Counter(la.attributes["epsilon"] for la in graph.layers if la.kind == "batch_norm") == epsilons


def test_padding_that_depends_on_the_size_is_told(told: dict[str, Any], found: Comparison) -> None:
    """``same`` with a stride of 2 pads an even size at its end only, torch pads both ends: told for each such layer."""
    pair, _, _ = _pair(found, "torchvision:resnet50")
    strided = [c for c in told["convolutions"] if c[4].lower() == "same" and tuple(c[1]) == (2, 2) and c[0][0] > 1]
    padding = [d for d in pair.differences if d.topic is Topic.PADDING]
    assert bool(padding) is bool(strided)
    if strided:
        places = {place.left or place.right for d in padding for place in d.places}
        assert len(places) >= len(strided)


def test_classes_epsilons_and_strides_are_told_where_they_differ(told: dict[str, Any], found: Comparison) -> None:
    """Against either other zoo: 1001 classes against 1000; an epsilon and a stride if and only if they are others."""
    for other in ("torchvision:resnet50", "onnx-zoo:light_resnet50"):
        pair, garden, theirs = _pair(found, other)
        topics = {d.topic for d in pair.differences}
        assert Topic.CLASSES in topics
        epsilons = {la.attributes["epsilon"] for la in theirs.layers if la.kind == "batch_norm"}
        unlike = epsilons != {float(f"{e:.6g}") for e in told["epsilons"]}
        assert (Topic.EPSILON in topics) is unlike
        assert (Topic.STRIDE in topics) is (_strides(garden) != _strides(theirs))
