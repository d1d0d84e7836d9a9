from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

import onnxeq
from onnxeq.errors import UnknownModel, UnusableModel, WeightsUnavailable
from onnxeq.runners import onnx_zoo
from onnxeq.types import Verdict


def _job(folder: Path, name: str, seed: int | None = None) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(params={"name": name, "seed": seed}, out=folder, step=lambda _name: None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The zoo as files: its manifest, and two opsets of one model."""
    root = tmp_path / "hub"
    entries = []
    for opset in (7, 12):
        path = root / f"validated/vision/model/net-{opset}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"model of opset %d" % opset)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        metadata = {"model_sha": digest}
        entries.append(
            {"model": "Net", "model_path": str(path.relative_to(root)), "opset_version": opset, "metadata": metadata}
        )
    (root / "manifest.json").write_text(json.dumps(entries))
    monkeypatch.setattr(onnx_zoo, "MANIFEST", (root / "manifest.json").as_uri())
    monkeypatch.setattr(onnx_zoo, "MODELS", root.as_uri() + "/")
    return root


def test_the_light_models_are_there_without_a_network() -> None:
    """The nine graphs of the standard's test-suite, under their own names."""
    held = onnx_zoo.light_models()
    assert len(held) == 9
    assert {"light_resnet50", "light_vgg19", "light_zfnet512"} <= set(held)
    assert all(path.is_file() for path in held.values())


def test_a_light_model_says_something_only_with_random_weights(fresh_cache: Path) -> None:
    """With the constants that it is filled with no output varies, so that nothing is proved; seeded it is checked."""
    assert onnxeq.check("onnx-zoo:light_squeezenet").verdict is Verdict.INCONCLUSIVE
    report = onnxeq.check("onnx-zoo:light_squeezenet@seeded")
    assert report.verdict is Verdict.EQUIVALENT
    assert report.source["ref"] == "onnx-zoo:light_squeezenet@seeded"


def test_a_download_is_the_newest_opset_unless_the_file_is_named(hub: Path, tmp_path: Path) -> None:
    """``Net`` is the one of opset 12, ``net-7`` the other; upper and lower case do not matter."""
    for name, opset in (("Net", 12), ("net", 12), ("net-7", 7)):
        onnx_zoo.fetch(_job(tmp_path / name, name))
        assert (tmp_path / name / "model.onnx").read_bytes() == b"model of opset %d" % opset


def test_a_download_that_is_not_what_the_manifest_says_is_refused(hub: Path, tmp_path: Path) -> None:
    """Another SHA-256: nothing is left behind."""
    (hub / "validated/vision/model/net-12.onnx").write_bytes(b"something else")
    with pytest.raises(WeightsUnavailable, match="SHA-256"):
        onnx_zoo.fetch(_job(tmp_path / "out", "Net"))
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_names_are_checked_and_random_weights_are_for_light_models(hub: Path, tmp_path: Path) -> None:
    """An unknown name has the nearest in its hint; a model with weights of its own is not seeded."""
    with pytest.raises(UnknownModel) as caught:
        onnx_zoo.fetch(_job(tmp_path / "out", "light_resnet5"))
    assert "light_resnet50" in caught.value.hint
    with pytest.raises(UnusableModel, match="weights of its own"):
        onnx_zoo.fetch(_job(tmp_path / "out", "Net", seed=0))


def test_without_a_network_the_error_says_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line with the reason, and the light models in the hint; the list is still given."""
    monkeypatch.setattr(onnx_zoo, "MANIFEST", (tmp_path / "nothing.json").as_uri())
    with pytest.raises(WeightsUnavailable, match="onnx-zoo:AlexNet could not be had") as caught:
        onnx_zoo.fetch(_job(tmp_path / "out", "AlexNet"))
    assert "light_bvlc_alexnet" in caught.value.hint
    listed = onnx_zoo.catalogue(_job(tmp_path, ""))
    assert len(listed["entries"]) == 9
    assert "could not be had" in listed["missing"]


def test_a_seeded_file_is_a_model_of_its_own(tmp_path: Path) -> None:
    """The weights are stored in the file, the graph's nodes but those that made the constants stay."""
    onnx_zoo.fetch(_job(tmp_path, "light_squeezenet", seed=1))
    made, light = onnx.load(tmp_path / "model.onnx"), onnx.load(onnx_zoo.light_models()["light_squeezenet"])
    kept = [n.op_type for n in light.graph.node if n.op_type != "ConstantOfShape"]
    assert [n.op_type for n in made.graph.node] == kept
