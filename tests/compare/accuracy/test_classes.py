"""Which class a folder is."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from onnxeq.compare.accuracy import classes
from onnxeq.compare.accuracy.classes import classes_of
from onnxeq.errors import UsageError
from onnxeq.jobs import Jobs


@pytest.fixture(scope="module")
def jobs(_own_cache: None) -> Iterator[Jobs]:
    with Jobs() as running:
        yield running


def test_numbers_are_classes(jobs: Jobs) -> None:
    """Folders that are all called by numbers are those classes, and nothing says how many there are."""
    found = classes_of(jobs, ["0", "007", "12"], None)
    assert (dict(found.indices), found.size) == ({"0": 0, "007": 7, "12": 12}, None)


def test_a_class_map_says_it(jobs: Jobs, tmp_path: Path) -> None:
    """As an object with indices, or as a list in the order of the classes, which also says how many there are."""
    path = tmp_path / "map.json"
    path.write_text('{"cat": 5, "dog": 2, "cow": 1}')
    found = classes_of(jobs, ["cat", "dog"], path)
    assert (dict(found.indices), found.size, found.source) == ({"cat": 5, "dog": 2}, None, str(path))
    path.write_text('["cow", "dog", "cat"]')
    found = classes_of(jobs, ["cat", "dog"], path)
    assert (dict(found.indices), found.size) == ({"cat": 2, "dog": 1}, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{cat: 1}", "is no JSON"),
        ("3", "is no class map"),
        ("[1, 2]", "is a list of other things than texts"),
        ('["cat", "cat"]', "lists 'cat' twice"),
        ('{"cat": -1}', "gives 'cat' the class -1, and classes are counted from 0"),
        ('{"cat": true}', "gives 'cat' the class True"),
        ('{"cat": 1}', "does not say which class the folder 'dog' is. add \"dog\" to it"),
    ],
)
def test_a_class_map_that_is_none(jobs: Jobs, tmp_path: Path, text: str, said: str) -> None:
    """Each slip in the file is told by itself."""
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        classes_of(jobs, ["cat", "dog"], path)
    assert said in caught.value.line()


KNOWN: dict[str, Any] = {
    "synsets": ["n00000001", "n00000002", "n00000003"],
    "names": {
        "timm": [["tench", "Tinca tinca"], ["crane"], ["crane"]],
        "torchvision": [["tench"], ["crane"], ["lift"]],
    },
    "sources": {"timm": "1.0", "torchvision": "0.2"},
}


def test_wordnet_ids_and_names() -> None:
    """Ids by their place in the list; names in any case, with dashes or spaces, by the first package that has them."""
    found = classes._by_zoos(["n00000002", "TINCA_tinca", "lift"], KNOWN)
    assert (dict(found.indices), found.size) == ({"n00000002": 1, "TINCA_tinca": 0, "lift": 2}, 1000)
    assert found.source == "ImageNet-1K's, as timm 1.0, torchvision 0.2 has them"


def test_names_that_say_nothing_are_told_with_what_to_type() -> None:
    """Two classes of one name, a name that is none, an id without the list, and no zoo at all."""

    def line(folders: list[str], known: dict[str, Any]) -> str:
        with pytest.raises(UsageError) as caught:
            classes._by_zoos(folders, known)
        return caught.value.line()

    typed = 'say it in a file: --class-map FILE.json with {"crane": 0}'
    assert line(["crane"], KNOWN) == f"the folder 'crane' may be class 1 or 2. {typed}"
    said = line(["tench", "gadget", "3"], KNOWN)
    assert said.startswith("nothing says which class the folder 'gadget' is, and 1 more: it is no number")
    assert said.endswith('--class-map FILE.json with {"tench": 0, "gadget": 1, "3": 2}')
    nothing: dict[str, Any] = {"synsets": [], "names": {}, "sources": {}}
    assert "it is a WordNet id, and timm, which lists them, is not installed" in line(["n00000002"], nothing)
    assert "neither timm nor torchvision is installed" in line(["tench"], nothing)


@pytest.mark.skipif(util.find_spec("timm") is None, reason="timm is not installed")
def test_what_the_installed_zoos_know(jobs: Jobs) -> None:
    """The list of timm has 1000 ids, of which n01440764 is the first; torchvision's names have the same order."""
    found = classes_of(jobs, ["n01440764", "goldfish", "toilet_tissue"], None)
    assert (dict(found.indices), found.size) == ({"n01440764": 0, "goldfish": 1, "toilet_tissue": 999}, 1000)
