"""Pictures of odd sizes, and recipes that differ in one part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxeq.preprocessing.recipe import Cast, Crop, Decode, Layout, Normalize, Recipe, Resize, Scale

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def recipe(*changes: object, resize: Resize | None = None, crop: Crop | None = None) -> Recipe:
    """Resize 19, crop 16, / 255, mean and deviation; ``changes`` stand in the place of the arithmetic."""
    places = (resize or Resize(19, 19, "shortest"), crop or Crop(16, 16))
    steps = changes or (Scale(255.0), Normalize(MEAN, STD))
    return Recipe((Decode(), *places, *steps, Layout("NCHW"), Cast("float32")), "a test")  # type: ignore[arg-type]


def picture(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """A colourful picture: smooth, so that a shift shows, with noise, so that a filter does."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    smooth = np.stack([np.sin(9 * x + 3 * y), np.cos(7 * y), x * y * 2 - 1], axis=-1)
    pixels = 127 + 70 * smooth + 30 * rng.standard_normal((height, width, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two, upright and wide, whose sides are odd."""
    folder = tmp_path_factory.mktemp("pictures")
    return [picture(folder / "a.png", 41, 67), picture(folder / "b.png", 53, 37, seed=1)]
