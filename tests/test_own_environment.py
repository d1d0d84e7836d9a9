"""A zoo whose packages cannot be installed beside the others is run in an environment of its own, unasked."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnxeq
from onnxeq import envs, zoo
from onnxeq.cli.main import run
from onnxeq.diff import diff as run_diff
from onnxeq.envs import Environment
from onnxeq.envs.environment import write
from onnxeq.errors import FrameworkMissing, UsageError
from onnxeq.types import Verdict

from .numpy_framework import install

MODULES = ("official", "tensorflow", "tf_keras", "tf2onnx")


def made(root: Path, name: str, modules: tuple[str, ...] = MODULES) -> Environment:
    """A finished environment that holds modules by name alone."""
    folder = root / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    for module in modules:
        (folder / "lib" / module).mkdir(parents=True)
        (folder / "lib" / module / "__init__.py").write_text("raise RuntimeError('only looked for')")
    found = Environment(name, folder, (), "key", "2026-01-01T00:00:00Z", sys.executable, "3.11.1", ("lib",))
    write(found)
    return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of environments, and a Python without the packages."""
    monkeypatch.setenv("ONNXEQ_ENVS", str(tmp_path / "envs"))
    monkeypatch.setitem(zoo._MODULES, "tfmg", (*MODULES, "no_such_module"))
    return tmp_path / "envs"


REF = "tfmg:resnet50@seeded"


def test_without_the_environment_the_hint_makes_it(root: Path) -> None:
    """One line names the package and the command; an environment of another name is not taken."""
    made(root, "other", (*MODULES, "no_such_module"))
    with pytest.raises(FrameworkMissing, match="there is no environment 'tfmg' that holds it") as caught:
        zoo.require_framework(zoo.parse(REF))
    assert caught.value.hint == "onnxeq env create tfmg"
    assert run(["check", REF, "-q"]) == 2


def test_the_environment_of_the_zoos_name_is_found(root: Path) -> None:
    """It is taken without ``--env``; where the host has the packages, or ``--env`` names another, it is not."""
    there = made(root, "tfmg", (*MODULES, "no_such_module"))
    ref = zoo.parse(REF)
    assert zoo.require_framework(ref) == there
    other = made(root, "other", (*MODULES, "no_such_module"))
    assert zoo.require_framework(ref, environment=other) == other
    assert zoo.require_framework(zoo.parse(f"{__file__}:made")) is None


