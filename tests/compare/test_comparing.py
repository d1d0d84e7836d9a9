"""The command from references to its screen, files and exit status, on files that need no framework."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from rich.console import Console

import onnxeq
from onnxeq.cli.main import run
from onnxeq.compare.document import to_document
from onnxeq.compare.values import Comparison, Same
from onnxeq.errors import UnusableModel, UsageError
from onnxeq.report.comparison import show

from .conftest import network


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = {"plain": network(), "early": network(first=True, bias=True), "soft": network(softmax=True)}
    for name, model in models.items():
        Path(f"{name}.onnx").write_bytes(model.SerializeToString())
    renamed = network()
    for node in renamed.graph.node:
        node.name = f"other_{node.name}"
    Path("renamed.onnx").write_bytes(renamed.SerializeToString())
    Path("later.onnx").write_bytes(onnx.version_converter.convert_version(network(), 18).SerializeToString())


def _models(*names: str) -> list[str]:
    return [f"{name}.onnx" for name in names]


def _ran(arguments: Sequence[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = run(["compare", *arguments, "--only", "architecture"])
    shown = capfd.readouterr()
    return status, shown.out, shown.err


def test_the_status_is_the_contracts(capfd: pytest.CaptureFixture[str]) -> None:
    """0 where all are one architecture, 1 where two differ; 2 for one model alone or a name that is nothing."""
    status, out, err = _ran([*_models("plain", "renamed"), "--quiet"], capfd)
    assert (status, err) == (0, "")
    assert out.startswith("identical  2 models, architecture")
    status, out, _ = _ran([*_models("plain", "early"), "--quiet"], capfd)
    assert status == 1
    said = "the stride of 2 is on the 3x3 convolution in plain.onnx and on the 1x1 convolution in early.onnx"
    assert said in " ".join(out.split())
    status, out, err = _ran([*_models("plain"), "--quiet"], capfd)
    assert (status, out) == (2, "")
    assert err == "onnxeq: 1 model is given, and two or more are compared. name another one\n"
    status, out, err = _ran([*_models("plain", "none"), "--quiet"], capfd)
    assert (status, out) == (2, "")
    assert err.startswith("onnxeq: there is no file none.onnx")


def test_one_that_fails_does_not_stop_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    """The other two are compared, the reason of the third is told, and the status is 3; its own if none is left."""
    Path("broken.onnx").write_bytes(b"\x00\x01 no model")
    status, out, _ = _ran([*_models("plain", "broken", "renamed"), "--quiet"], capfd)
    assert status == 3
    assert out.startswith("identical, 1 could not be had")
    said = " ".join(out.split())
    assert "could not be had: broken.onnx: " in said
    assert "broken.onnx:holdsnoONNXmodel" in said.replace(" ", "")  # a long path is broken anywhere
    with pytest.raises(UnusableModel):
        onnxeq.compare("broken.onnx", "broken.onnx", parts=["architecture"])


def test_each_two_are_compared() -> None:
    """Three files make three pairs, those that differ most first; each model is named as the user named it."""
    found = onnxeq.compare(*_models("plain", "early", "soft", "renamed"), parts=["architecture"])
    assert [s.name for s in found.sides] == _models("plain", "early", "soft", "renamed")
    assert len(found.pairs) == 6
    assert [p.same for p in found.pairs] == [Same.DIFFERENT] * 5 + [Same.IDENTICAL]
    assert [(p.left, p.right) for p in found.pairs[-1:]] == [("plain.onnx", "renamed.onnx")]
    assert not found.alike


def test_a_model_in_memory_and_one_named_twice() -> None:
    """A live ModelProto is taken, too; two of one name are told apart by a number."""
    found = onnxeq.compare(network(), network(), "plain.onnx", parts=["architecture"])
    assert [s.name for s in found.sides] == ["ModelProto (1)", "ModelProto (2)", "plain.onnx"]
    assert found.alike


def test_another_opset_is_the_same() -> None:
    """The same network in opset 17 and 18 is the same network."""
    (pair,) = onnxeq.compare(*_models("plain", "later"), parts=["architecture"]).pairs
    assert pair.same in (Same.IDENTICAL, Same.EQUIVALENT)


@pytest.fixture
def found() -> Comparison:
    """Two that differ in two respects."""
    return onnxeq.compare(*_models("plain", "early"), parts=["architecture"])


def test_json_is_one_document(found: Comparison, capfd: pytest.CaptureFixture[str]) -> None:
    """The same values on standard output as from Python, under a schema of their own."""
    status, out, _ = _ran([*_models("plain", "early"), "--json", "--quiet"], capfd)
    document = json.loads(out)
    assert status == 1
    assert document["schema"] == "onnxeq.comparison/1"
    assert document["pairs"] == json.loads(json.dumps(to_document(found)["pairs"]))
    (pair,) = document["pairs"]
    assert [d["topic"] for d in pair["architecture"]["differences"]] == ["stride", "bias"]
    assert [m["architecture"]["parameters"] for m in document["models"]] == [
        found.sides[0].architecture.parameters, found.sides[1].architecture.parameters,
    ]  # fmt: skip
    conv = next(row for row in document["models"][0]["layers"] if row["kind"] == "conv")
    assert (conv["name"], conv["attributes"]["kernel"], conv["attributes"]["strides"]) == ("stem", [7, 7], [2, 2])


def test_the_screen_fits_a_hundred_columns(found: Comparison) -> None:
    """No line is longer, all places are named with --all, and the figures of both models stand in one table."""
    text = io.StringIO()
    show(found, Console(file=text, width=100, highlight=False), every=True)
    lines = text.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    figures = [line for line in lines if line.startswith(("plain.onnx ", "early.onnx "))]
    assert [f"{side.architecture.parameters:,}" in line for side, line in zip(found.sides, figures, strict=False)] == [
        True, True,
    ]  # fmt: skip
    assert "stem; block.1; block.2; block.3; block.0" in text.getvalue()


@pytest.mark.parametrize("suffix", [".json", ".md", ".html", ".csv"])
def test_the_report_is_written(suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Each form holds both sentences; the CSV is one line for the pair, with both models' figures."""
    path = Path(f"report{suffix}")
    status, _, _ = _ran([*_models("plain", "early"), "--report", str(path), "--quiet"], capfd)
    assert status == 1
    text = path.read_text()
    assert "all 5 convolutions have a bias in early.onnx and none in plain.onnx" in text
    if suffix == ".csv":
        (row,) = csv.DictReader(io.StringIO(text))
        assert (row["architecture"], row["about"]) == ("different", "stride, bias")
        assert int(row["right parameters"]) - int(row["left parameters"]) == 16 + 8 + 8 + 32 + 32


def test_an_unknown_form_is_refused_before_the_work() -> None:
    """A suffix that no form has is wrong usage."""
    assert run(["compare", *_models("plain", "early"), "--report", "report.txt", "--quiet"]) == 2
    with pytest.raises(UsageError, match="--shape gives 2"):
        onnxeq.compare(*_models("plain", "early"), shapes={"x": (1, 3)}, parts=["architecture"])


def test_a_recipe_without_pictures_is_one_line() -> None:
    """It is told before any work, with where pictures come from."""
    with pytest.raises(UsageError, match="about pictures, and none are given") as caught:
        onnxeq.compare(*_models("plain", "early"), recipes=["a.json"])
    assert "--inputs FOLDER" in caught.value.hint
