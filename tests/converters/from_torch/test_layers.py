"""The program behind the export, value by value."""

import numpy as np
import onnx
import pytest

from onnxeq.protocols import LoadRequest
from onnxeq.types import ExportForm, ModelRef, Precision, TensorSpec

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

from onnxeq_converters import from_torch  # noqa: E402  # after the skip


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, eps=1.1e-3)
        self.pool = nn.AvgPool2d(2, divisor_override=3)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        y = self.pool(torch.relu(self.norm(self.conv(x)))).flatten(2)
        y = self.attend(y, y, y, need_weights=False)[0]
        best, where = torch.topk(self.head(y) / 3.1, 2)
        return {"best": best, "where": where}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model, a feed, and its unfolded export."""
    torch.manual_seed(0)
    request = LoadRequest(ModelRef("m", "live", "m"), (TensorSpec("x", "float32", ("N", 3, 8, 8)),))
    native = from_torch.wrap(_Net(), request, lambda _step: None)
    (export,) = native.export(tmp_path_factory.mktemp("export"), (ExportForm.UNFOLDED,), None)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    return native, feed, onnx.load(export.path).graph


@pytest.mark.parametrize(("precision", "spacing"), [(Precision.F64, 2.0**-52), (Precision.F32, 2.0**-22)])
def test_the_last_values_are_the_outputs(made, precision, spacing):
    """What the interpreted program ends with is what the model returns, to a few spacings of the arithmetic."""
    native, feed, _ = made
    whole = native.run(feed, precision)
    inside = {value.name: value.array for value in native.layers(feed, precision)}
    for name, expected in whole.items():
        assert inside[name].dtype == expected.dtype
        assert np.abs(inside[name] - expected).max() <= 4 * spacing * np.abs(expected).max(), name


def test_names_are_those_of_the_export(made):
    """Every operator's value has its ONNX name, a renamed output included; what nobody takes of a tuple has none."""
    native, feed, graph = made
    known = {name for node in graph.node for name in node.output}
    values = list(native.layers(feed, Precision.F64))
    assert {"best", "where", "conv2d", "avg_pool2d"} <= {v.name for v in values} & known
    assert all(v.name in known or "__" in v.name for v in values)


def test_a_value_tells_where_it_comes_from(made):
    """Operator, arguments by name with those that are no defaults, module path and the user's own line."""
    native, feed, _ = made
    (pool,) = native.layers(feed, Precision.F64, ["avg_pool2d"])
    assert pool.op == "aten.avg_pool2d.default"
    assert pool.arguments["self"] == "relu"
    assert pool.arguments["divisor_override"] == "3"
    assert "divisor_override" in pool.explicit
    assert "count_include_pad" not in pool.explicit
    assert pool.native == "pool"
    assert pool.source.startswith("test_layers.py:")


def test_a_model_that_was_never_exported_is_captured(made):
    """The values need no export to have been written."""
    torch.manual_seed(0)
    request = LoadRequest(ModelRef("m", "live", "m"), (TensorSpec("x", "float32", ("N", 3, 8, 8)),))
    native = from_torch.wrap(_Net(), request, lambda _step: None)
    ours, theirs = made[0].layers(made[1], Precision.F64), native.layers(made[1], Precision.F64)
    for a, b in zip(ours, theirs, strict=True):
        assert a.name == b.name
        assert np.array_equal(a.array, b.array)
