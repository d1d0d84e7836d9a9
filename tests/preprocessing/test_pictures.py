from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxeq import zoo
from onnxeq.errors import BadInputs, NoRecipe, UsageError
from onnxeq.jobs import Jobs
from onnxeq.preprocessing.neutral import prepare
from onnxeq.preprocessing.pictures import MOST, Asked, both, pictures_in, prepared
from onnxeq.preprocessing.recipe import recipe_to_record

from .conftest import recipe


def test_which_inputs_are_pictures(pictures: list[Path], tmp_path: Path) -> None:
    """Files by their suffix, folders that hold no arrays; arrays and folders of arrays are none."""
    folder = pictures[0].parent
    assert pictures_in([folder]) == tuple(pictures)
    assert pictures_in([str(pictures[1]), pictures[0]]) == (pictures[1], pictures[0])
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "plot.png").write_bytes(pictures[0].read_bytes())
    assert pictures_in([tmp_path]) == ()
    assert pictures_in([tmp_path / "x.npy", {"x": np.zeros(3)}]) == ()
    assert pictures_in([tmp_path / "absent.png"]) == ()  # what reads arrays says that it is not there


def test_pictures_beside_arrays_or_too_many_are_refused(pictures: list[Path], tmp_path: Path) -> None:
    """Both are told with what was given and what is allowed."""
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(BadInputs, match=r"a\.png is a picture, and .*x\.npy is none"):
        pictures_in([pictures[0], tmp_path / "x.npy"])
    with pytest.raises(BadInputs, match=f"{MOST + 1} pictures are given, {MOST} are allowed"):
        pictures_in([pictures[0]] * (MOST + 1))


def test_a_recipes_file_is_run_by_this_projects_own_code(pictures: list[Path], tmp_path: Path) -> None:
    """The file may be the recipe, or what ``zoo show --json`` prints; the pictures come in the order given."""
    record = recipe_to_record(recipe())
    for name, document in (("bare.json", record), ("shown.json", {"schema": "onnxeq.zoo/1", "recipe": record})):
        (tmp_path / name).write_text(json.dumps(document))
        with Jobs() as jobs:
            found = prepared(jobs, str(tmp_path / name), pictures[::-1])
        assert found.recipe.steps == recipe().steps
        assert not found.recipe.exact
        for array, picture in zip(found.arrays, pictures[::-1], strict=True):
            assert np.array_equal(array, prepare(recipe(), picture))


def test_what_says_nothing_of_pictures_is_told(pictures: list[Path], tmp_path: Path) -> None:
    """A model's file has no recipe; a recipe without pictures is about nothing; a damaged file is one line."""
    (tmp_path / "net.onnx").write_bytes(b"")
    (tmp_path / "bad.json").write_text("{")
    ref = zoo.parse(str(tmp_path / "net.onnx"))
    with Jobs() as jobs:
        with pytest.raises(NoRecipe, match="no recipe of its own"):
            both(jobs, ref, Asked(tuple(pictures)))
        with pytest.raises(UsageError, match="none are given"):
            both(jobs, ref, Asked((), other="onnx-zoo:light_resnet50"))
        with pytest.raises(UsageError, match="is no JSON"):
            prepared(jobs, str(tmp_path / "bad.json"), pictures)
        assert both(jobs, ref, Asked(())) == (None, None)
