"""What the ladder relies on, of every runner; see ``onnxeq.protocols.Runner``."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, parser

import onnxeq
from onnxeq.errors import CannotRun
from onnxeq.protocols import SessionOptions
from onnxeq.runners.runtime import load_runner
from onnxeq.runtimes import choose_runner
from onnxeq.types import Verdict

FAULTY = str(Path(__file__).parents[1] / "faulty_runner.py")

RUNNERS = {
    "ort": "ort",
    "openvino": "openvino",
    "from a file": f"{FAULTY}:Faulty?kind=scale&node=none",
}
"""Name -> how the user writes it: both that come with the project, and one that a file brings."""

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N,4] x, int64[2] at) => (float[N,2] picked, float[N,4] soft)
<float[4,4] w = {0.5,-1,0.25,2, 1,0,-1,0.5, -0.5,1,1,0, 2,-2,0.75,1}>
{
  product = MatMul(x, w)
  active = Relu(product)
  soft = Softmax<axis: int = 1>(active)
  picked = Gather<axis: int = 1>(soft, at)
}
"""


@pytest.fixture(params=list(RUNNERS))
def text(request: pytest.FixtureRequest) -> str:
    """A runner as the user writes it; skipped where what it needs is not installed."""
    if request.param == "openvino" and util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    return RUNNERS[request.param]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two inputs of different types, two outputs of different shapes, one of them further inside."""
    path = tmp_path / "net.onnx"
    onnx.save(parser.parse_model(TEXT), path)
    return path


def _open(text: str, model: Path, **options: Any) -> Any:
    runtime = choose_runner(text)
    return load_runner(runtime.target).open(model, SessionOptions(settings=dict(runtime.settings), **options))


def _feed(batch: int = 3) -> dict[str, np.ndarray]:
    return {
        "x": np.random.default_rng(0).standard_normal((batch, 4)).astype(np.float32),
        "at": np.array([3, 1], np.int64),
    }


def _expected(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    w = np.array([[0.5, -1, 0.25, 2], [1, 0, -1, 0.5], [-0.5, 1, 1, 0], [2, -2, 0.75, 1]])
    active = np.maximum(feed["x"].astype(np.float64) @ w, 0)
    soft = np.exp(active) / np.exp(active).sum(axis=1, keepdims=True)
    return {"picked": soft[:, feed["at"]], "soft": soft}


@pytest.mark.parametrize("optimize", [False, True])
def test_outputs_come_by_name_in_the_graphs_order(text: str, model: Path, optimize: bool) -> None:
    """Names, order, types, shapes and numbers, with and without optimisations, and for another batch size again."""
    session = _open(text, model, optimize=optimize)
    for batch in (3, 1):
        found = dict(session.run(_feed(batch)))
        assert list(found) == ["picked", "soft"]
        for name, value in _expected(_feed(batch)).items():
            assert found[name].dtype == np.float32
            assert found[name].shape == value.shape
            assert np.abs(found[name] - value).max() <= 4e-7


def test_the_same_session_gives_the_same_bits(text: str, model: Path) -> None:
    """A second run on the same inputs, and one with a single thread asked for."""
    session = _open(text, model)
    first, second = (dict(session.run(_feed())) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    single = dict(_open(text, model, threads=1).run(_feed()))
    assert all(np.abs(single[name] - first[name]).max() <= 4e-7 for name in first)


def test_inner_values_may_be_asked_for(text: str, model: Path, tmp_path: Path) -> None:
    """A model file with a further graph output gives that value too: that is how a fault is isolated."""
    probed = onnx.load(model)
    probed.graph.output.append(helper.make_tensor_value_info("active", onnx.TensorProto.FLOAT, None))
    onnx.save(probed, tmp_path / "probed.onnx")
    found = dict(_open(text, tmp_path / "probed.onnx").run(_feed()))
    assert list(found) == ["picked", "soft", "active"]
    assert (found["active"] >= 0).all()
    assert found["active"].max() > 0


def test_what_it_refuses_is_a_typed_error(text: str, tmp_path: Path) -> None:
    """An operator that nobody has, in a domain of its own."""
    path = tmp_path / "unknown.onnx"
    text_ = (
        '<ir_version: 8, opset_import: ["": 17, "nowhere": 1]> g (float[N] x) => (float[N] y) {y = nowhere.Nothing(x)}'
    )
    onnx.save(parser.parse_model(text_), path)
    with pytest.raises(CannotRun):
        _open(text, path).run({"x": np.zeros(2, np.float32)})


def test_it_names_its_versions(text: str) -> None:
    """They stand in the report: another version gives other results."""
    versions = load_runner(choose_runner(text).target).versions()
    assert versions
    assert all(isinstance(v, str) and v for v in versions.values())


def test_it_stands_on_the_ladder(text: str, model: Path, fresh_cache: Path) -> None:
    """A healthy model is equivalent, and the report says who ran it."""
    report = onnxeq.check(model, inputs=[_feed()], runner=text)
    assert report.verdict is Verdict.EQUIVALENT
    assert report.environment["runner"]["name"] == choose_runner(text).name
