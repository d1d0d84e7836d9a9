"""Commands besides check: zoo, doctor, version, help, and what they say when asked wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxeq import zoo
from onnxeq.cli.main import run
from onnxeq.preprocessing.onnx_zoo import recipe_of
from onnxeq.preprocessing.recipe import recipe_from_record


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
    shown = capfd.readouterr().out
    assert "224,224]" in shown
    assert "2. resize the shortest side to 232, bilinear, antialiased (pillow)" in shown
    assert "accuracy: ImageNet-1K acc@1 80.858" in shown
    assert "parameters: 25,557,032" in shown
    assert run(["zoo", "show", "torchvision:resnet51"]) == 2
    assert "resnet50" in capfd.readouterr().err
    assert run(["zoo", "list", "torchvison"]) == 2
    assert "torchvision" in capfd.readouterr().err
    assert run(["zoo", "list", "torchvision", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["entries"]) == len(names)


def test_zoo_show_says_what_is_unknown_and_why(capfd: pytest.CaptureFixture[str]) -> None:
    """A recipe that ``--json`` prints can be read again; an empty page and an accuracy that is not stated are said."""
    assert run(["zoo", "show", "onnx-zoo:light_vgg19", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert recipe_from_record(told["recipe"]) == recipe_of("light_vgg19")
    assert told["facts"]["accuracy"]["value"] is None
    assert all(fact["source"] for fact in told["facts"].values())
    assert run(["zoo", "show", "onnx-zoo:light_zfnet512"]) == 0
    shown = capfd.readouterr().out
    assert "preprocessing: unknown" in shown
    assert "nothing in it" in shown
    assert "accuracy: unknown" in shown
    assert run(["zoo", "show", "somewhere.onnx"]) == 2


def test_a_recipe_without_pictures_is_wrong_usage(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line, status 2, and what to type next."""
    (tmp_path / "net.onnx").write_bytes(b"")
    assert run(["check", str(tmp_path / "net.onnx"), "--preprocess-as", "onnx-zoo:light_vgg19"]) == 2
    shown = capfd.readouterr().err.strip()
    assert shown.startswith("onnxeq: the recipe of onnx-zoo:light_vgg19 is about pictures, and none are given. give")
    assert "--inputs FOLDER" in shown


def test_zoo_list_says_what_each_needs(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed or the command that mends it; versions, a network, and an environment of its own that is not there."""
    monkeypatch.setitem(zoo.ZOOS, "tfmg", "tfmg")
    assert run(["zoo", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)["entries"]}
    assert rows["onnx-zoo"]["installed"]
    assert "nine light models" in rows["onnx-zoo"]["network"]
    assert rows["tfmg"]["environment"] == "tfmg"
    assert not rows["tfmg"]["installed"]
    assert "onnxeq env create tfmg" in rows["tfmg"]["state"]
    for row in rows.values():
        assert bool(row["packages"]) == (row["installed"] and row["name"] != "onnx-zoo")


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
