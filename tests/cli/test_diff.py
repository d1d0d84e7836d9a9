"""``onnxeq diff`` on the command line: exit statuses, one document, one line for every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxeq.cli.main import run


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, conv_net: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def scaled(weights: dict[str, np.ndarray]) -> None:
        weights["w2"][3] *= np.float32(1.01)

    Path("good.onnx").write_bytes(conv_net().SerializeToString())
    Path("bad.onnx").write_bytes(conv_net(edit=scaled).SerializeToString())


def test_the_status_is_the_contracts(capfd: pytest.CaptureFixture[str]) -> None:
    """0 where all is rounding, 1 where a layer creates error, which is named on the first line; nothing on stderr."""
    assert run(["diff", "good.onnx", "good.onnx", "--quiet"]) == 0
    shown = capfd.readouterr()
    assert shown.out.startswith("equivalent  no layer creates error")
    assert shown.err == ""
    assert run(["diff", "good.onnx", "bad.onnx", "--quiet"]) == 1
    shown = capfd.readouterr()
    assert shown.out.startswith("divergent  1 layer creates error: conv2 (Conv)")
    assert shown.err == ""


def test_json_is_one_document(capfd: pytest.CaptureFixture[str]) -> None:
    """The report with its layers, in the order of the graph, each with both errors and its role."""
    assert run(["diff", "good.onnx", "bad.onnx", "--rung", "", "--json", "--quiet"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert (report["schema"], report["verdict"]) == ("onnxeq.report/1", "divergent")
    layers = report["layers"]
    assert [row["index"] for row in layers] == sorted(row["index"] for row in layers)
    (bad,) = [row for row in layers if row["role"] == "creates"]
    assert bad["node"] == "conv2"
    assert bad["local"]["ratio"] > 6
    assert bad["local"].keys() == bad["propagated"].keys() == {"max_abs", "noise", "ratio"}
    assert report["causes"][0]["where"]["node"] == "conv2"
    assert report["coverage"]["nodes_compared"] <= report["coverage"]["nodes_total"] == 9


def test_a_trace_is_kept_and_taken(capfd: pytest.CaptureFixture[str]) -> None:
    """Saved, then loaded: equal; with the changed model divergent; a place that is taken is refused before anything
    runs.
    """
    assert run(["diff", "good.onnx", "--save-trace", "monday", "--quiet"]) == 0
    assert run(["diff", "good.onnx", "--load-trace", "monday", "--quiet"]) == 0
    assert run(["diff", "bad.onnx", "--load-trace", "monday", "--quiet"]) == 1
    capfd.readouterr()
    assert run(["diff", "good.onnx", "--save-trace", "monday", "--quiet"]) == 2
    assert "something already" in capfd.readouterr().err


def test_a_damaged_trace_is_an_unusable_input(capfd: pytest.CaptureFixture[str]) -> None:
    """A value cut short, an index that is none, a newer form: status 2, one line, nothing on stdout."""
    assert run(["diff", "good.onnx", "--save-trace", "t", "--quiet"]) == 0
    capfd.readouterr()
    index = Path("t/trace.json")
    whole = index.read_text()
    for broken, said in (
        (whole[:-10], "is damaged"),
        (whole.replace("onnxeq.trace/1", "onnxeq.trace/2"), "of the form onnxeq.trace/2"),
    ):
        index.write_text(broken)
        _mistake(capfd, ["good.onnx", "--load-trace", "t"], said)
    index.write_text(whole)
    for file in Path("t").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:-8])
    _mistake(capfd, ["good.onnx", "--load-trace", "t"], "the trace t is damaged")


MISTAKES = [
    (["good.onnx", "--rung", "nonsense"], "no rung 'nonsense'"),
    (["good.onnx", "--memory", "much"], "'much' is no amount of memory"),
    (["good.onnx", "--load-trace", "absent"], "no such file or folder"),
    (["good.onnx", "--load-trace", "good.onnx"], "Polygraphy"),
    (["good.onnx", "--save-trace", "a/b"], "there is no folder a"),
    (["good.onnx", "--batch", "0"], "batch"),
    (["absent.onnx"], "absent.onnx"),
    (["good.onnx", "absent.onnx"], "absent.onnx"),
    (["good.onnx", "--plot", "layers.pdf"], "layers.pdf"),
    (["good.onnx", "--report", "layers.pdf"], "layers.pdf"),
    (["good.onnx", "--inputs", "absent.npz"], "absent.npz"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_every_mistake_is_one_line(capfd: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """Status 2, and with ``--json`` one document that says the same."""
    _mistake(capfd, arguments, said)
    assert run(["diff", *arguments, "--json", "--quiet"]) == 2
    document = json.loads(capfd.readouterr().out)
    assert (document["schema"], document["exit_status"]) == ("onnxeq.error/1", 2)


def _mistake(capfd: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert run(["diff", *arguments, "--quiet"]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    assert said in shown.err


def test_every_layer_is_listed_on_demand(capfd: pytest.CaptureFixture[str]) -> None:
    """``--all`` has a line for each value of the graph, and ``--plot`` writes a picture beside it."""
    assert run(["diff", "good.onnx", "bad.onnx", "--rung", "", "--all", "--plot", "p.svg", "--quiet"]) == 1
    shown = capfd.readouterr().out
    assert all(name in shown for name in ("conv1", "conv2", "pool", "head", "scale"))
    assert Path("p.svg").read_text().lstrip().startswith("<")
