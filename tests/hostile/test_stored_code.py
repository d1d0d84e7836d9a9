"""Code in ``.pt2`` programs, checkpoints and Keras models does not run unless it is trusted."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from attack import lay
from corpus.case import Case

from onnxeq.errors import UnusableModel


def _cases(module: str) -> list[Any]:
    """The cases of a module that needs a framework; none without it, and the marker tells why."""
    try:
        return list(importlib.import_module(f"corpus.{module}").CASES)
    except ImportError:
        return []


PROGRAMS = [case for case in _cases("programs") if not case.name.startswith("pickle-as-weights")]
KERAS = _cases("keras_files")


@pytest.mark.torch
@pytest.mark.parametrize("case", PROGRAMS, ids=lambda case: case.name)
def test_a_program_with_code_is_refused_unread(tmp_path: Path, case: Case) -> None:
    """Each is refused with what it holds, before torch has read a byte of it: nothing was made."""
    from onnxeq_converters.from_torch import stored_code

    (tmp_path / "in").mkdir()
    (path,) = case.build(tmp_path / "in")
    with pytest.raises(UnusableModel) as refused:
        stored_code.refuse(Path(path))
    assert case.says in refused.value.line()
    assert not (tmp_path / "OWNED").exists()


@pytest.mark.torch
@pytest.mark.parametrize(
    "name",
    [
        "pickle-in-the-sample-inputs",
        "pickle-in-an-entry-of-another-case",
        "pickle-in-a-weight",
        "expression-that-imports",
    ],
)
def test_these_attacks_are_real(tmp_path: Path, name: str) -> None:
    """Without us, torch reading the same file, runs the code: a folder appears. So a refusal is what prevents it."""
    import torch

    case = next(c for c in PROGRAMS if c.name == name)
    (tmp_path / "in").mkdir()
    (path,) = case.build(tmp_path / "in")
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(path)
    assert (tmp_path / "OWNED").exists()


@pytest.mark.torch
def test_an_honest_program_is_read(tmp_path: Path) -> None:
    """A program with a free batch and arithmetic on sizes breaks no rule."""
    from corpus.programs import honest

    from onnxeq_converters.from_torch import stored_code

    stored_code.refuse(honest(tmp_path))


@pytest.mark.keras
@pytest.mark.parametrize("case", KERAS, ids=lambda case: case.name)
def test_a_keras_model_with_code_is_refused_unread(tmp_path: Path, case: Case) -> None:
    """Each is refused with what it holds, before Keras has read it."""
    from onnxeq_converters.from_keras import stored_code

    (tmp_path / "in").mkdir()
    (path,) = case.build(tmp_path / "in")
    with pytest.raises(UnusableModel) as refused:
        stored_code.refuse(Path(path))
    assert case.says in refused.value.line()


_COMMANDS = {
    "torch": ("pickle-as-weights", "pickle-in-a-weight", "expression-that-imports"),
    "keras": ("lambda-layer", "hdf5-that-writes-files"),
}
"""Framework -> attacks whose files it writes; the two are never loaded into one process."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "framework", [pytest.param("torch", marks=pytest.mark.torch), pytest.param("keras", marks=pytest.mark.keras)]
)
def test_the_command_refuses_them_with_one_line(tmp_path: Path, framework: str) -> None:
    """Through the command line: exit status 2, one line, nothing written; a checkpoint's pickle among them."""
    known = _cases("programs") if framework == "torch" else KERAS
    cases = [c for c in known if c.name in _COMMANDS[framework]]
    assert len(cases) == len(_COMMANDS[framework])
    siege = lay(tmp_path, cases)
    for case in cases:
        outcome = siege.outcomes[case.name]
        assert outcome.status == 2, outcome.said
        assert len(outcome.lines) == 1, outcome.said
        assert case.says in outcome.said
    assert [name for name in siege.written if "__pycache__" not in name] == []
