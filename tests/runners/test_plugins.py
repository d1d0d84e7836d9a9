"""Runners: found without being imported, named by the user, judged as onnxruntime is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from onnxeq.errors import CannotRun, UsageError
from onnxeq.layers.kernels.trials import culprits
from onnxeq.runners.runtime import load_runner
from onnxeq.runtimes import BUILT_IN, choose_runner, installed_runners

SOURCE = """
raise_on_import = 1 / {divisor}

class Mine:
    def open(self, model, options):
        raise NotImplementedError

    def versions(self):
        return {{"mine": "1"}}
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers the runner ``mine``; importing it fails, so that listing must not."""
    (tmp_path / "their_runner.py").write_text(SOURCE.format(divisor=0))
    info = tmp_path / "their_runner-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-runner\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[onnxeq.runners]\nmine = their_runner:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_third_partys_runner_is_listed_and_chosen_without_being_imported(third_party: Path) -> None:
    """The entry point is enough: the module, which cannot be imported, is not."""
    assert installed_runners()["mine"] == "their_runner:Mine"
    runtime = choose_runner("mine?threads=2")
    assert (runtime.plain, runtime.deployed, runtime.kind) == ("mine plain", "mine", "runtime")
    assert runtime.settings == {"threads": "2"}
    assert "their_runner" not in sys.modules


def test_another_source_is_another_key_of_the_cache(third_party: Path) -> None:
    """A runner that was edited must not find the results of the old one."""
    before = choose_runner("mine").params()
    (third_party / "their_runner.py").write_text(SOURCE.format(divisor=1))
    assert choose_runner("mine").params()["mark"] != before["mark"]


def test_a_runner_that_cannot_be_imported_says_why(third_party: Path) -> None:
    """Whatever the module raises is one line with the runner's name."""
    load_runner.cache_clear()
    with pytest.raises(CannotRun, match="their_runner:Mine cannot be imported: ZeroDivisionError"):
        load_runner("their_runner:Mine")


def test_a_file_is_a_runner_too(tmp_path: Path) -> None:
    """``FILE.py:object`` needs no installation; a class is made an object."""
    path = tmp_path / "own.py"
    path.write_text(SOURCE.format(divisor=1))
    runtime = choose_runner(f"{path}:Mine")
    assert runtime.name == "Mine"
    assert dict(load_runner(runtime.target).versions()) == {"mine": "1"}


def test_what_is_no_runner_is_said(tmp_path: Path) -> None:
    """An unknown name lists the known ones, a missing file its path, an object without ``open`` what it lacks."""
    with pytest.raises(UsageError, match="no runner 'nonsense'") as caught:
        choose_runner("nonsense")
    assert all(name in caught.value.hint for name in BUILT_IN)
    with pytest.raises(UsageError, match="no file"):
        choose_runner(str(tmp_path / "absent.py"))
    with pytest.raises(CannotRun, match="no open and no versions"):
        load_runner("json:JSONEncoder")


def test_the_default_is_onnxruntime_under_its_old_names() -> None:
    """Executions of the built-in runner are named after the provider, as ever."""
    runtime = choose_runner(None)
    assert (runtime.plain, runtime.deployed, runtime.kind) == ("ort/cpu plain", "ort/cpu", "ort")


@pytest.mark.parametrize("guilty", [{"c"}, {"a", "h"}, {"b", "c", "g"}])
def test_exactly_the_culprits_are_left(guilty: set[str]) -> None:
    """A fault that goes away only when all of them are off: each is found, and no other."""
    tried: list[int] = []

    def mends(disabled: object) -> bool:
        tried.append(1)
        return guilty <= set(disabled)  # type: ignore[call-overload]

    assert set(culprits(list("abcdefgh"), mends)) == guilty
    if len(guilty) == 1:
        assert len(tried) <= 1 + 2 * 3  # all of them, then at most both halves at each of three halvings


def test_no_culprit_where_disabling_everything_does_not_mend() -> None:
    """The fault is none of the passes'."""
    assert culprits(["a", "b"], lambda _disabled: False) == []


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_runs_what_onnxruntime_runs(conv_net: object) -> None:
    """The second runtime is equivalent on a healthy model; it has no plain mode, which is said."""
    import onnxeq
    from onnxeq.types import Status, Verdict

    report = onnxeq.check(conv_net(), runner="openvino")  # type: ignore[operator]
    assert report.verdict is Verdict.EQUIVALENT
    kernels, optimizer = (next(r for r in report.rungs if r.name == n) for n in ("kernels", "optimizer"))
    assert (kernels.target, kernels.status) == ("openvino", Status.PASS)
    assert optimizer.status is Status.NOT_RUN
    assert "no mode without graph optimisations" in optimizer.reason
