"""A review shows what changed in noise units and does what is answered, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxeq.errors import UsageError
from onnxeq.golden import store
from onnxeq.golden.reviewing import Difference, Reviewed, compared, review
from onnxeq.report.golden import difference_lines

from .samples import arrays, golden, waiting

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four goldens, each with a change that waits: everything a quarter larger."""
    for name in NAMES:
        with store.locked(tmp_path, name, wait=False):
            store.commit(tmp_path, golden(name), arrays(), fresh=True)
            against = store.record_sha256(tmp_path, name)
            new = replace(golden(name), pending=waiting(against))
            store.commit(tmp_path, new, arrays(1.25), pending=True)
    return tmp_path


def answered(folder: Path, *answers: str, names: tuple[str, ...] = ()) -> tuple[Reviewed, list[Difference], list[str]]:
    told: list[Difference] = []
    said: list[str] = []
    left = iter(answers)
    done = review(lambda _: next(left), told.append, said.append, folder=folder, names=names)
    assert list(left) == [], "an answer was not asked for"
    return done, told, said


def values(folder: Path) -> dict[str, float]:
    return {name: float(store.read(folder, name).arrays["referee/0/y"][0, 1]) for name in NAMES}


def test_each_answer_does_what_it_says(folder: Path) -> None:
    """Accept takes 2.5 in the place of 2, reject and skip leave 2; what was skipped waits on."""
    done, told, _ = answered(folder, "a", "new runtime", "what?", "reject", "s", "A", "", "again")
    assert done == Reviewed(("a", "d"), ("b",), ("c",))
    assert [d.name for d in told] == list(NAMES)
    assert values(folder) == {"a": 2.5, "b": 2.0, "c": 2.0, "d": 2.5}
    assert store.pending_names(folder) == ["c"]
    assert store.read(folder, "d").golden.history[0].because == "again"


def test_all_asks_for_one_reason(folder: Path) -> None:
    """From the second on everything is accepted without another question, and still shown."""
    done, told, _ = answered(folder, "s", "all", "upgrade")
    assert done == Reviewed(("b", "c", "d"), (), ("a",))
    assert len(told) == 4
    assert {store.read(folder, n).golden.history[0].because for n in "bcd"} == {"upgrade"}


def test_what_cannot_be_accepted_is_said_and_skipped(folder: Path) -> None:
    """The accepted golden was changed meanwhile: the review goes on with the next."""
    path = folder / "a.toml"
    path.write_text(path.read_text().replace("2026-01-02", "2026-01-03"))
    done, _, said = answered(folder, "a", "why", "r", names=("a", "b"))
    assert done == Reviewed((), ("b",), ("a",))
    assert "against another golden" in said[0]
    with pytest.raises(UsageError, match="nothing waits"):
        answered(folder, names=("b",))


def test_the_difference_is_in_noise_units(folder: Path) -> None:
    """2 to 2.5 in noise of 1e-7 for both elements: above 1e5 units; positions and values of the largest stand below."""
    found = compared(folder, "a")
    assert found.outputs[0].max_abs == 0.5
    # rms(e) = 0.25*sqrt(2.5), in units of 1e-7, and twice the slack for two elements.
    unit = np.hypot(1e-7, np.sqrt(2.5) * 2.0**-26)
    assert found.outputs[0].ratio >= 0.25 * np.sqrt(2.5) / unit / (1 + 3 / np.sqrt(2)) * 0.99
    lines = list(difference_lines(found))
    assert lines[0] == "a: changed, 25x rounding noise"
    assert "  cause: weights: w2" in lines
    assert "  changed: onnxruntime 1.22.0 -> 1.23.0" in lines
    assert "  largest of 'y' before: [1] 2, [0] -1" in lines


def test_an_accepted_golden_that_is_damaged_is_said(folder: Path) -> None:
    """There is nothing to compare with then; what waits is still shown."""
    (folder / store.read(folder, "a").golden.arrays).unlink()
    found = compared(folder, "a")
    assert found.outputs == ()
    assert "cannot be read" in found.note
