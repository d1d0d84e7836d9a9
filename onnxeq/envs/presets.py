"""What an environment of a known name holds: a table. Any other name needs ``--with``.

A name's version may end in a patch: ``torch-2.9`` is the newest 2.9, ``torch-2.9.1`` that one. In a row ``{patch}``
stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from onnxeq.errors import UsageError

__all__ = ["BASE", "FLOOR", "PRESETS", "Preset", "requirements_of"]

FLOOR = (3, 10)
"""The oldest Python that runs the code of jobs and workers. Every framework that is supported (torch from 2.8,
TensorFlow from 2.18) has builds for it."""

BASE = ("numpy>=2.0", "ml_dtypes>=0.5", "onnx>=1.18")
"""What the code of jobs needs in every environment."""


@dataclass(frozen=True)
class Preset:
    """A row of the table.

    Attributes:
        name: What an environment is called that holds this.
        requirements: As pip takes them.
        why: What a reader should know of the pins.
    """

    name: str
    requirements: tuple[str, ...]
    why: str = ""


_ITS_TIME = "onnx, onnxscript and onnx-ir of its time: with newer ones each dynamo export fails"

PRESETS: tuple[Preset, ...] = (
    Preset(
        "torch-2.8",
        ("torch==2.8{patch}", "torchvision==0.23.*", "onnx==1.18.*", "onnxscript==0.4.*", "onnx-ir==0.1.4"),
        _ITS_TIME,
    ),
    Preset(
        "torch-2.9",
        ("torch==2.9{patch}", "torchvision==0.24.*", "onnx==1.19.*", "onnxscript==0.5.*", "onnx-ir==0.1.12"),
        _ITS_TIME,
    ),
    Preset("torch-2.10", ("torch==2.10{patch}", "torchvision==0.25.*", "onnxscript>=0.5")),
    Preset("torch-2.11", ("torch==2.11{patch}", "torchvision==0.26.*", "onnxscript>=0.5")),
    Preset("torch-2.12", ("torch==2.12{patch}", "torchvision==0.27.*", "onnxscript>=0.5")),
    Preset("torch-2.13", ("torch==2.13{patch}", "torchvision==0.28.*", "onnxscript>=0.5")),
    Preset("torch-2.14", ("torch==2.14{patch}", "torchvision==0.29.*", "onnxscript>=0.5")),
    Preset("tensorflow-2.18", ("tensorflow==2.18{patch}", "keras>=3.6", "tf2onnx>=1.17")),
    Preset("tensorflow-2.19", ("tensorflow==2.19{patch}", "keras>=3.6", "tf2onnx>=1.17")),
    Preset("tensorflow-2.20", ("tensorflow==2.20{patch}", "keras>=3.6", "tf2onnx>=1.17")),
    Preset("tensorflow-2.21", ("tensorflow==2.21{patch}", "keras>=3.6", "tf2onnx>=1.17")),
    Preset(
        "tfmg",
        ("tf-models-official==2.20.*", "tensorflow==2.20.*", "tf_keras==2.20.*", "tf2onnx>=1.17"),
        "TensorFlow Model Garden is made for one version of TensorFlow",
    ),
    *(Preset(f"ort-1.{minor}", (f"onnxruntime==1.{minor}{{patch}}",)) for minor in range(18, 32)),
)


def requirements_of(name: str, given: Sequence[str] = ()) -> tuple[str, ...]:
    """What an environment holds, its base aside: the preset of that name, and what was given.

    A given requirement stands in the place of the preset's for the same package.

    Raises:
        UsageError: There is no such preset, and nothing was given; or a requirement that names no package.
    """
    theirs = _preset(name)
    if not theirs and not given:
        known = ", ".join(preset.name for preset in PRESETS if not preset.name.startswith("ort-1."))
        hint = f"say what it shall hold: --with PACKAGE==VERSION. Names with contents of their own: {known}, ort-1.23"
        raise UsageError(f"nothing is known of an environment '{name}'", hint=hint)
    replaced = {package_of(requirement) for requirement in given}
    return (*(r for r in theirs if package_of(r) not in replaced), *given)


def _preset(name: str) -> tuple[str, ...]:
    for preset in PRESETS:
        found = re.fullmatch(re.escape(preset.name) + r"(\.\d+)?", name)
        if found and (found[1] is None or any("{patch}" in r for r in preset.requirements)):
            return tuple(r.format(patch=found[1] or ".*") for r in preset.requirements)
    return ()


def package_of(requirement: str) -> str:
    """The normalised name of the package that a requirement is about.

    Raises:
        UsageError: It does not begin with a name.
    """
    found = re.match(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?=$|[\[<>=!~;@(])", requirement)
    if not found:
        raise UsageError(f"'{requirement}' is no requirement", hint="write --with PACKAGE==VERSION")
    return normalized(found[1])


def normalized(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
