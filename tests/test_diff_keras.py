"""``onnxeq.diff`` on a Keras model: channels last in the program, first in the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxeq
from onnxeq.types import Role, Verdict

pytestmark = pytest.mark.keras

FACTORY = """
import keras

def net():
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = keras.layers.BatchNormalization(epsilon=1.001e-3)(x)
    x = keras.layers.LeakyReLU(negative_slope=0.1)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5, activation="softmax", name="probabilities")(x))
"""


def test_a_healthy_export_is_equivalent_and_a_scaled_channel_is_told(tmp_path: Path) -> None:
    """All layers are rounding; with one channel of the last product 1 % off, it creates error and nothing before it."""
    (tmp_path / "factory.py").write_text(FACTORY)
    source = f"{tmp_path}/factory.py:net@seeded"
    good = tmp_path / "good.onnx"
    onnxeq.convert(source, good)
    report = onnxeq.diff(source, good)
    assert report.verdict is Verdict.EQUIVALENT
    assert max(row.local.ratio for row in report.layers) < 3
    assert sum(row.paired_by is not None for row in report.layers) >= 4
    model = onnx.load(good)
    tensor = next(t for t in model.graph.initializer if list(t.dims) == [8, 5])
    array = numpy_helper.to_array(tensor).copy()
    array[:, 2] *= np.float32(1.01)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "bad.onnx")
    report = onnxeq.diff(source, tmp_path / "bad.onnx")
    assert report.verdict is Verdict.DIVERGENT
    reader = next(n for n in model.graph.node if tensor.name in n.input)
    guilty = [row for row in report.layers if row.role is Role.CREATES]
    assert len(guilty) == 1
    assert reader.name in (guilty[0].node, *guilty[0].region)
