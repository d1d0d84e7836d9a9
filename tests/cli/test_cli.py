"""Commands besides check: zoo, doctor, version, help, and what they say when asked wrongly."""

from __future__ import annotations

import json

import pytest

from onnxeq.cli.main import run


def test_version_and_help(capfd: pytest.CaptureFixture[str]) -> None:
    """``--version`` names the version; ``--help`` names every command; both are status 0."""
    assert run(["--version"]) == 0
    assert capfd.readouterr().out.startswith("onnxeq 0.")
    assert run(["--help"]) == 0
    shown = capfd.readouterr().out
    assert all(name in shown for name in ("check", "convert", "ledger", "normalize", "zoo", "doctor"))
    for command in ("check", "convert", "ledger", "normalize", "zoo", "doctor"):
        assert run([command, "--help"]) == 0


@pytest.mark.torch
def test_zoo_list_and_show_name_real_models(capfd: pytest.CaptureFixture[str]) -> None:
    """The zoo's own list is shown, one model with its inputs, and a wrong name with the nearest ones."""
    assert run(["zoo", "list"]) == 0
    assert "torchvision" in capfd.readouterr().out
    assert run(["zoo", "list", "torchvision"]) == 0
    names = [line.split()[0] for line in capfd.readouterr().out.splitlines()]
    assert {"torchvision:resnet50", "torchvision:vit_b_16"} <= set(names)
    assert run(["zoo", "show", "torchvision:resnet50"]) == 0
    assert "224,224]" in capfd.readouterr().out
    assert run(["zoo", "show", "torchvision:resnet51"]) == 2
    assert "resnet50" in capfd.readouterr().err
    assert run(["zoo", "list", "torchvison"]) == 2
    assert "torchvision" in capfd.readouterr().err
    assert run(["zoo", "list", "torchvision", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["entries"]) == len(names)


def test_doctor_says_what_is_here(capfd: pytest.CaptureFixture[str]) -> None:
    """Each package is really imported; what is absent comes with the command that installs it."""
    assert run(["doctor", "--json"]) == 0
    findings = {f["name"]: f for f in json.loads(capfd.readouterr().out)["findings"]}
    assert findings["onnxruntime"]["state"] == "ok"
    assert "CPUExecutionProvider" in findings["onnxruntime"]["text"]
    assert findings["cache"]["state"] == "ok"
    absent = {n: f["text"] for n, f in findings.items() if f["state"] == "absent" and n != "cuda"}
    assert all("pip install" in text or "onnxeq env create" in text for text in absent.values())


@pytest.mark.parametrize("arguments", [["nonsense"], ["check"], ["check", "a", "b", "c"], ["zoo", "nonsense"]])
def test_wrong_usage_is_one_line_with_status_2(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """The parser's own errors follow the contract too."""
    assert run(arguments) == 2
    shown = capfd.readouterr()
    assert len(shown.err.strip().splitlines()) == 1
    assert "--help" in shown.err
