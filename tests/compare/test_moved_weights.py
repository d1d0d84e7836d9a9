"""Where weights lie in a file is told so that they can be moved: both frameworks' files give the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxeq.compare.reading.opening import read_graph
from onnxeq.compare.sameness import one_to_one
from onnxeq.compare.sources import Source, open_models
from onnxeq.jobs import Jobs
from onnxeq.referee import Executor
from onnxeq.sides import Request

from .computing import computed
from .stored import File

pytestmark = [pytest.mark.keras, pytest.mark.slow]

_NAMES = ("cnn", "resnet", "vit", "gru")


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, Path]]:
    """The unfolded export of each model, by its reference; each framework in a process of its own."""
    refs = [f"digits:{side}{name}" for name in _NAMES for side in ("", "keras-")]
    with Jobs() as jobs:
        found = open_models(jobs, refs, Request.of((), None))
        yield {f.side.ref: Path(f.artifact.path) for f in found if isinstance(f, Source)}


@pytest.mark.parametrize("name", _NAMES)
def test_both_frameworks_hold_the_same_numbers(name: str, files: dict[str, Path]) -> None:
    """The graphs are one, and each layer's tensors, brought into the layer's own order, are number by number those of
    its counterpart: the models were made with the same weights. Together they are all that the graph counts.
    """
    paths = [files[f"digits:{side}{name}"] for side in ("", "keras-")]
    left, right = (read_graph(path) for path in paths)
    pairs = one_to_one(left, right)
    assert pairs is not None
    ours, theirs = (File(path) for path in paths)
    held = 0
    for i, j in pairs.items():
        mine, yours = ours.of_layer(left.layers[i]), theirs.of_layer(right.layers[j])
        assert mine.keys() == yours.keys()
        for role, numbers in mine.items():
            np.testing.assert_array_equal(numbers, yours[role], err_msg=f"{left.layers[i].name} {role}")
            held += numbers.size
    assert held == sum(w.elements for layer in left.layers for w in layer.weights) > 5000


@pytest.mark.parametrize("name", ["vit", "gru"])
def test_the_layers_compute_what_the_files_do(name: str, files: dict[str, Path]) -> None:
    """Computed by what the layers say of themselves and with the weights where they tell them to lie, both give what
    their file gives in float64, but for the scale of the attention, which is told in six digits.
    """
    for side in ("", "keras-"):
        path = files[f"digits:{side}{name}"]
        executor = Executor(onnx.load(str(path)))
        image = np.random.default_rng(3).standard_normal((1, 8, 8)).astype(np.float32)
        (wanted,) = executor.run({executor.inputs[0].name: image}).values()
        made = computed(read_graph(path), File(path), image)
        np.testing.assert_allclose(made.reshape(-1), np.asarray(wanted).reshape(-1), rtol=0, atol=5e-6)
