"""Small stored TensorFlow programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxeq.protocols import LoadRequest, Native
from onnxeq.types import ModelRef, TensorSpec

Save = Callable[..., Path]
Load = Callable[..., Native]


@pytest.fixture(scope="session")
def tf() -> Any:
    """TensorFlow, imported as the converter does it."""
    pytest.importorskip("tensorflow")
    from onnxeq_converters.from_tensorflow.framework import tensorflow

    return tensorflow()


@pytest.fixture
def load() -> Load:
    """Loads a folder or a file; ``signature``, ``inputs`` and ``trust`` as the user may give them."""
    from onnxeq_converters import from_tensorflow

    def loaded(
        path: Path, signature: str = "", *, inputs: tuple[TensorSpec, ...] | None = None, trust: bool = False
    ) -> Native:
        ref = ModelRef(str(path), "file", str(path), module=signature)
        return from_tensorflow.load(LoadRequest(ref, inputs=inputs, trust=trust), lambda step: None)

    return loaded


@pytest.fixture
def saved_net(tf: Any, tmp_path: Path) -> Path:
    """A convolution, a dense layer and two outputs; the signature gives them by name."""
    rng = np.random.default_rng(2)

    class Net(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.standard_normal((3, 3, 2, 4)).astype(np.float32), name="conv/kernel")
            self.scale = tf.Variable(rng.uniform(0.5, 1.5, 4).astype(np.float32), name="norm/gamma")
            self.matrix = tf.Variable(rng.standard_normal((4, 5)).astype(np.float32), name="dense/kernel")

        @tf.function(input_signature=[tf.TensorSpec([None, None, 8, 2], name="image")])  # type: ignore[untyped-decorator]
        def __call__(self, image: Any) -> Any:
            x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME") * self.scale)
            pooled = tf.reduce_mean(x, [1, 2])
            return {"scores": tf.nn.softmax(pooled @ self.matrix), "features": pooled}

    net = Net()
    folder = tmp_path / "net"
    tf.saved_model.save(net, str(folder), signatures={"serving_default": net.__call__})
    return folder
