from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper, parser

from onnxeq.graph.seeding import calibrated, seeded
from onnxeq.referee.executor import Executor

TEXT = """
<ir_version: 4, opset_import: ["": 9]>
g (float[4,3,8,8] x) => (float[4,5] y)
<int64[4] shape = {6, 3, 3, 3}, float[6] scale = {1,1,1,1,1,1}, float[6] bias = {0,0,0,0,0,0},
 float[6] mean = {0,0,0,0,0,0}, float[6] var = {1,1,1,1,1,1}, int64[2] wide = {5, 6}, float[1] two = {2},
 float[6] different = {1,2,3,4,5,6}, float[5] c = {0,0,0,0,0}>
{
  w = ConstantOfShape<value: tensor = float[1] {1}>(shape)
  d = ConstantOfShape<value: tensor = float[1] {1}>(wide)
  a = Conv(x, w)
  b = BatchNormalization(a, scale, bias, mean, var)
  r = Relu(b)
  m = GlobalAveragePool(r)
  f = Flatten(m)
  g = Mul(f, different)
  h = Mul(g, two)
  y = Gemm<transB: int = 1>(h, d, c)
}
"""


def _model() -> onnx.ModelProto:
    return parser.parse_model(TEXT)


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def test_what_is_filled_with_one_number_gets_others_by_its_role() -> None:
    """Weights, statistics and biases are drawn; a lone factor and a table of different numbers stay as they are."""
    model, count = seeded(_model(), 3)
    held = _constants(model)
    assert count == 7
    assert held["w"].shape == (6, 3, 3, 3)
    assert held["d"].shape == (5, 6)
    for name in ("scale", "var"):
        assert ((held[name] >= 0.5) & (held[name] < 1.5)).all()
        assert np.unique(held[name]).size == 6
    for name in ("mean", "bias", "c"):
        assert np.abs(held[name]).max() < 0.5
        assert np.unique(held[name]).size == held[name].size
    assert held["two"].tolist() == [2.0]
    assert held["different"].tolist() == [1, 2, 3, 4, 5, 6]
    onnx.checker.check_model(model)


def test_the_seed_and_the_name_decide() -> None:
    """One seed gives the same numbers again, another one others, and two constants of one shape differ."""
    first, again, other = (_constants(seeded(_model(), seed)[0]) for seed in (3, 3, 4))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["w"] != other["w"]).all()
    assert (first["mean"] != first["bias"]).any()


def test_calibrated_weights_make_values_of_order_one() -> None:
    """The output of every weighted node has a standard deviation near 1, whatever the graph does before it."""
    model, _ = seeded(_model(), 0)
    feed = {"x": 100 * np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)}
    before, after = (Executor(m).run(feed, outputs=["a", "y"]) for m in (model, calibrated(model, feed)))
    assert float(np.std(before["a"])) > 100
    # The convolution's output is exactly that of the calibration; the last layer's has its bias besides.
    assert abs(float(np.std(after["a"])) - 1) < 1e-6
    assert 0.7 < float(np.std(after["y"])) < 1.4
