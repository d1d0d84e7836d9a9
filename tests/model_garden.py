"""Where the tests find tf-models-official."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from onnxeq.envs import environment

__all__ = ["python_of_garden"]

USERS_ENVS = environment.envs_root()  # the tests have a folder of their own, in which no such environment is


def python_of_garden() -> Iterator[Path]:
    """This Python, or that of the user's environment ``tfmg``, in which jobs then run; skips where there is neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNXEQ_ENVS", str(USERS_ENVS))
        if util.find_spec("official") is not None:
            yield Path(sys.executable)
            return
        found = environment.read("tfmg")
        if found is None or environment.broken(found):
            pytest.skip(
                f"no tf-models-official here, and no environment 'tfmg' in {USERS_ENVS}: onnxeq env create tfmg"
            )
        yield found.python
