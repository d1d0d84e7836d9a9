"""What the models are called, and from which configuration each is made: text from the package's tables.

The package has *experiments* (``resnet_rs_imagenet``: a whole configuration with a backbone in it) and, for each type
of backbone, a table of *identifiers* (``50``, ``'MobileNetV2'``). A model is an experiment's configuration with one of
the identifiers put in. A type of backbone that no classification experiment uses is put into the first one that could
have it, set as the first experiment for another task sets it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Experiment", "Recipe", "name_of", "recipes"]

_DATA = re.compile(r"_(imagenet|kinetics|ucf).*")

Key = int | str


@dataclass(frozen=True)
class Experiment:
    """An experiment that the package has registered.

    Attributes:
        name: Its name.
        backbone: The type of its backbone.
        classifies: Whether it classifies images or videos into a given number of classes.
        offers: The types of backbone that its configuration could have.
    """

    name: str
    backbone: str
    classifies: bool
    offers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Attributes:
        name: What it is called.
        family: The models that it is one of.
        backbone: The type of its backbone.
        key: The backbone's identifier.
        experiment: The experiment whose configuration it has.
        donor: The experiment that says how the backbone is set, where it is another one.
    """

    name: str
    family: str
    backbone: str
    key: Key
    experiment: str
    donor: str = ""


def name_of(prefix: str, key: Key, backbone: str = "", taken: Collection[str] = ()) -> str:
    """What a model is called: the prefix, and what the identifier adds to it, in small letters where that is free.

    Args:
        prefix: ``resnet``.
        key: ``50``.
        backbone: The type of backbone whose name the identifier may repeat; by default the prefix.
        taken: Names of other models: the package tells ``vit-g14`` and ``vit-G14`` apart.
    """
    text = _without(str(key), backbone or prefix)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", text).replace("-", "_").strip("_")
    if not text:
        return prefix
    # A number follows a word directly (resnet50), and no other number (resnet_3d_50).
    joined = text[0].isdigit() and not re.search(r"\d[a-z]?$", prefix)
    whole = f"{prefix}{text}" if joined else f"{prefix}_{text}"
    return whole if whole.lower() in taken else whole.lower()


def _without(text: str, word: str) -> str:
    """The text without a word in front of it; ``MobileNetV2`` begins with ``mobilenet``."""
    plain = word.replace("_", "")
    return text[len(plain) :] if text.lower().startswith(plain) else text


def _family_of(prefix: str, key: Key, name: str) -> str:
    """``mobilenet_v3`` of ``mobilenet_v3_small``: a design with a name of its own is a family of its own."""
    own = isinstance(key, str) and re.match(r"[A-Z][a-z]", key)
    return "_".join((prefix, name.removeprefix(f"{prefix}_").partition("_")[0])) if own else prefix


def recipes(experiments: Sequence[Experiment], keys: Mapping[str, Sequence[Key]]) -> dict[str, Recipe]:
    """Every model by its name, families together and in the order of the tables.

    Args:
        experiments: Those that the package has, in its order.
        keys: Type of backbone -> its identifiers.
    """
    found: dict[str, Recipe] = {}
    bases = _families(experiments)
    for prefix, experiment in bases.items():
        for key in keys.get(experiment.backbone, ()):
            name = name_of(prefix, key, experiment.backbone, found)
            family = _family_of(prefix, key, name)
            found.setdefault(name, Recipe(name, family, experiment.backbone, key, experiment.name))
    for backbone in keys:
        if backbone in {e.backbone for e in bases.values()}:
            continue
        base = next((e.name for e in experiments if e.classifies and backbone in e.offers), "")
        if not base:
            continue
        donor = next((e.name for e in experiments if e.backbone == backbone), "")
        for key in keys[backbone]:
            name = name_of(backbone, key, taken=found)
            found.setdefault(name, Recipe(name, _family_of(backbone, key, name), backbone, key, base, donor))
    return found


def _families(experiments: Sequence[Experiment]) -> dict[str, Experiment]:
    """What stands before the name of the data, or the type of backbone -> the first experiment that it is of."""
    found: dict[str, Experiment] = {}
    for experiment in experiments:
        if experiment.classifies:
            prefix = _DATA.sub("", experiment.name)
            told = prefix != experiment.name and not prefix.endswith("_classification")
            found.setdefault(prefix if told else experiment.backbone, experiment)
    return found
