"""``onnxeq ledger`` and ``onnxeq check --weights-only``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxeq.cli.main import run


@pytest.fixture
def files(tmp_path: Path, conv_net: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def nudge(weights: dict[str, np.ndarray]) -> None:
        weights["w3"][4, 2] = np.nextafter(weights["w3"][4, 2], np.float32(9))

    Path("good.onnx").write_bytes(conv_net().SerializeToString())
    Path("bad.onnx").write_bytes(conv_net(edit=nudge).SerializeToString())


@pytest.mark.usefixtures("files")
def test_the_status_is_the_contracts(capfd: pytest.CaptureFixture[str]) -> None:
    """0 where all is accounted for, 1 where one weight is off by one ulp, 2 where there is nothing to compare."""
    assert run(["ledger", "good.onnx", "good.onnx", "--quiet"]) == 0
    assert "accounted for" in capfd.readouterr().out
    assert run(["ledger", "good.onnx", "bad.onnx", "--quiet"]) == 1
    shown = " ".join(capfd.readouterr().out.split())
    assert "near-miss" in shown
    assert "[4, 2]" in shown
    assert run(["ledger", "good.onnx", "--quiet"]) == 2
    assert "no native weights" in capfd.readouterr().err


@pytest.mark.usefixtures("files")
def test_json_is_one_document(capfd: pytest.CaptureFixture[str]) -> None:
    """The ledger lists every constant; the report of ``--weights-only`` has the ledger's rung and its cause."""
    assert run(["ledger", "good.onnx", "bad.onnx", "--json", "--quiet"]) == 1
    ledger = json.loads(capfd.readouterr().out)
    assert (ledger["schema"], ledger["faults"], ledger["initializers_total"]) == ("onnxeq.ledger/1", 1, 9)
    assert [e["initializer"] for e in ledger["entries"] if e["status"] == "near-miss"] == ["w3"]
    assert run(["check", "--weights-only", "good.onnx", "bad.onnx", "--json", "--quiet"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert (report["verdict"], [r["name"] for r in report["rungs"]]) == ("divergent", ["ledger"])
    assert report["causes"][0]["where"]["initializer"] == "w3"
