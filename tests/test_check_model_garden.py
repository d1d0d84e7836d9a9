"""``tfmg:`` models, built, run and exported where tf-models-official is: here, or in the environment ``tfmg``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

import onnxeq
from onnxeq.cli.main import run
from onnxeq.diff import diff as run_diff
from onnxeq.errors import UnknownModel, WeightsUnavailable
from onnxeq.types import Verdict

from .model_garden import python_of_garden

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SMALL = {"image": (1, 32, 32, 3)}


@pytest.fixture(scope="module", autouse=True)
def python(_own_cache: None) -> Iterator[Path]:
    """The Python that has tf-models-official; skips with a reason where there is none."""
    yield from python_of_garden()


WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
import onnxeq_converters.from_keras as converter
from onnxeq.protocols import LoadRequest
from onnxeq.types import ModelRef, TensorSpec
import tensorflow as tf
image = TensorSpec("image", "float32", (1, 32, 32, 3))
request = LoadRequest(ModelRef("tfmg:resnet10@seeded:3", "tfmg", "resnet10", "seeded", 3), (image,))
model = converter.load(request, lambda _step: None).model
tf.train.Checkpoint(model=model, step=tf.Variable(7)).save(sys.argv[1] + "/whole/ckpt")
tf.train.Checkpoint(backbone=model.backbone).write(sys.argv[1] + "/backbone")
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Path:
    """A folder with a trainer's checkpoint, ``whole/ckpt-1``, and one of the backbone alone."""
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "whole").mkdir()
    command = [str(python), "-I", "-c", WRITER, str(folder), str(ROOT), str(ROOT / "converters")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_a_seeded_model_is_equivalent_and_the_semantic_rung_is_sharp(tmp_path: Path) -> None:
    """The float64 graph and the unfolded export agree to float64 rounding; the report says where the model ran."""
    report = onnxeq.check("tfmg:resnet10@seeded", shapes=SMALL, batches=(1, 2))
    assert report.verdict is Verdict.EQUIVALENT, report.causes
    assert next(r for r in report.rungs if r.name == "graph").reason == "agrees to float64 rounding"
    assert report.source["tf-models-official"]
    assert report.outputs[0].shape == (1, 1001)
    if util.find_spec("official") is None:
        assert report.environment["env"]["name"] == "tfmg"


def test_layer_by_layer(python: Path) -> None:
    """``diff`` finds nearly every layer of the graph in the framework, and none that creates error."""
    report = run_diff("tfmg:resnet10@seeded", shapes=SMALL)
    assert report.verdict is Verdict.EQUIVALENT, report.causes
    paired = [layer for layer in report.layers if layer.paired_by]
    assert len(paired) >= 0.95 * len(report.layers) > 0


def test_a_checkpoint_is_restored_whole(checkpoints: Path, tmp_path: Path) -> None:
    """A trainer's checkpoint gives the weights that were saved, exactly, to the last of 67; its step is no weight."""
    model = tmp_path / "saved.onnx"
    onnxeq.convert("tfmg:resnet10@seeded:3", model, shapes=SMALL)
    book = onnxeq.ledger(f"tfmg:resnet10@{checkpoints}/whole/ckpt-1", model)
    assert book.natives_accounted == book.natives_total == 67
    assert not book.faults


def test_a_checkpoint_without_some_variable_is_refused(checkpoints: Path) -> None:
    """A backbone's checkpoint lacks the two variables of the head, which are named; another model's does not fit."""
    with pytest.raises(WeightsUnavailable, match=r"holds no values for 2 of 67 variables .*dense/kernel, dense/bias"):
        onnxeq.check(f"tfmg:resnet10@{checkpoints}/backbone", shapes=SMALL)
    with pytest.raises(WeightsUnavailable, match=r"does not fit tfmg:resnet18: Received incompatible tensor"):
        onnxeq.check(f"tfmg:resnet18@{checkpoints}/whole", shapes=SMALL)


def test_the_catalogue_comes_from_the_packages_tables(capfd: pytest.CaptureFixture[str]) -> None:
    """Every design is listed under a name of its own, with its size; a misspelt name is told with others."""
    assert run(["zoo", "list", "tfmg", "--json"]) == 0
    entries = {e["name"]: e for e in json.loads(capfd.readouterr().out)["entries"]}
    assert {
        "resnet18", "resnet50", "resnet_rs50", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small",
        "mobilenet_v4_conv_small", "efficientnet_b0", "spinenet49s", "dilated_resnet50", "revnet56", "vit_b16",
        "mobiledet_cpu", "resnet_3d_50", "movinet_a0", "maxvit_tiny",
    } <= set(entries)  # fmt: skip
    shapes = {name: entries[name]["inputs"][0]["shape"][1:] for name in ("resnet50", "resnet_rs50", "spinenet49s")}
    assert shapes == {"resnet50": [224, 224, 3], "resnet_rs50": [160, 160, 3], "spinenet49s": [256, 256, 3]}
    with pytest.raises(UnknownModel, match="resnet51") as caught:
        onnxeq.check("tfmg:resnet51@seeded")
    assert "tfmg:resnet50" in caught.value.hint
