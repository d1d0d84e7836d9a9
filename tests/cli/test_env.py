"""``onnxeq env``, and ``--env`` of the other commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from onnxeq.cli.main import run
from onnxeq.envs import Environment


def test_list_says_what_is_held_and_what_is_wrong(capfd: pytest.CaptureFixture[str], tiny_env: Environment) -> None:
    """One line each: versions, or why it cannot be used and what to type."""
    left = tiny_env.folder.with_name("left")
    left.mkdir()
    try:
        assert run(["env", "list"]) == 0
        lines = {line.split()[0]: line for line in capfd.readouterr().out.splitlines()}
        assert "packaging 24.0" in lines["tiny"]
        assert "onnxeq env remove left" in lines["left"]
        assert run(["env", "list", "--json"]) == 0
        document = json.loads(capfd.readouterr().out)
        rows = {row["name"]: row for row in document["environments"]}
        assert document["schema"] == "onnxeq.env/1"
        assert rows["tiny"]["versions"]["packaging"] == "24.0"
        assert rows["tiny"]["requirements"] == ["packaging==24.0"]
        assert rows["tiny"]["made_by"] == "onnxeq env create tiny --with packaging==24.0"
        assert (rows["tiny"]["state"], rows["left"]["state"]) == ("ok", "half built")
        assert run(["env", "remove", "left"]) == 0
        assert not left.exists()
    finally:
        if left.exists():
            left.rmdir()


def test_create_takes_what_is_there(capfd: pytest.CaptureFixture[str], tiny_env: Environment) -> None:
    """The same command again is done at once; standard output names the versions and the next command."""
    assert run(["env", "create", "tiny", "--with", "packaging==24.0", "-q"]) == 0
    shown = capfd.readouterr()
    assert "packaging 24.0" in shown.out
    assert "--env tiny" in shown.out
    assert shown.err == ""
    assert run(["env", "create", "tiny", "--with", "packaging==24.0", "--json", "-q"]) == 0
    assert json.loads(capfd.readouterr().out)["environment"]["key"] == tiny_env.key


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["env", "create", "mine"], "--with PACKAGE==VERSION"),
        (["env", "create", "../mine", "--with", "a"], "no name for an environment"),
        (["env", "remove", "mine"], "does not exist"),
        (["env", "nonsense"], "--help"),
        (["check", "MODEL", "--env", "torch-2.9"], "make it: onnxeq env create torch-2.9"),
        (["check", "MODEL", "--env", "mine"], "onnxeq env create mine --with PACKAGE==VERSION"),
        (["check", "MODEL", "--against-env", "tyni"], "did you mean tiny?"),
        (["check", "MODEL", "--env", "tiny"], "'tiny' holds nothing that runs"),
        (["check", "MODEL", "--against-env", "tiny"], "'tiny' holds nothing that runs"),
        (["check", "MODEL", "MODEL", "--weights-only", "--against-env", "tiny"], "--weights-only runs nothing"),
        (["check", "MODEL", "MODEL", "--weights-only", "--preprocess-as", "MODEL"], "--weights-only runs nothing"),
    ],
)
def test_wrong_usage_is_one_line_with_what_to_type(
    capfd: pytest.CaptureFixture[str], tiny_env: Environment, tmp_path: Path, arguments: list[str], says: str,
    conv_net: object,
) -> None:  # fmt: skip
    """Status 2, one line, and the next command in it."""
    import onnx

    path = tmp_path / "net.onnx"
    onnx.save(conv_net(), path)  # type: ignore[operator]
    assert run([str(path) if a == "MODEL" else a for a in arguments]) == 2
    shown = capfd.readouterr().err.strip()
    assert says in shown
    assert len(shown.splitlines()) == 1


def test_doctor_tries_each_environment(
    capfd: pytest.CaptureFixture[str], tiny_env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A healthy one is ok with its versions; a half-built one is broken, and the status says so."""
    from onnxeq import doctor

    monkeypatch.setattr(doctor, "_IMPORTS", {})
    run(["doctor", "--json"])
    found = {f["name"]: f for f in json.loads(capfd.readouterr().out)["findings"]}
    assert found["env tiny"]["state"] == "ok"
    assert "packaging 24.0" in found["env tiny"]["text"]
    left = Path(os.environ["ONNXEQ_ENVS"]) / "left"
    left.mkdir()
    try:
        assert run(["doctor", "--json"]) == 3
        found = {f["name"]: f for f in json.loads(capfd.readouterr().out)["findings"]}
        assert found["env left"]["state"] == "broken"
    finally:
        left.rmdir()
