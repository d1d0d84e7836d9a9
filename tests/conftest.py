"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxeq import envs
from onnxeq.envs import Environment
from onnxeq.errors import CannotRun

_NEEDS = {"torch": ("torch", "torchvision", "onnxscript"), "keras": ("tensorflow", "keras", "tf2onnx")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a framework that is not installed are skipped, and say so."""
    for name, modules in _NEEDS.items():
        absent = [m for m in modules if util.find_spec(m) is None]
        for item in items:
            if absent and name in item.keywords:
                item.add_marker(pytest.mark.skip(reason=f"{absent[0]} is not installed"))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Jobs and environments of the tests are kept apart from the user's."""
    os.environ["ONNXEQ_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["ONNXEQ_ENVS"] = str(tmp_path_factory.mktemp("envs"))


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("ONNXEQ_CACHE", str(root))
    return root


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of real trained models, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("ONNXEQ_REAL_MODELS", "../shared/models")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real models at {folder} (set ONNXEQ_REAL_MODELS)")
    return folder


@pytest.fixture(scope="session")
def tiny_env(_own_cache: None) -> Environment:
    """A real environment, ``tiny``: what every job needs, and one more package. Needs a package index."""
    try:
        return envs.create("tiny", ["packaging==24.0"])
    except CannotRun as error:
        if "cannot be reached" not in error.message:
            raise
        pytest.skip(f"no package index: {error.message}")


MakeConvNet = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def conv_net() -> MakeConvNet:
    """Makes ``logits = W . mean(relu(conv2(relu(conv1(x)))))`` with seeded weights of healthy scale.

    Input ``x: float32[N,3,16,16]``, outputs ``logits: float32[N,10]`` and ``tiny: float32[N,4]``, which
    is a millionth of four of the features. ``edit`` may change the weights before the model is built.
    """

    def make(
        seed: int = 0,
        *,
        edit: Callable[[dict[str, np.ndarray]], None] | None = None,
        pads: tuple[int, ...] = (1, 1, 1, 1),
    ) -> onnx.ModelProto:
        rng = np.random.default_rng(seed)
        weights = {
            "w1": rng.standard_normal((16, 3, 3, 3)) * (2 / 27) ** 0.5,
            "b1": rng.standard_normal(16) * 0.1,
            "w2": rng.standard_normal((16, 16, 3, 3)) * (2 / 144) ** 0.5,
            "b2": rng.standard_normal(16) * 0.1,
            "w3": rng.standard_normal((16, 10)) * 0.5,
            "millionth": np.full(1, 1e-6),
        }
        weights = {k: v.astype(np.float32) for k, v in weights.items()}
        if edit:
            edit(weights)
        nodes = [
            helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=list(pads), kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
            helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
            helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
            helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
            helper.make_node("MatMul", ["f", "w3"], ["logits"], name="head"),
            helper.make_node("Slice", ["logits", "zero", "four", "axis"], ["some"], name="slice"),
            helper.make_node("Mul", ["some", "millionth"], ["tiny"], name="scale"),
        ]
        initializers = [numpy_helper.from_array(v, k) for k, v in weights.items()]
        for name, value in (("zero", 0), ("four", 4), ("axis", 1)):
            initializers.append(numpy_helper.from_array(np.array([value], np.int64), name))
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
            [
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10]),
                helper.make_tensor_value_info("tiny", TensorProto.FLOAT, ["N", 4]),
            ],
            initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    return make
