"""What the ONNX Model Zoo's pages say of preprocessing: a table, since its models bring no code.

Each page is ``README.md`` in the model's folder of the repository ``onnx/models``. Where its section on preprocessing
is empty, as for the models that came from Caffe and Caffe2 by themselves, nothing is known and nothing is made up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnxeq.errors import NoRecipe
from onnxeq.preprocessing.recipe import Cast, Crop, Decode, Layout, Normalize, Recipe, Resize, Scale, Step

__all__ = ["PAGES", "Page", "page_of", "recipe_of"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PIXEL_MEAN, _PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

_SCALED: tuple[Step, ...] = (Scale(255.0), Normalize(_MEAN, _STD))
_SCRIPT: tuple[Step, ...] = (
    Decode(), Resize(256, 256, "shortest", other_side="round"), Crop(224, 224, "floor"), *_SCALED, Layout("NCHW"),
    Cast("float32"),
)  # fmt: skip
"""``vision/classification/imagenet_preprocess.py``, function ``preprocess``."""


@dataclass(frozen=True)
class Page:
    """What one page says.

    Attributes:
        names: Which models it is about.
        path: Its folder in the repository.
        steps: Its preprocessing; empty where it says nothing.
        note: What it leaves open.
    """

    names: str
    path: str
    steps: tuple[Step, ...] = ()
    note: str = ""


_BY_SCRIPT = (
    "the page gives range, mean and deviation and refers to imagenet_preprocess.py for the code: its function"
    " 'preprocess' is taken; another one there resizes to 224"
)

PAGES: tuple[Page, ...] = (
    Page(
        r"resnet\d+",
        "vision/classification/resnet",
        (
            Decode(), Resize(256, 256, "shortest", other_side="round"), Crop(224, 224, "floor"),
            Normalize(_PIXEL_MEAN, _PIXEL_STD), Layout("NCHW"), Cast("float32"),
        ),
        "the page says it of all its models, those of MXNet and that of Caffe2; interpolation, antialiasing and how"
        " sizes are rounded are those of the ONNX function that it shows",
    ),
    Page(r"squeezenet", "vision/classification/squeezenet", _SCRIPT, _BY_SCRIPT),
    Page(r"vgg", "vision/classification/vgg", _SCRIPT, _BY_SCRIPT),
    Page(r"mobilenet", "vision/classification/mobilenet", _SCRIPT, _BY_SCRIPT),
    Page(
        r"shufflenet",
        "vision/classification/shufflenet",
        (Decode(), Resize(256, 256, "shortest"), Crop(224, 224), *_SCALED, Layout("NCHW"), Cast("float32")),
        "the page's code is torchvision's, for version 2; it says it of all its models",
    ),
    Page(r"(bvlc_?)?alexnet", "vision/classification/alexnet"),
    Page(r"densenet", "vision/classification/densenet-121"),
    Page(r"inception[-_]?(v?1)", "vision/classification/inception_and_googlenet/inception_v1"),
    Page(r"inception[-_]?(v?2)", "vision/classification/inception_and_googlenet/inception_v2"),
    Page(r"zfnet", "vision/classification/zfnet-512"),
)  # fmt: skip


def page_of(name: str) -> Page | None:
    """The page about a model of the zoo, ``resnet50-v1-7`` or ``light_resnet50``; ``None`` where none is listed."""
    plain = name.lower().removeprefix("light_")
    return next((page for page in PAGES if re.match(page.names, plain)), None)


def recipe_of(name: str) -> Recipe:
    """The recipe of a model of the zoo.

    Raises:
        NoRecipe: Its page says nothing of preprocessing, or is not listed here.
    """
    page = page_of(name)
    if page is None:
        said = f"no page of the ONNX Model Zoo about {name} is listed here"
        raise NoRecipe(said, hint="write what you know of it to a file: --recipe FILE.json")
    if not page.steps:
        said = f"onnx-zoo:{name}: {page.path}/README.md has a section on preprocessing, and nothing in it"
        raise NoRecipe(said, hint="write what you know of it to a file: --recipe FILE.json")
    return Recipe(page.steps, f"onnx/models: {page.path}/README.md", False, page.note)
