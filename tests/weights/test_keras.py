"""Ledgers of what tf2onnx writes."""

from __future__ import annotations

import numpy as np
import pytest

import onnxeq
from onnxeq.weights import EntryStatus, Relation

pytestmark = pytest.mark.keras


def test_a_keras_model_is_accounted_for() -> None:
    """HWIO kernels, a depthwise one, BatchNormalization as factors and shifts, LSTM gates: nothing is left over."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    given = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, use_bias=False)(given)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.BatchNormalization(epsilon=1.001e-3)(x)
    x = layers.Reshape((16, 6))(x)
    x = layers.LSTM(5)(x)
    model = keras.Model(given, layers.Dense(4)(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    found = onnxeq.ledger(model)
    assert [e.evidence for e in found.faults] == []
    assert [e.evidence for e in found.entries if e.status is EntryStatus.UNEXPLAINED] == []
    assert found.natives_accounted == found.natives_total
    relations = {e.relation for e in found.entries}
    assert {Relation.TRANSPOSED, Relation.FOLDED, Relation.CONCATENATED} <= relations
