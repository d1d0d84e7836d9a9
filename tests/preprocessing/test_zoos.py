"""torch's zoos: their definitions read as steps, and what this project's own execution of them comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxeq
from onnxeq import zoo
from onnxeq.errors import NoRecipe
from onnxeq.jobs import Jobs
from onnxeq.preprocessing.neutral import prepare
from onnxeq.preprocessing.pictures import prepared
from onnxeq.preprocessing.recipe import Crop, Layout, Normalize, Other, Resize, Scale, recipe_to_record
from onnxeq.protocols import LoadRequest
from onnxeq.types import Verdict

from .conftest import picture, recipe

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger than what the models take, and odd."""
    return picture(tmp_path_factory.mktemp("large") / "a.png", 301, 407)


@pytest.fixture
def of() -> Callable[[str], Any]:
    from onnxeq_converters import from_torch

    return lambda text: from_torch.preprocessing(LoadRequest(zoo.parse(text)))


IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("torchvision:resnet50", (Resize(232, 232, "shortest"), Crop(224, 224), Scale(255.0), IMAGENET)),
        ("torchvision:fcn_resnet50@seeded", (Resize(520, 520, "shortest"), Scale(255.0), IMAGENET)),
        ("torchvision:ssdlite320_mobilenet_v3_large", (Scale(255.0),)),
        ("timm:resnet50", (Resize(235, 235, "shortest", "bicubic"), Crop(224, 224), Scale(255.0), IMAGENET)),
        (
            "timm:vit_tiny_patch16_224@seeded",
            (Resize(248, 248, "shortest", "bicubic"), Crop(224, 224), Scale(255.0), Normalize((0.5,) * 3, (0.5,) * 3)),
        ),
    ],
)
def test_pillows_resize_makes_it_the_same_bits(of: Any, large: Path, text: str, steps: tuple[Any, ...]) -> None:
    """The zoo's own numbers stand in the recipe, and both executions give one array."""
    found = of(text)
    assert tuple(s for s in found.recipe.steps if type(s) in (Resize, Crop, Scale, Normalize)) == steps
    assert ("no recipe of their own" in found.recipe.note) == ("@seeded" in text)
    assert np.array_equal(found.run(large), prepare(found.recipe, large))


def test_a_detector_takes_pictures_and_no_batch(of: Any, large: Path) -> None:
    """As its zoo hands it over: channels first, of the picture's own size."""
    found = of("torchvision:ssdlite320_mobilenet_v3_large")
    assert Layout("CHW") in found.recipe.steps
    assert found.run(large).shape == (3, 301, 407)


@pytest.mark.parametrize("text", ["hf:vit@seeded", "hf:clip@seeded"])
def test_torchs_resize_of_bytes_is_one_level_off(of: Any, large: Path, text: str) -> None:
    """Transformers resizes tensors: no pixel is more than one of 255 levels away, and most are none."""
    found = of(text)
    (step,) = (s for s in found.recipe.steps if isinstance(s, Resize))
    (numbers,) = (s for s in found.recipe.steps if isinstance(s, Normalize))
    assert (step.library, step.antialias) == ("torch", True)
    apart = np.abs(found.run(large) - prepare(found.recipe, large)) * np.reshape(numbers.std, (1, 3, 1, 1))
    assert apart.max() <= 1.001
    assert (apart > 0.5).mean() < 0.05


def test_a_folders_processor_is_its_own(of: Any, large: Path, tmp_path: Path) -> None:
    """What stands in its preprocessor_config.json; a folder without one has no recipe."""
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(NoRecipe, match=r"preprocessor_config\.json"):
        of(f"hf:{tmp_path}")
    own = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 96, "width": 80},
        "resample": 3, "do_normalize": False, "do_rescale": True, "rescale_factor": 0.0078125,
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    found = of(f"hf:{tmp_path}")
    assert Resize(96, 80, "exact", "bicubic", True, "torch") in found.recipe.steps
    assert Scale(128.0) in found.recipe.steps
    assert found.run(large).shape == (1, 3, 96, 80)


def test_what_is_none_of_the_known_steps_is_left_to_the_zoo(of: Any, large: Path) -> None:
    """A processor with code of its own is run, and its recipe says that there is more in it than is told."""
    found = of("hf:convnext@seeded")
    assert Other("what ConvNextImageProcessor does by itself") in found.recipe.steps
    assert found.run(large).shape == (1, 3, 384, 384)


@pytest.mark.parametrize("text", ["hf:bert@seeded", "torchvision:raft_small", "torchvision:s3d"])
def test_a_model_that_takes_no_pictures_says_so(of: Any, text: str) -> None:
    """Text, pairs of frames, clips."""
    with pytest.raises(NoRecipe, match=text.partition("@")[0]):
        of(text)


def test_a_zoos_own_code_prepares_pictures_in_a_job(of: Any, large: Path) -> None:
    """The same array as in this process, with its recipe."""
    text = "torchvision:resnet18@seeded"
    with Jobs() as jobs:
        found = prepared(jobs, text, [large])
    assert found.recipe == of(text).recipe
    assert np.array_equal(found.arrays[0], of(text).run(large))


def test_a_live_model_is_run_on_both_sides_pictures(pictures: list[Path], tmp_path: Path) -> None:
    """A small net, its recipe from a file: the native run tells the crop that is rounded otherwise."""
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn = torch.nn
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.Flatten(), nn.Linear(288, 5))
    for name, what in (("a", recipe()), ("b", recipe(crop=Crop(16, 16, "floor")))):
        (tmp_path / f"{name}.json").write_text(json.dumps(recipe_to_record(what)))
    report = onnxeq.check(
        net.eval(), inputs=pictures, recipe=str(tmp_path / "a.json"), preprocess_as=str(tmp_path / "b.json"),
        providers=["cpu"],
    )  # fmt: skip
    assert report.verdict is Verdict.DIVERGENT
    assert [(c.rung, c.where.step) for c in report.causes] == [("preprocessing", "crop")]
    rung = report.rungs[-1]
    assert (rung.source, rung.target) == ("native/f32", f"native/f32 as {tmp_path / 'b.json'}")
