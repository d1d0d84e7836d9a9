"""Environments: what a name holds, how one is built and given up, and that jobs run inside."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path

import pytest

from onnxeq import envs, jobs, launch, worker
from onnxeq.envs import FLOOR, PRESETS, Environment, building, environment, locks, requirements_of
from onnxeq.errors import CannotRun, JobKilled, OnnxeqError, UsageError
from onnxeq.jobs import Jobs, JobSpec

ROOT = Path(__file__).parents[1]


# --- what a name holds


def test_a_names_version_may_be_a_patch() -> None:
    """``torch-2.9`` is the newest 2.9, ``torch-2.9.1`` that one, and both bring the onnx-ir of their time."""
    assert requirements_of("torch-2.9")[0] == "torch==2.9.*"
    assert requirements_of("torch-2.9.1")[0] == "torch==2.9.1"
    assert "onnx-ir==0.1.12" in requirements_of("torch-2.9.1")
    assert "onnx-ir==0.1.4" in requirements_of("torch-2.8")
    assert requirements_of("ort-1.23") == ("onnxruntime==1.23.*",)


def test_what_is_given_replaces_what_the_name_says() -> None:
    """``--with`` wins over the preset for the same package, however it is spelt, and adds the rest."""
    held = requirements_of("torch-2.9", ["ONNX_IR==0.1.11", "timm"])
    assert held[-2:] == ("ONNX_IR==0.1.11", "timm")
    assert sum("ir==" in r.lower() for r in held) == 1


@pytest.mark.parametrize("name", ["mine", "torch", "torch-2.90", "tfmg.1", "torch-2.9.1.1", "xtorch-2.9"])
def test_any_other_name_needs_contents(name: str) -> None:
    """What is no preset says which there are and what to type."""
    with pytest.raises(UsageError, match=f"nothing is known of an environment '{name}'") as caught:
        requirements_of(name)
    assert "--with PACKAGE==VERSION" in caught.value.hint
    assert "tfmg" in caught.value.hint
    assert requirements_of(name, ["a==1"]) == ("a==1",)


def test_every_row_of_the_table_is_well_formed() -> None:
    """Each preset is found by its own name, and each of its requirements names a package."""
    for preset in PRESETS:
        assert len(requirements_of(preset.name)) == len(preset.requirements)


@pytest.mark.parametrize("text", ["", "-r file.txt", "--index-url=x", "./here", "==1", "a b"])
def test_what_names_no_package_is_no_requirement(text: str) -> None:
    """Options and paths do not reach pip."""
    with pytest.raises(UsageError, match="is no requirement"):
        envs.create("mine", [text])


@pytest.mark.parametrize("name", ["", ".locks", "../up", "a/b", "-x", "a b", "x" * 65])
def test_a_name_is_one_folder(name: str) -> None:
    """No name leads out of the folder of environments or into its own files."""
    with pytest.raises(UsageError, match="is no name for an environment"):
        envs.create(name, ["packaging"])
    with pytest.raises(UsageError, match="is no name for an environment"):
        envs.remove(name)


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    """An interpreter below the floor is named with its version and what is needed."""
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nprintf '3\\n8\\n3.8.1\\n/usr/bin/python3.8\\n'\n")
    old.chmod(0o755)
    with pytest.raises(UsageError, match=r"is Python 3\.8\.1; jobs need 3\.10 or newer"):
        envs.create("old", ["packaging"], python=str(old))
    with pytest.raises(UsageError, match="there is no Python 'absent'"):
        envs.create("old", ["packaging"], python="absent")
    with pytest.raises(UsageError, match="is no Python that runs here"):
        envs.create("old", ["packaging"], python="/bin/false")


_NEWER = re.compile(
    r"enum\.StrEnum|import StrEnum(?!\n)|file_digest|tomllib|ExceptionGroup|contextlib\.chdir|assert_never|TaskGroup"
    r"|typing import .*\b(Self|LiteralString|Never|Required|NotRequired|Unpack)\b|datetime import .*\bUTC\b|except\*"
)


def _sources_of_jobs() -> list[Path]:
    host_only = {"cli", "report", "check.py", "diff.py", "doctor.py", "compat.py", "record_file.py", "known.py"}
    paths = [p for p in (ROOT / "onnxeq").rglob("*.py") if not host_only & set(p.relative_to(ROOT / "onnxeq").parts)]
    return [*paths, *(ROOT / "converters").rglob("*.py")]


def test_the_code_of_jobs_is_code_of_the_oldest_python() -> None:
    """Everything that may be imported in a job parses as the oldest Python does, and names nothing that is newer."""
    newer = []
    for path in _sources_of_jobs():
        text = path.read_text()
        ast.parse(text, str(path), feature_version=FLOOR)
        lines = enumerate(text.splitlines(), 1)
        newer += [f"{path}:{n}: {x}" for n, x in lines if _NEWER.search(x) and "onnxeq.compat" not in x]
    assert not newer


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the shim is tried on the Python that has the original")
def test_the_shim_of_an_enumeration_is_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below Python 3.11 members are their own text in all ways in which they are there."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    spec = util.spec_from_file_location("old_compat", ROOT / "onnxeq" / "compat.py")
    assert spec is not None
    assert spec.loader is not None
    old = util.module_from_spec(spec)
    spec.loader.exec_module(old)
    kind = old.StrEnum("Kind", {"ONE": "one"})
    assert not isinstance(kind, type(None))
    assert (str(kind.ONE), f"{kind.ONE:>5}", kind.ONE == "one", json.dumps(kind.ONE)) == ("one", "  one", True, '"one"')


# --- building: real builds without what jobs need, which take a few seconds


HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
FAST = "from onnxeq.envs import building; building.BASE = (); building._JOB_CODE = ('packaging',)"


@pytest.fixture
def own_envs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_env: Environment) -> Path:
    """An empty folder of environments, where pip is known to work."""
    root = tmp_path / "envs"
    monkeypatch.setenv("ONNXEQ_ENVS", str(root))
    monkeypatch.setattr(building, "BASE", ())
    monkeypatch.setattr(building, "_JOB_CODE", ("packaging",))
    return root


def _left_in(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if not p.name.startswith("."))


def _start(code: str) -> subprocess.Popen[str]:
    """A process that Ctrl-C reaches, which it does not where a shell has started the tests in its background."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{HEARS_CTRL_C}\n{FAST}\n{code}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_interrupted_build_leaves_nothing(own_envs: Path) -> None:
    """Ctrl-C while pip runs ends pip and takes the folder away; a job cannot find it."""
    process = _start("from onnxeq.cli.main import main; main(['env', 'create', 'cut', '--with', 'packaging==24.0'])")
    _wait_for(own_envs / "cut" / "pyvenv.cfg", process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert _left_in(own_envs) == []
    with pytest.raises(UsageError, match="does not exist"):
        envs.find("cut")


def test_what_a_killed_build_has_left_is_no_environment(own_envs: Path) -> None:
    """A folder without a record is said to be half built, is not listed, and goes with the next build."""
    rubbish = own_envs / "cut" / "rubbish"
    rubbish.mkdir(parents=True)
    with pytest.raises(UsageError, match="is half built") as caught:
        envs.find("cut")
    assert "onnxeq env create cut" in caught.value.hint
    assert envs.listed() == ()
    assert envs.half_built() == ("cut",)
    made = envs.create("cut", ["packaging==24.0"])
    assert made.installed()["packaging"] == "24.0"
    assert not rubbish.exists()
    assert envs.find("cut") == made
    assert envs.half_built() == ()


def test_two_builds_at_once_make_one_environment(own_envs: Path) -> None:
    """The second waits for the first, says so, and takes what it has built."""
    code = "print(building.create('one', ['packaging==24.0'], tell=lambda s: print(s, flush=True)).created)"
    first = _start(code)
    _wait_for(own_envs / "one" / "pyvenv.cfg", first)
    second = _start(code)
    said = [process.communicate(timeout=120)[0].splitlines() for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    assert "another process builds or uses it: waiting" in said[1]
    assert "make a virtual environment" not in said[1]
    assert said[0][-1] == said[1][-1]  # when it was created


def test_a_requirement_that_cannot_be_had_is_told_in_pips_words(own_envs: Path) -> None:
    """No such version: the newest ones are named, the log is kept, the folder is not."""
    with pytest.raises(UsageError, match=r"there is no packaging==9999: the newest for this Python are .*\d") as caught:
        envs.create("none", ["packaging==9999"])
    log = Path(caught.value.hint.rpartition(": ")[2])
    assert "No matching distribution" in log.read_text()
    assert _left_in(own_envs) == []


def test_requirements_that_exclude_each_other_are_named() -> None:
    """The line that says which, not the one that sends the reader to a manual."""
    lines = [
        "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.",
        "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/",
    ]
    error = building._pip_error("x", lines)
    assert (error.exit_status, error.message) == (2, lines[0].removeprefix("ERROR: "))


def test_an_index_that_cannot_be_reached_is_no_wrong_usage() -> None:
    """The same words of pip's after failed connections: status 3, for it may work later."""
    lines = [
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'",
        "ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)",
        "ERROR: No matching distribution found for a==1",
    ]
    error = building._pip_error("x", lines)
    assert error.exit_status == 3
    assert "cannot be reached" in error.message
    assert building._pip_error("x", lines[1:]).exit_status == 2


def _fake(root: Path, name: str) -> Environment:
    """What a build gives, without the build."""
    (root / name / "bin").mkdir(parents=True)
    (root / name / "bin" / "python").write_text("")
    return Environment(name, root / name, (), "key", "2026-01-01T00:00:00Z", sys.executable, "3.11.1", ("lib",))


def test_what_does_not_work_is_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installer was content, the first import is not: the reason is told and nothing is left."""
    monkeypatch.setenv("ONNXEQ_ENVS", str(tmp_path))
    monkeypatch.setattr(building, "_build", lambda name, *_: _fake(tmp_path, name))
    monkeypatch.setattr(building, "why_not", lambda *_: "importing torch raises ImportError: libcudart.so.13")
    with pytest.raises(CannotRun, match="was built and does not work: importing torch raises ImportError: libcudart"):
        envs.create("broken", ["packaging==24.0"])
    assert _left_in(tmp_path) == []


def test_another_environment_of_that_name_is_not_overwritten(tiny_env: Environment) -> None:
    """The same request gives the same environment; another one is told how to make room."""
    assert envs.create("tiny", ["packaging==24.0"]) == tiny_env
    with pytest.raises(UsageError, match=r"is there with packaging==24\.0") as caught:
        envs.create("tiny", ["packaging==24.1"])
    assert "onnxeq env remove tiny" in caught.value.hint
    assert envs.made_by(tiny_env) == "onnxeq env create tiny --with packaging==24.0"


def test_a_broken_environment_says_why(tiny_env: Environment, tmp_path: Path) -> None:
    """A lost package, a lost Python, a module that raises: each is its own sentence."""
    assert envs.why_not(tiny_env) == ""
    lost = replace(tiny_env, requirements=("packaging==24.0", "torch==2.9"))
    assert envs.broken(lost) == "it no longer holds torch==2.9"
    assert envs.broken(replace(tiny_env, folder=tmp_path)) == "its Python is gone"
    link = tmp_path / "bin" / "python"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "absent")
    assert (
        envs.broken(replace(tiny_env, folder=tmp_path)) == f"the Python that it was made with, {tiny_env.base}, is gone"
    )
    assert envs.why_not(replace(tiny_env, python_version="3.9.1")).startswith("it was made for Python 3.9.1 and")
    bad = tiny_env.folder / tiny_env.packages[0] / "timm.py"
    try:
        bad.write_text("raise RuntimeError('no\\nluck')")
        info = bad.with_name("timm-1.0.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 1.0\n")
        assert envs.why_not(replace(tiny_env, requirements=("timm",))) == "importing timm raises RuntimeError: no luck"
    finally:
        bad.unlink()
        (info / "METADATA").unlink()
        info.rmdir()


# --- jobs


FACTORIES = """
import importlib.util, os, signal, sys
def where(): raise RuntimeError(f"prefix={sys.prefix} onnxeq={sys.modules['onnxeq'].__file__}")
def sees():
    names = ('pytest', 'rich', 'onnxruntime', 'packaging')
    raise RuntimeError(f"sees={[n for n in names if importlib.util.find_spec(n)]}")
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def waits():
    import pathlib, time
    pathlib.Path(__file__).with_name('begun').touch()
    time.sleep(60)
"""


@pytest.fixture
def factories(tmp_path: Path, fresh_cache: Path) -> Path:
    path = tmp_path / "factories.py"
    path.write_text(FACTORIES)
    return path


def _spec(path: Path, name: str) -> JobSpec:
    ref = {"text": name, "zoo": "factory", "name": name, "weights": "", "seed": 0, "module": str(path)}
    load = {"ref": ref, "converter": "factory", "inputs": None, "seed": 0, "trust": False, "threads": 0}
    params: dict[str, object] = {"load": load, "forms": [], "opset": None, "dynamic_batch": None, "batches": []}
    return JobSpec("native", "native", params, {"module": path}, cache=False)


@pytest.fixture
def with_framework(tiny_env: Environment) -> Iterator[Environment]:
    """The same environment with what looks like a framework, so that models run in it."""
    fake = tiny_env.folder / tiny_env.packages[0] / "torch.py"
    fake.write_text("")
    yield tiny_env
    fake.unlink()


def _said(path: Path, name: str, there: Environment) -> str:
    with pytest.raises(OnnxeqError) as caught, Jobs(environment=there) as running:
        running.start(_spec(path, name)).result()
    return caught.value.message


def test_a_models_job_runs_inside_with_the_hosts_code(factories: Path, with_framework: Environment) -> None:
    """``sys.prefix`` is the environment's, the package is the host's, and nothing else of the host's can be seen."""
    said = _said(factories, "where", with_framework)
    assert f"prefix={with_framework.folder.resolve()}" in said.replace(
        str(with_framework.folder), str(with_framework.folder.resolve())
    )
    assert f"onnxeq={ROOT / 'onnxeq' / '__init__.py'}" in said
    assert "sees=['packaging']" in _said(factories, "sees", with_framework)


def test_what_an_environment_does_not_hold_runs_without_it(tiny_env: Environment) -> None:
    """Without a framework and onnxruntime nothing runs there; what judges never does."""
    with Jobs(environment=tiny_env) as running:
        assert {running.where(kind) for kind in worker.KINDS} == {None}


def test_frameworks_and_runtimes_are_told_apart(with_framework: Environment) -> None:
    """A framework without onnxruntime: models run inside, onnxruntime and the referee outside."""
    with Jobs(environment=with_framework) as running:
        inside = {kind for kind in worker.KINDS if running.where(kind) is not None}
    assert {"native", "native-run", "catalogue"} <= inside
    assert not inside & {"ort", "referee", "normalize", "ledger", "diff"}


def test_the_cache_tells_environments_apart(factories: Path, tiny_env: Environment) -> None:
    """Host and environment have other keys, and so has the environment when a package in it changes."""
    plain = _spec(factories, "where")
    there = replace(plain, environment=tiny_env)
    keys = [jobs._key(plain), jobs._key(there), jobs._key(replace(plain, environment=replace(tiny_env, key="other")))]
    info = tiny_env.folder / tiny_env.packages[0] / "onnxsim-9.9.dist-info"
    info.mkdir()
    try:
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxsim\nVersion: 9.9\n")
        assert tiny_env.versions()["onnxsim"] == "9.9"
        keys.append(jobs._key(there))
    finally:
        (info / "METADATA").unlink()
        info.rmdir()
    assert len(set(keys)) == 4


def test_a_replay_runs_inside_too(factories: Path, with_framework: Environment) -> None:
    """The command that a crash gives uses the environment's Python, and ``job.json`` names its versions."""
    with pytest.raises(JobKilled) as caught, Jobs(environment=with_framework) as running:
        running.start(_spec(factories, "killed")).result()
    command = shlex.split(caught.value.hint.partition(": ")[2])
    assert command[:2] == [str(with_framework.python), "-I"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    record = json.loads((Path(command[-1]) / "job.json").read_text())
    assert record["versions"]["packaging"] == "24.0"
    assert record["environment"]["name"] == "tiny"


def test_an_environment_in_use_is_not_removed(factories: Path, with_framework: Environment) -> None:
    """As long as a worker runs in it the lock is held, and the environment is there afterwards."""
    with Jobs(environment=with_framework) as running:
        lane = running.lane()
        future = running.start(_spec(factories, "waits"), lane)
        begun = factories.with_name("begun")
        end = time.monotonic() + 60
        while not begun.exists() and not future.done() and time.monotonic() < end:
            time.sleep(0.02)
        assert begun.exists(), future
        with pytest.raises(UsageError, match="in use by a running job"):
            envs.remove("tiny")
        running._stop.set()
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert envs.find("tiny") == with_framework


def test_nobody_runs_in_what_is_being_removed(factories: Path, with_framework: Environment) -> None:
    """A worker does not start while the environment is locked by who builds or removes it."""
    with locks.exclusive(with_framework.lock):
        assert "is being built or removed" in _said(factories, "where", with_framework)


def test_a_removed_environment_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is left but the lock; a second removal says that there is none."""
    monkeypatch.setenv("ONNXEQ_ENVS", str(tmp_path))
    made = _fake(tmp_path, "gone")
    environment.write(made)
    assert envs.listed() == (made,)
    envs.remove("gone")
    assert _left_in(tmp_path) == []
    with pytest.raises(UsageError, match="'gone' does not exist"):
        envs.remove("gone")


def test_the_folder_is_asked_for_where_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``ONNXEQ_ENVS``, else the user's data folder: not the cache, which is pruned."""
    monkeypatch.setenv("ONNXEQ_ENVS", str(tmp_path / "mine"))
    assert envs.envs_root() == tmp_path / "mine"
    monkeypatch.delenv("ONNXEQ_ENVS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert envs.envs_root() == tmp_path / "data" / "onnxeq" / "envs"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert envs.envs_root() == tmp_path / ".local" / "share" / "onnxeq" / "envs"


def test_another_python_gets_the_two_packages_from_where_they_lie(tmp_path: Path) -> None:
    """The launcher offers ``onnxeq`` and ``onnxeq_converters``, also to a Python whose path has neither."""
    shows = (
        "import json, onnxeq, onnxeq_converters as c, sys; print(json.dumps([onnxeq.__file__, c.__file__, sys.path]))"
    )
    code = f"import runpy, sys\nfrom onnxeq import launch\nrunpy.run_module = lambda *a, **k: exec({shows!r})\n"
    command = launch.command(Path(sys.executable), "x")
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}launch.main(sys.argv[1:])", *command[3:]], capture_output=True, text=True,
        check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    host, converters, _ = json.loads(shown)
    assert Path(host).parent == ROOT / "onnxeq"
    assert Path(converters).parent == ROOT / "converters" / "onnxeq_converters"
