"""``onnxeq golden`` as a user types it: what it prints, its status, and what happens without a terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxeq.cli.golden import start_ahead
from onnxeq.cli.main import run
from onnxeq.golden import store

MakeConvNet = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, conv_net: MakeConvNet) -> Iterator[Path]:
    """A project with one golden, recorded from the command line, and its working directory."""
    root = tmp_path_factory.mktemp("project")
    onnx.save(conv_net(), root / "net.onnx")
    before = Path.cwd()
    os.chdir(root)
    assert run(["golden", "record", "net.onnx", "--quiet"]) == 0
    yield root
    os.chdir(before)


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one test."""
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    return root


def damage(project: Path, conv_net: MakeConvNet) -> None:
    def bump(weights: dict[str, np.ndarray]) -> None:
        weights["w2"][3] *= 1.002

    onnx.save(conv_net(edit=bump), project / "net.onnx")


def test_a_golden_is_found_wherever_it_is_called_from(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The record names its model from its own folder; ``list`` and ``show`` tell it."""
    assert 'model = "../net.onnx"' in (project / "golden" / "net.toml").read_text()
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert run(["golden", "check", "--dir", "../golden", "--quiet"]) == 0
    assert capfd.readouterr().out == "1 goldens in ../golden: 1 unchanged\n"
    assert run(["golden", "list", "--dir", "../golden"]) == 0
    assert "ort/cpu, referee/f64" in capfd.readouterr().out
    assert run(["golden", "show", "net", "--dir", "../golden"]) == 0
    assert capfd.readouterr().out == (project / "golden" / "net.toml").read_text()


def test_the_whole_way(project: Path, conv_net: MakeConvNet, capfd: pytest.CaptureFixture[str]) -> None:
    """Changed: status 1 with the cause; it waits, is shown, accepted with a reason, and holds from then on."""
    damage(project, conv_net)
    assert run(["golden", "check", "--quiet", "--json"]) == 1
    document = json.loads(capfd.readouterr().out)
    (found,) = document["goldens"]
    assert (document["schema"], document["exit_status"]) == ("onnxeq.golden-check/1", 1)
    assert (found["verdict"], found["causes"][0]["kind"], found["pending"]) == ("changed", "weights", True)
    assert run(["golden", "pending", "--json"]) == 0
    waiting = json.loads(capfd.readouterr().out)["pending"]
    assert [(w["name"], w["verdict"]) for w in waiting] == [("net", "changed")]
    assert run(["golden", "show", "net", "--new"]) == 0
    shown = capfd.readouterr().out
    assert "cause: weights: " in shown
    assert "largest of" in shown
    assert run(["golden", "accept", "net"]) == 2
    assert "--because" in capfd.readouterr().err
    assert run(["golden", "accept", "net", "--because", "new weights"]) == 0
    assert run(["golden", "pending"]) == 0
    assert run(["golden", "check", "--quiet"]) == 0
    assert store.read(Path("golden"), "net").golden.history[0].because == "new weights"


def test_review_needs_a_terminal(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without one it is one line that says what to type instead."""
    done = subprocess.run(
        [sys.executable, "-m", "onnxeq", "golden", "review"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "accept NAME --because" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_review_on_a_terminal(project: Path, conv_net: MakeConvNet) -> None:
    """A wrong answer is asked again; ``a`` asks for the reason; the accepted golden has it."""
    import pty

    damage(project, conv_net)
    assert run(["golden", "check", "--quiet"]) == 1
    host, child = pty.openpty()
    os.write(host, b"maybe\na\nnew weights\n")
    done = subprocess.run(
        [sys.executable, "-m", "onnxeq", "golden", "review"], stdin=child, stdout=child, stderr=child, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    os.close(child)
    shown = b""
    try:
        while part := os.read(host, 65536):
            shown += part
    except OSError:  # the other side is closed
        pass
    os.close(host)
    assert done.returncode == 0, shown.decode()
    text = shown.decode()
    assert text.count("(a)ccept") == 2
    assert "changed: weights_sha256" in text
    assert "1 accepted, 0 rejected, 0 skipped" in text
    assert store.read(Path("golden"), "net").golden.history[0].because == "new weights"


def test_two_records_of_one_golden(project: Path) -> None:
    """One wins, the other is told, with status 2; the golden is whole."""
    command = [sys.executable, "-m", "onnxeq", "golden", "record", "net.onnx", "--name", "twice", "--quiet"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    told = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    loser = told[[process.returncode for process in both].index(2)]
    assert "is being written by another process" in loser or "is there already" in loser
    assert len(store.read(Path("golden"), "twice").golden.outputs) == 4


def test_expected_failures_and_errors(project: Path, conv_net: MakeConvNet, capfd: pytest.CaptureFixture[str]) -> None:
    """A known discrepancy passes while it happens, and fails when it does not; what is missing says what to type."""
    known = project / "golden" / "known_discrepancies.toml"
    known.write_text('[[known]]\ngolden = "net"\nreason = "issue 12"\ncause = "weights"\n')
    assert run(["golden", "check", "--quiet", "--no-pending"]) == 1
    assert "was expected to fail (issue 12) and is unchanged: remove the entry" in capfd.readouterr().out
    damage(project, conv_net)
    assert run(["golden", "check", "--quiet", "--no-pending"]) == 0
    assert "expected: issue 12" in capfd.readouterr().out
    assert run(["golden", "check", "other", "--quiet"]) == 2
    assert "onnxeq golden record MODEL --name other" in capfd.readouterr().err
    assert run(["golden", "reject", "net"]) == 2
    assert run(["golden", "record", "net.onnx", "--quiet"]) == 2
    assert "overwrites nothing" in capfd.readouterr().err
    (project / "golden" / "net.toml").write_text('schema = "onnxeq.golden/2"\n')
    assert run(["golden", "check", "--quiet"]) == 2
    assert "update onnxeq" in capfd.readouterr().out
    assert run(["golden", "list"]) == 2


def test_the_runtime_starts_before_the_command_line_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a check on this machine only: not for other commands, help, or another environment."""
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr("onnxeq.processes.start_early", lambda *about: started.append(about[1:]))
    for line in ("golden list", "check golden", "golden check --env=x", "golden check --env x", "golden check -h", ""):
        start_ahead(line.split())
    assert not started
    start_ahead("golden check net --dir d".split())
    assert started == [("golden",)]
