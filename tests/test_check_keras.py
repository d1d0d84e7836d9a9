"""``onnxeq check`` on Keras models: live, from files, by name, and with a damaged artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxeq
from onnxeq.cli.main import run
from onnxeq.types import Status, Verdict

pytestmark = pytest.mark.keras

FACTORY = """
import keras

def net():
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = keras.layers.BatchNormalization(epsilon=1.001e-3)(x)
    x = keras.layers.LeakyReLU(negative_slope=0.1)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5, activation="softmax", name="probabilities")(x))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras")
    (path / "factory.py").write_text(FACTORY)
    return path


def test_a_seeded_factory_is_equivalent_and_the_semantic_rung_is_sharp(folder: Path) -> None:
    """The float64 graph of TensorFlow and the unfolded export agree to float64 rounding."""
    report = onnxeq.check(f"{folder}/factory.py:net@seeded")
    assert report.verdict is Verdict.EQUIVALENT
    graph = next(r for r in report.rungs if r.name == "graph")
    assert graph.reason == "agrees to float64 rounding"
    assert graph.max_abs < 1e-13
    assert report.coverage.inputs_tried >= 4


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_model_is_equivalent_and_a_scaled_channel_is_not(folder: Path, suffix: str) -> None:
    """A file gives the same verdict as the model, and one channel scaled by 1.002 in the artifact breaks it."""
    import sys

    sys.path.append(str(folder))
    from factory import net  # type: ignore[import-not-found]

    path, good, bad = folder / f"net{suffix}", folder / f"good{suffix}.onnx", folder / f"bad{suffix}.onnx"
    net().save(path)
    assert run(["convert", str(path), "-o", str(good), "-q"]) == 0
    assert onnxeq.check(path, good).verdict is Verdict.EQUIVALENT
    model = onnx.load(good)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    value = numpy_helper.to_array(tensor).copy()
    value[0] *= np.float32(1.002)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, bad)
    report = onnxeq.check(path, bad)
    assert report.verdict is Verdict.DIVERGENT
    assert [c.rung for c in report.causes] == ["ledger"]


def test_a_live_model_is_checked_and_left_as_it_was() -> None:
    """``onnxeq.check(model)`` works in the caller's process and changes no weight."""
    import keras

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, activation="gelu"), keras.layers.Dense(2)])
    before = [w.copy() for w in model.get_weights()]
    report = onnxeq.check(model)
    assert report.verdict is Verdict.EQUIVALENT
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_real_trained_models_are_equivalent_to_their_export(real_models: Path) -> None:
    """Trained Keras 2 files load, convert and pass every rung."""
    for name in ("mlperf_tiny_resnet8/pretrainedResnet.h5", "tiny_xception/tiny_XCEPTION_KDEF.hdf5"):
        report = onnxeq.check(real_models / name)
        assert report.verdict is Verdict.EQUIVALENT, name
        assert all(r.status is Status.PASS for r in report.rungs if r.name != "provider")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["keras:ResNet5"], "ResNet50"),
        (["keras:MobileNetV2"], "@seeded"),
        (["{folder}/broken.keras"], "broken.keras"),
        (["{folder}/broken.h5"], "broken.h5"),
    ],
)
def test_what_the_user_can_mend_is_one_line_with_status_2(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    """Unknown names list the nearest, weights without a network are no fall-back, damaged files are named."""
    for name in ("broken.keras", "broken.h5"):
        (folder / name).write_bytes(b"not a model")
    status = run(["check", *(a.format(folder=folder) for a in arguments), "-q"])
    shown: Any = capfd.readouterr()
    assert status == 2, shown.err
    assert says in shown.err
    assert len(shown.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_zoo_model_is_equivalent() -> None:
    """Every rung passes for a real architecture with seeded weights."""
    assert onnxeq.check("keras:MobileNetV2@seeded").verdict is Verdict.EQUIVALENT
