"""Small TensorFlow Lite files, written by TensorFlow's own converter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxeq.protocols import LoadRequest, Native
from onnxeq.types import ModelRef, TensorSpec


@pytest.fixture(scope="session")
def tf() -> Any:
    """TensorFlow, imported as the converter does it."""
    pytest.importorskip("tensorflow")
    from onnxeq_converters.from_tensorflow.framework import tensorflow

    return tensorflow()


@pytest.fixture
def load() -> Callable[..., Native]:
    """Loads a file; ``inputs`` and ``trust`` as the user may give them."""
    from onnxeq_converters import from_tflite

    def loaded(path: Path, *, inputs: tuple[TensorSpec, ...] | None = None, trust: bool = False) -> Native:
        ref = ModelRef(str(path), "file", str(path))
        return from_tflite.load(LoadRequest(ref, inputs=inputs, trust=trust), lambda step: None)

    return loaded


@pytest.fixture(scope="session")
def files(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One network, in float32 (``float``), in 8 bits throughout (``int8``), and with text as its input (``text``)."""
    rng = np.random.default_rng(2)
    kernel = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)
    matrix = rng.standard_normal((4, 5)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 2], name="image")])  # type: ignore[untyped-decorator]
    def net(image: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))
        pooled = tf.reduce_mean(x, [1, 2])
        return {"scores": tf.nn.softmax(pooled @ matrix), "features": pooled}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])  # type: ignore[untyped-decorator]
    def text(words: Any) -> Any:
        return {"same": tf.identity(words)}

    def samples() -> Iterator[list[Any]]:
        for _ in range(8):
            yield [rng.standard_normal((1, 8, 8, 2)).astype(np.float32)]

    def write(name: str, function: Any, **settings: Any) -> Path:
        maker = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
        for key, value in settings.items():
            setattr(maker, key, value)
        path: Path = tmp_path_factory.mktemp("tflite") / f"{name}.tflite"
        path.write_bytes(maker.convert())
        return path

    quantised = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": samples,
        "inference_input_type": tf.int8,
        "inference_output_type": tf.int8,
    }
    return {"float": write("float", net), "int8": write("int8", net, **quantised), "text": write("text", text)}