def test_the_hosts_own_packages_come_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python itself has the packages, nothing else is looked for."""
    made(root, "tfmg")
    monkeypatch.setitem(zoo._MODULES, "tfmg", ("json",))
    assert zoo.require_framework(zoo.parse(REF)) is None


def test_an_environment_that_lost_its_packages_says_so(root: Path) -> None:
    """Of one that is there but does not hold them, or is broken, the fault is told, not that there is none."""
    there = made(root, "tfmg", ("tensorflow", "tf_keras", "tf2onnx", "no_such_module"))
    with pytest.raises(FrameworkMissing, match="the package 'tf-models-official', which 'tfmg' does not hold"):
        zoo.require_framework(zoo.parse(REF))
    there.python.unlink()
    with pytest.raises(UsageError, match="cannot be used: its Python is gone") as caught:
        zoo.require_framework(zoo.parse(REF))
    assert "onnxeq env create tfmg" in caught.value.hint


def test_the_list_of_zoos_says_where_each_is(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """``zoo list`` names the command that makes the environment, then the environment; so does listing the zoo."""
    assert run(["zoo", "list", "tfmg"]) == 2
    assert "onnxeq env create tfmg" in capfd.readouterr().err
    assert run(["zoo", "list"]) == 0
    assert "onnxeq env create tfmg" in capfd.readouterr().out
    made(root, "tfmg", (*MODULES, "no_such_module"))
    assert run(["zoo", "list"]) == 0
    line = next(x for x in capfd.readouterr().out.splitlines() if x.startswith("tfmg"))
    assert "installed in the environment 'tfmg'; list with: onnxeq zoo list tfmg" in line


def test_a_checkpoint_is_named_by_what_its_files_begin_with(tmp_path: Path) -> None:
    """``@FOLDER/ckpt-1`` is none of the files, and all of them belong to what a job reads."""
    for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00002", "ckpt-1.data-00001-of-00002", "ckpt-10.index"):
        (tmp_path / name).write_text(name)
    ref = zoo.parse(f"tfmg:resnet50@{tmp_path}/ckpt-1")
    assert (ref.name, ref.weights) == ("resnet50", str(tmp_path / "ckpt-1"))
    files = [p.name for p in zoo.weights_files(ref)]
    assert files == ["ckpt-1.index", "ckpt-1.data-00000-of-00002", "ckpt-1.data-00001-of-00002"]
    with pytest.raises(UsageError, match="no weights"):
        zoo.parse(f"tfmg:resnet50@{tmp_path}/ckpt-2")


@pytest.fixture
def only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_env: Environment, fresh_cache: Path
) -> Iterator[Environment]:
    """The zoo ``numfw`` needs a module that the environment ``tiny`` alone has; version 1 is here, version 2 there."""
    folder = tmp_path / "installed"
    folder.mkdir()
    install(folder, 1)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    packages = tiny_env.folder / tiny_env.packages[0]
    placed = [*install(packages, 2), packages / "numfw_only.py"]
    placed[-1].write_text("")
    monkeypatch.setitem(zoo._MODULES, "numfw", ("numfw_only",))
    monkeypatch.setitem(zoo.ENVIRONMENTS, "numfw", "tiny")
    yield tiny_env
    for path in placed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_check_runs_in_it_and_says_so(only_there: Environment, tmp_path: Path) -> None:
    """The model is that of the environment (version 2), the report and its notes name it, judging stays outside."""
    report = onnxeq.check("numfw:same")
    assert report.verdict is Verdict.EQUIVALENT, report.causes
    assert report.source["framework"] == "numfw 2"
    assert report.environment["env"]["name"] == "tiny"
    assert any("in the environment 'tiny', which holds what models of this zoo need" in note for note in report.notes)
    assert run(["convert", "numfw:same", "-o", str(tmp_path / "m.onnx"), "-q"]) == 0
    assert onnxeq.ledger("numfw:same", str(tmp_path / "m.onnx")).natives_accounted == 2
    weighed = onnxeq.check("numfw:same", str(tmp_path / "m.onnx"), weights_only=True)
    assert weighed.environment["env"]["name"] == "tiny"


def test_each_side_of_a_pair_runs_where_its_zoo_does(only_there: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target of the same zoo runs inside as well; where the host has the zoo's packages, nothing does."""
    report = onnxeq.check("numfw:drawn", "numfw:drawn")
    assert report.verdict is Verdict.EQUIVALENT
    assert report.target["framework"] == "numfw 2"
    monkeypatch.setitem(zoo._MODULES, "numfw", ())
    plain = onnxeq.check("numfw:same")
    assert plain.source["framework"] == "numfw 1"
    assert "env" not in plain.environment


def test_a_diff_and_the_list_of_models_run_in_it_too(
    only_there: Environment, capfd: pytest.CaptureFixture[str]
) -> None:
    """``diff`` names the environment in its report, ``zoo list`` shows the models of the version inside."""
    report = run_diff("numfw:same", rung="kernels")
    assert report.environment["env"]["name"] == "tiny"
    assert any("environment 'tiny'" in note for note in report.notes)
    assert run(["zoo", "list", "numfw", "--json"]) == 0
    assert {e["family"] for e in json.loads(capfd.readouterr().out)["entries"]} == {"numfw 2"}


def test_the_preset_of_the_environment_is_there() -> None:
    """Every environment that a zoo names can be made by its name alone."""
    assert all(envs.requirements_of(name) for name in zoo.ENVIRONMENTS.values())
