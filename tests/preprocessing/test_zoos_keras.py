"""Keras Applications: their arithmetic told by its own results, their size by their own account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxeq import zoo
from onnxeq.preprocessing.neutral import prepare
from onnxeq.preprocessing.recipe import Channels, Normalize, Resize, Scale
from onnxeq.protocols import LoadRequest

from .conftest import MEAN, STD, picture

pytestmark = pytest.mark.keras


@pytest.mark.parametrize(
    ("name", "size", "arithmetic"),
    [
        ("EfficientNetB3", 300, ()),
        ("InceptionV3", 299, (Scale(127.5), Normalize((1.0,), (1.0,)))),
        ("DenseNet121", 224, (Scale(255.0), Normalize(MEAN, STD))),
        ("VGG16", 224, (Channels("BGR"), Normalize((103.939, 116.779, 123.68), (1.0,)))),
        ("NASNetLarge", 331, (Scale(127.5), Normalize((1.0,), (1.0,)))),
    ],
)
def test_the_recipe_gives_the_bits_of_keras_own_code(
    tmp_path: Path, name: str, size: int, arithmetic: tuple[Any, ...]
) -> None:
    """``load_img`` takes the nearest pixel at the application's size; ``preprocess_input`` is in one of four modes."""
    from onnxeq_converters import from_keras

    found = from_keras.preprocessing(LoadRequest(zoo.parse(f"keras:{name}@seeded")))
    steps = found.recipe.steps
    assert steps[1] == Resize(size, size, "exact", "nearest", False, "pillow")
    assert steps[2:-2] == arithmetic
    assert "no resize" in found.recipe.note
    path = picture(tmp_path / "a.png", 401, 307)
    array = found.run(path)
    assert array.shape == (1, size, size, 3)
    assert np.array_equal(array, prepare(found.recipe, path))
