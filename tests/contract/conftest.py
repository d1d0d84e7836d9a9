"""Whom the contract suite is driven through: every converter that comes with the project, and the README's example."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxeq.protocols import LoadRequest
from onnxeq.types import Array, ModelRef, TensorSpec

README = Path(__file__).parents[2] / "converters" / "README.md"


@dataclass(frozen=True)
class Subject:
    """A converter and a small model of its framework.

    Attributes:
        converter: The module.
        zoo: A zoo that it offers; empty where it offers none.
        model: Makes a live model, always the same one.
        spec: What that takes.
        changed: Changes one of its weights, in place.
        weights: Reads its weights, each a copy.
        live: Whether the model is an object; otherwise it is a file's path.
        pictured: A model of the zoo that takes pictures; empty where there are no recipes.
    """

    converter: ModuleType
    zoo: str
    model: Callable[[], Any]
    spec: TensorSpec
    changed: Callable[[Any], None]
    weights: Callable[[Any], list[Array]]
    live: bool = True
    pictured: str = ""

    @property
    def request(self) -> LoadRequest:
        """For a live model with that input."""
        return LoadRequest(ModelRef("model", "live", "model"), (self.spec,))

    def native(self, model: Any = None) -> Any:
        """The model as the converter wraps or loads it."""
        model = self.model() if model is None else model
        if self.live:
            return self.converter.wrap(model, self.request, lambda _step: None)
        ref = ModelRef(str(model), "file", str(model))
        return self.converter.load(LoadRequest(ref, (self.spec,)), lambda _step: None)

    def feed(self, seed: int = 0, batch: int = 3) -> dict[str, Array]:
        """Random inputs."""
        shape = (batch, *(self.spec.shape or ())[1:])
        return {self.spec.name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def example_code() -> str:
    """The converter that the README shows, exactly."""
    found = re.search(r'```python\n("""Affine maps.*?)```', README.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The README's example as an installed package: a module, and an entry point beside it."""
    (tmp_path / "affine_converter.py").write_text(example_code())
    info = tmp_path / "affine_converter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: affine-converter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onnxeq.converters]\naffine = affine_converter\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    sys.modules.pop("affine_converter", None)
    return importlib.import_module("affine_converter")


def _example(request: pytest.FixtureRequest) -> Subject:
    def change(model: Any) -> None:
        model.shift = 0.25

    return Subject(
        request.getfixturevalue("example"), "affine", lambda: SimpleNamespace(scale=1 / 3, shift=0.1),
        TensorSpec("x", "float32", ("N", 4)), change, lambda m: [np.array([m.scale, m.shift])],
    )  # fmt: skip


def _torch(_request: pytest.FixtureRequest) -> Subject:
    torch = pytest.importorskip("torch")
    from onnxeq_converters import from_torch

    def make() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            nn = torch.nn
            layers = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
            return nn.Sequential(*layers).eval()

    def change(model: Any) -> None:
        with torch.no_grad():
            model[4].bias[0] += 1

    return Subject(
        from_torch, "torchvision", make, TensorSpec("input", "float32", ("N", 3, 6, 6)), change,
        lambda m: [v.detach().numpy().copy() for v in m.state_dict().values()], pictured="resnet18",
    )  # fmt: skip


def _keras(_request: pytest.FixtureRequest) -> Subject:
    pytest.importorskip("tensorflow")
    from onnxeq_converters import from_keras
    from onnxeq_converters.from_keras.framework import framework

    keras = framework().keras

    def make() -> Any:
        keras.utils.set_random_seed(0)
        image = keras.Input((6, 6, 3), name="image")
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(5, 3, use_bias=False)(image))
        return keras.Model(image, keras.layers.Dense(5)(keras.layers.Flatten()(keras.layers.ReLU()(x))))

    def change(model: Any) -> None:
        model.layers[-1].bias.assign(model.layers[-1].bias + 1)

    return Subject(
        from_keras, "keras", make, TensorSpec("image", "float32", ("N", 6, 6, 3)), change,
        lambda m: [np.asarray(w) for w in m.get_weights()], pictured="ResNet50",
    )  # fmt: skip


def _net(tf: Any, bias: float) -> Any:
    """A convolution, its activation and a product, with the bias of the last as asked."""
    rng = np.random.default_rng(0)

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.standard_normal((3, 3, 3, 5)).astype(np.float32), name="kernel")
            self.matrix = tf.Variable(rng.standard_normal((5, 4)).astype(np.float32), name="matrix")
            self.bias = tf.Variable(np.float32([bias, 0, 1, 2]), name="bias")

        @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 3], name="image")])  # type: ignore[untyped-decorator]
        def __call__(self, image: Any) -> Any:
            x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME"))
            return {"scores": tf.reduce_mean(x, [1, 2]) @ self.matrix + self.bias}

    return Net()


def _bytes_of(path: Path) -> list[Array]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [np.frombuffer(p.read_bytes(), np.uint8) for p in files]


def _tensorflow(request: pytest.FixtureRequest) -> Subject:
    pytest.importorskip("tensorflow")
    from onnxeq_converters import from_tensorflow
    from onnxeq_converters.from_tensorflow.framework import tensorflow

    tf, path = tensorflow(), request.getfixturevalue("tmp_path") / "saved_model"

    def write(bias: float) -> Path:
        net = _net(tf, bias)
        tf.saved_model.save(net, str(path), signatures=net.__call__.get_concrete_function())
        return Path(path)

    return Subject(
        from_tensorflow, "", lambda: write(0.5), TensorSpec("image", "float32", ("N", 6, 6, 3)),
        lambda _path: write(1.5), _bytes_of, live=False,
    )  # fmt: skip


def _tflite(request: pytest.FixtureRequest) -> Subject:
    pytest.importorskip("tensorflow")
    from onnxeq_converters import from_tflite
    from onnxeq_converters.from_tensorflow.framework import tensorflow

    tf, path = tensorflow(), request.getfixturevalue("tmp_path") / "net.tflite"

    def write(bias: float) -> Path:
        net = _net(tf, bias)
        maker = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
        path.write_bytes(maker.convert())
        return Path(path)

    return Subject(
        from_tflite, "", lambda: write(0.5), TensorSpec("serving_default_image:0", "float32", ("N", 6, 6, 3)),
        lambda _path: write(1.5), _bytes_of, live=False,
    )  # fmt: skip


SUBJECTS: Mapping[str, Callable[[pytest.FixtureRequest], Subject]] = {
    "example": _example,
    "torch": _torch,
    "keras": _keras,
    "tensorflow": _tensorflow,
    "tflite": _tflite,
}
"""Name -> how the subject is made; torch and TensorFlow are never loaded into one process, which their marks see to."""

_MARKS = {
    "torch": (pytest.mark.torch,),
    **dict.fromkeys(("keras", "tensorflow", "tflite"), (pytest.mark.keras,)),
}


@pytest.fixture(params=[pytest.param(name, marks=_MARKS.get(name, ())) for name in SUBJECTS])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each converter in its turn."""
    return SUBJECTS[request.param](request)
